"""From a TrainConfig to a Plan: cases read, patients split, stages laid out; no weights yet.

:func:`make_plan` takes named steps, each of which returns a frozen part of the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm
from statistics import median

from medtl.config import ResolvedConfig, TrainConfig
from medtl.data.case import Case, Cohort
from medtl.data.cohort import check_case, open_cohort
from medtl.data.domain import Domain, select
from medtl.data.io.geometry import Header, ras_grid
from medtl.data.modality import Modality
from medtl.data.splits import Split, cases_of
from medtl.data.task import Advice, Defaults, Task, bound
from medtl.errors import ConfigError, DataError
from medtl.evaluation.label_free import LABEL_FREE
from medtl.inference.task_types import TaskType, task_type_named
from medtl.networks.blocks import Network
from medtl.networks.norms import check_norms
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads
from medtl.runtime.table import Table
from medtl.training.checks import check_suited, labelled_cases, usable_cases
from medtl.training.samples.prepared import prepared_bytes
from medtl.training.split import split_as_asked
from medtl.training.stages import build_request, lay_out, outside_weights, unused
from medtl.transfer.strategies.base import Request, Stage
from medtl.transfer.weights import Weights
from medtl.transforms.fit_histogram import fit_standard
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import Preset


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
        patients = set(getattr(self.split, part))
        return tuple(c for c in select(domain, self.cohort.cases) if c.patient in patients)

    @property
    def selected_by(self) -> str:
        """What validation measures, in words."""
        label_free = any(stage.select_by in LABEL_FREE for stage in self.stages)
        return "or other score" if label_free else self.task_type.selected_by

    def memory_bytes(self) -> int:
        """Upper bound of all prepared training and validation cases, over the domains."""
        domains = {domain for stage in self.stages for domain in stage.domains()}
        count = len(self.split.train) + len(self.split.val)
        share = count / max(1, len({case.patient for case in self.cohort.cases}))
        return round(
            sum(
                prepared_bytes(header, self.preprocessor(domain)) * share
                for domain in domains
                for header in self.headers
            )
        )


@dataclass(frozen=True, slots=True)
class ChosenTask:
    """The task bound to its data, with the names that the settings left to it."""

    config: ResolvedConfig
    task: Task
    task_type: TaskType
    network: str
    outside: Weights | None  #: that ``--init`` names


@dataclass(frozen=True, slots=True)
class Draft:
    """The stages before the data are known: their steps and sizes are the task's defaults."""

    request: Request
    network: Network  #: the target's
    stages: tuple[Stage, ...]

    @property
    def visited(self) -> tuple[Domain, ...]:
        return tuple(domain for stage in self.stages for domain in stage.domains())

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those of the visited domains; no other is asked of the data."""
        return tuple(dict.fromkeys(name for each in self.visited for name in each.modalities))


@dataclass(frozen=True, slots=True)
class PlannedData:
    """The cases and their split, with the settings that suit them."""

    cohort: Cohort
    headers: tuple[Header, ...]
    split: Split
    defaults: Defaults  #: the task's, or those advised
    advice: Advice | None  #: of a task that measures its training cases


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a step takes in, and how many steps a side gets."""

    patch_size: tuple[int, ...]
    batch_size: int
    steps: int


def make_plan(given: TrainConfig, catalog: Catalog, reporter: Reporter, processes: int = 1) -> Plan:
    """Read headers, split patients and lay out the stages; raises on the first bad input.

    ``processes``: how many share every batch.
    """
    chosen = choose_task(given, catalog)
    draft = draft_stages(chosen, catalog, reporter)
    data = read_data(chosen, draft, reporter)
    preset = choose_preset(chosen, draft, data, catalog, reporter)
    config, task, kind, probe = chosen.config, chosen.task, chosen.task_type, draft.network
    check_suited(kind, task, probe, preset, data.defaults, config)
    if any(stage.norm_stats == "target" for stage in draft.stages):
        check_norms(probe)
    sizes = choose_sizes(chosen, draft, data, preset, processes)
    request = replace(
        draft.request,
        steps=sizes.steps,
        batch_size=sizes.batch_size,
        rate=config.lr or data.defaults.rate,
    )
    plan = Plan(
        config=config,
        task=task,
        task_type=kind,
        cohort=data.cohort,
        split=data.split,
        request=request,
        stages=lay_out(config, catalog, request),
        preset=preset.with_size(sizes.patch_size),
        network=chosen.network,
        spatial_dims=probe.spatial_dims,
        patch_size=sizes.patch_size,
        headers=data.headers,
        outside=chosen.outside,
    )
    _check_domains(plan)
    if data.advice:
        reporter.show(_choices(plan, data.advice))
    return plan


def choose_task(given: TrainConfig, catalog: Catalog) -> ChosenTask:
    """Bind the task to its data; read the weights that ``--init`` names."""
    task = bound(catalog.tasks[given.task].load()(), given.data, given.labels)
    kind = task_type_named(task.kind, f"task {task.name}")
    config = ResolvedConfig(**{**dict(given), "strategy": _strategy(given, task)})
    network = config.network or task.defaults.network
    return ChosenTask(config, task, kind, network, outside_weights(config, catalog, network))


def draft_stages(chosen: ChosenTask, catalog: Catalog, reporter: Reporter) -> Draft:
    """Ask the strategy which domains it visits, and report the settings it does not use."""
    config = chosen.config
    request, network = build_request(config, chosen.task, chosen.task_type, catalog, chosen.outside)
    draft = Draft(request, network, lay_out(config, catalog, request))
    for line in unused(config, request, draft.stages):
        reporter.say(line)
    return draft


def read_data(chosen: ChosenTask, draft: Draft, reporter: Reporter) -> PlannedData:
    """Read the cohort and every header, split the patients, and take the task's advice."""
    config, task = chosen.config, chosen.task
    cohort = open_cohort(
        task,
        config.data,
        reporter,
        config.protocol,
        labels=config.labels,
        required=draft.modalities,
        need_target=all(stage.unlabelled is None for stage in draft.stages),
    )
    cohort = usable_cases(draft.stages, cohort, reporter)
    headers = _check_headers(cohort.cases, draft.modalities)
    split = split_as_asked(config, cohort, reporter)
    labelled = cases_of(split.train, labelled_cases(draft.stages, cohort.cases))
    advice = _advice(task, labelled, draft.modalities, config, reporter)
    defaults = task.phantom_defaults if cohort.synthetic else task.defaults
    return PlannedData(cohort, headers, split, advice.defaults if advice else defaults, advice)


def choose_preset(
    chosen: ChosenTask, draft: Draft, data: PlannedData, catalog: Catalog, reporter: Reporter
) -> Preset:
    """The transforms at the run's spacing, with what is fitted on the training cases."""
    config, defaults = chosen.config, data.defaults
    preset: Preset = catalog.transforms[config.transforms or defaults.transforms].load()()
    if preset.windowed and data.advice:
        preset = preset.with_windows(data.advice.windows)
    if not preset.fits:
        preset = preset.with_spacing(
            config.spacing_mm or _spacing(defaults.spacing_mm, data.headers)
        )
    preset = preset.with_modality_dropout(_modality_dropout(config, draft.visited))
    if not config.harmonise:
        return preset
    # Of each domain, as one of its sites may have no training patient.
    training = {
        domain: cases_of(data.split.train, select(domain, data.cohort.cases))
        for domain in draft.visited
    }
    standard = fit_standard(config.harmonise, catalog, preset, training, reporter)
    return replace(preset, standard=standard)


def choose_sizes(
    chosen: ChosenTask, draft: Draft, data: PlannedData, preset: Preset, processes: int
) -> Sizes:
    """Patch, batch and steps: as given, else the task's for patches of the network's axes.

    Raises:
        ConfigError: the processes cannot share the batch, or it is too small for batch norm.
    """
    config, defaults, network = chosen.config, data.defaults, draft.network
    if network.spatial_dims == len(defaults.patch_size):
        edges = defaults.patch_size
        batch_size = config.batch_size or defaults.batch_size
        steps = defaults.steps_for(len(cases_of(data.split.train, data.cohort.cases)), batch_size)
    else:
        edges, steps = defaults.slice_size, defaults.steps
        batch_size = config.batch_size or defaults.slice_batch_size
    if batch_size % processes:
        raise ConfigError(
            f"--batch-size {batch_size} cannot be shared by {processes} processes; "
            f"choose a multiple of {processes}"
        )
    if not chosen.task_type.dense and batch_size < 2 * processes:
        raise ConfigError(f"--batch-size {batch_size}: batch norm needs 2 images or more at once")
    multiple = lcm(16, network.patch_multiple)
    if not (config.patch_size or preset.fits):
        edges = _no_larger(edges, data.headers, preset.spacing_mm)
    patch = config.patch_size or tuple(multiple * -(-edge // multiple) for edge in edges)
    return Sizes(patch, batch_size, config.steps or steps)


def _strategy(config: TrainConfig, task: Task) -> str:
    default = task.defaults.strategy
    if config.strategy is None and config.src and default == "scratch":
        raise ConfigError(
            f"task {task.name} trains from scratch on --dst unless told otherwise; with --src name "
            "a --strategy, for example modality-transfer"
        )
    return config.strategy or default


def _advice(
    task: Task,
    cases: Sequence[Case],
    modalities: Sequence[Modality],
    config: TrainConfig,
    reporter: Reporter,
) -> Advice | None:
    """What a task that measures its data makes of the training cases; shown as a fingerprint."""
    if not cases:
        return None
    advice = task.advise(cases, modalities, config.spacing_mm, config.patch_size)
    if advice is None:
        return None
    reporter.show(Table("Fingerprint", ("what", "value"), advice.facts))
    return advice


def _choices(plan: Plan, advice: Advice) -> Table:
    """Each setting and why it was chosen; what the user gave needs no reason."""
    every = {
        "spacing_mm": f"{plan.preset.spacing_mm:g} mm",
        "patch_size": "x".join(map(str, plan.patch_size)),
        "batch_size": str(plan.request.batch_size),
        "network": plan.network,
        "transforms": plan.preset.name,
        "loss": plan.request.losses[0].name,
        "steps": str(plan.request.steps),
    }
    values = {name: value for name, value in every.items() if name in advice.reasons}
    rows = tuple(
        (
            name.removesuffix("_mm").replace("_", " "),
            value,
            advice.reasons[name] if getattr(plan.config, name) is None else "as given",
        )
        for name, value in values.items()
    )
    return Table("Choices", ("setting", "value", "why"), rows)


def _modality_dropout(config: TrainConfig, visited: Sequence[Domain]) -> float:
    if config.modality_dropout and all(len(domain.modalities) == 1 for domain in visited):
        raise ConfigError(
            f"--modality-dropout {config.modality_dropout:g}: every stage has one modality alone, "
            "and one always stays; name more in --src or --dst"
        )
    return config.modality_dropout


def _check_headers(cases: Sequence[Case], modalities: tuple[Modality, ...]) -> tuple[Header, ...]:
    """One header per case, every file's header read; the first bad case in order is reported."""
    read = in_threads(lambda case: check_case(case, modalities), cases)
    return tuple(headers[modalities[0]] for headers in read)


def _spacing(default_mm: float, headers: Sequence[Header]) -> float:
    """The task's spacing, or the data's own where that is coarser already."""
    native_mm = median(min(float(mm) for mm in header.spacing_mm) for header in headers)
    return max(default_mm, round(native_mm, 2))


def _no_larger(
    edges: tuple[int, ...], headers: Sequence[Header], spacing_mm: float
) -> tuple[int, ...]:
    """The task's patch, cut to the median size of the data."""
    grids = [ras_grid(header) for header in headers]
    return tuple(
        min(edge, round(median(shape[axis] * mm[axis] for shape, mm in grids) / spacing_mm))
        for axis, edge in enumerate(edges)
    )


def _check_domains(plan: Plan) -> None:
    for stage in plan.stages:
        if not plan.cases(stage.domain, "train"):
            raise DataError(f"stage {stage.name}: no training patient in domain {stage.domain}")
        if stage.unlabelled and not plan.cases(stage.unlabelled, "train"):
            raise DataError(f"stage {stage.name}: no training patient in domain {stage.unlabelled}")
