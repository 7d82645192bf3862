"""Carry out a recipe: the study as published, the sound one, and a table of both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl.errors import Interrupted, MedtlError, RunError, shortened
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.lock import locked_output
from medtl.runtime.run_folder import write_text
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table
from medtl.study.compare import Study, compare
from medtl.study.folder import StudyFolder
from medtl.study.recipes.config import LEAKS, Figure, Recipe
from medtl.study.recipes.folder import PRETRAINED, SUMMARY, RecipeFolder, check_begun
from medtl.study.recipes.parts import RecipeRun, pretrained_paths, runs_of, with_phantoms
from medtl.study.recipes.published import carry_out
from medtl.study.recipes.scores import arm_score
from medtl.study.recipes.tables import Row, recipe_table
from medtl.study.tables import found_tables
from medtl.study.work import Executor


@dataclass(frozen=True, slots=True, repr=False)
class RecipeResult(Shown):
    """A recipe that was carried out. ``failed``: run of either half -> why it failed."""

    folder: Path
    recipe: Recipe
    figures: tuple[Row, ...]
    leaks: tuple[str, ...]  #: sentences on what flatters the scores as published
    notes: tuple[str, ...]  #: what is not known of the data
    study: Study  #: the sound half
    failed: Mapping[str, str]
    is_synthetic: bool

    @property
    def title(self) -> str:
        return self.recipe.title

    @property
    def synthetic(self) -> bool:
        return self.is_synthetic

    def rows(self) -> list[dict[str, Any]]:
        """A row per figure, as plain data."""
        return [row.to_json() for row in self.figures]

    def tables(self) -> list[Table]:
        """Reported, as published and sound; then the scores and verdicts of the sound study."""
        first = recipe_table(
            self.recipe, self.figures, self.leaks, self.notes, synthetic=self.is_synthetic
        )
        return [first, *found_tables(self.study.found, synthetic=self.study.is_synthetic)]

    def to_json(self) -> dict[str, Any]:
        """As ``summary.json`` holds it, and ``--json`` prints it."""
        return {
            "title": self.recipe.title,
            "source": self.recipe.source,
            "synthetic": self.is_synthetic,
            "figures": self.rows(),
            "why": self.recipe.why,
            "leaks": list(self.leaks),
            "notes": list(self.notes),
            "departures": list(self.recipe.departures),
            "sound": self.study.found.to_json(),
            "failed": dict(self.failed),
        }


def run_recipe(
    recipe: Recipe, out: Path, catalog: Catalog, reporter: Reporter, execute: Executor
) -> RecipeResult:
    """Carry out both halves in ``out``, or go on with them; nothing is trained twice.

    Args:
        execute: carries out the runs of the sound study; the others are trained one by one.

    Raises:
        ConfigError: a setting cannot be used, or is not that with which the recipe began.
        Interrupted: a signal came; the same call goes on.
        RunError: a run that others start from failed, or no run of the sound study has ended.
    """
    check_begun(out, recipe)
    with locked_output(out):
        check_begun(out, recipe)
        folder = RecipeFolder(out)
        folder.start(recipe)
        try:
            result = _both(recipe, folder, catalog, reporter, execute)
        except (Interrupted, KeyboardInterrupt) as reason:
            told = str(reason).partition("; go on with")[0] or "stopped"
            raise Interrupted(f"{told}; go on with: medtl compare --out {out}") from None
        _write(folder, result, reporter)
    if result.failed:
        reporter.warn(
            f"{len(result.failed)} runs failed and are left out: {shortened(list(result.failed))}; "
            "the same command tries them again"
        )
    reporter.say(f"done: {out}")
    return result


def _both(
    recipe: Recipe,
    folder: RecipeFolder,
    catalog: Catalog,
    reporter: Reporter,
    execute: Executor,
) -> RecipeResult:
    for name in recipe.as_published.leaks:
        reporter.say(f"as published, on purpose: LEAK: {LEAKS[name]}")
    placed = with_phantoms(recipe, catalog)
    failed = _train(runs_of(placed, folder), folder, catalog, reporter)
    reporter.say("the sound study")
    config = placed.study(pretrained_paths(recipe, folder))
    own = Reporter(reporter.quiet, silent=reporter.silent)  # its warnings are those of the study
    study = compare(config, folder.sound, catalog, own, execute)
    names = recipe.as_published.runs
    found = {name: scores for name in names if (scores := folder.scores(name)) is not None}
    return RecipeResult(
        folder=folder.path,
        recipe=recipe,
        figures=tuple(_rows(recipe, folder)),
        leaks=tuple(dict.fromkeys(told for each in found.values() for told in each.leaks)),
        notes=tuple(dict.fromkeys(told for each in found.values() for told in each.notes)),
        study=study,
        failed={**failed, **study.failed},
        is_synthetic=study.is_synthetic or any(each.synthetic for each in found.values()),
    )


def _train(
    runs: Sequence[RecipeRun], folder: RecipeFolder, catalog: Catalog, reporter: Reporter
) -> dict[str, str]:
    """Train what is not trained yet; returns the runs that failed, with the reasons."""
    failed: dict[str, str] = {}
    with reporter.progress("runs as published", len(runs)) as advance:
        for done, run in enumerate(runs, 1):
            if folder.scores(run.name) is None:
                if run.after in failed:
                    failed[run.name] = f"{run.after} failed, from which it starts"
                    continue
                try:
                    found = carry_out(run.settings, run.path(folder), catalog, run.leaks)
                except Interrupted:
                    raise
                except MedtlError as problem:
                    reason = str(problem).split("; then go on with")[0]
                    if run.part == PRETRAINED:
                        raise RunError(f"run {run.name} failed: {reason}") from problem
                    failed[run.name] = reason
                    reporter.warn(f"run {run.name} failed: {reason}")
                    continue
                folder.write_scores(run.name, found)
            advance(done, run.name)
    return failed


def _rows(recipe: Recipe, folder: RecipeFolder) -> list[Row]:
    """The figures, then what was reported that no figure stands for."""
    rows = [
        Row(
            name,
            figure.metric,
            recipe.reported.get(name),
            _published(figure, folder),
            _sound(figure, folder),
        )
        for name, figure in recipe.figures.items()
    ]
    others = [name for name in recipe.reported if name not in recipe.figures]
    return [*rows, *(Row(name, "", recipe.reported[name], None, None) for name in others)]


def _published(figure: Figure, folder: RecipeFolder) -> Mapping[str, Any] | None:
    scores = folder.scores(figure.run) if figure.run else None
    if scores is None:
        return None
    return scores.scores.get(figure.output, {}).get(figure.metric)


def _sound(figure: Figure, folder: RecipeFolder) -> Mapping[str, Any] | None:
    found = arm_score(StudyFolder(folder.sound), figure) if figure.arm else None
    if found is None:
        return None
    score, runs = found
    return {**score.to_json(), "runs": runs}


def _write(folder: RecipeFolder, result: RecipeResult, reporter: Reporter) -> None:
    """Tables, then ``summary.json``: a recipe that has it is finished."""
    tables = result.tables()
    write_text(folder.path / "tables.md", "\n".join(table.markdown() for table in tables))
    write_text(folder.path / "tables.tex", "\n".join(table.latex() for table in tables))
    write_text(folder.path / SUMMARY, json.dumps(result.to_json(), indent=2) + "\n")
    reporter.show(tables[0])  # the study has shown the others
