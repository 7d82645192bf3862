"""Files and folders have names that every system can hold, and no two cases share one."""

from __future__ import annotations

import csv
import sys
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

import pytest

from medtl.cli.main import main
from medtl.errors import DataError, RunError
from medtl.runtime.files import check_apart, file_name
from medtl.runtime.lock import locked, refuse_held
from medtl.runtime.run_folder import append_line, start_run, write_text

ODD = ["CON", "con.T1", "aux ", "nul", "COM1.a", "LPT9", "a:b", 'a<b>c"d', "a|b?c*", "dot.", "gap "]
ODD += ["50%", "%3A", "a\tb"]
PLAIN = ["BraTS2021_00001", "TCGA_CS_4941.1", "consul", "com10", "Müller 3 (left)", "a.b-c+d=e,f"]


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_names_stay_as_they_are(text: str) -> None:
    assert file_name(text) == text


@pytest.mark.parametrize("text", ODD)
def test_odd_names_become_files_that_windows_can_hold(text: str) -> None:
    name = file_name(text)
    for whole in (name, f"{name}.nii.gz"):
        assert not PureWindowsPath(whole).is_reserved()
        assert not set(whole) & set('<>:"/\\|?*') and whole.isprintable()
    assert not name.endswith((".", " "))
    assert unquote(name) == text  # so that no two texts share a name


def test_cases_that_differ_in_capitals_or_accents_alone_are_refused() -> None:
    check_apart(["a1", "a2", "b"])
    with pytest.raises(DataError, match=r"Case1\.nii and case1\.nii would be one file"):
        check_apart(["Case1.nii", "x", "case1.nii"])
    with pytest.raises(DataError, match="one file"):
        check_apart(["é", "e\u0301"])


def test_a_run_of_a_task_by_its_full_name_has_no_colon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert start_run("brats:brats", "core:scratch", None).path.name == "brats-scratch-01"


def test_text_is_written_with_the_same_bytes_on_every_system(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "é\nb\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\nb\n"
    append_line(tmp_path / "b", {"step": 1})
    assert (tmp_path / "b").read_bytes() == b'{"step": 1}\n'


def test_predictions_of_odd_cases_lie_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def medtl(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["medtl", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    data, table = tmp_path / "data", tmp_path / "cases.csv"
    assert medtl("data", "phantom", data, "--cases", 5, "--size", 16, "-q") == 0
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
    assert medtl("train", "segmentation", "--data", table, *words, "--out", run) == 0
    assert medtl("predict", run, "-i", table, "-o", out, "--device", "cpu", "-q") == 0
    written = sorted(path.name for path in out.iterdir())
    assert written == sorted(f"{file_name(name)}.nii.gz" for name in names)
    table.write_text(table.read_text(encoding="utf-8").replace("\nb,", "\nA,"), encoding="utf-8")
    assert medtl("predict", run, "-i", table, "-o", out, "--device", "cpu", "-q") == 2
    assert "would be one file on Windows and macOS" in capsys.readouterr().err


def test_a_run_is_held_by_one_command(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(RunError, match="another process"):
            refuse_held(tmp_path)
        with pytest.raises(RunError, match="another process"), locked(tmp_path):
            pass
    refuse_held(tmp_path)
    with locked(tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()
