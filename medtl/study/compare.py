"""``medtl compare``: plan a study, carry it out, and write what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medtl.config import checked
from medtl.errors import Interrupted, RunError, shortened
from medtl.evaluation.tables import warned
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.figure_style import attempted
from medtl.runtime.files import file_name, write_csv
from medtl.runtime.lock import locked_output
from medtl.runtime.run_folder import write_text
from medtl.runtime.shown import Pictures, Shown, read_pictures
from medtl.runtime.table import Table
from medtl.study.config import StudyConfig
from medtl.study.figures import label_efficiency, paired_differences
from medtl.study.folder import SUMMARY, StudyFolder, begun, folder_for, start_study, sweep_study
from medtl.study.outcomes.cost import Cost, find_costs
from medtl.study.outcomes.found import Outcomes, find_outcomes
from medtl.study.outcomes.tables import cost_table, outcome_tables
from medtl.study.plan import StudyPlan, plan_study
from medtl.study.results import Findings, find
from medtl.study.run import carry_out
from medtl.study.scores import StudyScores, read_study_scores
from medtl.study.sites.outcome import find_over_sites, write_sites
from medtl.study.sites.plan import plan_sites
from medtl.study.sites.results import SiteFindings
from medtl.study.sites.tables import division_table, site_tables
from medtl.study.tables import found_tables, plan_tables
from medtl.study.trials.results import TunedFindings, read_tuned
from medtl.study.trials.store import check_store
from medtl.study.work import Executor


@dataclass(frozen=True, slots=True, repr=False)
class Study(Shown):
    """A study that was carried out. ``failed``: run -> why it failed.

    ``sites``: what a study found that leaves each site out; ``found`` is empty then.
    """

    folder: Path
    config: StudyConfig
    found: Findings
    failed: Mapping[str, str]
    costs: tuple[Cost, ...]  #: of each arm, of its runs' last parts
    is_synthetic: bool
    warnings: tuple[str, ...] = field(default=())
    outcomes: Outcomes | None = None  #: what the arms took; None: each site was left out
    tuned: TunedFindings | None = None  #: what trials chose, and what it changed
    sites: SiteFindings | None = None

    @property
    def title(self) -> str:
        if self.sites:
            return f"{self.folder.name}: {len({row.site for row in self.sites.rows})} sites"
        return f"{self.folder.name}: {len(self.found.comparisons)} comparisons"

    @property
    def synthetic(self) -> bool:
        return self.is_synthetic

    @property
    def figures(self) -> Pictures:
        return read_pictures(self.folder / "figures")

    def rows(self) -> list[dict[str, Any]]:
        """A row per comparison, or per site that was left out, as plain data."""
        if self.sites:
            return [each.to_json() for each in self.sites.rows]
        return [each.to_json() for each in self.found.comparisons]

    def tables(self) -> list[Table]:
        return [*self.lasting_tables(), *self.cost_tables()]

    def lasting_tables(self) -> list[Table]:
        """Those without times: they are the same however often the study was stopped."""
        synthetic = self.is_synthetic
        if self.sites:
            return site_tables(self.sites, synthetic=synthetic)
        tables = found_tables(self.found, synthetic=synthetic)
        if self.tuned:
            tables += self.tuned.tables(self.found.metric, synthetic=synthetic)
        if self.outcomes:
            tables += outcome_tables(self.outcomes, synthetic=synthetic)
        return tables

    def cost_tables(self) -> list[Table]:
        """One, but for studies that leave each site out."""
        if self.outcomes is None:
            return []
        return [cost_table(self.costs, self.outcomes.speeds, synthetic=self.is_synthetic)]

    def to_json(self) -> dict[str, Any]:
        """As ``summary.json`` holds it, and ``--json`` prints it."""
        return {
            "data": {"synthetic": self.is_synthetic, "warnings": list(self.warnings)},
            "study": self.config.model_dump(mode="json"),
            **(self.sites or self.found).to_json(),
            **({"tuning": self.tuned.to_json()} if self.tuned else {}),
            **({"outcomes": self.outcomes.to_json()} if self.outcomes else {}),
            "cost": [each.to_json() for each in self.costs],
            "failed": dict(self.failed),
        }


def plan(config: StudyConfig, catalog: Catalog, reporter: Reporter) -> StudyPlan:
    """What :func:`compare` would do: reads every header, trains nothing."""
    from medtl.runtime.device import build_fabric, own_randomness

    settings = checked({**config.settings, "task": config.task})
    fabric = build_fabric(settings.device, settings.precision)
    with own_randomness():
        lay_out = plan_sites if config.leave_site_out else plan_study
        planned = lay_out(config, catalog, fabric, reporter)
    for text in planned.warnings:
        reporter.warn(text)
    sites = [division_table(planned)] if planned.sites else []
    for table in [*plan_tables(planned), *sites]:
        reporter.show(table)
    return planned


def compare(
    config: StudyConfig,
    out: Path | None,
    catalog: Catalog,
    reporter: Reporter,
    execute: Executor,
    storage: str | None = None,
) -> Study:
    """Carry out a study in ``out`` (None: a numbered folder), or go on with it.

    Args:
        storage: URL of the store of trials, where arms are tuned; None: a file in the study.

    Raises:
        ConfigError: a setting cannot be used, or is not that with which the study began.
        Interrupted: a signal came; the same call goes on.
        RunError: no run of an arm has ended.
    """
    if storage is not None:
        check_store(storage, config.tune)
    path = out or folder_for(config)
    begun(path, config)  # refuses before anything is made
    with locked_output(path):
        sweep_study(path)
        folder = begun(path, config)
        if folder is None:
            planned = plan(config, catalog, reporter)
            found = (*planned.warnings, *_of_data(planned, reporter))
            folder = start_study(path, config, replace(planned, warnings=found))
        for text in folder.plan.warnings:  # also of a study that is gone on with
            reporter.warn(text)
        try:
            failed = carry_out(folder, execute, reporter, storage)
        except (Interrupted, KeyboardInterrupt) as reason:
            hint = f"go on with: medtl compare --out {path}" + (" --storage ..." if storage else "")
            raise Interrupted(f"{str(reason) or 'stopped'}; {hint}") from None
        try:
            study = _concluded(folder, failed, catalog, reporter)
        except RunError as problem:
            if str(path / "runs") not in str(problem):
                raise
            how = "or delete the folder of that run: the same command trains it again"
            raise RunError(f"{problem}; {how}") from problem
    if failed:
        reporter.warn(
            f"{len(failed)} of {len(folder.plan.runs)} runs failed and are left out: "
            f"{shortened(list(failed))}; the same command tries them again"
        )
    reporter.say(f"done: {path}")
    return study


def _of_data(planned: StudyPlan, reporter: Reporter) -> tuple[str, ...]:
    """What a quick look at the images of all cases finds; their runs look across the split."""
    from medtl.audit.quick_look import lines_of, look_before_training

    needed = dict.fromkeys(
        name
        for stages in planned.stages.values()
        for stage in stages
        for name in stage.domain.modalities
    )
    found = look_before_training(planned.cases, list(needed), (), reporter)
    return tuple(kept for _, kept in lines_of(found, ""))


def _concluded(
    folder: StudyFolder, failed: Mapping[str, str], catalog: Catalog, reporter: Reporter
) -> Study:
    """What the study has found; also written."""
    if folder.config.leave_site_out:
        return _left_out(folder, failed, catalog, reporter)
    scores = read_study_scores(folder)
    study = summarise(folder, scores, failed, catalog, reporter)
    _write(folder, study, scores, reporter)
    return study


def summarise(
    folder: StudyFolder,
    scores: StudyScores,
    failed: Mapping[str, str],
    catalog: Catalog,
    reporter: Reporter,
) -> Study:
    """What the finished runs of a study say."""
    record = folder.plan
    if not scores.cells:
        reasons = next(iter(failed.values()), "no run has ended")
        raise RunError(f"{folder.path}: there is nothing to compare: {reasons}")
    return Study(
        folder.path,
        folder.config,
        find(folder.config, scores, record.arms),
        failed,
        find_costs(folder),
        record.synthetic,
        tuple(reporter.warnings),
        find_outcomes(folder, scores, catalog, reporter),
        read_tuned(folder, scores),
    )


def _left_out(
    folder: StudyFolder, failed: Mapping[str, str], catalog: Catalog, reporter: Reporter
) -> Study:
    """What a study that leaves each site out has found; also written."""
    from medtl.runtime.device import build_fabric, own_randomness

    config, synthetic = folder.config, folder.plan.synthetic
    settings = checked({**config.settings, "task": config.task})
    with own_randomness():
        fabric = build_fabric(settings.device, settings.precision)
        found, scores = find_over_sites(folder, failed, catalog, fabric, reporter)
    none, warnings = Findings(found.metric, (), ()), tuple(reporter.warnings)
    costs = find_costs(folder)
    study = Study(folder.path, config, none, failed, costs, synthetic, warnings, sites=found)
    write_sites(folder, found, scores, reporter, synthetic=synthetic)
    _write_tables(folder, study, reporter)
    return study


def _write(folder: StudyFolder, study: Study, scores: StudyScores, reporter: Reporter) -> None:
    """Scores and figures, then tables and ``summary.json``: a study that has it is finished."""
    path, synthetic = folder.path, study.is_synthetic
    rows = list(scores.rows())
    write_csv(path / "scores.csv", list(rows[0]), [list(row.values()) for row in rows])
    (path / "figures").mkdir(exist_ok=True)
    if study.found.comparisons:
        with attempted("differences.png", reporter.warn):
            target = path / "figures" / "differences.png"
            paired_differences(target, study.found, scores, synthetic=synthetic)
    for network in scores.networks():
        several = f"-{file_name(network)}" if len(scores.networks()) > 1 else ""
        target = path / "figures" / f"budgets{several}.png"
        with attempted(target.name, reporter.warn):
            label_efficiency(target, study.found, network, synthetic=synthetic)
    _write_tables(folder, study, reporter)


def _write_tables(folder: StudyFolder, study: Study, reporter: Reporter) -> None:
    tables, cost = warned(study.lasting_tables(), ""), study.cost_tables()
    if cost:
        write_text(folder.path / "cost.md", cost[0].markdown())
    write_text(folder.path / "tables.md", "\n".join(table.markdown() for table in tables))
    write_text(folder.path / "tables.tex", "\n".join(table.latex() for table in tables))
    folder.write_json(SUMMARY, study.to_json())
    for table in (*tables, *cost):
        reporter.show(table)
