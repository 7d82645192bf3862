"""``medtl shift`` as it is typed, on small phantoms and on pictures."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from terminal import exit_code

from medtl.data.phantom.cohort import write_phantom

COLUMNS = {
    "source", "target", "metric", "features", "value", "null_low", "null_high", "low", "high",
    "p", "p_floor", "p_adjusted", "effect", "design", "n_source", "n_target", "synthetic", "note",
}  # fmt: skip


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=8, size=24, sites=2, seed=3)


def run(*words: object) -> int:
    return exit_code("shift", *words)


def rows_of(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, Any]]:
    assert run(*words, "--json", "-q", "--no-attribute") == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    for row in found:
        if row["p"] is not None:
            assert row["p_floor"] - 1e-12 <= row["p"] <= row["p_adjusted"] + 1e-12, row
    return found


def test_modalities_are_a_paired_design_with_a_grid_and_the_pooled_row_first(
    phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(
        capsys, "--data", phantom, "--src", "flair,t1ce", "--dst", "t1,t2", "--metrics", "mmd"
    )
    assert {tuple(sorted(row)) for row in rows} == {tuple(sorted(COLUMNS))}
    ends = [(row["source"], row["target"]) for row in rows]
    assert ends == [
        ("flair+t1ce", "t1+t2"),
        ("flair", "t1"), ("flair", "t2"), ("t1ce", "t1"), ("t1ce", "t2"),
    ]  # fmt: skip
    for row in rows:
        assert row["design"] == "paired"
        assert row["n_source"] == row["n_target"] == 8
        assert row["p_floor"] == 2 / 2**8
        assert row["synthetic"] is True
    assert rows[0]["p"] == rows[0]["p_adjusted"]


def test_sites_are_an_unpaired_design(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--data", phantom, "--src", "mod:flair,site:S1", "--dst", "mod:flair,site:S2")
    row, *_ = rows_of(capsys, *words)
    assert row["design"] == "unpaired"
    assert row["n_source"] == row["n_target"] == 4
    assert row["p_floor"] == pytest.approx(2 / 70)


def test_a_domain_against_itself_is_recognised_and_not_tested(
    phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(capsys, "--data", phantom, "--src", "flair", "--dst", "flair")
    for row in rows:
        assert row["value"] == (0.5 if row["metric"] == "domain-auroc" else 0)
        assert row["p"] is None
        assert "identical" in str(row["note"])


def test_all_sites_at_once_give_one_test_and_described_pairs(
    phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", phantom, "--src", "flair", "--across", "site")
    rows = rows_of(capsys, *words)
    assert [row["p"] is None for row in rows] == [*[False] * 7, True]
    assert rows[-1]["source"] == "S1" and rows[-1]["target"] == "S2"
    assert "descriptive" in str(rows[-1]["note"])


def test_few_patients_are_told_that_nothing_can_be_significant(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in sorted(path for path in phantom.iterdir() if path.is_dir())[:3]:
        shutil.copytree(case, tmp_path / "three" / case.name)
    words = ("--data", tmp_path / "three", "--src", "flair", "--dst", "t1", "--out", tmp_path / "o")
    assert run(*words) == 0
    told = "".join(capsys.readouterr())
    assert "too few patients for a significant result" in told
    assert "0.25" in told
    assert "6 patients" in told


def test_the_folder_holds_rows_figures_and_their_points(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    ends = ("--src", "flair,t1ce", "--dst", "t1,t2", "--metrics", "mmd,domain-auroc")
    words = ("--data", phantom, *ends, "--out", out)
    assert run(*words) == 0
    told = "".join(capsys.readouterr())
    assert "synthetic phantom" in told
    told_as_json = json.loads((out / "attribution.json").read_text())
    assert told_as_json["synthetic"] is True
    assert all(sentence in told for sentence in told_as_json["advice"])
    assert {each["harmoniser"] for each in told_as_json["removals"]} == {
        "histogram-matching", "nyul", "resampling", "zscore",
    }  # fmt: skip
    rows = json.loads((out / "shift.json").read_text())
    with open(out / "shift.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["metric"] for row in table] == [row["metric"] for row in rows]
    assert float(table[0]["value"]) == rows[0]["value"]
    with open(out / "features.csv", newline="") as file:
        by_feature = list(csv.DictReader(file))
    assert len({row["feature"] for row in by_feature}) == len(by_feature) > 20
    assert [float(row["ks"]) for row in by_feature] == sorted(
        (float(row["ks"]) for row in by_feature), reverse=True
    )
    names = {path.name for path in (out / "figures").iterdir()}
    assert {"appearance-pca.png", "appearance-pca.csv", "appearance-t-sne.png", "grid.png"} <= names
    with open(out / "figures" / "appearance-pca.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 32
    again = tmp_path / "again"
    assert run(*words[:-1], again) == 0
    for path in sorted((out / "figures").iterdir()):
        assert path.read_bytes() == (again / "figures" / path.name).read_bytes(), path.name
    assert (out / "shift.json").read_bytes() == (again / "shift.json").read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--src", "flair", "--dst", "pet"), "pet"),
        (("--src", "site:S9", "--dst", "t1"), "S9"),
        (("--src", "flair", "--dst", "site:S1"), "overlap"),
        (("--metrics", "mdm"), "mmd"),
        (("--features", "apperance"), "appearance"),
        (("--features", "activations"), "--run"),
        (("--permutations", "10"), "--permutations"),
        (("--permutations", "2000000000"), "--permutations"),
        (("--seed", "-1"), "--seed"),
        (("--across", "scanner"), "site or part"),
        (("--across", "site", "--dst", "t1"), "--dst"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    phantom: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert run("--data", phantom, *words, "-q", "--no-attribute") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert told in lines[0]


def test_a_data_set_is_one_however_its_path_is_spelt(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(phantom)
    words = ("--data", phantom, "--src", "flair", "--dst", f"data={link},mod:t1")
    row, *_ = rows_of(capsys, *words)
    assert row["design"] == "paired"


def test_data_sets_of_one_name_are_told_apart_by_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = [write_phantom(tmp_path / a / "train", cases=4, size=16, sites=1, seed=s)
             for s, a in enumerate("ab")]  # fmt: skip
    ends = [f"data={root},mod:flair" for root in roots]
    row, *_ = rows_of(capsys, "--src", ends[0], "--dst", ends[1], "--metrics", "mmd")
    assert row["source"] == "data=a/train,mod:flair"
    assert row["target"] == "data=b/train,mod:flair"


def test_feature_sets_of_other_patients_are_corrected_each_by_itself(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantom, data)
    site_of = json.loads((data / "phantom.json").read_text())["sites"]
    first, second = (
        next(c for c, site in site_of.items() if site == name) for name in ("S1", "S2")
    )
    shutil.copy(*(next((data / case).glob("*_flair.nii*")) for case in (first, second)))
    words = ("--data", data, "--src", "mod:flair+t1,site:S1", "--dst", "mod:flair+t1,site:S2")
    rows = rows_of(capsys, *words, "--features", "appearance,labels", "--metrics", "mmd,energy")
    assert {row["features"] for row in rows} == {"appearance", "labels"}
    assert {row["n_source"] for row in rows if row["features"] == "labels"} == {3}


def test_a_nan_in_a_file_names_the_file(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import nibabel

    data = tmp_path / "data"
    shutil.copytree(phantom, data)
    path = next(data.glob("*/*_flair.nii*"))
    image = nibabel.load(path)
    values = np.asarray(image.dataobj, dtype=np.float32)
    values[0, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    assert run("--data", data, "--src", "flair", "--dst", "t1", "-q") == 2
    assert path.name in capsys.readouterr().err


def test_one_patient_has_a_value_withheld_with_the_reason(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = next(path for path in sorted(phantom.iterdir()) if path.is_dir())
    shutil.copytree(case, tmp_path / "one" / case.name)
    row, *_ = rows_of(capsys, "--data", tmp_path / "one", "--src", "flair", "--dst", "t1")
    assert row["p"] is None
    assert "one patient" in str(row["note"])


def test_lines_of_other_lengths_are_an_error_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("a", 24), ("b", 20)):
        write_phantom(tmp_path / name, cases=4, size=size, sites=1, seed=1)
    ends = [f"data={tmp_path / name},mod:flair" for name in "ab"]
    words = ("--src", ends[0], "--dst", ends[1], "--features", "lines", "-q", "--no-attribute")
    assert run(*words) == 2
    told = "".join(capsys.readouterr())
    assert "has 20 columns" in told and "24; resample" in told


def test_the_legacy_loop_is_shown_with_its_warning_and_no_p(
    phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--src", "flair", "--dst", "t1", "--features", "lines", "--metrics", "mmd,mmd-legacy")
    first, second = rows_of(capsys, "--data", phantom, *words)
    assert first["metric"] == "mmd" and first["p"] is not None
    assert second["p"] is None and second["value"] is not None
    assert "wrong" in str(second["note"])


def test_folders_of_pictures_are_compared_by_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :36]
    disc = ((rows - 20) ** 2 + (columns - 18) ** 2) < 200
    for part, gain in (("Training", 1.0), ("Testing", 0.5)):
        for number in range(12):
            folder = tmp_path / "data" / part / ("a" if number % 2 else "b")
            folder.mkdir(parents=True, exist_ok=True)
            values = disc * gain * (100 + 20 * random.random(disc.shape) + 10 * random.random())
            Image.fromarray(values.astype(np.uint8)).save(folder / f"{number}.png")
    words = ("--data", tmp_path / "data", "--src", "part:Training", "--dst", "part:Testing")
    row, *_ = rows_of(capsys, "classification", *words)
    assert row["design"] == "unpaired"
    assert row["p"] == 0.001
    assert row["synthetic"] is False


def test_a_misspelt_modality_is_refused_before_anything_is_read(command, capfd) -> None:
    command("shift", "--src", "fliar", "--dst", "t1", code=2)
    said = capfd.readouterr().err
    assert said.startswith("error: task brats has no modality 'fliar'; did you mean 'flair'?")
    assert said.count("\n") == 1
