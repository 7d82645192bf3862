"""What goes wrong while a run is going ends in one line, and the run goes on to the same weights.

A full disk is a limit on the size of files, and for root also a tiny file system; files go missing
under the hands of a run that is really training.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from places import HELPERS
from terminal import exit_code, run_forked

from medtl.errors import RunError
from medtl.runtime.cache import cache_dir
from medtl.runtime.lock import LOCK, locked, refuse_held
from medtl.runtime.records import read_lines
from medtl.training.samples.prepared import cached_cases
from medtl.training.trainer import LAST
from medtl.transfer.weights import BEST
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import brain_mr
from medtl_brats.task import Brats

TINY = ("--network", "unet", "--width", "4", "--steps", "16", "--device", "cpu", "-q")
TINY += ("--batch-size", "2", "--transforms", "brain-mr")
TINY += ("--set=patch_size=32,32,32", "--strategy", "scratch")


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=6, size=24, sites=1, seed=5)


@pytest.fixture
def copied(phantom: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantom, tmp_path / "data"))


def train(data: Path, out: Path, *words: object) -> int:
    return exit_code("train", "brats", "--data", data, *TINY, "--out", out, *words)


def resume(run: Path, *words: object) -> int:
    return exit_code("train", "--resume", run, "-q", *words)


def written(run: Path) -> dict[str, bytes]:
    names = [f"scratch/{name}" for name in (BEST, LAST, "metrics.jsonl")]
    return {name: (run / name).read_bytes() for name in (*names, "metrics.csv")}


def line(capture: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    lines = capture.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    (told,) = lines
    assert told.startswith("error: ")
    return told


@pytest.fixture(scope="module")
def whole(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(phantom, run) == 0
    return run


@contextmanager
def once_trained(run: Path, act: Callable[[], object]) -> Iterator[None]:
    """``act`` as soon as the run has taken its first steps."""

    def wait() -> None:
        rows = run / "scratch" / "metrics.jsonl"
        while not stop.wait(0.002):
            if rows.is_file() and len(read_lines(rows, torn=True)) > 2:
                act()
                return

    stop = threading.Event()
    saboteur = threading.Thread(target=wait)
    saboteur.start()
    try:
        yield
    finally:
        stop.set()
        saboteur.join()


def with_files_of_at_most(size: int, *words: object) -> subprocess.CompletedProcess[str]:
    return run_forked(HELPERS / "full_disk.py", size, *words)


def no_temporary_files(folder: Path) -> bool:
    return not [path for path in folder.rglob(".*") if path.is_file()]


# --- full disk --------------------------------------------------------------------------------


def test_full_disk_while_training_is_one_line_and_the_run_goes_on(
    phantom: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("train", "brats", "--data", phantom, *TINY, "--cache", "disk", "--out", run)
    full = with_files_of_at_most(300_000, *words)
    assert full.returncode == 2
    (told,) = full.stderr.splitlines()
    assert str(run / "scratch") in told and "make room" in told
    assert told.endswith(f"go on with: medtl train --resume {run}")
    assert no_temporary_files(run)
    assert resume(run) == 0
    assert written(run) == written(whole)


def test_disk_too_full_to_start_leaves_a_folder_that_can_be_used(
    phantom: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    full = with_files_of_at_most(400, "train", "brats", "--data", phantom, *TINY, "--out", run)
    assert full.returncode == 2 and "make room" in full.stderr
    assert list(run.iterdir()) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_file_system_that_runs_full_is_one_line_and_the_run_goes_on(
    phantom: Path, whole: Path, tiny_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tiny_disk / "run"
    assert train(phantom, run) == 2
    assert "No space left on device" in line(capfd)
    assert no_temporary_files(run)
    subprocess.run(["mount", "-o", "remount,size=50m", str(tiny_disk)], check=True)
    assert resume(run) == 0
    assert written(run) == written(whole)


def test_full_disk_while_predicting_leaves_no_half_map(
    phantom: Path, whole: Path, tmp_path: Path
) -> None:
    full = with_files_of_at_most(100, "predict", whole, "-i", phantom, "-o", tmp_path, "-q")
    assert full.returncode == 2
    (told,) = full.stderr.splitlines()
    assert str(tmp_path) in told and "make room" in told
    assert list(tmp_path.iterdir()) == []


# --- files that go missing --------------------------------------------------------------------


def test_cache_lost_while_training_is_made_anew(phantom: Path, whole: Path, tmp_path: Path) -> None:
    run, cache = tmp_path / "run", cache_dir()
    with once_trained(run, lambda: shutil.rmtree(cache)):
        assert train(phantom, run, "--cache", "disk") == 0
    assert cache.is_dir()
    assert written(run) == written(whole)


@pytest.mark.parametrize("content", [b"", b"\x20\0\0\0\0\0\0\0{}", None])
def test_damaged_files_of_the_cache_are_made_anew(phantom: Path, content: bytes | None) -> None:
    cases = Brats().cases(phantom).cases[:1]
    preprocessor = Preprocessor(("flair",), ("WT",), brain_mr().with_spacing(8.0))
    cached = cached_cases(cases, preprocessor, "disk", 0)
    first = cached[0]
    folder = cache_dir() / "prepared"
    for path in folder.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
    for again in (cached[0], cached[0]):  # prepared, then read
        assert torch.equal(again["image"], first["image"])
        assert torch.equal(again["centres"]["WT"], first["centres"]["WT"])
    shutil.rmtree(folder)  # the entries of other cases stay damaged


def removed(path: Path) -> None:
    path.rename(path.with_suffix(".away"))


def truncated(path: Path) -> None:
    shutil.copy2(path, path.with_suffix(".away"))
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    ("do", "workers", "cache"),
    [(removed, 0, "none"), (truncated, 0, "disk"), (removed, 1, "disk")],
)
def test_case_lost_while_training_is_named_and_the_run_goes_on(
    copied: Path,
    whole: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    do: Callable[[Path], None],
    workers: int,
    cache: str,
) -> None:
    run = tmp_path / "run"
    files = sorted(copied.rglob("*_t1ce.nii.gz"))

    def spoil() -> None:
        for path in files:
            do(path)

    with once_trained(run, spoil):
        assert train(copied, run, "--cache", cache, "--workers", workers) == 2
    told = line(capfd)
    assert any(str(path) in told for path in files) and "Traceback" not in told
    assert told.endswith(f"go on with: medtl train --resume {run}")
    assert not (run / "summary.json").exists()
    for path in files:
        path.with_suffix(".away").replace(path)
    assert resume(run, "--cache", "memory") == 0
    assert written(run) == written(whole)


# --- two at once ------------------------------------------------------------------------------


def test_run_is_held_by_one_command_at_a_time(
    phantom: Path, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    (run / "summary.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    capfd.readouterr()
    with locked(run):
        assert resume(run) == 2
        assert "another process is working in this folder" in line(capfd)
        with pytest.raises(RunError, match="another process"), locked(run):
            pass
        (run / LOCK).unlink()
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert resume(run) == 0 and not (run / LOCK).exists()


def test_predictions_are_not_written_by_two_commands_nor_mixed_without_a_word(
    phantom: Path, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = "predict", whole, "-i", phantom, "-o", out
    out.mkdir()
    with locked(out):
        assert exit_code(*words, "-q") == 2
        assert "another process is working in this folder" in line(capfd)
    assert os.listdir(out) == []
    for name in ("other.nii.gz", ".hidden.nii.gz"):
        (out / name).write_bytes(b"of another prediction")
    assert exit_code(*words) == 0
    told = f"warning: {out} holds other label maps, which stay as they are: other.nii.gz"
    assert told in capfd.readouterr().err


def test_killed_command_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from medtl.runtime.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match="another process"):
        refuse_held(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert (tmp_path / LOCK).exists()
    refuse_held(tmp_path)
    with locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == []
