"""Batches in parts: the gradients of the whole batch.

Axes: B batch, C modality, I J K voxels.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from medtl.networks.blocks import Network
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.training.losses import dice_ce
from medtl.training.profiler import Profile
from medtl.training.step import Gradients, Objective


def network(name: str) -> Network:
    torch.manual_seed(0)
    return load_catalog().networks[name].load()(in_channels=2, out_channels=2, width=8)


def batch(size: int) -> tuple[Tensor, Tensor]:
    """Lesions of very different size, so that Dice over the batch is no mean over samples."""
    image = torch.randn(size, 2, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    bounds = torch.arange(size).view(-1, 1, 1, 1, 1)
    return image, (image > bounds).float()


def gradients(
    found: Network, at_once: int | None, precision: Any = "64-true"
) -> tuple[Tensor, list[Tensor]]:
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    objective = Objective(found.module.train(), [(1.0, dice_ce())])
    model = fabric.setup_module(objective)
    image, target = fabric.strategy.precision.convert_input(batch(3))
    fill = Gradients(
        objective,
        fabric,
        model,
        objective.zero_grad,
        at_once=at_once,
        tell=print,
        profile=Profile(),
    )
    loss = fill(image, target, seed=7)
    return loss, [p.grad.clone() for p in found.module.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", ["unet", "segresnet-ds"])
@pytest.mark.parametrize("at_once", [1, 2])
def test_parts_give_the_gradients_of_the_whole_batch(name: str, at_once: int) -> None:
    whole, in_parts = gradients(network(name), None), gradients(network(name), at_once)
    assert float(in_parts[0]) == pytest.approx(float(whole[0]), rel=1e-6)
    assert len(in_parts[1]) == len(whole[1]) > 0
    scale = max(float(slope.abs().max()) for slope in whole[1])
    for one, other in zip(in_parts[1], whole[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * scale)


def test_parts_in_bf16_differ_by_its_rounding_alone() -> None:
    whole, in_parts = (
        gradients(network("unet"), None, "bf16-mixed"),
        gradients(network("unet"), 1, "bf16-mixed"),
    )
    exact = gradients(network("unet"), None, "32-true")[1]

    def error(found: list[Tensor]) -> float:
        return sum(float((a - b).norm()) for a, b in zip(found, exact, strict=True))

    assert error(in_parts[1]) < 1.2 * error(whole[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_short_of_memory_gives_the_gradients_of_the_whole_batch() -> None:
    def filled(free: bool) -> list[Tensor]:
        found = network("unet")
        fabric = build_fabric("cuda", "fp32")
        objective = Objective(found.module.cuda().train(), [(1.0, dice_ce())])
        model = fabric.setup_module(objective)
        said: list[str] = []
        fill = Gradients(
            objective,
            fabric,
            model,
            objective.zero_grad,
            at_once=None,
            tell=said.append,
            profile=Profile(),
        )
        torch.cuda.empty_cache()
        taken = [] if free else [_all_but(120 * 2**20)]
        image, target = (part.cuda() for part in batch(24))
        fill(image, target, seed=7)
        assert bool(said) != free
        taken.clear()
        return [p.grad.clone() for p in found.module.parameters() if p.grad is not None]

    for one, other in zip(filled(False), filled(True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)  # TF32 convolutions


def _all_but(free_bytes: int) -> Tensor:
    """Memory of the GPU taken, but for so much."""
    return torch.empty(torch.cuda.mem_get_info()[0] - free_bytes, dtype=torch.uint8, device="cuda")
