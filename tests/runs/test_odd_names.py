"""Cases with names that not every system can hold."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from terminal import exit_code

from medtl.runtime.files import file_name


def test_predictions_of_odd_cases_lie_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, table = tmp_path / "data", tmp_path / "cases.csv"
    assert exit_code("data", "phantom", data, "--cases", 5, "--size", 16, "-q") == 0
    names = ["CON", "scan:1", "Who?", "a", "b"]
    folders = sorted(path for path in data.iterdir() if path.is_dir())
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("case", "t1", "label"))
        for name, folder in zip(names, folders, strict=True):
            stem = folder / folder.name
            rows.writerow((name, f"{stem}_t1.nii.gz", f"{stem}_seg.nii.gz"))
    words = ("--network", "unet", "--width", 4, "--steps", 1, "--batch-size", 2, "--device", "cpu")
    words += ("--precision", "fp32", "--spacing", 11, "--set=patch_size=32,32,32", "-q")
    run, out = tmp_path / "run", tmp_path / "out"
    assert exit_code("train", "segmentation", "--data", table, *words, "--out", run) == 0
    assert exit_code("predict", run, "-i", table, "-o", out, "--device", "cpu", "-q") == 0
    written = sorted(path.name for path in out.glob("*.nii.gz"))
    assert written == sorted(f"{file_name(name)}.nii.gz" for name in names)
    table.write_text(table.read_text(encoding="utf-8").replace("\nb,", "\nA,"), encoding="utf-8")
    assert exit_code("predict", run, "-i", table, "-o", out, "--device", "cpu", "-q") == 2
    assert "would be one file on Windows and macOS" in capsys.readouterr().err
