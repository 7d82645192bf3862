"""Estimate the memory of a training step before the first one.

Weights, gradients, the optimiser's moments and the running average are counted. The memory of the
batch depends on what the layers keep and on the library's working space. It is measured in a
forward and a backward pass over small patches, and grows in proportion to the number of voxels.
For larger batches that is an upper bound, as working space of a fixed size counts more in small
ones. A pass over one or two patches tells roughly what smaller batches take per voxel.

Axes: B batch, C modality, L region, then the spatial axes.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import prod

import torch
from lightning_fabric import Fabric
from torch.profiler import ProfilerActivity, profile

from medtl.networks.blocks import Network, freeze, tensors
from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.plugins.catalog import Catalog
from medtl.runtime.distributed import gather
from medtl.runtime.memory import free_memory_bytes, in_words, unless_out_of_memory
from medtl.training.build import build_losses, build_network
from medtl.training.plan import Plan
from medtl.training.profiler import exported, quiet
from medtl.training.step import Objective
from medtl.transfer.strategies.base import Stage

#: The measured patch has no longer edge. Smaller ones show the weights, not the batch.
PROBE_EDGE = 64


#: What the process holds over what torch's allocator gives out: gaps, and the libraries' own space.
#: Measured against the peak of the process; see benchmarks/memory.py.
OVERHEAD = {"cpu": 1.5, "cuda": 1.1}


#: Moments that an optimiser keeps for every weight.
MOMENTS = {"sgd": 1}


USUAL_MOMENTS = 2


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a step takes on its device, in each process."""

    weights_bytes: int  #: with gradients, moments and average
    voxel_bytes: float  #: of a batch, per voxel
    small_voxel_bytes: float = 0.0  #: of batches of up to ``small_voxels``, per voxel
    small_voxels: int = 0

    def step_bytes(self, batch_size: int, patch_size: Sequence[int]) -> int:
        voxels = batch_size * prod(patch_size)
        small_bytes = self.small_voxel_bytes * min(voxels, self.small_voxels)
        return self.weights_bytes + round(max(self.voxel_bytes * voxels, small_bytes))


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The estimated memory of a plan's steps on each device, and the free memory."""

    batch_bytes: int
    weights_bytes: int
    free_bytes: int  #: the processes of a node share its RAM, but have a GPU each
    shortage: str  #: what is short and what to change; empty if it fits

    def __str__(self) -> str:
        return (
            f"a step takes about {in_words(self.batch_bytes + self.weights_bytes)} of the "
            f"{in_words(self.free_bytes)} free: batch {in_words(self.batch_bytes)}, "
            f"weights and optimiser {in_words(self.weights_bytes)}"
        )


def foresee(
    plan: Plan, catalog: Catalog, fabric: Fabric, networks: Sequence[Network]
) -> Foreseen | None:
    """Estimate a step's memory, the same in every process; None where it cannot be measured.

    Args:
        networks: one for each stage.
    """
    network = networks[plan.stages.index(largest_stage(plan))]
    footprint = fabric.broadcast(
        unless_out_of_memory(partial(measure_footprint, plan, catalog, fabric, network))
    )
    if footprint is None:
        return None
    on_cpu = fabric.device.type == "cpu"
    sharing = fabric.world_size // plan.config.num_nodes if on_cpu else 1
    # The process with the least free memory decides for all.
    free = min(gather(fabric, [free_bytes(fabric.device) // sharing], fabric.world_size))
    step = footprint.step_bytes(plan.request.batch_size // fabric.world_size, plan.patch_size)
    shortage = ""
    if step > free:
        shortage = (
            f"a step takes about {in_words(step)}, but {in_words(free)} are free on "
            f"{fabric.device}; try {advice(footprint, plan, fabric.world_size, free)}"
        )
    weights = footprint.weights_bytes
    return Foreseen(step - weights, weights, free, shortage)


def measure_footprint(
    plan: Plan, catalog: Catalog, fabric: Fabric, network: Network
) -> Footprint | None:
    """The footprint of the plan's largest stage, all trained; None where it cannot be seen.

    ``network``: that stage's. Its parameters are trainable afterwards.
    """
    device = fabric.device.type
    if device not in OVERHEAD:
        return None
    stage = largest_stage(plan)
    copies = 3 + MOMENTS.get(stage.optimizer, USUAL_MOMENTS)
    weights = copies * sum(t.numel() * t.element_size() for t in tensors(network).values())
    multiples = network.multiples
    edges = tuple(
        min(edge, multiple * max(2, PROBE_EDGE // multiple))
        for edge, multiple in zip(plan.patch_size, multiples, strict=False)
    )
    batch_size = stage.batch_size // fabric.world_size
    taken = _taking(edges, network, plan, catalog)
    few = min(2, batch_size)
    try:  # What is made at first use is not counted in the second pass.
        small = _batch_bytes(stage, taken, catalog, fabric, edges, few)
        batch = _batch_bytes(stage, taken, catalog, fabric, edges, batch_size)
    except (OSError, json.JSONDecodeError):  # a full disk cuts the profiler's trace off
        return None
    overhead, voxels = OVERHEAD[device], prod(edges)
    per_voxel, per_small_voxel = batch / (batch_size * voxels), min(small, batch) / (few * voxels)
    return Footprint(weights, overhead * per_voxel, overhead * per_small_voxel, few * voxels)


def free_bytes(device: torch.device) -> int:
    """Memory to be had on the device of a step."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_memory_bytes()


def advice(footprint: Footprint, plan: Plan, processes: int, free: float) -> str:
    """What to change so that a step takes no more than ``free`` bytes in each process."""
    batch_size = plan.request.batch_size // processes
    for fewer in range(batch_size - 1, 0, -1):
        if footprint.step_bytes(fewer, plan.patch_size) <= free:
            return f"--batch-size {fewer * processes}"
    edges = list(plan.patch_size)
    while (longest := max(edges)) > 32:
        edges[edges.index(longest)] = 16 * ((longest - 1) // 16)
        if footprint.step_bytes(1, edges) <= free:
            fewer_patches = f"--batch-size {processes} " if batch_size > 1 else ""
            return f"{fewer_patches}--set patch_size={','.join(map(str, edges))}"
    return "a smaller --width"


def largest_stage(plan: Plan) -> Stage:
    """The stage that takes most: with unlabelled images the batch is twice as large."""
    return next((stage for stage in plan.stages if stage.unlabelled), plan.stages[0])


def _taking(edges: tuple[int, ...], network: Network, plan: Plan, catalog: Catalog) -> Network:
    """``network``, or one built anew where it takes patches of one size alone."""
    if network.patch_size in ((), edges):
        return network
    return build_network(plan, catalog, largest_stage(plan), edges)


def _batch_bytes(
    stage: Stage,
    network: Network,
    catalog: Catalog,
    fabric: Fabric,
    edges: tuple[int, ...],
    batch_size: int,
) -> int:
    """Peak of what a forward and a backward pass take beside weights and gradients."""
    freeze(network, ())
    shape = (batch_size, network.in_channels, *edges)
    losses = build_losses(stage, catalog, network, torch.zeros(shape))
    objective = Objective(network.module, losses).to(fabric.device).train()
    for parameter in network.module.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def step() -> None:
        image = torch.randn(shape, device=fabric.device)
        unlabelled = torch.randn_like(image) if stage.unlabelled else None
        outputs = edges if network.dense else ()
        target = torch.zeros((batch_size, network.out_channels, *outputs), device=fabric.device)
        with fabric.autocast(), suited_to_cpu(network.module):
            loss = objective(image, target, None, unlabelled)
        loss.backward()

    try:
        if fabric.device.type != "cuda":
            return _peak_on_cpu(step)
        before: int = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        peak: int = torch.cuda.max_memory_allocated()
        return peak - before
    finally:  # so that neither counts as memory in use
        objective.zero_grad()
        objective.cpu()


def _peak_on_cpu(step: Callable[[], None]) -> int:
    """By the allocations that torch's profiler records, the libraries' own through it included."""
    quiet()
    with (
        _garbage_kept(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler,
    ):
        step()
    changes = sorted(
        (event["ts"], event["args"]["Bytes"])
        for event in exported(profiler)["traceEvents"]
        if event["name"] == "[memory]"
    )
    return int(max(accumulate((bytes_ for _, bytes_ in changes), initial=0)))


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Memory that was taken before is not freed meanwhile: torch writes a line about it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
