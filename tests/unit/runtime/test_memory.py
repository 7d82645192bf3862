"""A lack of memory is recognised; what is free is read with its limits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medtl.runtime.memory import free_memory_bytes, group_room, out_of_memory, peak_memory_bytes


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
