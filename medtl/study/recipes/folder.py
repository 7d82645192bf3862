"""The folder of a recipe that is carried out.

<out>/ recipe.yaml pretrained/<run>/ as-published/<run>/ scores/<run>.json sound/ (a study)
       tables.md tables.tex summary.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from medtl.config import read_settings, write_config
from medtl.errors import ConfigError, RunError, shown
from medtl.runtime.leftovers import sweep
from medtl.runtime.records import Count, Flag, Record, read_record
from medtl.runtime.run_folder import check_writable, write_text
from medtl.study.folder import STUDIES
from medtl.study.recipes.config import Recipe

RECIPE, SUMMARY = "recipe.yaml", "summary.json"

PRETRAINED, AS_PUBLISHED, SOUND = "pretrained", "as-published", "sound"


class RunScores(Record):
    """``scores/<run>.json``: what a finished run scored; see :mod:`.published`."""

    scores: dict[str, dict[str, dict[str, Any]]]
    cases: Count
    leaks: Annotated[tuple[str, ...], Field(max_length=100)]
    notes: Annotated[tuple[str, ...], Field(max_length=100)]
    synthetic: Flag


@dataclass(frozen=True, slots=True)
class RecipeFolder:
    """Every write is atomic."""

    path: Path

    def run(self, part: str, name: str) -> Path:
        return self.path / part / name

    @property
    def sound(self) -> Path:
        return self.path / SOUND

    def scores(self, name: str) -> RunScores | None:
        """None: the run has not ended yet."""
        path = self._scores(name)
        return read_record(path, RunScores) if path.is_file() else None

    def write_scores(self, name: str, scores: dict[str, Any]) -> None:
        path = self._scores(name)
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(scores, indent=2) + "\n")

    def _scores(self, name: str) -> Path:
        return self.path / "scores" / f"{name}.json"

    def start(self, recipe: Recipe) -> None:
        """Write the recipe, unless it was begun."""
        if not (self.path / RECIPE).is_file():
            write_config(self.path / RECIPE, recipe)


def folder_for(file: Path, quick: bool) -> Path:
    """``studies/<name of the file>``, with ``-quick`` behind it; of one that was begun, its own."""
    if file.name == RECIPE:
        return file.parent
    return STUDIES / (file.stem + ("-quick" if quick else ""))


def is_begun(path: Path) -> bool:
    """Whether ``path`` is the folder of a recipe."""
    return (path / RECIPE).is_file()


def check_begun(path: Path, recipe: Recipe) -> None:
    """Refuse a folder that was begun with other settings, or that holds something else.

    Raises:
        ConfigError: names a setting that differs.
        RunError: ``path`` holds something else.
    """
    if not path.exists():
        check_writable(path)
        return
    sweep(path)
    if not is_begun(path):
        if path.is_dir() and all(each.name == ".lock" for each in path.iterdir()):
            check_writable(path)
            return
        raise RunError(f"{path} exists and is not the folder of a recipe; choose another --out")
    then = _flat(read_settings(path / RECIPE))
    now = _flat(recipe.model_dump(mode="json"))
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            raise ConfigError(
                f"{path}: the recipe was begun with {name} {shown(then.get(name))}, not "
                f"{shown(now.get(name))}; give the same settings, or another --out"
            )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{name}.{key}" if name else str(key))
    return found
