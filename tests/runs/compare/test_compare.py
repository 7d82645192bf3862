"""``medtl compare``: one plan, the same splits, nothing trained twice, verdicts that add up."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from safetensors.torch import load_file

from medtl import api
from medtl.errors import ConfigError, RunError
from medtl.plugins.catalog import load_catalog
from medtl.study.folder import StudyFolder
from medtl.study.outcomes.source_after import SourceScorer
from medtl.study.scores import read_run_scores
from medtl.transfer.weights import BEST, read_weights, write_summed

TINY: dict[str, Any] = {
    "network": None,
    "width": 4,
    "batch_size": 2,
    "spacing_mm": 7.5,
    "steps": 2,
    "device": "cpu",
    "precision": "fp32",
    "patch_size": (32, 32, 32),
    "transforms": "brain-mr-plain",
    "test_fraction": 0.4,
    "src": "flair,t1ce",
    "dst": "t1,t2",
}
STUDY: dict[str, Any] = {
    "task": "brats",
    "strategies": ["linear-probe"],
    "networks": ["unet"],
    "budgets": [3, "all"],
    "seeds": 2,
    **{name: value for name, value in TINY.items() if value is not None},
}


@pytest.fixture(scope="module")
def data(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=16, size=24, sites=2, seed=3)


@pytest.fixture(scope="module")
def study(data: Path, tmp_path_factory: pytest.TempPathFactory) -> api.Study:
    return api.compare(**STUDY, data=data, out=tmp_path_factory.mktemp("study") / "study")


def runs_of(study: api.Study) -> list[str]:
    return sorted(path.name for path in (study.folder / "runs").iterdir())


def split_of(study: api.Study, run: str) -> dict[str, Any]:
    return json.loads((study.folder / "runs" / run / "splits.json").read_text())[0]


def test_each_run_is_made_once(study: api.Study) -> None:
    arms = ("control-a", "control-b", "joint", "linear-probe")
    cells = [f"f0-s{seed}" for seed in (0, 1)]
    expected = [f"{arm}-n{n}-{cell}" for arm in arms for n in ("3", "all") for cell in cells]
    expected += [f"{arm}-{cell}" for arm in ("source", "zero-shot") for cell in cells]
    assert runs_of(study) == sorted(expected)
    assert not study.failed


def test_arms_share_test_patients_and_budgets_are_nested(study: api.Study) -> None:
    splits = {run: split_of(study, run) for run in runs_of(study)}
    assert len({tuple(split["test"]) for split in splits.values()}) == 1
    for arm in ("control-a", "linear-probe", "joint"):
        small = splits[f"{arm}-n3-f0-s1"]["budget"]["train"]
        assert len(small) == 3
        assert set(small) <= set(splits[f"{arm}-nall-f0-s1"]["patients"].values())
    same = {tuple(splits[f"{arm}-n3-f0-s0"]["budget"]["train"]) for arm in ("control-a", "joint")}
    assert len(same) == 1
    assert "budget" not in splits["source-f0-s0"]


def test_strategies_start_from_the_one_source_of_their_seed(study: api.Study) -> None:
    runs = study.folder / "runs"
    weights = {
        run: load_file(runs / run / stage / BEST)
        for run, stage in (
            ("source-f0-s0", "scratch"),
            ("source-f0-s1", "scratch"),
            ("linear-probe-n3-f0-s1", "linear-probe"),
            ("linear-probe-nall-f0-s1", "linear-probe"),
        )
    }
    zero, one, few, every = weights.values()
    # The head is new, and the stem has other modalities.
    inner = [name for name in one if name.endswith("conv.weight")]
    same = [name for name in inner if one[name].equal(few[name]) and one[name].equal(every[name])]
    assert len(same) >= len(inner) / 2
    assert not any(one[name].equal(zero[name]) for name in same)


def test_control_b_is_trained_for_the_steps_of_both(study: api.Study) -> None:
    rows = {}
    for arm in ("control-a", "control-b"):
        path = study.folder / "runs" / f"{arm}-n3-f0-s0" / "scratch" / "metrics.jsonl"
        rows[arm] = max(json.loads(line)["step"] for line in path.read_text().splitlines())
    assert rows == {"control-a": 2, "control-b": 4}


def test_scores_are_those_of_the_runs(study: api.Study) -> None:
    with (study.folder / "scores.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    with (study.folder / "runs/linear-probe-n3-f0-s1/metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == "linear-probe"]
    expected = {(row["patient"], row["region"]): float(row["dice"]) for row in rows}
    own = {
        (row["patient"], row["output"]): float(row["dice"])
        for row in found
        if (row["arm"], row["budget"], row["seed"]) == ("linear-probe", "3", "1")
    }
    assert own == expected


def test_differences_are_means_over_patients_of_seeds_averaged_first(study: api.Study) -> None:
    with (study.folder / "scores.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["output"] == "WT"]

    def mean(arm: str) -> float:
        own = [float(r["dice"]) for r in rows if (r["arm"], r["budget"]) == (arm, "all")]
        return fmean(own)  # every patient has two seeds

    (row,) = (
        row
        for row in study.rows()
        if (row["arm"], row["budget"], row["output"]) == ("linear-probe", "all", "WT")
    )
    assert row["against"]["control-a"]["mean"] == pytest.approx(
        mean("linear-probe") - mean("control-a")
    )
    assert row["against"]["control-b"]["runs"] == 2


def test_the_same_call_again_trains_nothing_and_ends_the_same(study: api.Study, data: Path) -> None:
    names = ("summary.json", "tables.md", "tables.tex", "cost.md")
    before = [(study.folder / name).read_bytes() for name in names]
    lost = study.folder / "source-after" / "linear-probe-n3-f0-s0.json"
    kept = lost.read_bytes()
    lost.unlink()  # as if the study had been killed before
    done = [p for name in ("state", "source-after") for p in (study.folder / name).iterdir()]
    times = {path: path.stat().st_mtime_ns for path in done}
    api.compare(**STUDY, data=data, out=study.folder)
    assert [(study.folder / name).read_bytes() for name in names] == before
    assert {path: path.stat().st_mtime_ns for path in done} == times
    assert lost.read_bytes() == kept


def test_a_run_whose_folder_is_gone_is_trained_again_and_the_folder_names_the_study(
    study: api.Study, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(study.folder, tmp_path / "copy"))
    name = "linear-probe-n3-f0-s1"
    (copy / "runs" / name / "summary.json").write_text("{")
    with pytest.raises(RunError, match=f"{name}.*delete the folder of that run"):
        api.compare(out=copy)
    shutil.rmtree(copy / "runs" / name)
    again = api.compare(out=copy)
    assert (copy / "runs" / name / "summary.json").is_file()
    assert any(name in text and "trained again" in text for text in again.warnings)
    assert (copy / "tables.md").read_bytes() == (study.folder / "tables.md").read_bytes()


def test_another_setting_is_refused(study: api.Study, data: Path) -> None:
    with pytest.raises(ConfigError, match="begun with seeds 2, not 3"):
        api.compare(**{**STUDY, "seeds": 3}, data=data, out=study.folder)


def test_files_for_papers_are_written(study: api.Study) -> None:
    for name in ("tables.md", "tables.tex", "figures/differences.png", "figures/budgets.png"):
        assert (study.folder / name).stat().st_size > 0
    assert "synthetic phantom" in (study.folder / "tables.md").read_text()
    assert r"\toprule" in (study.folder / "tables.tex").read_text()


def test_steps_to_the_score_of_control_a_are_counted(study: api.Study) -> None:
    found = json.loads((study.folder / "summary.json").read_text())["outcomes"]["steps"]
    rows = {(row["arm"], row["budget"]): row for row in found}
    ends = []
    for seed in (0, 1):
        path = study.folder / "runs" / f"control-a-nall-f0-s{seed}" / "scratch" / "metrics.jsonl"
        last = json.loads(path.read_text().splitlines()[-1])
        ends.append(fmean(last["validation"].values()))
    own = rows["control-a", "all"]
    assert own["target"] == pytest.approx(fmean(ends))
    assert own["reached"] == sum(end >= fmean(ends) for end in ends)
    assert rows["linear-probe", "all"]["source_steps"] == 2
    # Three patients leave none for validation.
    assert rows["linear-probe", "3"]["runs"] == 0
    text = (study.folder / "tables.md").read_text()
    assert "What it took" in text and "What is left of the source?" in text
    assert "hours" not in text
    assert "processor hours" in (study.folder / "cost.md").read_text()


def test_a_transferred_network_is_scored_on_the_source(study: api.Study) -> None:
    folder = StudyFolder(study.folder)
    scorer = SourceScorer(folder, load_catalog())
    runs = {run.name: run for run in folder.runs()}
    run = runs["linear-probe-nall-f0-s0"]
    # Were control A its source, whose domain is the target, these would be its own test scores.
    swapped = replace(run, name="swapped", after="control-a-nall-f0-s0")
    shutil.copytree(folder.run(run.name), folder.run("swapped"))
    try:
        found = scorer.score(swapped)
    finally:
        shutil.rmtree(folder.run("swapped"))
    assert found.scores == read_run_scores(folder.run(run.name), "dice").scores
    assert not found.mapped
    before = read_run_scores(folder.run("source-f0-s0"), "dice").scores
    after = scorer(runs["zero-shot-f0-s0"])
    assert after.mapped
    assert {name: set(own) for name, own in after.scores.items()} == {
        name: set(own) for name, own in before.items()
    }
    for region, own in after.scores.items():  # there and back: but for the scale of a layer
        assert list(own.values()) == pytest.approx(list(before[region].values()), abs=0.02)


def test_a_run_that_fails_is_told_and_the_others_go_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    wanted = {**STUDY, "budgets": ["all"], "seeds": 1, "skip": ["joint", "zero-shot"]}
    (out / "runs" / "control-b-nall-f0-s0").mkdir(parents=True)
    (out / "runs" / "control-b-nall-f0-s0" / "notes.txt").write_text("in the way")
    with pytest.raises(RunError, match="not the folder of a study"):
        api.compare(**wanted, data=data, out=out)
    (out / "runs").rename(tmp_path / "runs")
    out.rmdir()
    study = api.compare(**{**wanted, "strategies": ["linear-probe"]}, data=data, out=out)
    (out / "state" / "control-b-nall-f0-s0.json").unlink()
    broken = out / "runs" / "control-b-nall-f0-s0" / "scratch" / BEST
    broken.write_bytes(b"no weights")
    (out / "runs" / "control-b-nall-f0-s0" / "summary.json").unlink()
    again = api.compare(**{**wanted, "strategies": ["linear-probe"]}, data=data, out=out)
    assert list(again.failed) == ["control-b-nall-f0-s0"]
    assert not study.failed
    assert [row["arm"] for row in again.rows()] == [row["arm"] for row in study.rows()]
    assert all("control-b" not in row["against"] for row in again.rows())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--strategies", "fine-tone"), "did you mean"),
        (("--budgets", "5000"), "has 10 labelled patients"),
        (("--strategies", "fine-tune", "--skip", "zero"), "zero-shot"),
        (("--set", "seed=3"), "use seeds"),
        (("--set", "freeze=2"), "the controls have none"),
        (("--strategies", "scratch"), "scratch is a control"),
        (("--budgets", "0"), "patients above 0"),
        (("--budgets", "5000"), "--budgets 5000: the target has"),
        (("--strategies", ""), "--strategies: is empty"),
        (("--strategies", "fine-tune,fine-tune"), "named twice"),
    ],
)
def test_a_mistake_is_one_line(
    medtl, data: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    strategies = () if "--strategies" in words else ("--strategies", "linear-probe")
    line = medtl.refused(
        "compare", "brats", "--data", data, *strategies, *words, "--out", tmp_path / "study",
        "--set", "test_fraction=0.4", "--device", "cpu", "--src", "flair,t1ce", "--dst", "t1,t2",
        "--dry-run",
    )  # fmt: skip
    assert said in line
    assert not (tmp_path / "study").exists()


def test_a_dry_run_shows_what_differs_and_writes_nothing(medtl, data: Path, tmp_path: Path) -> None:
    out, _ = medtl(
        "compare", "brats", "--data", data, "--strategies", "fine-tune", "--seeds", 2, "--dry-run",
        "--set", "test_fraction=0.4", "--device", "cpu", "--src", "flair,t1ce", "--dst", "t1,t2",
        "--set", "steps=5", "--out", tmp_path / "study",
    )  # fmt: skip
    assert "What differs between the arms" in out
    assert "control-a-adamw" in out  # fine-tune has a rate of its own: its control is run at both
    assert not (tmp_path / "study").exists()


def test_weights_from_outside_say_how_long_they_were_trained_and_what_they_tell(
    medtl, study: api.Study, data: Path, tmp_path: Path
) -> None:
    longer = study.folder / "runs" / "control-b-nall-f0-s0"  # trained for four steps
    weights = tmp_path / "organs.safetensors"
    read = read_weights(longer / "scratch" / BEST)
    write_summed(weights, read.tensors, {**read.metadata, "regions": ["liver", "kidney", "spleen"]})
    words = (
        "compare", "brats", "--data", data, "--strategies", "linear-probe", "--dry-run", "--json",
        "--networks", "unet", "--set", "test_fraction=0.4", "--dst", "t1,t2", "--set", "width=4",
        "--set", "spacing_mm=7.5", "--set", "patch_size=32,32,32", "--steps", 2, "--device", "cpu",
    )  # fmt: skip
    out, _ = medtl(*words, "--inits", longer)
    arms = {arm["name"]: arm for arm in json.loads(out)["arms"]}
    assert arms["linear-probe"]["on_source"] == arms["zero-shot"]["on_source"] == 4
    assert arms["control-b"]["on_target"] == 2 + 4
    out, _ = medtl(*words, "--inits", weights)
    assert "zero-shot" not in {arm["name"] for arm in json.loads(out)["arms"]}
