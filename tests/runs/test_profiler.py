"""--profile says where the time goes, and changes no weight."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from terminal import exit_code

from medtl.training import profiler as profiling
from medtl.training.profiler import BACKWARD, DATA, FORWARD, VALIDATION, Profiling, write_summary
from medtl.training.trainer import LAST

TINY = ("--network", "unet", "--width", "4", "--device", "cpu", "-q", "--batch-size", "2")
TINY += ("--transforms", "brain-mr", "--set=patch_size=32,32,32", "--strategy", "scratch")


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=6, size=24, sites=1, seed=5)


def train(data: Path, out: Path, *words: object) -> int:
    return exit_code("train", "brats", "--data", data, *TINY, "--out", out, *words)


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "profile" / "summary.json").read_text())


def test_profiled_run_has_the_same_weights_and_says_where_the_time_went(
    phantom: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain, profiled = tmp_path / "plain", tmp_path / "profiled"
    assert train(phantom, plain, "--steps", 16) == 0
    assert train(phantom, profiled, "--steps", 16, "--profile") == 0
    assert capfd.readouterr().err == ""
    assert (plain / "scratch" / LAST).read_bytes() == (profiled / "scratch" / LAST).read_bytes()
    assert not (plain / "profile").exists()
    found = summary(profiled)
    assert found["steps"] == [6, 15] and found["stage"] == "scratch" and found["synthetic"]
    assert sum(part["share"] for part in found["parts"].values()) == pytest.approx(1)
    assert all(found["parts"][part]["seconds"] > 0 for part in (DATA, FORWARD, BACKWARD))
    assert 0 < found["device_share"] <= 1 and found["peak_memory_bytes"] > 2**20
    names = [row["name"] for row in found["operators"]["cpu"]]
    assert any("convolution" in name for name in names)
    assert not {"forward", "backward"} & set(names)
    content = (profiled / "profile" / found["trace"]).read_bytes()
    trace = json.loads(gzip.decompress(content) if found["trace"].endswith(".gz") else content)
    assert {FORWARD, BACKWARD} <= {event["name"] for event in trace["traceEvents"]}
    assert str(tmp_path) not in str(trace) and socket.gethostname() not in trace.values()


def test_short_stage_is_profiled_as_far_as_it_goes(phantom: Path, tmp_path: Path) -> None:
    for steps, traced in ((1, [1, 1]), (3, [2, 3])):
        assert train(phantom, tmp_path / str(steps), "--steps", steps, "--profile") == 0
        assert summary(tmp_path / str(steps))["steps"] == traced


def test_time_is_counted_where_it_was_spent(tmp_path: Path) -> None:
    measured = Profiling(
        tmp_path, torch.device("cpu"), {"stage": "source", "device": "cpu", "workers": 0}
    )
    measured.begin(8)
    for step in range(8):
        with measured.span(DATA):
            time.sleep(0.02)
        with measured.span(FORWARD):
            time.sleep(0.01)
        if step == 5:
            with measured.span(VALIDATION):
                time.sleep(0.08)
        measured.step_taken()
    parts = measured.summary()["parts"]
    assert parts[DATA]["seconds"] == pytest.approx(0.02, abs=0.01)
    assert parts[FORWARD]["seconds"] == pytest.approx(0.01, abs=0.01)
    assert parts[VALIDATION]["seconds"] == pytest.approx(0.01, abs=0.005)
    table = write_summary(measured)
    assert table.rows[0][0] == "wait for the batch" and "steps 5 to 8" in table.title


def test_long_trace_is_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"stage": "source", "device": "cpu", "workers": 2}
    for limit, name in ((0, "trace.json.gz"), (2**30, "trace.json")):
        monkeypatch.setattr(profiling, "LARGE_BYTES", limit)
        measured = Profiling(tmp_path, torch.device("cpu"), facts)
        measured.begin(1)
        with measured.span(FORWARD):
            torch.ones(8).sum()
        measured.step_taken()
        assert write_summary(measured).rows[0][0] == "wait for the batch"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["summary.json", name]


def test_there_is_nothing_to_profile_in_a_dry_run(
    phantom: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(phantom, tmp_path / "run", "--profile", "--dry-run") == 2
    assert "drop --dry-run" in capfd.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_profile_of_a_gpu_lists_its_kernels(phantom: Path, tmp_path: Path) -> None:
    words = ("--steps", 16, "--profile", "--device", "cuda")
    assert train(phantom, tmp_path / "run", *words) == 0
    found = summary(tmp_path / "run")
    assert found["device"] == "cuda" and found["operators"]["cuda"][0]["seconds"] > 0
    assert 0 < found["device_share"] <= 1
