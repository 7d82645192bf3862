"""What a training step will take is foreseen, and what to change where that is too much."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from medtl.config import TrainConfig
from medtl.errors import ConfigError
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Reporter
from medtl.runtime.device import build_fabric
from medtl.training import memory_estimate as footprint
from medtl.training import preview
from medtl.training.build import build_network
from medtl.training.memory_estimate import Footprint, advice, measure_footprint
from medtl.training.plan import Plan, make_plan


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=4, size=24, sites=1, seed=1)


def plan(phantom: Path, edge: int = 64, batch_size: int = 2, **options: object) -> Plan:
    config = TrainConfig(
        task="brats",
        data=phantom,
        network="unet",
        width=4,
        steps=2,
        patch_size=(edge,) * 3,
        batch_size=batch_size,
        **options,
    )
    return make_plan(config, load_catalog(), Reporter(quiet=True))


def measured(found: Plan, precision: str = "fp32") -> Footprint:
    catalog = load_catalog()
    network = build_network(found, catalog, found.stages[0])
    result = measure_footprint(found, catalog, build_fabric("cpu", precision), network)
    assert result is not None
    return result


def test_weights_count_gradients_moments_and_average(phantom: Path) -> None:
    found = plan(phantom, 32)
    network = load_catalog().networks["unet"].load()(in_channels=2, out_channels=3, width=4)
    parameters = sum(p.numel() for p in network.module.parameters())
    assert measured(found).weights_bytes == 4 * 5 * parameters


def test_larger_patches_are_foreseen_from_small_ones(phantom: Path) -> None:
    """Against the patch's own allocations; for the process's peak see benchmarks/memory.py."""
    large = plan(phantom, 96, batch_size=1)
    seen = measured(large, "bf16")
    fabric = build_fabric("cpu", "bf16")
    catalog, stage = load_catalog(), large.stages[0]
    network = build_network(large, catalog, stage)
    real = footprint._batch_bytes(stage, network, catalog, fabric, (96, 96, 96), 1)
    foreseen = seen.step_bytes(1, (96, 96, 96)) - seen.weights_bytes
    assert foreseen / footprint.OVERHEAD["cpu"] == pytest.approx(real, rel=0.15)


@pytest.mark.parametrize("threads", [1, 4])
def test_working_space_of_several_threads_is_foreseen(phantom: Path, threads: int) -> None:
    """It decides the peak of small patches, and nearly nothing of large ones."""
    large = plan(phantom, 96, batch_size=4)
    catalog, stage, fabric = load_catalog(), large.stages[0], build_fabric("cpu", "bf16")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen = measured(large, "bf16")
        for count, least in ((4, 1.0), (2, 0.7), (1, 0.7)):
            network = build_network(large, catalog, stage)
            real = footprint._batch_bytes(stage, network, catalog, fabric, (96, 96, 96), count)
            foreseen = seen.step_bytes(count, (96, 96, 96)) - seen.weights_bytes
            assert least * real <= foreseen <= 1.5 * footprint.OVERHEAD["cpu"] * real
    finally:
        torch.set_num_threads(before)


def test_small_batches_take_what_few_patches_took() -> None:
    found = Footprint(5, 1, small_voxel_bytes=3, small_voxels=2000)
    assert [found.step_bytes(n, (10, 10, 10)) for n in (1, 2, 4, 8)] == [3005, 6005, 6005, 8005]


def test_advice_is_the_largest_batch_that_fits_then_the_largest_patch(phantom: Path) -> None:
    found = plan(phantom, 64, batch_size=8)
    bytes_ = Footprint(0, 1)  # a byte per voxel
    voxels = 64**3
    assert advice(bytes_, found, 1, 5.5 * voxels) == "--batch-size 5"
    assert advice(bytes_, found, 2, 3.5 * voxels) == "--batch-size 6"
    assert advice(bytes_, found, 1, 0.8 * voxels) == "--batch-size 1 --set patch_size=48,64,64"
    assert advice(replace(bytes_, weights_bytes=voxels), found, 1, voxels) == "a smaller --width"


def told(found: Plan) -> str:
    stream = io.StringIO()
    console = Console(file=stream, soft_wrap=True, highlight=False)
    reporter = Reporter(console=console, results=console)
    preview.show_plan(found, load_catalog(), build_fabric("cpu", "fp32"), reporter)
    return stream.getvalue()


def test_plan_shows_what_a_step_takes_of_what_is_free(phantom: Path) -> None:
    text = told(plan(phantom, 32))
    assert "a step takes about" in text and "warning" not in text and "s per step" in text


def test_step_that_cannot_fit_is_told_and_never_tried(phantom: Path) -> None:
    huge = plan(phantom, 2048)
    text = told(huge)
    assert "warning: a step takes about" in text and "--set patch_size=" in text
    assert "it was not timed" in text
    timed = replace(huge, config=huge.config.model_copy(update={"steps": None, "minutes": 1.0}))
    with pytest.raises(ConfigError, match=r"--minutes times a few steps.*or give --steps"):
        told(timed)


def test_memory_of_before_is_not_freed_while_a_step_is_measured(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for _ in range(1001):  # torch tells of one in a thousand
        circle: list[object] = [torch.ones(8)]
        circle.append(circle)

    def step() -> None:
        lists = [[] for _ in range(100_000)]  # any of them would collect what is not used
        assert lists and torch.ones(1000).sum() == 1000

    assert 4000 <= footprint._peak_on_cpu(step) < 4100
    assert capfd.readouterr().err == ""
