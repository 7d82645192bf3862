"""``medtl audit`` as it is typed: what it writes, its exit codes, and what it keeps."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Terminal, exit_code

from medtl import api
from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.groups import with_groups
from medtl.data.modality import Modality
from medtl.errors import ConfigError, DataError
from medtl.runtime.console import Recorder


@pytest.fixture
def phantom(small_phantom: Callable[..., Path], tmp_path: Path) -> Path:
    made = small_phantom(cases=12, size=24, sites=2, seed=3)
    return Path(shutil.copytree(made, tmp_path / "phantom"))


def duplicated(phantom: Path) -> tuple[str, str]:
    """Give one case the images of another; their names."""
    first, second = sorted(path for path in phantom.iterdir() if path.is_dir())[:2]
    for path in first.iterdir():
        shutil.copyfile(path, second / path.name.replace(first.name, second.name))
    return first.name, second.name


def test_it_writes_findings_groups_files_and_pictures(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = duplicated(phantom)
    out, listed = tmp_path / "out", tmp_path / "fix.csv"
    assert exit_code("audit", phantom, "--out", out, "--fix-list", listed) == 0
    printed = capsys.readouterr().out
    assert "exact-duplicate" in printed and "synthetic phantom" in printed
    content = json.loads((out / "audit.json").read_text())
    assert content["synthetic"] and content["flagged"] == [first, second]
    with open(out / "groups.csv", newline="") as file:
        groups = {row["case"]: row["group"] for row in csv.DictReader(file)}
    assert groups[first] == groups[second] == first and len(set(groups.values())) == 11
    assert listed.read_text() == (out / "files.csv").read_text()
    with open(listed, newline="") as file:
        assert {row["kind"] for row in csv.DictReader(file)} == {"exact-duplicate"}
    assert (out / "figures" / "pairs.png").stat().st_size > 1000
    assert (out / "tables.md").read_text().startswith("**12 cases")


def test_json_alone_writes_nothing(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code("audit", phantom, "--json", "-q") == 0
    assert json.loads(capsys.readouterr().out)["cases"] == 12
    assert not (tmp_path / "runs").exists()


def test_strict_fails_where_there_is_an_error(phantom: Path, tmp_path: Path) -> None:
    words = ("audit", phantom, "--strict", "-q", "--json")
    assert exit_code(*words) == 0
    next(phantom.glob("*/*_t1.nii*")).write_bytes(b"broken")
    assert exit_code(*words) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "nowhere: no such file or folder"),
        (("{}", "{}"), "a folder is named twice"),
        (("{}", "--task", "brast"), "did you mean 'brats'"),
        (("{}", "--against", "{}"), "holds no checkpoint"),
        (("{}/empty",), "holds no image"),
        (("{}/Phantom_0000/note.txt",), "is a file, not a folder"),
    ],
)
def test_a_mistake_is_one_line(
    words: tuple[str, ...], said: str, phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (phantom / "empty").mkdir()
    (phantom / "Phantom_0000").mkdir(exist_ok=True)
    (phantom / "Phantom_0000" / "note.txt").write_text("x")
    assert exit_code("audit", *(word.format(phantom) for word in words), "--json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line


def test_a_file_changed_in_place_is_noticed(phantom: Path) -> None:
    path = next(phantom.glob("*/*_flair.nii*"))
    before = api.audit(phantom)
    state = path.stat()
    content = bytearray(path.read_bytes())
    content[-4:] = b"\0\0\0\0"
    path.write_bytes(bytes(content))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    assert not before.errors
    assert [one.files for one in api.audit(phantom).errors] == [(path,)]


def test_images_that_a_model_was_trained_on_are_told(
    phantom: Path, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = tiny_run(tmp_path / "run", phantom)
    split = api.open_run(run).split
    wanted = {}
    for number, name in enumerate([*split.train[:2], split.test[0]]):
        folder = tmp_path / "other" / f"Patient_{number:02}"
        folder.mkdir(parents=True)
        for file in (phantom / name).iterdir():
            shutil.copyfile(file, folder / file.name.replace(name, folder.name))
        wanted[folder.name] = name not in split.test
    found = api.audit(tmp_path / "other", against=run)
    told = {case for one in found.findings if one.kind == "trained-on" for case in one.cases}
    assert told == {name for name, trained in wanted.items() if trained}


def test_a_run_is_not_told_of_its_own_data(
    phantom: Path, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = tiny_run(tmp_path / "run", phantom)
    found = api.audit(phantom, against=run)
    assert not found.errors and "the run was made on these images" in found.notes[-1]


def test_names_can_be_hidden(tmp_path: Path, phantom: Path, medtl: Terminal) -> None:
    """In what is printed, written for others, and drawn; tables of files and groups keep them."""
    folders = sorted(path for path in phantom.iterdir() if path.is_dir())
    planted = [path.rename(phantom / f"Doe_Jane_{n:02}") for n, path in enumerate(folders)]
    for path in planted:
        for file in path.iterdir():
            file.rename(path / file.name.replace(file.name.rpartition("_")[0], path.name))
    for file in planted[0].iterdir():
        shutil.copyfile(file, planted[1] / file.name.replace("Doe_Jane_00", "Doe_Jane_01"))
    (planted[2] / "Doe_Jane_02_t1.nii.gz").write_bytes(b"broken")
    out = tmp_path / "audit"
    streams = medtl("audit", phantom, "--hash-names", "--out", out)
    texts = [streams.out, (out / "audit.json").read_text(), (out / "tables.md").read_text()]
    assert not any("Doe" in text or "Jane" in text for text in texts)
    assert "exact-duplicate" in texts[1] and "unreadable" in texts[1]
    names = dict(line.split(",") for line in (out / "names.csv").read_text().splitlines()[1:])
    assert "Doe_Jane_00" in names and len(set(names.values())) == len(names)
    assert all(name in texts[1] for case, name in names.items() if case in ("Doe_Jane_00",))
    assert "Doe_Jane_00" in (out / "groups.csv").read_text()
    assert "Doe_Jane_02" in (out / "files.csv").read_text()
    assert (out / "figures" / "pairs.png").is_file()


def test_a_split_keeps_the_groups_whole(
    phantom: Path, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    names = sorted(path.name for path in phantom.iterdir() if path.is_dir())
    table = tmp_path / "groups.csv"
    pairs = [(name, names[n - n % 2]) for n, name in enumerate(names)]
    table.write_text("case,group\n" + "".join(f"{a},{b}\n" for a, b in pairs))
    run = tiny_run(tmp_path / "run", phantom, "--groups", table)
    split = api.open_run(run).split
    for part in (split.train, split.val, split.test):
        assert {names.index(name) ^ 1 for name in part} == set(map(names.index, part))


def cohort(*names: str) -> Cohort:
    images = {Modality("t1"): ImageFile(Path("x.nii"))}
    return Cohort(Path("root"), tuple(Case(name, name, images) for name in names))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case;group\na;b\n", "needs the columns case and group"),
        ("case,group\na,\n", "line 2 names no group"),
        ("case,group\na,1\na,2\n", "line 3: a is in two groups"),
        ("case,group\nz,1\n", "names none of the 3 cases"),
        ("case,group\na,1\nb,1\nc,1\n", "joins all cases"),
    ],
)
def test_a_wrong_table_of_groups_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        with_groups(cohort("a", "b", "c"), path, Recorder(silent=True))


def test_cases_that_no_group_names_stay_alone(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("case,group\na,1\nc,1\n")
    recorder = Recorder(silent=True)
    joined = with_groups(cohort("a", "b", "c"), path, recorder)
    assert [case.patient for case in joined.cases] == ["a", "b", "a"]
    assert "1 are groups of their own" in recorder.warnings[0]


def test_weights_that_do_not_say_what_they_saw_are_refused(phantom: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(ConfigError, match="does not say what it was trained on"):
        api.audit(phantom, against=path)
