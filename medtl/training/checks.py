"""Checks of a plan: no label of an unlabelled domain is used, and network and data fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from medtl.config import TrainConfig
from medtl.data.case import Case, Cohort
from medtl.data.domain import select
from medtl.data.io.geometry import Header
from medtl.data.label_scheme import LabelScheme
from medtl.data.splits import FEWEST_FOR_BOOTSTRAP
from medtl.data.task import Defaults, Task
from medtl.data.voxel_size import SPACING_RANGE_MM, as_option, as_spacing, axes_mm, in_mm, is_odd
from medtl.errors import ConfigError, DataError, shortened
from medtl.evaluation.intervals import FEWEST_FOR_INTERVAL
from medtl.evaluation.label_free import check_selector
from medtl.inference.task_types import TaskType
from medtl.networks.blocks import Network
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.memory import free_memory_bytes
from medtl.training.losses import (
    FeatureLoss,
    PartialLoss,
    WeightLoss,
    load_losses,
    softmax_losses,
)
from medtl.transfer.strategies.base import Stage, refuse
from medtl.transforms.presets import Preset

#: Of a prepared voxel in memory, at least.
BYTES_PER_VOXEL = 4


def check_adaptation(stages: Sequence[Stage], config: TrainConfig) -> None:
    """Check the stages with unlabelled images, and the settings that only they have.

    Raises:
        ConfigError: the plan cannot run, or has a setting of stages that it lacks.
    """
    if all(stage.unlabelled is None for stage in stages):
        for name in ("alignment", "select_by"):
            refuse(
                getattr(config, name) is not None,
                f"{name}: strategy {config.strategy} sees no unlabelled images; drop it, or "
                "choose one that does, for example dann",
            )
    for stage in stages:
        check_selector(stage.select_by, unlabelled=stage.unlabelled is not None)
        if stage.unlabelled is None:
            without = f"stage {stage.name} takes norms from unlabelled images it has not"
            refuse(stage.norm_stats == "target", without)
            continue
        ours, theirs = stage.domain.modalities, stage.unlabelled.modalities
        refuse(
            ours != theirs,
            f"{stage.name}: --src has {'+'.join(ours)}, --dst {'+'.join(theirs)}; without "
            "labels both need the same modalities (for other ones: modality-transfer)",
        )
        refuse(
            config.with_control,
            f"{stage.name} uses no label of --dst, the controls would; drop --with-control: "
            "the stage source is what it is compared with",
        )


def labelled_cases(stages: Sequence[Stage], cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases whose labels the stages may use: those of no unlabelled domain.

    Raises ConfigError where a stage would train on the labels of its unlabelled cases.
    """
    hidden: set[str] = set()
    for stage in stages:
        if stage.unlabelled is None:
            continue
        own = {case.id for case in select(stage.domain, cases)}
        other = [case.id for case in select(stage.unlabelled, cases)]
        shared = [name for name in other if name in own]
        if shared:
            raise ConfigError(
                f"{stage.name}: {len(shared)} cases ({shared[0]}, ...) are in both --src and "
                f"--dst, so their labels would be trained on; {_narrower(stage, cases)}"
            )
        hidden.update(other)
    return tuple(case for case in cases if case.id not in hidden)


def _narrower(stage: Stage, cases: Sequence[Case]) -> str:
    """How the two domains can be kept apart in these data."""
    for field in ("site", "part"):
        values = sorted({getattr(case, field) for case in cases} - {""})
        if len(values) > 1:
            modalities = "mod:" + "+".join(stage.domain.modalities)
            one, other = (f"{modalities},{field}:{value}" for value in values[:2])
            return f"narrow them, for example --src {one} --dst {other}"
    return "these data name no sites or parts to tell them apart by"


def usable_cases(stages: Sequence[Stage], cohort: Cohort, reporter: Reporter) -> Cohort:
    """The cohort without cases that should be labelled, and are not."""
    bare = {case.id for case in labelled_cases(stages, cohort.cases) if not case.labelled}
    if not bare:
        return cohort
    reporter.say(f"{len(bare)} cases outside of --dst are unlabelled and were left out")
    return replace(cohort, cases=tuple(case for case in cohort.cases if case.id not in bare))


def few_tested(tested: int, patients: int, counted: str, config: TrainConfig) -> str:
    """What scores of so few test patients cannot tell, and how to test more; "" if they are enough.

    Args:
        tested, patients: labelled ones of the target, in the test set and in all.
        counted: what counts as a patient.
    """
    if tested >= FEWEST_FOR_INTERVAL:
        return ""
    folds = min(5, patients // FEWEST_FOR_INTERVAL)
    how = "more data"
    if folds > 1 and config.protocol is None and config.splits is None:
        how = f"--folds {folds} --fold 0 ({patients // folds} of {patients}), or {how}"
    elif config.protocol is None and config.splits is None:
        how = f"{how} ({patients} are labelled)"
    what = "a verdict on the transfer" if config.with_control else "an interval"
    return f"{too_few_for(what, tested, counted)}: use {how}"


def too_few_for(what: str, tested: int, counted: str) -> str:
    """``1 test patient: an interval needs 5 or more (better 20)``."""
    counted = counted.removesuffix("s") if tested == 1 else counted
    return (
        f"{tested} test {counted}: {what} needs {FEWEST_FOR_INTERVAL} or more (better "
        f"{FEWEST_FOR_BOOTSTRAP})"
    )


def untold_regions(task: Task, cases: Sequence[Case]) -> list[str]:
    """What the label values of the cases cannot tell apart, a sentence per label scheme."""
    schemes = {repr(case.regions): case.regions for case in cases if case.regions}
    found = [LabelScheme.of(values_of, task.regions) for values_of in schemes.values()]
    return [
        scheme.describe()
        for scheme in found
        if not scheme.tells(nested=task.nested, exclusive=task.exclusive)
    ]


def check_spacing(preset: Preset, headers: Sequence[Header]) -> None:
    """Raises ConfigError for a spacing of no image, or at which the memory holds no case."""
    low, high = SPACING_RANGE_MM
    axes = axes_mm(preset.spacing_mm)
    given = f"--spacing {as_option(preset.spacing_mm)}"
    sizes = f"it is in mm, between {low:g} and {high:g}"
    refuse(not low <= min(axes) <= max(axes) <= high, f"{given} is not possible; {sizes}")
    voxels = (
        max(
            math.prod(header.shape[:3]) * math.prod(map(float, header.spacing_mm))
            for header in headers
        )
    ) / math.prod(axes)
    refuse(
        voxels * BYTES_PER_VOXEL > free_memory_bytes(),
        f"{given}: a prepared case would have {voxels:.2g} voxels, more than the memory holds; "
        "take a coarser one",
    )


def warn_of_edges(cases: Sequence[Case], headers: Sequence[Header], reporter: Reporter) -> None:
    """Warn of cases whose voxels are of another order than the others'."""
    every_mm = [[float(mm) for mm in header.spacing_mm] for header in headers]
    usual_mm = [median(edges) for edges in zip(*every_mm, strict=True)]
    pairs = zip(cases, every_mm, strict=True)
    odd = [
        f"{case.id} ({in_mm(as_spacing(edges))})"
        for case, edges in pairs
        if is_odd(edges, usual_mm)
    ]
    if odd:
        reporter.warn(
            f"far from the median voxel of {in_mm(as_spacing(usual_mm))}: {shortened(odd)}; check "
            "the unit in the header"
        )


def check_exclusive(task: Task, stages: Sequence[Stage], catalog: Catalog) -> None:
    """Raises ConfigError for a softmax over regions that overlap."""
    for stage in () if task.exclusive else stages:
        names = [spec.name for spec in stage.losses]
        refuse(
            softmax_losses(stage, catalog),
            f"--set loss={names[0]}: regions of task {task.name} overlap, and a softmax takes each "
            "voxel for one of them; take dice-ce",
        )


def check_partial(
    stage: Stage, cases: Sequence[Case], regions: Sequence[str], catalog: Catalog
) -> None:
    """Check the training ``cases`` of a stage, if the labels of some are known only in part.

    Raises:
        DataError: a region that no case annotates.
        ConfigError: a loss that takes what nobody annotated for background.
    """
    if not any(case.partial for case in cases):
        return
    for name in _never_annotated(regions, cases):
        raise DataError(
            f"stage {stage.name}: region {name} is annotated in none of {len(cases)} training "
            "cases, so it cannot be learnt; leave it out of the labels, or add cases that have it"
        )
    for spec, loss in load_losses(stage, catalog):
        refuse(
            not isinstance(loss, PartialLoss | FeatureLoss | WeightLoss),
            f"loss {spec.name} cannot leave out voxels and regions that nobody annotated, and "
            f"training cases of stage {stage.name} have such; take dice-ce",
        )


def unscored_regions(regions: Sequence[str], cases: Sequence[Case]) -> list[str]:
    """A sentence for each region that no test case annotates."""
    return [
        f"region {name} is annotated in no test case: it gets no score"
        for name in _never_annotated(regions, cases)
    ]


def _never_annotated(regions: Sequence[str], cases: Sequence[Case]) -> list[str]:
    return [name for name in regions if cases and all(name in case.unannotated for case in cases)]


def check_suited(
    kind: TaskType,
    task: Task,
    network: Network,
    preset: Preset,
    defaults: Defaults,
    config: TrainConfig,
) -> None:
    """Raises ConfigError for a network, preset or size that is not for this task or its images."""
    what = "maps of regions" if network.dense else "the classes of whole images"
    refuse(
        network.dense != kind.dense,
        f"network {network.name} predicts {what}, task {task.name} needs another; see "
        "medtl list networks",
    )
    dims, size, name = len(defaults.patch_size), config.patch_size or (), preset.name
    if kind.dense and dims == 3:
        other = f"transforms {name} is for whole images, not for patches; see medtl list transforms"
        return refuse(preset.fits, other)
    refuse(
        network.spatial_dims != dims,
        f"network {network.name} is for volumes, task {task.name} has pictures; take a 2-D one",
    )
    axes = f"patch_size: these images have {dims} axes, not {len(size)}"
    refuse(size and len(size) != dims, axes)
    flat = f"transforms {name} is for volumes in mm; these are pictures: use picture"
    refuse(dims == 2 and not preset.fits, flat)
    refuse(
        preset.fits and config.spacing_mm,
        f"--spacing: {name} scales every image to fit; give a size instead, for example "
        "--set patch_size=128,128",
    )
