"""Recipes: published studies carried out twice, on phantoms with ``--quick``."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml
from sklearn.metrics import precision_score
from terminal import Terminal

from medtl import api
from medtl.errors import ConfigError
from medtl.study.recipes.resolve import is_recipe, resolve_recipe

STUDIES = Path(__file__).parents[3] / "examples/studies"
VGG = STUDIES / "vgg_four_classes.yaml"

#: Recipe -> whether its protocol as published leaks.
NAMES = {
    "vgg_four_classes": True,
    "modality_transfer": True,
    "resnet_lgg_slices": True,
    "transfusion": False,
    "practitioners_guide": False,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], api.RecipeResult]:
    made: dict[str, api.RecipeResult] = {}

    def carried_out(name: str) -> api.RecipeResult:
        if name not in made:
            out = tmp_path_factory.mktemp("recipe") / name
            made[name] = api.run_recipe(STUDIES / f"{name}.yaml", quick=True, out=out)
        return made[name]

    return carried_out


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_runs_quickly_and_shows_both_halves(
    name: str, results: Callable[[str], api.RecipeResult]
) -> None:
    result = results(name)
    assert result.synthetic
    assert not result.failed
    rows = result.rows()
    assert {row["figure"] for row in rows} >= set(result.recipe.reported)
    for half in ("as_published", "sound"):
        assert any(row[half] for row in rows), half
    table, *others = result.tables()
    assert result.recipe.why in "\n".join(table.notes)
    assert all("synthetic phantom" in each.title for each in (table, *others))
    # The head of the column says it where the protocol leaks.
    assert ("as published (leaks), this run" in table.columns) == NAMES[name] == bool(result.leaks)
    assert table.markdown() in (result.folder / "tables.md").read_text()
    assert json.loads((result.folder / "summary.json").read_text()) == result.to_json()


def predicted(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_figures_of_the_sound_half_are_means_over_seeds(
    results: Callable[[str], api.RecipeResult],
) -> None:
    result = results("vgg_four_classes")
    expected = []
    for seed in (0, 1):
        rows = predicted(result.folder / f"sound/runs/control-a-nall-f0-s{seed}")
        pairs = [row["class"] for row in rows], [row["predicted"] for row in rows]
        expected.append(precision_score(*pairs, average="weighted", zero_division=0))
    (row,) = (row for row in result.rows() if row["figure"] == "weighted precision")
    assert row["sound"]["mean"] == pytest.approx(fmean(expected))
    assert row["sound"]["runs"] == 2
    assert row["reported"] == 0.9201


def test_the_step_is_chosen_on_the_very_test_cases(
    results: Callable[[str], api.RecipeResult],
) -> None:
    result = results("vgg_four_classes")
    (split,) = json.loads((result.folder / "as-published/vgg11/splits.json").read_text())
    assert split["test"] == []
    assert all(case.startswith("Testing_") for case in split["val"])
    assert not any(case.startswith("Testing_") for case in split["train"])
    scores = json.loads((result.folder / "scores/vgg11.json").read_text())
    assert scores["cases"] == len(split["val"])
    assert "chosen by the score on the test cases" in result.leaks[0]


def test_patients_seen_before_are_tested_on_purpose(
    results: Callable[[str], api.RecipeResult],
) -> None:
    runs = results("modality_transfer").folder / "as-published"
    before, after = (
        json.loads((runs / name / "splits.json").read_text())[0] for name in ("before", "after")
    )
    seen = {*before["train"], *before["val"]} & {*after["test"]}
    with (runs / "after/metrics.csv").open(newline="") as file:
        scored = {row["case"] for row in csv.DictReader(file)}
    assert seen and seen <= scored


def test_slices_of_a_patient_lie_on_both_sides(
    results: Callable[[str], api.RecipeResult],
) -> None:
    runs = results("resnet_lgg_slices").folder
    (split,) = json.loads((runs / "as-published/resnet18/splits.json").read_text())
    sides = [{case.rpartition("_")[0] for case in split[part]} for part in ("train", "test")]
    assert sides[0] & sides[1]
    (sound,) = json.loads((runs / "sound/splits/fold-0.json").read_text())
    sides = [{case.rpartition("_")[0] for case in sound[part]} for part in ("train", "test")]
    assert not sides[0] & sides[1]


def test_going_on_trains_nothing_twice_and_ends_the_same(
    results: Callable[[str], api.RecipeResult], medtl: Terminal
) -> None:
    folder = results("vgg_four_classes").folder
    names = ("summary.json", "tables.md", "tables.tex", "scores/vgg11.json")
    before = {name: (folder / name).read_bytes() for name in names}
    weights = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    for name in names:
        (folder / name).unlink()
    medtl("compare", "--out", folder, "--quiet")
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    assert "was begun with" in medtl.refused("compare", "--out", folder, "--steps", "5")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sounds": {}}, "there is no setting 'sounds' of a recipe; did you mean 'sound'?"),
        ({"sound": None}, "sound: is missing"),
        ({"as_published": {"runs": {}}}, "as_published.runs"),
        ({"as_published": {"runs": {"a": {"task": "brats"}}, "leak": "x"}}, "no setting 'leak'"),
        ({"as_published": {"runs": {"a": {"task": "brats"}}, "leaks": "x"}}, "selected-on-test"),
        ({"as_published": {"runs": {"a": {"tusk": "brats"}}}}, "as_published.runs.a: names no"),
        ({"as_published": {"runs": {"a/b": {"task": "brats"}}}}, "cannot be that of a folder"),
        ({"figures": {"x": {"metric": "dise"}}}, "figures.x: no metric is 'dise'; did you mean"),
        ({"figures": {"x": {"metric": "dice", "run": "vgg"}}}, "figures.x: no run is 'vgg'"),
        ({"figures": {"x": {"metric": "dice", "arm": "tune"}}}, "figures.x: no arm is 'tune'"),
        ({"sound": {"task": "brats", "strategys": []}}, "sound: there is no setting 'strategys'"),
        ({"sound": {"task": "brats", "inits": ["slyces"]}}, "no run 'slyces' in pretrained"),
    ],
)
def test_bad_recipes_get_one_line(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    values = {**yaml.safe_load(VGG.read_text()), **changes}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    with pytest.raises(ConfigError) as caught:
        resolve_recipe(file)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_quick_and_other_options_are_refused_where_they_mean_nothing(
    medtl: Terminal, tmp_path: Path
) -> None:
    study = STUDIES / "hippocampus.yaml"
    assert not is_recipe(study)
    told = medtl.refused("compare", "--config", study, "--quick")
    assert f"--quick is for a recipe; {study} is none" in told
    told = medtl.refused("compare", "brats", "--quick")
    assert "--quick is for a recipe; name one by --config" in told
    told = medtl.refused("compare", "--config", VGG, "--quick", "--budgets", "5")
    assert "--budgets is for the study of a task" in told
    told = medtl.refused("compare", "brats", "--config", VGG)
    assert "is a recipe, which names its tasks" in told
    told = medtl.refused("compare", "--config", VGG, "--data", tmp_path)
    assert "no such folder; --data names the folder that holds kaggle, lgg" in told
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    told = medtl.refused("compare", "--config", VGG, "--quick", "--out", tmp_path / "other")
    assert "is not the folder of a recipe" in told
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
