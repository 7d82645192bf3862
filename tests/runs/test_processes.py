"""Two processes on one global batch do what one does; nothing is lost or repeated."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from places import HELPERS, KILLED
from safetensors.torch import load_file
from terminal import run_forked, run_python

from medtl.runtime.records import read_lines
from medtl.training.trainer import LAST

STAGES = ("source", "adapt", "unfreeze")
TINY = ("--network", "unet", "--width", "4", "--steps", "6", "--device", "cpu")
TINY += ("--precision", "fp32", "--batch-size", "2", "--transforms", "brain-mr", "--freeze", "2")
TINY += ("--set=patch_size=32,32,32",)
MEDTL = ("-m", "medtl")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *MEDTL)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    """15 cases: neither the test nor the validation patients can be shared evenly by two."""
    return small_phantom(cases=15, size=24, sites=2, seed=3)


def run(
    *words: object, program: tuple[object, ...] = MEDTL, code: int = 0, processes: int = 1
) -> subprocess.CompletedProcess[str]:
    """``processes`` as torchrun would start them, or one that starts others itself."""
    if "--devices" in words or program == TORCHRUN:  # these start anew, with all imports
        return run_python(*program, *words, code=code)
    return run_forked(*program, *words, code=code, processes=processes)


def train(data: Path, out: Path, *words: object, **options):
    return run("train", "brats", "--data", data, *TINY, "--out", out, *words, **options)


@pytest.fixture(scope="module")
def single(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("single") / "run"
    train(phantom, out)
    return out


def same_losses(one: Path, other: Path) -> None:
    """To 1e-4: Adam turns rounding into whole steps where a gradient is almost 0."""
    for stage in STAGES:
        rows = [read_lines(folder / stage / "metrics.jsonl") for folder in (one, other)]
        assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
        for ours, theirs in zip(*rows, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def scored(out: Path) -> list[tuple[str, str]]:
    lines = (out / "metrics.csv").read_text().splitlines()[1:]
    return [(line.split(",")[0], line.split(",")[1]) for line in lines]


def test_two_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    script = HELPERS / "two_stages.py"
    run(tmp_path / "one", program=(script,))
    run(tmp_path / "two", program=(script,), processes=2)
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5)


def test_two_processes_take_the_steps_of_one(phantom: Path, single: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    told = train(phantom, out, "--devices", 2).stderr
    assert told.count("done in") == 1  # the second process is silent
    same_losses(single, out)
    assert scored(out) == scored(single)
    assert json.loads((out / "summary.json").read_text())["data"]["patients"] % 2 == 1


def test_torchrun_completes_and_resumes(phantom: Path, single: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed = ("train", "brats", "--data", phantom, *TINY, "--out", out)
    run(*killed, program=(KILLED, "step:9"), code=-signal.SIGKILL, processes=2)
    assert not (out / "summary.json").exists() and (out / "source" / LAST).is_file()
    run("train", "--resume", out, program=TORCHRUN)
    same_losses(single, out)


def test_cases_are_shared_in_predict_and_evaluate(
    phantom: Path, single: Path, tmp_path: Path
) -> None:
    run("predict", single, "-i", phantom, "-o", tmp_path, "--device", "cpu", processes=2)
    assert len(list(tmp_path.glob("*.nii.gz"))) == 15
    words = ("evaluate", single, "--json", "--quiet", "--device", "cpu", "--precision", "fp32")
    one, two = run(*words), run(*words, processes=2)
    assert json.loads(one.stdout) == json.loads(two.stdout)


@pytest.mark.parametrize("size", [1, 3])
def test_batch_that_cannot_be_shared_is_refused(phantom: Path, tmp_path: Path, size: int) -> None:
    words = ("--batch-size", size)
    told = train(phantom, tmp_path / "run", *words, code=2, processes=2).stderr
    assert f"--batch-size {size} cannot be shared by 2 processes" in told
    assert not (tmp_path / "run").exists()
