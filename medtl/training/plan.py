"""From a TrainConfig to a Plan: cases read, patients split, stages laid out; no weights yet.

:func:`make_plan` takes named steps, each of which returns a frozen part of the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm
from statistics import median
from typing import Any

from medtl.config import ResolvedConfig, TrainConfig
from medtl.data.case import Case, Cohort
from medtl.data.cohort import check_case, open_cohort
from medtl.data.domain import Domain, select
from medtl.data.groups import with_groups
from medtl.data.io.geometry import Header, ras_grid
from medtl.data.modality import Modality
from medtl.data.phantom import INDEX
from medtl.data.same_images import with_sharers_joined
from medtl.data.sides import ENDS, sided_axes
from medtl.data.splits import Split, cases_of
from medtl.data.task import Advice, Defaults, Task, bound
from medtl.data.voxel_size import Spacing, axes_mm, in_mm
from medtl.errors import ConfigError, DataError, shortened
from medtl.evaluation.label_free import LABEL_FREE
from medtl.inference.task_types import TaskType, task_type_named
from medtl.networks.blocks import Network, per_axis
from medtl.networks.builder import takes_patch
from medtl.networks.norms import check_norms
from medtl.networks.topology import Topology, fit_patch, plan_topology
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads
from medtl.runtime.table import Table
from medtl.training.checks import (
    check_exclusive,
    check_partial,
    check_spacing,
    check_suited,
    few_tested,
    labelled_cases,
    unscored_regions,
    usable_cases,
    warn_of_edges,
)
from medtl.training.kept_regions import kept_regions, report_kept
from medtl.training.samples.prepared import prepared_bytes
from medtl.training.split import cases_for, sources_of, split_as_asked, with_budget
from medtl.training.stages import build_request, lay_out, levels_of, outside_weights, unused
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B, Request, Stage
from medtl.transfer.weights import Weights
from medtl.transforms.fit_histogram import fit_standard
from medtl.transforms.fit_records import record_images
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import Preset

#: Patches that are tried for a network that refuses the first.
MOST_TRIES = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided before the first step."""

    config: ResolvedConfig
    task: Task
    task_type: TaskType
    cohort: Cohort
    split: Split
    request: Request
    stages: tuple[Stage, ...]
    preset: Preset
    network: str
    spatial_dims: int
    patch_size: tuple[int, ...]
    headers: tuple[Header, ...]
    outside: Weights | None  #: that ``--init`` names

    def preprocessor(self, domain: Domain) -> Preprocessor:
        return Preprocessor(domain.modalities, self.task.regions, self.preset)

    def cases(self, domain: Domain, part: str) -> tuple[Case, ...]:
        """The domain's cases of the patients in ``part`` ("train", "val" or "test")."""
        sources = sources_of(self.request, self.stages)
        return cases_for(sources, self.split, domain, part, self.cohort.cases)

    @property
    def trained_on(self) -> set[str]:
        """The patients for training and validation; with a budget, those whom a stage sees."""
        if self.split.budget is None:
            return {*self.split.train, *self.split.val}
        domains = {domain for stage in self.stages for domain in stage.domains()}
        parts = [self.cases(domain, part) for domain in domains for part in ("train", "val")]
        return {case.patient for part in parts for case in part}

    def partial(self, stage: Stage) -> bool:
        """Whether the truth of a case that the stage trains on is known only in part."""
        return any(case.partial for case in self.labelled_cases(stage))

    def labelled_cases(self, stage: Stage) -> tuple[Case, ...]:
        """The cases that the stage trains on with their labels."""
        return tuple(case for domain in stage.learnt_from() for case in self.cases(domain, "train"))

    @property
    def topology(self) -> Topology | None:
        """Strides and kernels of a network that is planned per axis."""
        rows = [self.config.options.get(name) for name in ("strides", "kernels")]
        per_axis = all(row and all(isinstance(each, list) for each in row) for row in rows)
        return Topology.of(*rows) if per_axis else None

    @property
    def selected_by(self) -> str:
        """What validation measures, in words."""
        label_free = any(stage.select_by in LABEL_FREE for stage in self.stages)
        return "or other score" if label_free else self.task_type.selected_by

    def few_tested(self) -> str:
        """See :func:`medtl.training.checks.few_tested`; of the transfer's last stage."""
        patients = self.labelled_patients()
        tested = patients & set(self.split.test)
        return few_tested(len(tested), len(patients), self.cohort.counted, self.config)

    def labelled_patients(self) -> set[str]:
        """Of the domain that the transfer's last stage is tested on."""
        own = [stage for stage in self.stages if stage.name not in (CONTROL_A, CONTROL_B)][-1]
        cases = select(own.evaluate_on or own.domain, self.cohort.cases)
        return {case.patient for case in cases if case.labelled}

    def memory_bytes(self) -> int:
        """Upper bound of all prepared training and validation cases, over the domains."""
        domains = {domain for stage in self.stages for domain in stage.domains()}
        count = len(self.split.train) + len(self.split.val)
        share = count / max(1, len({case.patient for case in self.cohort.cases}))
        partial = any(case.partial for case in self.cohort.cases)
        return round(
            sum(
                prepared_bytes(header, self.preprocessor(domain), partial=partial) * share
                for domain in domains
                for header in self.headers
            )
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """The task and its stages before the data are read: steps and sizes are the task's defaults."""

    config: ResolvedConfig
    task: Task  #: bound to its data
    task_type: TaskType
    outside: Weights | None  #: that ``--init`` names
    request: Request
    network: Network  #: the target's
    stages: tuple[Stage, ...]

    @property
    def visited(self) -> tuple[Domain, ...]:
        return tuple(domain for stage in self.stages for domain in stage.domains())

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those of the visited domains; no other is required of the data."""
        return tuple(dict.fromkeys(name for each in self.visited for name in each.modalities))


@dataclass(frozen=True, slots=True)
class PlannedData:
    """The cases and their split, with the settings that suit them."""

    cohort: Cohort
    headers: tuple[Header, ...]
    split: Split
    defaults: Defaults  #: the task's, or those advised
    advice: Advice | None  #: of a task that measures its training cases


def make_plan(given: TrainConfig, catalog: Catalog, reporter: Reporter, processes: int = 1) -> Plan:
    """Read headers, split patients and lay out the stages; raises on the first bad input.

    Args:
        processes: the number of processes that share every batch.
    """
    draft = draft_stages(given, catalog, reporter)
    data = read_data(draft, reporter)
    draft = choose_network(given, draft, data, catalog)
    preset = choose_preset(draft, data, catalog, reporter)
    config, task, probe = draft.config, draft.task, draft.network
    if any(stage.norm_stats == "target" for stage in draft.stages):
        check_norms(probe)
    draft = choose_topology(draft, data, preset, catalog)
    config, probe = draft.config, draft.network
    patch_size, request = choose_sizes(draft, data, preset, processes)
    plan = Plan(
        config=config,
        task=task,
        task_type=draft.task_type,
        cohort=data.cohort,
        split=data.split,
        request=request,
        stages=lay_out(config, catalog, request),
        preset=preset.with_size(patch_size),
        network=config.network or task.defaults.network,
        spatial_dims=probe.spatial_dims,
        patch_size=patch_size,
        headers=data.headers,
        outside=draft.outside,
    )
    for stage in plan.stages:
        for domain in filter(None, (*stage.learnt_from(), stage.unlabelled)):
            if not plan.cases(domain, "train"):
                raise DataError(f"stage {stage.name}: no training patient in domain {domain}")
        check_partial(stage, plan.labelled_cases(stage), task.regions, catalog)
    if data.advice and (choices := _choices(plan, data.advice)):
        reporter.show(choices)
    if plan.task_type.dense:
        _report_kept(plan, reporter)
        for text in unscored_regions(task.regions, plan.cases(plan.stages[-1].domain, "test")):
            reporter.warn(text)
    return plan


def _report_kept(plan: Plan, reporter: Reporter) -> None:
    """What preparation keeps of each region, in every domain whose labels are trained on."""
    finest_mm = min(min(float(mm) for mm in header.spacing_mm) for header in plan.headers)
    domains = list(dict.fromkeys(stage.domain for stage in plan.stages))
    for domain in domains:
        cases = (*plan.cases(domain, "train"), *plan.cases(domain, "val"))
        kept = kept_regions(cases, plan.preprocessor(domain), finest_mm)
        report_kept(kept, plan.preset, reporter, str(domain) if len(domains) > 1 else "")


def draft_stages(given: TrainConfig, catalog: Catalog, reporter: Reporter) -> Draft:
    """Bind the task to its data, read the weights of ``--init`` and lay out the stages."""
    offered, ignored = catalog.tasks[given.task].load()(), given.ignore_column or ()
    task = bound(offered, given.data, given.labels, ignored=ignored, series=given.series)
    kind = task_type_named(task.kind, f"task {task.name}")
    default = task.defaults.strategy
    if given.strategy is None and default == "scratch" and (given.src or given.with_control):
        raise ConfigError(
            f"task {task.name} trains from scratch on --dst by default; with "
            f"{'--src' if given.src else '--with-control'} name a --strategy, for example "
            "modality-transfer"
        )
    config = ResolvedConfig(**{**dict(given), "strategy": given.strategy or default})
    phantom = given.data is None or (given.data / INDEX).is_file()
    usual = task.phantom_defaults if phantom else task.defaults
    outside = outside_weights(config, catalog, config.network or usual.network)
    config = config.model_copy(update=network_settings(config, task, usual, outside))
    request, network = build_request(config, task, kind, catalog, outside)
    stages = lay_out(config, catalog, request)
    check_exclusive(task, stages, catalog)
    for line in unused(config, request, stages):
        reporter.say(line)
    return Draft(config, task, kind, outside, request, network, stages)


def network_settings(
    given: TrainConfig, task: Task, defaults: Defaults, outside: Weights | None
) -> dict[str, Any]:
    """Network, width and options as given, else of the defaults, unless a network is given.

    Weights of ``--init`` bring the width and options of their planned network. The network is None
    if it is the task's usual one.
    """
    found = levels_of(outside, given, given.network or defaults.network) if outside else {}
    if given.network:
        return {"width": given.width, "options": given.options, **found}
    return {
        "network": None if defaults.network == task.defaults.network else defaults.network,
        "width": given.width or defaults.width,
        "options": {**defaults.options, **given.options},
        **found,
    }


def read_data(draft: Draft, reporter: Reporter) -> PlannedData:
    """Read the cohort and every header, split the patients, and take the task's advice."""
    config, task, modalities = draft.config, draft.task, draft.modalities
    cohort = open_cohort(
        task,
        config.data,
        reporter,
        config.protocol,
        series=config.series,
        segmented=True,
        labels=config.labels,
        required=modalities,
        need_target=all(stage.unlabelled is None for stage in draft.stages),
    )
    cohort = usable_cases(draft.stages, cohort, reporter)
    # The first bad case in order is reported.
    read = in_threads(lambda case: check_case(case, modalities), cohort.cases)
    cohort = with_groups(cohort, config.groups, reporter)
    cohort = with_sharers_joined(cohort, modalities, reporter)
    split = split_as_asked(config, cohort, reporter)
    split = with_budget(split, config, draft.request.target, cohort)
    labelled = cases_of(split.train, labelled_cases(draft.stages, cohort.cases))
    # What an arm may not see does not choose its settings, either.
    training = training_cases(draft, split, cohort)
    learnt = {domain for stage in draft.stages for domain in stage.learnt_from()}
    seen = {case.id for domain in learnt for case in training[domain]}
    labelled = tuple(case for case in labelled if case.id in seen)
    defaults, advice = task.phantom_defaults if cohort.synthetic else task.defaults, None
    if labelled:
        advice = task.advise(labelled, modalities, config.spacing_mm, config.patch_size)
    if advice:
        defaults = advice.defaults
        reporter.show(Table("Fingerprint", ("what", "value"), advice.facts))
    headers = tuple(headers[modalities[0]] for headers in read)
    warn_of_edges(cohort.cases, headers, reporter)
    return PlannedData(cohort, headers, split, defaults, advice)


def training_cases(draft: Draft, split: Split, cohort: Cohort) -> dict[Domain, tuple[Case, ...]]:
    """By domain that a stage visits."""
    sources = sources_of(draft.request, draft.stages)
    return {
        domain: cases_for(sources, split, domain, "train", cohort.cases) for domain in draft.visited
    }


def choose_network(given: TrainConfig, draft: Draft, data: PlannedData, catalog: Catalog) -> Draft:
    """The draft with the network of the data's own defaults, where no other is asked for."""
    settings = network_settings(given, draft.task, data.defaults, draft.outside)
    config = draft.config.model_copy(update=settings)
    if config == draft.config:
        return draft
    request, network = build_request(config, draft.task, draft.task_type, catalog, draft.outside)
    return replace(draft, config=config, request=request, network=network)


def choose_preset(draft: Draft, data: PlannedData, catalog: Catalog, reporter: Reporter) -> Preset:
    """The transforms at the run's spacing, with what is fitted on the training cases."""
    config, defaults, visited = draft.config, data.defaults, draft.visited
    preset: Preset = catalog.transforms[config.transforms or defaults.transforms].load()()
    check_suited(draft.task_type, draft.task, draft.network, preset, defaults, config)
    if preset.windowed and data.advice:
        preset = preset.with_windows(data.advice.windows)
    # Of each domain, as one of its sites may have no training patient.
    training = training_cases(draft, data.split, data.cohort)
    if not preset.fits:
        windowed = dict(preset.windows)
        preset = preset.with_images(record_images(training, reporter, windowed))
        # The task's spacing, or the data's own where that is coarser.
        preset = preset.with_spacing(config.spacing_mm or _no_finer(defaults, data.headers))
        check_spacing(preset, data.headers)
    if config.modality_dropout and all(len(domain.modalities) == 1 for domain in visited):
        raise ConfigError(
            f"--modality-dropout {config.modality_dropout:g}: every stage has one modality alone, "
            "and one always stays; name more in --src or --dst"
        )
    preset = preset.with_modality_dropout(config.modality_dropout)
    if config.augmentation != 1.0:
        preset = preset.with_strength(config.augmentation)
    sided = sided_axes(draft.task.regions)
    if sided and preset.augmentation.flip:
        preset = preset.without_flips(sided)
        for axis, named in sided.items():
            reporter.say(f"no flips of {ENDS[axis]} in training: {shortened(named)} would change")
    if draft.task.exclusive and len(draft.task.regions) > 1:
        preset = preset.without_fading()  # which is for lesions, not for parts of an organ
    if not config.harmonise:
        return preset
    standard = fit_standard(config.harmonise, catalog, preset, training, reporter)
    return replace(preset, standard=standard)


def choose_topology(draft: Draft, data: PlannedData, preset: Preset, catalog: Catalog) -> Draft:
    """The draft with strides and kernels per axis, for a network that has these options."""
    config, options = draft.config, draft.network.options
    dims = draft.network.spatial_dims
    if not {"strides", "kernels"} <= options.keys() or options["strides"] is not None:
        return draft
    edges = config.patch_size or _edges(draft, data, preset)
    topology = plan_topology(axes_mm(preset.spacing_mm)[:dims], edges[:dims])
    config = config.model_copy(update={"options": {**config.options, **topology.options()}})
    request, network = build_request(config, draft.task, draft.task_type, catalog, draft.outside)
    return replace(draft, config=config, request=request, network=network)


def _edges(draft: Draft, data: PlannedData, preset: Preset) -> tuple[int, ...]:
    """The patch of the task for the network's axes, no larger than the images."""
    defaults = data.defaults
    volumes = draft.network.spatial_dims == len(defaults.patch_size)
    edges = defaults.patch_size if volumes else defaults.slice_size
    return edges if preset.fits else _no_larger(edges, data.headers, preset.spacing_mm)


def choose_sizes(
    draft: Draft, data: PlannedData, preset: Preset, processes: int
) -> tuple[tuple[int, ...], Request]:
    """The patch's edges, and the request with batch size, steps and rate.

    Settings that are not given are the task's for patches of the network's axes.

    Raises:
        ConfigError: the processes cannot share the batch, or it is too small for batch norm.
    """
    config, defaults, network = draft.config, data.defaults, draft.network
    # Planned strides say what the edges need; other networks train on multiples of 16.
    planned = network.options.get("strides") is not None
    multiples = [each if planned else lcm(16, each) for each in network.multiples]
    edges = _edges(draft, data, preset)
    patch = config.patch_size or _accepted(network, fit_patch(edges, multiples), multiples)
    if network.spatial_dims == len(defaults.patch_size):
        batch_size = config.batch_size or defaults.batch_for(patch)
        steps = defaults.steps_for(len(cases_of(data.split.train, data.cohort.cases)), batch_size)
    else:
        steps = defaults.steps
        batch_size = config.batch_size or defaults.slice_batch_size
    if batch_size % processes:
        raise ConfigError(
            f"--batch-size {batch_size} cannot be shared by {processes} processes; "
            f"choose a multiple of {processes}"
        )
    if not draft.task_type.dense and batch_size < 2 * processes:
        raise ConfigError(f"--batch-size {batch_size}: batch norm needs 2 images or more at once")
    steps, rate = config.steps or steps, config.lr or defaults.rate
    return patch, replace(draft.request, steps=steps, batch_size=batch_size, rate=rate)


def _accepted(
    network: Network, patch: tuple[int, ...], multiple: int | Sequence[int]
) -> tuple[int, ...]:
    """``patch``, enlarged where the network refuses it: norms need more than one voxel.

    Of shapes that stay refused the first is kept, and the network's builder says why.
    """
    larger = patch
    for _ in range(MOST_TRIES):
        if takes_patch(network, larger):
            return larger
        least = min(larger)
        larger = tuple(
            edge + step if edge == least else edge
            for edge, step in zip(larger, per_axis(multiple, len(larger)), strict=True)
        )
    return patch


def _choices(plan: Plan, advice: Advice) -> Table | None:
    """Each setting and why it was chosen; None where all were given, as on --resume."""
    every = {
        "spacing_mm": in_mm(plan.preset.spacing_mm),
        "patch_size": "x".join(map(str, plan.patch_size)),
        "batch_size": str(plan.request.batch_size),
        "network": plan.network + (f", width {plan.config.width}" if plan.config.width else ""),
        "transforms": plan.preset.name,
        "loss": plan.request.losses[0].name,
        "steps": str(plan.request.steps),
    }
    reasons = dict(advice.reasons)
    if levels := plan.topology:
        reasons["network"] = f"planned per axis: {levels.describe()}"
    explained = {name: value for name, value in every.items() if name in reasons}
    if all(getattr(plan.config, name) is not None for name in explained):  # of a run that goes on
        return None
    rows = tuple(
        (
            name.removesuffix("_mm").replace("_", " "),
            value,
            reasons[name] if _chosen(plan, name) else "as given",
        )
        for name, value in explained.items()
    )
    return Table("Choices", ("setting", "value", "why"), rows)


def _chosen(plan: Plan, setting: str) -> bool:
    """Whether a setting, or a part of it, was left to the plan; levels always are."""
    return getattr(plan.config, setting) is None or (setting == "network" and bool(plan.topology))


def _no_finer(defaults: Defaults, headers: Sequence[Header]) -> Spacing:
    """The task's spacing; if it is of cubes, the data's own where that is coarser."""
    if not isinstance(defaults.spacing_mm, int | float):
        return defaults.spacing_mm
    native_mm = median(min(float(mm) for mm in header.spacing_mm) for header in headers)
    return max(defaults.spacing_mm, round(native_mm, 2))


def _no_larger(
    edges: tuple[int, ...], headers: Sequence[Header], spacing_mm: Spacing
) -> tuple[int, ...]:
    """The task's patch, cut to the median size of the data."""
    grids = [ras_grid(header) for header in headers]
    return tuple(
        min(edge, round(median(shape[axis] * mm[axis] for shape, mm in grids) / wanted_mm))
        for axis, (edge, wanted_mm) in enumerate(zip(edges, axes_mm(spacing_mm), strict=False))
    )
