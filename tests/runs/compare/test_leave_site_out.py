"""``medtl compare --leave-site-out``: every site in turn, nothing trained twice, no label of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from medtl import api
from medtl.data.phantom import write_phantom
from medtl.errors import ConfigError
from medtl.transfer.weights import BEST

STUDY: dict[str, Any] = {
    "task": "lgg-mri",
    "leave_site_out": True,
    "strategies": ["adabn", "dann"],
    "networks": ["resnet18"],
    "seeds": 1,
    "width": 4,
    "steps": 2,
    "batch_size": 4,
    "patch_size": (32, 32),
    "transforms": "picture-raw",
    "device": "cpu",
    "precision": "fp32",
}
ALONE = "EZ"  #: a site with one patient


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, layout="lgg-mri", cases=9, size=16, sites=3, seed=7, shift=2.0)
    for path in sorted(folder.glob(f"TCGA_{ALONE}_*"))[1:]:
        shutil.rmtree(path)
    return folder


@pytest.fixture(scope="module")
def study(data: Path, tmp_path_factory: pytest.TempPathFactory) -> api.Study:
    return api.compare(**STUDY, data=data, out=tmp_path_factory.mktemp("study") / "study")


def rows_of(study: api.Study) -> dict[str, dict[str, dict[str, float]]]:
    """Site -> arm -> patient -> score, as they stand in the file."""
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    with (study.folder / "scores.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found[row["site"]][row["arm"]][row["patient"]] = float(row["accuracy"])
    return found


def test_each_run_is_made_once_and_a_site_of_one_patient_is_only_tested(study: api.Study) -> None:
    runs = {path.name for path in (study.folder / "runs").iterdir()}
    arms = ("source", "zero-shot", "adabn", "dann")
    every = {f"{arm}-{site}-s0" for site in ("CS", "DU", ALONE) for arm in arms}
    assert runs == every - {f"adabn-{ALONE}-s0", f"dann-{ALONE}-s0"}
    assert not study.failed
    assert any(f"one patient alone, who is tested: {ALONE}" in text for text in study.warnings)


def test_arms_of_a_site_share_test_patients_who_are_of_the_site(study: api.Study) -> None:
    for site, arms in rows_of(study).items():
        tested = set(arms["zero-shot"])
        assert tested
        assert all(site in patient for patient in tested)
        assert all(set(arms[arm]) == tested for arm in arms if arm != "source")
        assert all(site not in patient for patient in arms["source"])


def test_an_arm_that_trains_beside_the_source_does_not_train_the_source_again(
    study: api.Study,
) -> None:
    runs = study.folder / "runs"
    assert json.loads((runs / "dann-CS-s0" / "stages.json").read_text()) == ["dann"]
    source, same = (
        load_file(runs / name / BEST)
        for name in ("source-CS-s0/scratch", "zero-shot-CS-s0/zero-shot")
    )
    assert source.keys() == same.keys()
    assert all(tensor.equal(same[name]) for name, tensor in source.items())


def test_the_table_is_that_of_the_scores(study: api.Study) -> None:
    assert study.sites is not None
    scores = rows_of(study)
    for row in study.sites.rows:
        means = {arm: fmean(values.values()) for arm, values in scores[row.site].items()}
        assert row.loss is not None
        assert row.loss.mean == pytest.approx(means["source"] - means["zero-shot"])
        for arm, effect in row.gains.items():
            assert effect.mean == pytest.approx(means[arm] - means["zero-shot"])
        best = max(value for arm, value in means.items() if arm != "source")
        for selector, (picked,) in row.picks.items():
            assert row.regrets[selector] == pytest.approx(best - means[picked])
        assert row.shift is not None
    assert {row.site: bool(row.picks) for row in study.sites.rows}[ALONE] is False


def test_files_are_written(study: api.Study) -> None:
    for name in ("tables.md", "tables.tex", "figures/sites.png"):
        assert (study.folder / name).stat().st_size > 0
    text = (study.folder / "tables.md").read_text()
    assert "synthetic phantom" in text
    assert "fewer than 5 test patients" in text
    assert json.loads((study.folder / "summary.json").read_text())["sites"] == study.rows()


def test_a_study_that_was_killed_ends_with_the_same_tables(
    study: api.Study, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    shutil.copytree(study.folder, out)
    for name in ("summary.json", "tables.md", "scores.csv", "sites/shift.json"):
        (out / name).unlink()
    for run in ("adabn-CS-s0", "zero-shot-DU-s0"):  # one in the middle, one not begun
        (out / "state" / f"{run}.json").unlink()
        (out / "sites" / f"{run}.json").unlink()
    (out / "runs" / "adabn-CS-s0" / "summary.json").unlink()
    shutil.rmtree(out / "runs" / "zero-shot-DU-s0")
    times = {path: path.stat().st_mtime_ns for path in (out / "state").iterdir()}
    again = api.compare(**STUDY, data=data, out=out)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for name in ("tables.md", "tables.tex", "scores.csv", "sites/shift.json"):
        assert (out / name).read_bytes() == (study.folder / name).read_bytes()
    assert again.rows() == study.rows()


def test_labels_of_the_site_change_no_weight(study: api.Study, data: Path, tmp_path: Path) -> None:
    """The arm that trains beside the source, with every mask of the site's patients inverted."""
    run = study.folder / "runs" / "dann-CS-s0"
    (split,) = json.loads((run / "splits.json").read_text())
    unlabelled = [case for case in split["train"] if "_CS_" in case]
    assert unlabelled
    other = tmp_path / "data"
    shutil.copytree(data, other)
    for case in unlabelled:
        path = next(other.rglob(f"{case}_mask.tif"))
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    api.train(config=run / "config.yaml", data=other, splits=run / "splits.json",
              out=tmp_path / "run")  # fmt: skip
    before, after = (load_file(folder / "dann" / BEST) for folder in (run, tmp_path / "run"))
    assert all(tensor.equal(after[name]) for name, tensor in before.items())


def test_two_sites_are_refused_in_one_line(medtl, data: Path, tmp_path: Path) -> None:
    two = tmp_path / "two"
    shutil.copytree(data, two)
    for path in two.glob(f"TCGA_{ALONE}_*"):
        shutil.rmtree(path)
    line = medtl.refused("compare", "lgg-mri", "--leave-site-out", "--data", two, "--dry-run")
    assert "3 sites or more, and there are CS, DU" in line
    assert "--src site:CS --dst site:DU" in line


def test_the_training_on_the_source_is_left_out_only_where_nothing_starts_from_it(
    medtl, data: Path
) -> None:
    words = ("train", "lgg-mri", "--data", data, "--src", "site:CS", "--dst", "site:DU")
    line = medtl.refused(*words, "--strategy", "fine-tune", "--set", "skip_source=true")
    assert "skip_source: strategy fine-tune has no stages" in line


def test_strategies_that_need_labels_of_the_target_are_refused(
    study: api.Study, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="fine-tune trains on labels of the target"):
        api.compare(**{**STUDY, "strategies": ["fine-tune"]}, data=data, out=tmp_path / "study")
    with pytest.raises(ConfigError, match="leaves each site out"):
        api.plan_power(study.folder, difference=0.05)
