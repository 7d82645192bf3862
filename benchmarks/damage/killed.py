"""Run `medtl` and kill it (SIGKILL) at a chosen moment.

    python benchmarks/damage/killed.py step:3 train brats --data phantom ...

A moment is a name and how often it must have come: `step` (a step is taken, its row not written),
`row` (half of a row written), `validation` (in the middle of one), `state` (half of the resume
state written), `kept` (the state written, not yet in its place), `between` (the stage's best
weights written, its last ones not), `ended` (both written, the state still there), `scoring`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import medtl.evaluation.segmentation
import medtl.training.loop
import medtl.training.state
import medtl.training.trainer
from medtl.cli.start import main
from medtl.inference.segmentation import Segmenter
from medtl.runtime.files import replacing
from medtl.training.state import STATE

MOMENTS = ("step", "row", "validation", "state", "kept", "between", "ended", "scoring")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(module: Any, name: str, count: int, act: Callable[..., None]) -> None:
    """Have ``act`` called with the arguments of the ``count``-th call of a function, then die."""
    plain = getattr(module, name)
    left = [count]

    def wrapped(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            act(*args, **options)
            die()
        return plain(*args, **options)

    setattr(module, name, wrapped)


def half_row(path: Path, _row: Any) -> None:
    with path.open("a") as file:
        file.write('{"step": 7, "lo')


def half_state(path: Path, _tensors: Any, _text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(b"\0" * 4096)
        die()


def half_validation(predictor: Any, cached: Any, _cases: Any) -> None:
    predictor.prepared_logits(cached[0]["image"])


def nothing(*_args: Any, **_options: Any) -> None:
    pass


def arm(moment: str, count: int) -> None:
    """Set the trap."""
    places: dict[str, tuple[Any, str, int, Callable[..., None]]] = {
        "step": (medtl.training.loop, "append_line", count, nothing),
        "row": (medtl.training.loop, "append_line", count, half_row),
        "validation": (Segmenter, "validate", count, half_validation),
        "state": (medtl.training.state, "write_summed", count, half_state),
        "between": (medtl.training.trainer, "write_checkpoint", 2 * count, nothing),
        "scoring": (medtl.evaluation.segmentation, "case_metrics", count, nothing),
    }
    if moment == "kept":
        at_path(os, "replace", f".{STATE.name}", count)
    elif moment == "ended":
        at_path(Path, "unlink", STATE.name, count)
    else:
        at_call(*places[moment])


def at_path(owner: Any, name: str, start: str, count: int) -> None:
    """Die at the ``count``-th call whose file's name begins so."""
    plain = getattr(owner, name)
    left = [count]

    def wrapped(path: Path, *args: Any, **options: Any) -> Any:
        if Path(path).name.startswith(start):
            left[0] -= 1
            if left[0] == 0:
                die()
        return plain(path, *args, **options)

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    name, _, number = sys.argv.pop(1).partition(":")
    if name not in MOMENTS:
        sys.exit(f"unknown moment {name!r}; there are {', '.join(MOMENTS)}")
    arm(name, int(number or 1))
    main()
