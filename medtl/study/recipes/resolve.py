"""From the file of a recipe, and what the command says, to the recipe that is carried out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from medtl.config import checked, read_settings
from medtl.errors import ConfigError, MedtlError, near_or_known, shown
from medtl.evaluation.tables import LABELS
from medtl.runtime.files import file_name, from_home, portable
from medtl.runtime.records import complaint
from medtl.study.config import ADDED, budget_name
from medtl.study.recipes.config import Figure, Phantom, Published, Recipe, Settings
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B

#: What makes a file of settings a recipe.
HALVES = ("as_published", "sound")


def is_recipe(file: Path) -> bool:
    """Whether the file has the halves of a recipe. Raises ConfigError where it is no YAML."""
    return any(half in read_settings(file) for half in HALVES)


def resolve_recipe(
    file: Path, *, quick: bool = False, given: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of a file, with ``given`` settings of ``medtl train`` over those of every part.

    Args:
        quick: replace settings by those of its ``quick:``.
        given: ``data`` is the folder that holds the folders of ``sets``.

    Raises:
        ConfigError: it is no recipe, or a setting is unknown or cannot be used.
        DataError: a set is not there.
    """
    values = read_settings(file)
    if not any(half in values for half in HALVES):
        raise ConfigError(f"{file}: is no recipe; it has neither as_published nor sound")
    fast = values.pop("quick", None)
    recipe = _validated(values, file)
    _check(_problems(recipe), file)
    _check(_wrong_figures(recipe), file)
    if quick:
        if not isinstance(fast, dict):
            raise ConfigError(f"{file}: has no settings for --quick; add quick: {{...}}")
        recipe = _validated(_merged(values, fast), f"{file}: quick")
        _check(_problems(recipe), f"{file}: quick")
        recipe = recipe.model_copy(update={"figures": dict(_figures_left(recipe))})
    own = {name: value for name, value in (given or {}).items() if value is not None}
    root = own.pop("data", None)
    recipe = _with_given(recipe, own, None if root is None else from_home(root))
    _check(_problems(recipe), file)
    return recipe


def _validated(values: Mapping[str, Any], where: Path | str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from error


def _check(problems: Iterable[str], where: Path | str) -> None:
    for problem in problems:
        raise ConfigError(f"{where}: {problem}")


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``, mapping by mapping; what is null above is left out."""
    found = dict(below)
    for name, value in above.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name] = _merged(found[name], value)
        else:
            found[name] = value
    return found


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] != "extra_forbidden":
        return complaint(first)
    *within, key = map(str, first["loc"])
    kinds: dict[str, type[BaseModel]] = {"as_published": Published, "figures": Figure}
    kinds["phantoms"] = Phantom
    known = (kinds[within[0]] if within else Recipe).model_fields
    where = f"{'.'.join(within)}: " if within else ""
    return f"{where}there is no setting {shown(key)} of a recipe; {near_or_known(key, known)}"


def _with_given(recipe: Recipe, given: Mapping[str, Any], root: Path | None) -> Recipe:
    """The recipe with its data, and ``given`` over the settings of each part."""

    def complete(settings: Mapping[str, Any], task: Any) -> Settings:
        return {**settings, **_data(recipe, task, root), **given}

    shared = recipe.as_published.settings
    runs = {
        name: complete(own, own.get("task", shared.get("task")))
        for name, own in recipe.as_published.runs.items()
    }
    below = recipe.sound.get("settings") or {}
    if not isinstance(below, dict):
        raise ConfigError("sound: settings must be a mapping such as {name: value}")
    return recipe.model_copy(
        update={
            "pretrained": {
                name: complete(own, own.get("task")) for name, own in recipe.pretrained.items()
            },
            "as_published": recipe.as_published.model_copy(update={"runs": runs}),
            "sound": {**recipe.sound, "settings": complete(below, recipe.sound.get("task"))},
        }
    )


def _data(recipe: Recipe, task: Any, root: Path | None) -> Settings:
    """The data of a task below ``root``; none without ``root``."""
    if root is None:
        return {}
    if task not in recipe.sets:
        raise ConfigError(f"sets: names no folder below --data for task {shown(task)}; add it")
    folder = root / recipe.sets[task]
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: no such folder; --data names the folder that holds "
            f"{', '.join(recipe.sets.values())}"
        )
    return {"data": portable(folder)}


def _problems(recipe: Recipe) -> Iterator[str]:
    """What is wrong with a recipe whose fields are those of one."""
    known: list[str] = []
    for part, runs in (
        ("pretrained", recipe.pretrained),
        ("as_published.runs", recipe.published_runs()),
    ):
        for name, settings in runs.items():
            if file_name(name) != name or name in known:
                yield f"{part}.{name}: this name cannot be that of a folder, or is there twice"
            yield from _wrong(f"{part}.{name}", settings)
            known.append(name)
    try:
        recipe.study({})
    except MedtlError as problem:
        yield f"sound: {problem}"
    inits = recipe.sound.get("inits") or ()
    for name in inits if isinstance(inits, list | tuple) else (inits,):
        if name not in recipe.pretrained:
            yield f"sound: inits: no run {shown(name)} in pretrained; " + near_or_known(
                str(name), sorted(recipe.pretrained)
            )


def _arms(recipe: Recipe) -> list[str]:
    """The arms that the sound study has, or may have."""
    return [CONTROL_A, CONTROL_B, *ADDED, *(spec.label for spec in recipe.study({}).strategies)]


def _budgets(recipe: Recipe) -> list[str]:
    return [budget_name(budget) for budget in recipe.study({}).budgets]


def _wrong_figures(recipe: Recipe) -> Iterator[str]:
    """Figures of metrics, runs, arms and budgets that there are not."""
    for name, figure in recipe.figures.items():
        for what, value, known in (
            ("metric", figure.metric, sorted(LABELS)),
            ("run", figure.run, [*recipe.as_published.runs]),
            ("arm", figure.arm, _arms(recipe)),
            ("budget", figure.budget, _budgets(recipe)),
        ):
            own_control = what == "arm" and value.startswith(f"{CONTROL_A}-")
            if value and value not in known and not own_control:
                yield f"figures.{name}: no {what} is {value!r}; {near_or_known(value, known)}"


def _figures_left(recipe: Recipe) -> Iterator[tuple[str, Figure]]:
    """The figures of the runs and arms that ``--quick`` leaves."""
    runs, arms, budgets = recipe.as_published.runs, _arms(recipe), ["", *_budgets(recipe)]
    arms = [name for name in arms if name not in recipe.study({}).skip]
    for name, figure in recipe.figures.items():
        run = figure.run if figure.run in runs else ""
        arm = figure.arm if figure.arm in arms and figure.budget in budgets else ""
        if run or arm:
            yield name, figure.model_copy(update={"run": run, "arm": arm})


def _wrong(where: str, settings: Settings) -> Iterator[str]:
    for name in ("out", "splits", "with_control"):
        if name in settings:
            yield f"{where}: {name} is not for a recipe; drop it"
    if not settings.get("task"):
        yield f"{where}: names no task; add task: ..."
    try:
        checked(settings)
    except MedtlError as problem:
        yield f"{where}: {problem}"
