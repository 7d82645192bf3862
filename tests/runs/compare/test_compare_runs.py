"""Finished runs: arms are compared on shared test patients, and runs of one arm are pooled."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from terminal import run_medtl

from medtl import api
from medtl.errors import ConfigError, RunError
from medtl.runtime.table import Table

Runs = Mapping[str, Path]


@pytest.fixture(scope="module")
def runs(
    small_phantom: Callable[..., Path],
    tiny_run: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    """``a``: the task's rate; ``b``: another. The second letter says which seed or fold."""
    folder = tmp_path_factory.mktemp("runs")
    data = small_phantom(cases=12, size=24, sites=2, seed=3)

    def train(name: str, *words: object) -> None:
        tiny_run(folder / name, data, "--strategy", "scratch", *words)

    train("a0", "--set=test_fraction=0.5")
    split = ("--splits", folder / "a0" / "splits.json", "--set=test_fraction=null")
    (fold,) = json.loads((folder / "a0" / "splits.json").read_text())
    rest = ("--test-cases", ",".join(fold["train"][:5]), "--set=test_fraction=null")
    train("a1", *split, "--seed", 1)
    train("b0", *split, "--lr", 0.05)
    train("b2", *split, "--lr", 0.05, "--seed", 2)
    train("afold", *rest)
    train("overlap", "--set=test_fraction=0.4", "--seed", 3)
    return {path.name: path for path in folder.iterdir()}


def dice(run: Path, region: str = "WT") -> dict[str, float]:
    """Of each test patient, who has one case in the phantom."""
    with (run / "metrics.csv").open(newline="") as file:
        return {
            row["patient"]: float(row["dice"])
            for row in csv.DictReader(file)
            if row["region"] == region
        }


def mean(*of: Path, region: str = "WT") -> float:
    """Over patients, of their means over runs."""
    by_patient: dict[str, list[float]] = {}
    for run in of:
        for patient, value in dice(run, region).items():
            by_patient.setdefault(patient, []).append(value)
    return fmean(map(fmean, by_patient.values()))


def test_arms_are_runs_that_differ_in_seed_alone(runs: Runs) -> None:
    found = api.compare_runs([runs[name] for name in ("a0", "b0", "a1", "b2")])
    assert [arm.label for arm in found.arms] == ["lr=0.004", "lr=0.05"]
    members = [[run.path.name for run in arm.runs.values()] for arm in found.arms]
    assert members == [["a0", "a1"], ["b0", "b2"]]


def test_differences_are_means_over_patients_of_paired_runs(runs: Runs) -> None:
    found = api.compare_runs([runs[name] for name in ("a0", "a1", "b0", "b2")])
    expected = mean(runs["b0"], runs["b2"]) - mean(runs["a0"], runs["a1"])
    row = next(row for row in found.rows() if row["output"] == "WT")
    assert row["difference"]["mean"] == pytest.approx(expected)
    assert (row["difference"]["n"], row["difference"]["runs"]) == (6, 2)
    assert found.scores["lr=0.05"]["WT"].mean == pytest.approx(mean(runs["b0"], runs["b2"]))
    (note,) = found.notes
    assert "2 with 1" in note  # the seeds 0 go together, and then the others in order


def test_a_run_without_its_like_is_in_the_scores_alone(runs: Runs) -> None:
    found = api.compare_runs([runs[name] for name in ("a0", "a1", "b0", "afold")])
    row = next(row for row in found.rows() if row["output"] == "TC")
    expected = mean(runs["b0"], region="TC") - mean(runs["a0"], region="TC")
    assert row["difference"]["mean"] == pytest.approx(expected)
    assert found.scores["lr=0.004"]["TC"].n == 11  # two folds
    assert any("a1" in note and "afold" in note for note in found.notes)
    assert not found.ranks  # the arms were not tested on the same patients


def test_ranks_are_those_of_the_patients_means(runs: Runs) -> None:
    found = api.compare_runs([runs["a0"], runs["b0"]])
    a, b = dice(runs["a0"]), dice(runs["b0"])
    places = [1.0 if b[p] > a[p] else 2.0 if b[p] < a[p] else 1.5 for p in a]
    assert found.ranks["WT"]["lr=0.05"].mean == pytest.approx(fmean(places))


def test_networks_that_find_nothing_are_too_poor_to_compare(runs: Runs) -> None:
    found = api.compare_runs([runs["a0"], runs["b0"]])
    assert all(max(dice(runs[name], "ET").values()) < 0.1 for name in ("a0", "b0"))
    row = next(row for row in found.rows() if row["output"] == "ET")
    assert (row["verdict"], row["p"]) == ("too poor to compare", None)


def test_the_command_prints_tables_or_json(medtl, runs: Runs) -> None:
    out, _ = medtl("compare", runs["a0"], runs["b0"])
    assert "Difference in Dice to lr=0.004; synthetic phantom" in out
    out, _ = medtl("compare", str(runs["a0"].parent / "[ab]0"), "--json", "--margin", 0.05)
    found = json.loads(out)
    assert found["reference"] == "lr=0.004" and found["margin"] == 0.05
    assert found["comparisons"] == api.compare_runs([runs["a0"], runs["b0"]], margin=0.05).rows()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a0", "overlap"), "a0 and "),
        (("a0",), "two runs or more"),
        (("a0", "a1"), "differ in seed or fold alone"),
        (("a0", "b0", "a0"), "named twice"),
        (("a0", "afold"), "differ in seed or fold alone"),
        (("afold", "b0"), "no test patient in common"),
        (("a0", "brats"), "brats is no run folder"),
        (("a0", "scratch"), "scratch is no run folder"),
        (("a0", "b0", "--strategies", "fine-tune"), "--strategies is for the study of a task"),
        (("a0", "b0", "--margin", "1"), "--margin 1"),
    ],
)
def test_a_mistake_is_one_line(medtl, runs: Runs, names: tuple[str, ...], said: str) -> None:
    assert said in medtl.refused("compare", *(runs.get(name, name) for name in names))


def test_test_sets_that_overlap_are_refused_with_their_share(runs: Runs) -> None:
    one, other = dice(runs["a0"]), dice(runs["overlap"])
    both = len(one.keys() & other.keys())
    assert both > 0
    said = f"share {both} of their {len(one)} and {len(other)} test patients"
    with pytest.raises(RunError, match=said):
        api.compare_runs([runs["a0"], runs["overlap"]])
    with pytest.raises(RunError, match=said):
        api.evaluate_all([runs["a0"], runs["overlap"]])


@pytest.fixture
def copied(runs: Runs, tmp_path: Path) -> Path:
    """A copy of the run ``b0`` to change."""
    return Path(shutil.copytree(runs["b0"], tmp_path / "copied"))


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_run_that_is_not_finished_is_named(runs: Runs, copied: Path) -> None:
    (copied / "summary.json").unlink()
    with pytest.raises(RunError, match="copied is not finished"):
        api.compare_runs([runs["a0"], copied])


def test_the_same_run_under_another_name_is_refused(runs: Runs, copied: Path) -> None:
    with pytest.raises(ConfigError, match="have the same settings, seed and test patients"):
        api.compare_runs([runs["a0"], runs["b0"], copied])


def test_a_run_that_was_trained_on_a_test_patient_is_refused(runs: Runs, copied: Path) -> None:
    tested = sorted(dice(runs["a0"]))[0]

    def moved(folds: list[dict[str, Any]]) -> None:
        (case,) = (name for name, patient in folds[0]["patients"].items() if patient == tested)
        folds[0]["test"].remove(case)
        folds[0]["train"].append(case)

    edit(copied / "splits.json", moved)
    with pytest.raises(RunError, match=f"copied was trained or validated on {tested}"):
        api.compare_runs([runs["a0"], copied])


def test_other_data_of_the_same_names_are_refused(runs: Runs, copied: Path) -> None:
    case = json.loads((copied / "splits.json").read_text())[0]["test"][0]
    edit(copied / "inputs.json", lambda found: found["cases"][case].update(label="0" * 16))
    with pytest.raises(RunError, match=f"test case {case} has another label"):
        api.compare_runs([runs["a0"], copied])


def test_runs_of_one_arm_are_evaluated_and_pooled(medtl, runs: Runs, tmp_path: Path) -> None:
    names, out = ("a0", "a1", "afold"), tmp_path / "scores"
    words = ("--device", "cpu", "--precision", "fp32", "--out", out, "--json")
    told, _ = medtl("evaluate", *(runs[name] for name in names), *words)
    found = json.loads(told)
    pooled = found["pooled"]["scratch"]["WT"]["dice"]
    assert pooled["mean"] == pytest.approx(mean(*(runs[name] for name in names)))
    assert pooled["n"] == 11
    assert list(found["runs"]) == [str(runs[name]) for name in names]

    with (out / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (6 + 6 + 5)  # regions, and cases of each run
    for name in names:
        own = {
            row["patient"]: float(row["dice"])
            for row in rows
            if (row["run"], row["region"]) == (str(runs[name]), "WT")
        }
        assert own == pytest.approx(dice(runs[name]))
    assert r"\toprule" in (out / "scores.tex").read_text()
    assert "| scratch | WT | 11 |" in (out / "scores.md").read_text()
    assert {path.name for path in out.iterdir()} == {"cases.csv", "scores.md", "scores.tex"}
    line = medtl.refused("evaluate", runs["a0"], "--out", out)
    assert "not an empty folder" in line


def test_on_other_data_each_patient_counts_once_whatever_was_tested(
    runs: Runs, small_phantom: Callable[..., Path]
) -> None:
    other = small_phantom(cases=5, size=24, sites=1, seed=9)
    found = api.evaluate_all([runs["a0"], runs["afold"]], data=other, device="cpu")
    pooled = found.summary["scratch"]["WT"]["dice"]
    each = [s.summary["scratch"]["WT"]["dice"]["mean"] for s in found.runs.values()]
    assert pooled["n"] == 5
    assert pooled["mean"] == pytest.approx(fmean(each))


def test_runs_of_several_arms_are_not_pooled(medtl, runs: Runs, tmp_path: Path) -> None:
    line = medtl.refused("evaluate", runs["a0"], runs["b0"], "--out", tmp_path / "scores")
    assert "differ in lr" in line and "medtl compare" in line
    assert not (tmp_path / "scores").exists()


def test_a_notebook_shows_what_the_terminal_does(runs: Runs) -> None:
    found = api.compare_runs([runs["a0"], runs["b0"]])
    assert repr(found) == "<FinishedComparison: brats: 2 arms of 2 runs; synthetic phantom>"
    scores, differences = found.tables()
    assert isinstance(scores, Table) and len(scores.rows) == 6 and len(differences.rows) == 3
    assert json.loads(json.dumps(found.to_json())) == found.to_json()


@pytest.mark.parametrize(("word", "offered"), [("bra", "brats"), ("runs/", "")])
def test_tasks_are_completed_and_folders_left_to_the_shell(word: str, offered: str) -> None:
    asked = {"COMP_WORDS": f"medtl compare {word}", "COMP_CWORD": "2"}
    done = run_medtl(environment={**asked, "_MEDTL_COMPLETE": "complete_bash"})
    assert done.stdout.strip() == offered
