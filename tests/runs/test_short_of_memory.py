"""Inference and training in a process whose memory really runs out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from places import HELPERS
from safetensors.torch import load_file
from terminal import run_forked

from medtl.errors import RunError
from medtl.runtime.records import read_lines

#: With so many MB to spare, a batch of so many patches fits, or only a part of it.
BATCH, PLENTY, LITTLE = 12, 2000, 250


def short(*words: object) -> subprocess.CompletedProcess[str]:
    return run_forked(HELPERS / "short_of_memory.py", *words)


@pytest.mark.parametrize(
    ("dims", "tried_mb"), [(3, (60, 50, 40, 30, 25, 35, 45, 55)), (2, (60, 45, 30, 15))]
)
def test_inference_short_of_memory_gives_the_result_of_the_smaller_windows(
    dims: int, tried_mb: tuple[int, ...]
) -> None:
    """With so much spare that windows must shrink and still fit: how much that is depends on the
    processor, and on what the process has freed before."""
    for free_mb in tried_mb:
        done = short("predict", dims, free_mb, 0)
        if done.returncode == 0 and "windows of" in done.stdout:
            break
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["same"]
    assert found["said"]
    for said in found["said"]:
        assert said.startswith("the memory ran out: ") and said.endswith("from here on")


def test_fixed_windows_that_do_not_fit_are_one_line() -> None:
    done = short("predict", 3, 30, 1)
    assert done.returncode == RunError.exit_code, done.stderr
    assert "windows of 64x64x64 voxels, and the network takes no other size" in done.stdout


def trained(folder: Path, free_mb: int, *stop_after: int, code: int = 0) -> dict[str, Any]:
    done = short("train", BATCH, free_mb, folder, *stop_after)
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout) if code == 0 else {}


def test_training_short_of_memory_gives_the_weights_of_the_whole_batch(tmp_path: Path) -> None:
    assert trained(tmp_path / "whole", PLENTY) == {"at_once": None, "said": []}
    found = trained(tmp_path / "parts", LITTLE)
    *_, said = found["said"]
    assert f"{found['at_once']} of the {BATCH} patches" in said and found["at_once"] < BATCH
    rows = read_lines(tmp_path / "parts" / "metrics.jsonl")
    assert rows[-1]["at_once"] == found["at_once"]
    whole, parts = load_file(tmp_path / "whole" / "last"), load_file(tmp_path / "parts" / "last")
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-5)
    # Going on, now with plenty, gives the very same: the parts are kept.
    trained(tmp_path / "cut", LITTLE, 2, code=130)
    assert trained(tmp_path / "cut", PLENTY)["at_once"] == found["at_once"]
    cut = load_file(tmp_path / "cut" / "last")
    for name, tensor in parts.items():
        assert torch.equal(cut[name], tensor)


def test_single_patch_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    done = short("train", 1, 20, tmp_path)
    assert done.returncode == 2
    assert "one patch of 48x48x48" in done.stdout and "patch_size=32,32,32" in done.stdout
