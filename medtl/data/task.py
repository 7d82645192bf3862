"""What a task component must offer: cases, regions, and the defaults that suit them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from medtl.data.case import Case, Cohort
from medtl.data.domain import Domain
from medtl.data.voxel_size import Spacing
from medtl.errors import ConfigError, nearest

#: Of a step, if their number follows from its voxels.
MOST_PATCHES = 8


@dataclass(frozen=True, slots=True)
class Defaults:
    """Settings a task's author found to work; the command line overrides each."""

    src: str
    dst: str
    network: str = "unet"
    width: int | None = None  #: of that network; None: the published one
    transforms: str = "brain-mr"
    spacing_mm: Spacing = 2.0
    patch_size: tuple[int, ...] = (64, 64, 64)
    batch_size: int = 2
    step_voxels: int | None = None  #: of a step's patches together, in place of ``batch_size``
    slice_size: tuple[int, ...] = (128, 128)  #: patches of 2-D networks
    slice_batch_size: int = 8
    rate: float = 2e-3
    steps: int = 1600
    passes: int = 150  #: of such patches over the cases, at most: few are soon learnt by heart
    strategy: str = "modality-transfer"
    loss: str = "dice-ce"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)  #: of that network

    def batch_for(self, patch: Sequence[int]) -> int:
        """Patches of this size per step."""
        if self.step_voxels is None:
            return self.batch_size
        return max(1, min(MOST_PATCHES, self.step_voxels // math.prod(patch)))

    def steps_for(self, cases: int, batch_size: int) -> int:
        """Optimiser steps per side with patches of ``patch_size`` and this many training cases."""
        return min(self.steps, max(1, self.passes * cases // batch_size))


@dataclass(frozen=True, slots=True)
class Advice:
    """Settings planned from the training cases: what was measured, and each choice's reason."""

    defaults: Defaults
    facts: tuple[tuple[str, str], ...]  #: what, value
    reasons: Mapping[str, str]  #: setting, as TrainConfig calls it -> why
    #: modality -> lowest and highest intensity, mean and deviation of what lies between
    windows: Mapping[str, tuple[float, float, float, float]]


class Task:
    """A task reads a folder into cases; it knows nothing of networks. Every task inherits from it.

    A task must have the attributes without a default, and ``cases``. A task whose data set names
    the regions and modalities has ``name`` and ``bind`` alone; what ``bind`` returns is complete.
    The rest is optional.
    """

    name: str
    kind: str  #: "segmentation" or "classification"
    regions: tuple[str, ...]  #: names of the network's outputs: regions, or classes
    modalities: tuple[str, ...]
    nested: bool  #: each region lies within the one before it
    defaults: Defaults
    #: for a synthetic cohort: settled in minutes, not hours; domains, strategy and loss are those
    #: of ``defaults``
    phantom_defaults: Defaults

    exclusive: bool = False  #: no voxel is in two regions
    #: what the data call things, as plain JSON, kept in checkpoints; only after ``bind``
    names: Mapping[str, Any] | None = None
    #: ways to divide the patients, each with a sentence, the default first; ``cases`` then also
    #: takes ``protocol`` and the ``reporter`` of the command
    protocols: Mapping[str, str] = {}
    phantom: str = "brats"  #: layout of the built-in cohort (medtl.data.phantom.cohort.DEFAULTS)
    #: ``write_phantom(folder, cases, seed)`` writes a synthetic cohort of ``cases`` patients from
    #: the seed alone. It takes the place of the built-in cohort, without --data and in
    #: medtl.testing. medtl marks the folder as synthetic (medtl.data.phantom.cohort.read_index),
    #: and ``cases`` says so in its Cohort.
    write_phantom: Callable[[Path, int, int], None] | None = None

    def bind(
        self,
        root: Path | None,
        labels: str | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> Task:
        """The task on one data set, whose ``cases(root)`` reads it.

        Args:
            root: the data set; None where no data were given.
            labels: the value of ``--labels``.
            names: those of a checkpoint, for data that name nothing themselves. With them, cases
                that are not for training are read, too.

        Raises:
            ConfigError: the task needs data, or takes no ``labels``.
            DataError: the data cannot be read.
        """
        return self

    def without_columns(self, names: Sequence[str]) -> Task:
        """The task, which leaves out these columns of a table; see ``--ignore-column``.

        Raises:
            ConfigError: the task reads no table whose columns mean something.
        """
        raise ConfigError(f"--ignore-column {names[0]}: task {self.name} reads no table; drop it")

    def for_images(self) -> Task:
        """The task for the images alone, of every part: what it binds to needs no labels."""
        return self

    #: The list of the images that medtl makes of DICOM, where ``cases`` takes a list and no folder:
    #: ``cases.csv`` (a table) or ``cases.json`` (a datalist of MONAI).
    dicom_list: ClassVar[str] = ""

    #: region -> its label values in the label maps that medtl makes of DICOM SEG; empty: those that
    #: a checkpoint names
    segment_values: ClassVar[Mapping[str, tuple[int, ...]]] = {}

    def image_path(self, case: str, modality: str, number: int) -> str | None:
        """Where ``cases`` looks for an image (.nii) below a folder that medtl fills from DICOM.

        Args:
            number: of the modality, as the task counts them.

        Returns:
            None: the task cannot take its images from DICOM.
        """
        return None

    def target_path(self, case: str) -> str | None:
        """Where ``cases`` looks for a label map (.nii) that medtl makes of DICOM SEG.

        Returns:
            None: the task takes no labels from DICOM.
        """
        return None

    def with_series(self, named: Mapping[str, str]) -> Task:
        """The task, bound to DICOM with these series; see ``--series``.

        Args:
            named: modality -> description of its series.
        """
        return self

    def cases(
        self,
        root: Path,
        labels: str | None = None,
        required: Sequence[str] | None = None,
        need_target: bool = True,
    ) -> Cohort:
        """Read the cases under ``root``.

        Args:
            labels: the value of ``--labels``: the label scheme, where a task has several.
            required: modalities that every case must have; None: those the task needs.
            need_target: leave out cases without a target.

        Raises:
            ConfigError: ``labels`` that the task does not have.
            DataError: no cases, or one that cannot be used; names the file.
        """
        raise NotImplementedError

    def advise(
        self,
        cases: Sequence[Case],
        modalities: Sequence[str],
        spacing_mm: Spacing | None = None,
        patch_size: Sequence[int] | None = None,
    ) -> Advice | None:
        """Measure the training cases and choose the settings that the user left open.

        It reads some of their images. None: ``defaults`` suit every data set.
        """
        return None


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
    task: object,
    root: Path | None,
    labels: str | None = None,
    names: Mapping[str, Any] | None = None,
    ignored: Sequence[str] = (),
    series: Mapping[str, str] | None = None,
) -> Task:
    """The task on the data under ``root``; see :meth:`Task.bind`.

    ``ignored``: columns of a table to leave out. ``series``: modality -> description, of DICOM.

    Raises:
        ConfigError: what a plugin offers is no :class:`Task`.
    """
    if not isinstance(task, Task):
        raise ConfigError(f"{type(task).__name__} is no task: it must inherit medtl.data.task.Task")
    if ignored:
        task = task.without_columns(ignored)
    if series:
        task = task.with_series(series)
    return task.bind(root, labels, names)


def choose_protocol(task: Task, wanted: str | None) -> str | None:
    """The protocol asked for, or the task's default.

    Raises:
        ConfigError: the task does not have it.
    """
    known = task.protocols
    if wanted is None:
        return next(iter(known), None)
    name = wanted.replace("_", "-").lower()
    if name in known:
        return name
    if not known:
        raise ConfigError(f"--protocol {wanted}: task {task.name} has no protocols; drop it")
    hint = nearest(name, known)
    raise ConfigError(f"task {task.name} has no protocol {wanted!r}{hint} (has {', '.join(known)})")
