"""What killed processes leave is removed; what living ones are writing stays."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medtl.errors import RunError
from medtl.runtime import leftovers
from medtl.runtime.files import filled, new_folder, portable, replacing
from medtl.runtime.leftovers import sweep
from medtl.runtime.run_folder import check_out, open_run, start_run, write_text

#: Starts to write a file and a folder, says so, and waits to be killed.
WRITER = """
import sys, time
from pathlib import Path
from medtl.runtime.files import new_folder, replacing
here = Path(sys.argv[1])
with replacing(here / "a.nii.gz") as file, new_folder(here / "data") as folder:
    file.write_text("half")
    (folder / "x").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", WRITER, str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*"))


def test_files_and_folders_of_a_killed_process_are_swept(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert len(hidden(tmp_path)) == 2
    sweep(tmp_path)
    assert len(hidden(tmp_path)) == 2  # it is alive
    writer.kill()
    writer.wait()
    (tmp_path / ".mine.123.part").write_text("of another program")
    sweep(tmp_path)
    assert hidden(tmp_path) == [".mine.123.part"]


#: Saves the same tensor again and again.
SAVER = """
import sys
import numpy as np
from safetensors.numpy import save_file
while True:
    save_file({"a": np.zeros(2**24, np.float32)}, sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="processes cannot be stopped")
def test_what_safetensors_leaves_in_a_run_is_swept_when_the_run_goes_on(tmp_path: Path) -> None:
    stage = tmp_path / "source" / "checkpoint_last"
    stage.mkdir(parents=True)
    saver = subprocess.Popen([sys.executable, "-c", SAVER, str(stage / "weights.safetensors")])
    end, left = time.monotonic() + 60, []
    while not left:
        assert saver.poll() is None and time.monotonic() < end
        saver.send_signal(signal.SIGCONT)
        time.sleep(0.01)
        saver.send_signal(signal.SIGSTOP)
        left = hidden(stage)
    saver.kill()
    saver.wait()
    (stage / "weights.safetensors").write_bytes(b"whole")
    (tmp_path / ".tmpbackup").write_text("of the user")
    sweep(tmp_path, deep=True)
    assert hidden(stage) == left  # which process made it is not known
    sweep(tmp_path, deep=True, unmarked=True)
    assert not hidden(stage) and hidden(tmp_path) == [".tmpbackup"]
    assert (stage / "weights.safetensors").read_bytes() == b"whole"


def test_what_this_process_is_writing_is_not_swept(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as temporary, filled(tmp_path) as partial:
        sweep(tmp_path)
        temporary.write_text("a")
        (partial / "b.txt").write_text("b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_a_number_that_this_process_has_again_is_no_protection(tmp_path: Path) -> None:
    """In a container every command may be process 1."""
    left = tmp_path / leftovers.hidden_name("a.txt")
    left.write_text("of an earlier container")
    sweep(tmp_path)
    assert not left.exists()


def test_files_of_another_machine_are_swept_after_a_day(tmp_path: Path) -> None:
    other = tmp_path / f".a.{2**22 + 7}-00000000.part.txt"
    other.write_text("x")
    sweep(tmp_path)
    assert other.exists()
    old = time.time() - 2 * 24 * 3600
    os.utime(other, (old, old))
    sweep(tmp_path)
    assert not other.exists()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_permissions_that_the_umask_gives(tmp_path: Path, mask: int) -> None:
    def private(path: Path) -> None:  # as safetensors writes: it replaces what lies there
        made = os.open(path.with_suffix(".own"), os.O_CREAT | os.O_WRONLY, 0o600)
        os.close(made)
        os.replace(path.with_suffix(".own"), path)

    before = os.umask(mask)
    try:
        for write in (private, lambda path: path.write_text("x")):
            with replacing(tmp_path / "file") as temporary:
                write(temporary)
            assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
    finally:
        os.umask(before)


def test_names_as_long_as_the_system_allows_are_written(tmp_path: Path) -> None:
    for name in ("a" * 247 + ".nii.gz", "é" * 120 + ".txt"):
        write_text(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"
    with new_folder(tmp_path / ("b" * 250)) as partial:
        (partial / "x").touch()
    assert (tmp_path / ("b" * 250) / "x").exists()


# --- a run that was killed before it began ----------------------------------------------------


def test_a_folder_of_a_run_that_never_began_is_taken_again(tmp_path: Path) -> None:
    out = tmp_path / "run"
    start_run("brats", "scratch", out)
    (out / "splits.json").write_text("[]")
    (out / leftovers.hidden_name("stages.json")).write_text("[")
    with pytest.raises(RunError, match="give the same command again"):
        open_run(out)
    check_out(out)
    assert start_run("brats", "scratch", out).path == out
    assert not hidden(out)


@pytest.mark.parametrize(
    "add",
    [
        lambda out: (out / "config.yaml").write_text("task: brats\n"),
        lambda out: (out / "notes.txt").write_text("mine"),
        lambda out: (out / "stages.json").mkdir(),
        lambda out: (out / "stages.json").symlink_to(out / "environment.json"),
    ],
)
def test_a_folder_that_holds_something_else_is_not_taken(
    tmp_path: Path, add: Callable[[Path], object]
) -> None:
    out = start_run("brats", "scratch", tmp_path / "run").path
    add(out)
    with pytest.raises(RunError, match="choose another --out"):
        check_out(out)


def test_a_run_that_was_removed_is_noticed(tmp_path: Path) -> None:
    run = start_run("brats", "scratch", tmp_path / "run")
    (run.path / "config.yaml").write_text("task: brats\n")
    run.check_there()
    run.path.rename(tmp_path / "elsewhere")
    for act in (run.check_there, lambda: run.stage("source")):
        with pytest.raises(RunError, match="removed or renamed"):
            act()
    assert not run.path.exists()


def test_links_that_lead_out_of_a_run_are_refused(tmp_path: Path) -> None:
    run = start_run("brats", "scratch", tmp_path / "run")
    (tmp_path / "victim").mkdir()
    (run.path / "source").mkdir()
    (run.path / "again").symlink_to(run.path / "source")
    (run.path / "circle").symlink_to("circle")
    run.check_links()
    (run.path / "source" / "figures").symlink_to(tmp_path / "victim")
    with pytest.raises(RunError, match=r"source/figures is a link that leads out"):
        run.check_links()


# --- names of users ---------------------------------------------------------------------------


def test_paths_do_not_name_the_user_and_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medtl.runtime.files import from_home

    home = tmp_path / "home" / "marie"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "marie")
    for path, kept in (
        (home / "data" / "brats", "~/data/brats"),
        (tmp_path / "scratch" / "marie" / "brats", f"{tmp_path}/scratch/$USER/brats"),
        (tmp_path / "maries" / "brats", f"{tmp_path}/maries/brats"),
        (home / "marie", "~/$USER"),
        (home, "~"),
    ):
        assert portable(path) == kept
        assert from_home(kept) == path
