"""What the calls take; each setting is that of the command line, with ``_`` for ``-``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast

from medtl.errors import ConfigError
from medtl.runtime.files import from_home

#: A path, or anything that stands for one: a run, a phantom.
Where = str | os.PathLike[str]

Call = TypeVar("Call", bound=Callable[..., Any])


class ShiftSettings(TypedDict, total=False):
    """The fields of :class:`medtl.shift.request.ShiftRequest`, and ``run`` and ``layer`` for
    features of a trained network."""

    data: Where | None
    src: str | None
    dst: str | None
    across: str | None
    features: str | Sequence[str]
    metrics: str | Sequence[str]
    permutations: int
    rows_per_image: int | None
    labels: str | None
    ignore_column: str | Sequence[str]
    series: str | Sequence[str]
    attribute: bool
    power: bool
    seed: int
    run: Where | None
    layer: str | None


def renamed(**names: str) -> Callable[[Call], Call]:
    """Let a call take keywords by their former names (former=present), with a warning."""

    def decorate(call: Call) -> Call:
        @wraps(call)
        def under_present_names(*arguments: Any, **settings: Any) -> Any:
            for former in names.keys() & settings:
                message = f"{former} is now {names[former]}"
                warnings.warn(message, FutureWarning, stacklevel=2)
                settings[names[former]] = settings.pop(former)
            return call(*arguments, **settings)

        return cast(Call, under_present_names)

    return decorate


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, None left out, with paths as text."""
    return {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in settings.items()
        if value is not None
    }


def path_or_none(where: Where | None) -> Path | None:
    return None if where is None else from_home(where)


def check_processes(devices: int, nodes: int) -> None:
    """Raise ConfigError where a call would have to start its own program once more."""
    if devices * nodes > 1 and "LOCAL_WORLD_SIZE" not in os.environ:
        raise ConfigError(
            f"devices={devices}, num_nodes={nodes}: other processes would run this program again; "
            "start it by torchrun, or use medtl train --devices"
        )
