"""What a task component must offer: cases, regions, and the defaults that suit them.

Most tasks know their regions and modalities (:class:`Task`). One that reads them from the data set
is an :class:`Unbound` one: it becomes a Task when it is bound to the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from medtl.data.case import Case, Cohort
from medtl.data.domain import Domain
from medtl.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class Defaults:
    """Settings a task's author found to work; the command line overrides each."""

    src: str
    dst: str
    network: str = "unet"
    transforms: str = "brain-mr"
    spacing_mm: float = 2.0
    patch_size: tuple[int, ...] = (64, 64, 64)
    batch_size: int = 2
    slice_size: tuple[int, ...] = (128, 128)  #: patches of 2-D networks
    slice_batch_size: int = 8
    rate: float = 2e-3
    steps: int = 1600
    passes: int = 150  #: of such patches over the cases, at most: few are soon learnt by heart
    strategy: str = "modality-transfer"
    loss: str = "dice-ce"

    def steps_for(self, cases: int, batch_size: int) -> int:
        """Optimiser steps per side with patches of ``patch_size`` and so many training cases."""
        return min(self.steps, max(1, self.passes * cases // batch_size))


class Task(Protocol):
    """A task reads a folder into cases; it knows nothing of networks."""

    name: str
    kind: str  #: "segmentation" or "classification"
    regions: tuple[str, ...]  #: what the network's outputs are called: regions, or classes
    modalities: tuple[str, ...]
    nested: bool  #: each region lies within the one before it
    defaults: Defaults
    phantom_defaults: Defaults  #: for a cohort marked synthetic: settled in minutes, not hours

    # A task may also have
    #   phantom: str, the layout of the built-in cohort (medtl.data.phantom.cohort.DEFAULTS), else
    # brats;
    #   write_phantom(folder: Path, cases: int, seed: int), which writes a small synthetic cohort of
    #       so many patients that ``cases`` reads, from the seed alone: it takes the place of the
    #       built-in one, without --data and in medtl.testing. The folder is marked as synthetic
    #       (medtl.data.phantom.cohort.read_index), and ``cases`` must say so in its Cohort. An
    # Unbound
    #       task may have it, too, for medtl.testing;
    #   protocols: Mapping[str, str], ways to divide its patients, each in a sentence, the default
    #       first; ``cases`` then takes ``protocol`` and the ``reporter`` of the command.

    def cases(
        self,
        root: Path,
        labels: str | None = None,
        required: Sequence[str] | None = None,
        need_target: bool = True,
    ) -> Cohort: ...


@dataclass(frozen=True, slots=True)
class Advice:
    """Settings planned from the training cases: what was measured, and each choice's reason."""

    defaults: Defaults
    facts: tuple[tuple[str, str], ...]  #: what, value
    reasons: Mapping[str, str]  #: setting, as TrainConfig calls it -> why
    #: modality -> lowest and highest intensity, mean and deviation of what lies between
    windows: Mapping[str, tuple[float, float, float, float]]


class Named(Task, Protocol):
    """A task that has been bound to data: these named its regions and modalities."""

    exclusive: bool  #: no voxel is in two regions
    names: Mapping[str, Any]  #: what the data are called, as plain JSON; kept in checkpoints

    def advise(
        self,
        cases: Sequence[Case],
        modalities: Sequence[str],
        spacing_mm: float | None = None,
        patch_size: Sequence[int] | None = None,
    ) -> Advice:
        """Measure the training cases and choose the settings that the user left open; reads some of
        their images."""
        ...


@runtime_checkable
class Unbound(Protocol):
    """A task whose regions and modalities are named by the data set."""

    name: str

    def bind(
        self,
        root: Path | None,
        labels: str | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> Named:
        """Read what the data under ``root`` are called; ``cases(root)`` of the result reads them.

        ``names``: those of a checkpoint, for data that name nothing themselves. With them, cases
        that are not for training are found too.
        """
        ...


def check_no_labels(task: str, labels: str | None) -> None:
    """Refuse ``--labels`` for a task whose outputs have their names already."""
    if labels:
        raise ConfigError(
            f"--labels names regions of segmentations; task {task} needs none, so drop it"
        )


def check_modalities(domain: Domain, task: Task) -> None:
    """Refuse a domain of modalities that the task does not have."""
    for name in domain.modalities:
        if name not in task.modalities:
            raise ConfigError(
                f"task {task.name} has no modality {name!r}{nearest(name, task.modalities)} "
                f"(has {', '.join(task.modalities)})"
            )


def bound(
    task: Task | Unbound,
    root: Path | None,
    labels: str | None = None,
    names: Mapping[str, Any] | None = None,
) -> Task | Named:
    """``task`` itself, or what it is on these data."""
    return task.bind(root, labels, names) if isinstance(task, Unbound) else task


def protocols_of(task: Task) -> Mapping[str, str]:
    """Name -> what it does, in a sentence; the first is the default. Most tasks have none."""
    found: Mapping[str, str] = getattr(task, "protocols", {})
    return found


def choose_protocol(task: Task, wanted: str | None) -> str | None:
    """The protocol asked for, or the task's default.

    Raises:
        ConfigError: the task does not have it.
    """
    known = protocols_of(task)
    if wanted is None:
        return next(iter(known), None)
    name = wanted.replace("_", "-").lower()
    if name in known:
        return name
    if not known:
        raise ConfigError(f"--protocol {wanted}: task {task.name} has no protocols; drop it")
    hint = nearest(name, known)
    raise ConfigError(f"task {task.name} has no protocol {wanted!r}{hint} (has {', '.join(known)})")
