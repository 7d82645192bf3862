"""Stages of training by SGD, frozen, unfrozen, beside unlabelled images and with labels known in
part, on batches shared by all processes.

    torchrun --nproc-per-node 2 tests/helpers/two_stages.py OUT.safetensors

Adam would turn rounding into steps of full size wherever a gradient is almost 0, as a bias's is
before a norm; SGD shows whether the gradients are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medtl.data.domain import parse_domain
from medtl.networks.blocks import freeze, select_blocks
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.runtime.distributed import share
from medtl.training.feature_loss import BoundFeatureLoss
from medtl.training.loop import Setup, fit
from medtl.training.losses import FeatureLoss, dice_ce
from medtl.transfer.strategies.base import Stage

GLOBAL_BATCH = 4
NAMES = ("image", "target")
STAGE = Stage("adapt", parse_domain("t1,t2"), 8, optimizer="sgd", rates={"*": 1e-2})


class Gap(FeatureLoss):
    """No mean over samples, and with a parameter of its own."""

    def bind_features(self, features: int) -> None:
        self.scale = nn.Parameter(torch.ones(features))

    def forward(self, source_BF: Tensor, target_BF: Tensor, progress: float) -> Tensor:
        gap_F = source_BF.std(0) - target_BF.std(0) * self.scale
        return (1 + progress) * gap_F.square().sum()


def main() -> None:
    fabric = build_fabric("cpu", "fp32")
    torch.manual_seed(0)
    build = load_catalog().networks["unet"].load()
    network = build(in_channels=2, out_channels=2, width=4)

    def batches_after(done: int) -> Iterator[dict[str, Tensor]]:
        for step in count(done):
            random = torch.Generator().manual_seed(step)
            image = torch.randn(GLOBAL_BATCH, 2, 32, 32, 32, generator=random)
            # Lesions of very different size, so that Dice over the batch is no mean over samples.
            target = (image > torch.tensor([0.0, 1.0, 2.0, 3.0]).view(-1, 1, 1, 1, 1)).float()
            batch = {"image": image, "target": target, "unlabelled": 2 * image.flip(1) + 1}
            yield {name: share(fabric, tensor) for name, tensor in batch.items()}

    def partial_after(done: int) -> Iterator[dict[str, Tensor]]:
        """Each image of a batch has another share of voxels that nobody labelled."""
        for step in count(done):
            random = torch.Generator().manual_seed(step)
            image = torch.randn(GLOBAL_BATCH, 2, 32, 32, 32, generator=random)
            target = (image > 1).float()
            for n in range(GLOBAL_BATCH):
                target[n, :, : 8 * n] = torch.nan
            target[0, 1] = torch.nan
            yield {"image": share(fabric, image), "target": share(fabric, target)}

    def labelled_after(done: int) -> Iterator[dict[str, Tensor]]:
        return ({name: b[name] for name in NAMES} for b in batches_after(done))

    with TemporaryDirectory() as work:
        for number, spec in enumerate(("1", "none", "none", "none")):
            frozen = select_blocks(network, spec)
            freeze(network, frozen)
            folder = Path(work) / str(number)
            folder.mkdir()
            aligned, partial = number == 2, number == 3
            stage = replace(STAGE, name=str(number), steps=STAGE.steps if number < 2 else 3)
            gap = BoundFeatureLoss(Gap(), network, "", torch.zeros(1, 2, 32, 32, 32))
            losses = [(1.0, dice_ce()), *([(1.0, gap)] if aligned else [])]
            losses[0][1].partial = partial
            batches = partial_after if partial else batches_after if aligned else labelled_after
            result = fit(
                Setup(network, stage, frozen, losses, fabric, folder, seed=number),
                batches,
            )
    if fabric.is_global_zero:
        save_file(result.last, sys.argv[1])
    fabric.barrier()


if __name__ == "__main__":
    main()
