"""Windows get smaller when the memory runs out; what is free is read with its limits.

Axes: I J K voxels.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medtl.errors import RunError
from medtl.inference.window_size import Shrinking, WindowSize
from medtl.runtime.memory import free_memory_bytes, group_room, out_of_memory, peak_memory_bytes

SHORT = Path(__file__).parents[2] / "helpers" / "short_of_memory.py"


def chain(cut: WindowSize, multiple: int, fixed: bool = False) -> list[WindowSize]:
    found = []
    smaller = cut.halved(multiple, fixed)
    while smaller is not None:
        found.append(smaller)
        smaller = smaller.halved(multiple, fixed)
    return found


def test_batch_is_halved_then_whole_volumes_then_the_longest_edge() -> None:
    cuts = chain(WindowSize((96, 64, 48), 4, whole=True), 16)
    assert [cut.batch_size for cut in cuts[:3]] == [2, 1, 1]
    assert [cut.whole for cut in cuts[:3]] == [True, True, False]
    assert [cut.roi for cut in cuts[3:]] == [
        (48, 64, 48),
        (48, 32, 48),
        (32, 32, 48),
        (32, 32, 32),
    ]


def test_network_of_one_patch_size_keeps_its_windows() -> None:
    assert chain(WindowSize((64, 64, 64), 2, whole=False), 16, fixed=True) == [
        WindowSize((64, 64, 64), 1, whole=False)
    ]


def test_edges_stay_multiples_and_are_never_below_two_of_them() -> None:
    for multiple in (1, 8, 32):
        for cut in chain(WindowSize((160, 96, 128), 1, whole=False), multiple):
            assert all(edge % multiple == 0 for edge in cut.roi)
            assert min(cut.roi) >= max(16, 2 * multiple)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def fail(cut: WindowSize) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        Shrinking().run(fail, WindowSize((16,), 4, whole=True), 1, fixed=False)


def short(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SHORT, "predict", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("dims", "free_mb"), [(3, 60), (2, 60)])
def test_inference_short_of_memory_gives_the_result_of_the_smaller_windows(
    dims: int, free_mb: int
) -> None:
    done = short(dims, free_mb, 0)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"]
    assert found["said"]  # how often it has to halve depends on the processor
    for said in found["said"]:
        assert said.startswith("the memory ran out: ") and said.endswith("from here on")


def test_fixed_windows_that_do_not_fit_are_one_line() -> None:
    done = short(3, 30, 1)
    assert done.returncode == RunError.exit_code, done.stderr
    assert "windows of 64x64x64 voxels, and the network takes no other size" in done.stdout


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_short_of_memory_takes_fewer_windows() -> None:
    said: list[str] = []
    shrinking = Shrinking(said.append)
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]

    def compute(cut: WindowSize) -> torch.Tensor:
        return torch.empty(free // 2 * cut.batch_size, dtype=torch.uint8, device="cuda")[:1]

    shrinking.run(compute, WindowSize((16, 16, 16), 4, whole=False), 16, fixed=False)
    assert said and shrinking.cut is not None and shrinking.cut.batch_size == 1


def test_failed_allocations_are_recognised() -> None:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**60)
    assert out_of_memory(failed.value)
    assert out_of_memory(MemoryError()) and out_of_memory(torch.OutOfMemoryError("CUDA"))
    assert not out_of_memory(RuntimeError("shapes do not match"))


def test_limits_of_control_groups_hold_for_those_within(tmp_path: Path) -> None:
    def group(path: str, limit: str, used: int, cached: int) -> None:
        folder = tmp_path / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 7\ninactive_file {cached}\n")

    group("job", "1000", 700, 100)
    group("job/step", "max", 600, 0)
    assert list(group_room("0::/job/step\n", tmp_path)) == [400]
    group("job/step", "800", 600, 50)
    assert list(group_room("0::/job/step\n", tmp_path)) == [250, 400]
    assert list(group_room("0::/elsewhere\n", tmp_path)) == []


def test_limits_of_the_first_version_are_read_too(tmp_path: Path) -> None:
    folder = tmp_path / "memory" / "job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("1000\n")
    (folder / "memory.usage_in_bytes").write_text("900\n")
    (folder / "memory.stat").write_text("total_inactive_file 30\n")
    groups = "4:cpu,cpuacct:/other\n3:memory:/job\n"
    assert list(group_room(groups, tmp_path)) == [130]


def test_free_and_peak_memory_are_plausible() -> None:
    assert 2**20 < free_memory_bytes() < 2**50
    peak = peak_memory_bytes()
    assert peak is None or 2**20 < peak < 2**50
