"""Every strategy on every family of networks: what is frozen, what trains, how it resumes.

Axes: B batch, C channel, L class or region, then the spatial axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path

import pytest
import torch
from checkpoints import weights_of
from lightning_fabric import Fabric
from torch import Tensor, nn

from medtl.data.domain import parse_domain
from medtl.errors import ConfigError, Interrupted
from medtl.networks.blocks import Network, describe_blocks, partition, tensors
from medtl.networks.norms import estimate_norms
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.training.build import build_losses
from medtl.training.loop import Callbacks, Fit, Setup, fit, snapshot
from medtl.transfer.prepare import prepare_network
from medtl.transfer.strategies.base import LossSpec, Request, Stage, on_target

#: Name -> dimensions, edge and width: an eighth of the published one, or less.
NETWORKS = {
    "vgg11-bn": (2, 32, 4),
    "resnet18": (2, 32, 8),
    "cbr-tiny": (2, 32, 8),
    "unet3d": (3, 16, 4),
}
SOURCE, TARGET = parse_domain("t1,t2,site:A"), parse_domain("t1,t2,site:B")
REGIONS = ("a", "b")
STEPS = 4
BATCH = 4
ALL = -100
#: Strategy -> what it is asked for, and the blocks below the head that each stage trains; negative:
#: all but so many first ones.
SCHEDULES: dict[str, tuple[dict[str, object], list[int]]] = {
    "scratch": ({}, [ALL]),
    "linear-probe": ({}, [0]),
    "fine-tune": ({}, [ALL]),
    "l2-sp": ({}, [ALL]),
    "transfusion": ({"depth": 2}, [ALL]),
    "head-first": ({"depth": 2}, [0, 1, 2]),
    "gradual-unfreeze": ({"depth": 2}, [0, 1, 2]),
    "modality-transfer": ({"freeze": "2"}, [-2, ALL]),
    **{name: ({"freeze": "2"}, [-2, -2]) for name in ("dann", "coral", "mmd")},
}


@dataclass(frozen=True)
class Leg:
    """One stage as it was trained."""

    stage: Stage
    trainable: int
    before: dict[str, Tensor]
    result: Fit


@cache
def built(name: str) -> tuple[Network, dict[str, Tensor]]:
    """A network and the random weights it starts from, whenever a stage does."""
    dims, _, width = NETWORKS[name]
    torch.manual_seed(1)
    network = (
        load_catalog()
        .networks[name]
        .load()(in_channels=2, out_channels=2, spatial_dims=dims, width=width)
    )
    return network, snapshot(network)


@cache
def fabric() -> Fabric:
    return build_fabric("cpu", "fp32")


def source_of(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Other weights of the same kind."""
    return {n: t.flip(0) if t.ndim and t.is_floating_point() else t for n, t in values.items()}


def plan(name: str, strategy: str, **changes: object) -> tuple[Stage, ...]:
    network, _ = built(name)
    request = Request(
        SOURCE,
        TARGET,
        steps=STEPS,
        batch_size=BATCH,
        rate=1e-2,
        init=None if strategy == "scratch" else "source.safetensors",
        losses=(LossSpec("dice-ce" if network.dense else "cross-entropy"),),
        blocks=tuple(block.name for block in network.blocks),
    )
    request = replace(request, **{**SCHEDULES.get(strategy, ({},))[0], **changes})
    return on_target(request, load_catalog().strategies[strategy].load()(request))


def batches_after(
    name: str, done: int, *, unlabelled: bool = False
) -> Iterator[Mapping[str, Tensor]]:
    dims, edge, _ = NETWORKS[name]
    for step in count(done):
        draw = torch.Generator().manual_seed(step)
        image = torch.randn(BATCH, 2, *[edge] * dims, generator=draw)
        if built(name)[0].dense:
            target = (image > 0.5).float()
        else:
            target = nn.functional.one_hot(torch.arange(BATCH) % 2, 2).float()
        beside = {"unlabelled": 2 * image.flip(0) + 1} if unlabelled else {}
        yield {"image": image, "target": target, **beside}


def train(
    name: str, stages: tuple[Stage, ...], folder: Path, stop: tuple[int, int] | None = None
) -> list[Leg]:
    """All stages, one after the other; ``stop``: interrupted once, after so many steps of one."""
    network, start = built(name)
    legs: list[Leg] = []
    for number, stage in enumerate(stages):
        starts = {"random": None, "previous": legs and legs[-1].result.last}
        found = starts.get(stage.init, source_of(start))
        weights = weights_of(found, SOURCE.modalities, REGIONS) if found else None
        place = folder / stage.name
        place.mkdir(parents=True)
        asked = iter([False] * (stop[1] - 1) + [True]) if stop and stop[0] == number else None
        while True:
            network.module.load_state_dict(start, strict=False)
            prepared = prepare_network(network, stage, weights, REGIONS, mapping={})
            before = snapshot(network)
            trainable = sum(p.numel() for p in network.module.parameters() if p.requires_grad)
            image = next(batches_after(name, 0))["image"]
            new = [row.name for row in prepared.receipt.tensors if row.status == "random"]
            losses = build_losses(stage, load_catalog(), network, image, new)
            paired = stage.unlabelled is not None
            try:
                asked_to_stop = lambda asked=asked: next(asked, False) if asked else False  # noqa: E731
                result = fit(
                    Setup(network, stage, prepared.frozen, losses, fabric(), place, seed=number),
                    lambda done, paired=paired: batches_after(name, done, unlabelled=paired),
                    Callbacks(asked_to_stop=asked_to_stop),
                )
                break
            except Interrupted:
                continue
        legs.append(Leg(stage, trainable, before, result))
    return legs


def open_blocks(network: Network, below: int) -> set[str]:
    names = [block.name for block in network.blocks]
    first = 0 if below == ALL else -below if below < 0 else len(names) - 1 - below
    return set(names[first:])


@pytest.mark.parametrize("strategy", SCHEDULES)
@pytest.mark.parametrize("name", NETWORKS)
def test_only_what_the_schedule_opens_is_trained(name: str, strategy: str, tmp_path: Path) -> None:
    legs = train(name, plan(name, strategy), tmp_path)
    network, _ = built(name)
    owners, state = partition(network), tensors(network)
    counts = {row.block: row.parameters for row in describe_blocks(network)}
    schedule = SCHEDULES[strategy][1]
    assert len(legs) == len(schedule)
    for leg, below in zip(legs, schedule, strict=True):
        opened = open_blocks(network, below)
        assert leg.trainable == sum(counts[block] for block in opened)
        changed = {n for n, t in leg.result.last.items() if not torch.equal(t, leg.before[n])}
        # Norm statistics included: they are tensors of their block.
        assert {owners[tensor] for tensor in changed} == opened
        still = {n for n, t in state.items() if isinstance(t, nn.Parameter)} - changed
        assert {owners[tensor] for tensor in still} <= {b.name for b in network.blocks} - opened


@pytest.mark.parametrize(
    ("name", "strategy", "stop"),
    [
        ("vgg11-bn", "linear-probe", (0, 1)),
        ("vgg11-bn", "gradual-unfreeze", (1, 1)),
        ("resnet18", "head-first", (2, 1)),
        ("resnet18", "transfusion", (0, 2)),
        ("cbr-tiny", "fine-tune", (0, 3)),
        ("cbr-tiny", "l2-sp", (0, 2)),
        ("unet3d", "gradual-unfreeze", (2, 1)),
        ("vgg11-bn", "mmd", (1, 1)),
        ("resnet18", "dann", (1, 2)),
        ("unet3d", "coral", (1, 3)),
    ],
)
def test_resumed_in_the_middle_of_a_schedule_it_ends_the_same(
    name: str, strategy: str, stop: tuple[int, int], tmp_path: Path
) -> None:
    stages = plan(name, strategy)
    whole = train(name, stages, tmp_path / "whole")
    cut = train(name, stages, tmp_path / "cut", stop)
    for one, other in zip(whole, cut, strict=True):
        for tensor in one.result.last:
            assert torch.equal(one.result.last[tensor], other.result.last[tensor])


@pytest.mark.parametrize("name", NETWORKS)
def test_adabn_trains_nothing_and_moves_running_statistics_alone(name: str) -> None:
    source, adapted = plan(name, "adabn", init=None)
    assert (source.steps, adapted.steps, adapted.norm_stats) == (STEPS, 0, "target")
    network, start = built(name)
    network.module.load_state_dict(start, strict=False)
    images = [next(batches_after(name, 0, unlabelled=True))["unlabelled"]]
    if name == "unet3d":  # its norms keep no statistics
        with pytest.raises(ConfigError, match="choose one with batch norm"):
            estimate_norms(network, lambda: images)
        return
    estimate_norms(network, lambda: images)
    changed = {n for n, tensor in snapshot(network).items() if not torch.equal(tensor, start[n])}
    assert changed == {n for n in start if n.endswith(("running_mean", "running_var"))}
