"""Windows get smaller when the memory runs out.

Axes: I J K voxels.
"""

from __future__ import annotations

import pytest
import torch

from medtl.inference.window_size import Shrinking, WindowSize


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
