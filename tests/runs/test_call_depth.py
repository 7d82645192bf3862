"""The way from ``medtl train`` to the network's forward is short enough to follow."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

from places import ROOT
from terminal import exit_code
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

#: From the command's ``main`` to the objective's ``forward``, which calls the network.
MOST_FRAMES = 9


def own_frames() -> list[str]:
    """``file:function`` of the package's and the plugins' frames, the outermost first."""
    found = []
    for frame, _ in traceback.walk_stack(None):
        file = Path(frame.f_code.co_filename)
        if any(file.is_relative_to(ROOT / part) for part in ("medtl", "plugins")):
            found.append(f"{file.relative_to(ROOT)}:{frame.f_code.co_name}")
    return found[::-1]


def test_network_is_few_frames_away_from_the_command(
    small_phantom: Callable[..., Path], tmp_path: Path
) -> None:
    data = small_phantom(cases=4, size=24, sites=1, seed=5)
    words = ("train", "brats", "--data", data, "--strategy", "scratch", "--steps", "1", "-q")
    words += ("--width", "4", "--set=patch_size=32,32,32", "--spacing", "7.5", "--device", "cpu")
    words += ("--transforms", "brain-mr-plain", "--out", tmp_path / "run")
    stacks: list[list[str]] = []

    def note(module: nn.Module, inputs: object) -> None:
        if not stacks:
            frames = own_frames()
            # Not the trial of a step before the start, and not the objective itself.
            if "medtl/training/loop.py:fit" in frames and frames[-1].endswith(":forward"):
                stacks.append(frames)

    hook = register_module_forward_pre_hook(note)
    try:
        assert exit_code(*words) == 0
    finally:
        hook.remove()
    (frames,) = stacks
    assert len(frames) <= MOST_FRAMES, "\n".join(frames)
