"""The runs of a recipe, with the settings that they are carried out with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl.errors import ConfigError
from medtl.plugins.catalog import Catalog
from medtl.runtime.files import portable
from medtl.study.recipes.config import Recipe, Settings
from medtl.study.recipes.folder import AS_PUBLISHED, PRETRAINED, RecipeFolder


@dataclass(frozen=True, slots=True)
class RecipeRun:
    """``after``: the run that it starts from; "" none, or weights from outside."""

    name: str
    part: str
    settings: Mapping[str, Any]
    leaks: tuple[str, ...]
    after: str

    def path(self, folder: RecipeFolder) -> Path:
        return folder.run(self.part, self.name)


def runs_of(recipe: Recipe, folder: RecipeFolder) -> list[RecipeRun]:
    """Every run but those of the sound study, in the order in which they are trained."""
    found: list[RecipeRun] = []
    for name, settings in recipe.pretrained.items():
        found.append(_run(name, PRETRAINED, settings, (), found, folder))
    for name, settings in recipe.published_runs().items():
        leaks = recipe.as_published.leaks
        found.append(_run(name, AS_PUBLISHED, settings, leaks, found, folder))
    return found


def _run(
    name: str,
    part: str,
    settings: Settings,
    leaks: tuple[str, ...],
    before: list[RecipeRun],
    folder: RecipeFolder,
) -> RecipeRun:
    start = next((run for run in before if run.name == settings.get("init")), None)
    if start is None:
        return RecipeRun(name, part, settings, leaks, "")
    whole = {**settings, "init": portable(start.path(folder))}
    return RecipeRun(name, part, whole, leaks, start.name)


def pretrained_paths(recipe: Recipe, folder: RecipeFolder) -> dict[str, str]:
    """Where the runs lie that the sound study starts from."""
    return {name: portable(folder.run(PRETRAINED, name)) for name in recipe.pretrained}


def with_phantoms(recipe: Recipe, catalog: Catalog) -> Recipe:
    """The recipe with its own phantoms, made where they are not there yet, in place of no data.

    Raises:
        ConfigError: a task has no layout of phantoms.
    """
    places: dict[str, str] = {}
    for task in _without_data(recipe):
        if task in recipe.phantoms and task not in places:
            places[task] = _phantom(recipe, task, catalog)

    def complete(settings: Mapping[str, Any], task: Any) -> Settings:
        there = task in places and not settings.get("data")
        return {**settings, "data": places[task]} if there else dict(settings)

    shared = recipe.as_published.settings
    runs = {
        name: complete(own, {**shared, **own}.get("task"))
        for name, own in recipe.as_published.runs.items()
    }
    sound = recipe.sound
    return recipe.model_copy(
        update={
            "pretrained": {n: complete(own, own["task"]) for n, own in recipe.pretrained.items()},
            "as_published": recipe.as_published.model_copy(update={"runs": runs}),
            "sound": {**sound, "settings": complete(sound["settings"], sound["task"])},
        }
    )


def _without_data(recipe: Recipe) -> Iterator[str]:
    """The tasks for which no data are given."""
    every = [*recipe.pretrained.values(), *recipe.published_runs().values()]
    for settings in (*every, {**recipe.sound["settings"], "task": recipe.sound["task"]}):
        if not settings.get("data"):
            yield settings["task"]


def _phantom(recipe: Recipe, task: str, catalog: Catalog) -> str:
    from medtl.data.phantom.cohort import Settings as Cohort
    from medtl.data.phantom.cohort import kept_phantom

    layout = catalog.tasks[task].load()().phantom
    if not layout:
        raise ConfigError(f"phantoms.{task}: the task has no phantom of a chosen size; drop it")
    asked = recipe.phantoms[task]
    cohort = Cohort(asked.cases, asked.size, asked.sites, asked.seed)
    return portable(kept_phantom(cohort, layout, "recipe"))
