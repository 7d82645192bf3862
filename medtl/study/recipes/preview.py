"""What ``--dry-run`` shows of a recipe: its runs as published, and the plan of the sound study.

Where others start from a run that is not trained yet, a stand-in takes its place: trained for one
step, in a folder that goes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medtl.config import checked
from medtl.errors import Interrupted
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Recorder, Reporter
from medtl.runtime.table import Table
from medtl.study.compare import plan as plan_sound
from medtl.study.plan import StudyPlan
from medtl.study.recipes.config import LEAKS, SELECTED_ON_TEST, Recipe
from medtl.study.recipes.folder import RecipeFolder, check_begun
from medtl.study.recipes.parts import RecipeRun, pretrained_paths, runs_of, with_phantoms
from medtl.study.recipes.published import plan_run

_COLUMNS = ("run", "network", "strategy", "starts from", "steps", "train", "test", "minutes")


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """A run that is not of the sound study."""

    run: RecipeRun
    network: str
    strategy: str
    steps: int
    train: int  #: cases
    test: int  #: cases
    seconds: float | None  #: None: not timed

    def cells(self) -> tuple[str, ...]:
        minutes = "not timed" if self.seconds is None else f"{self.seconds / 60:.1f}"
        start = self.run.after or "random"
        numbers = map(str, (self.steps, self.train, self.test))
        return self.run.name, self.network, self.strategy, start, *numbers, minutes

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.run.name,
            "part": self.run.part,
            "after": self.run.after,
            "network": self.network,
            "strategy": self.strategy,
            "steps": self.steps,
            "train_cases": self.train,
            "test_cases": self.test,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class RecipePlan:
    """Everything decided before the first run."""

    recipe: Recipe
    parts: tuple[PlannedPart, ...]
    sound: StudyPlan

    def to_json(self) -> dict[str, Any]:
        """As ``medtl compare --dry-run --json`` prints it."""
        return {
            "title": self.recipe.title,
            "leaks": list(self.recipe.as_published.leaks),
            "runs": [part.to_json() for part in self.parts],
            "sound": self.sound.to_json(),
        }


def plan_recipe(recipe: Recipe, out: Path, catalog: Catalog, reporter: Reporter) -> RecipePlan:
    """Plan both halves, as they would be carried out in ``out``; nothing is written there.

    Raises:
        ConfigError: a setting cannot be used, or is not that with which the recipe began.
    """
    if out.exists():
        check_begun(out, recipe)
    placed = with_phantoms(recipe, catalog)
    with _folder() as folder:
        runs = runs_of(placed, folder)
        needed = {run.after for run in runs} | {*recipe.pretrained}
        parts = []
        with reporter.progress("planning", len(runs)) as advance:
            for done, run in enumerate(runs, 1):
                parts.append(_plan(run, folder, catalog, stand_in=run.name in needed))
                advance(done, run.name)
        notes = tuple(f"LEAK, on purpose: {LEAKS[name]}" for name in recipe.as_published.leaks)
        rows = tuple(part.cells() for part in parts)
        reporter.show(Table("As published", _COLUMNS, rows, notes))
        reporter.say("the sound study:")
        config = placed.study(pretrained_paths(recipe, folder))
        planned = plan_sound(config, catalog, reporter)
    return RecipePlan(recipe, tuple(parts), planned)


@contextmanager
def _folder() -> Iterator[RecipeFolder]:
    with TemporaryDirectory(prefix="medtl-recipe-") as path:
        yield RecipeFolder(Path(path))


def _plan(run: RecipeRun, folder: RecipeFolder, catalog: Catalog, *, stand_in: bool) -> PlannedPart:
    from medtl.runtime.device import build_fabric, own_randomness
    from medtl.training.run import run_plan

    path = run.path(folder)
    config = checked({**run.settings, "out": str(path)})
    fabric = build_fabric(config.device, config.precision)
    with own_randomness():
        preview = plan_run(config, path, catalog, fabric, run.leaks)
        plan, step_s = preview.plan, preview.seconds_per_step
        if stand_in:
            once = tuple(replace(stage, steps=1) for stage in plan.stages)
            split = replace(plan.split, test=())
            recorder = Recorder(silent=True)
            try:
                run_plan(replace(plan, stages=once, split=split), catalog, fabric, recorder, path)
            except Interrupted:  # its own hint names a folder that goes
                raise Interrupted("stopped") from None
            _say_steps(path, sum(stage.steps for stage in plan.stages))
    steps = sum(stage.steps for stage in plan.stages)
    sides = [
        {case.id for stage in plan.stages for case in plan.cases(stage.domain, part)}
        for part in ("train", "val" if SELECTED_ON_TEST in run.leaks else "test")
    ]
    return PlannedPart(
        run=run,
        network=plan.network,
        strategy=plan.config.strategy,
        steps=steps,
        train=len(sides[0]),
        test=len(sides[1]),
        seconds=None if step_s is None else steps * step_s,
    )


def _say_steps(path: Path, steps: int) -> None:
    """Let the weights of a stand-in tell the steps of the run whose place it takes."""
    from medtl.transfer.weights import read_weights, resolve_weights, write_checkpoint

    file = resolve_weights(str(path))
    weights = read_weights(file)
    metadata = {name: value for name, value in weights.metadata.items() if name != "format"}
    write_checkpoint(file, weights.tensors, {**metadata, "steps": steps})
