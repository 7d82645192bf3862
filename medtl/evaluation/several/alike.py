"""Which runs are of one arm, and which of one fold: runs that differ in seed or fold are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtl.config import TrainConfig, kept_settings, read_config
from medtl.errors import ConfigError, RunError
from medtl.runtime.files import from_home, real_path
from medtl.runtime.run_folder import CONFIG

#: The seed, and settings that say who is tested on: ``splits.json`` tells it of every run.
_OF_REPEATS = ("seed", "fold", "folds", "splits", "test_cases", "test_fraction", "protocol")


def arm_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that the runs of an arm share."""
    kept = {n: value for n, value in kept_settings(config).items() if n not in _OF_REPEATS}
    return kept | {"init": _start(config.init)}


def _start(init: str | None) -> Any:
    """What ``--init`` names; of a run, its settings, as each seed has a source of its own."""
    if init is None:
        return None
    path = from_home(init)
    run = next((each for each in (path, path.parent) if (each / CONFIG).is_file()), None)
    if run is None:
        return init
    own = read_config(run / CONFIG)
    return {**kept_settings(own), **dict.fromkeys(_OF_REPEATS), "init": own.init}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The settings in which two arms differ."""
    return [name for name in one if one[name] != other[name]]


def check_once(paths: Sequence[Path]) -> None:
    """Raises ConfigError for a run that is named twice."""
    known: set[Path] = set()
    for path in paths:
        if (real := real_path(path)) in known:
            raise ConfigError(f"{path} is named twice; name each run once")
        known.add(real)


def check_task(configs: Mapping[Path, TrainConfig]) -> None:
    """Raises ConfigError for runs of different tasks."""
    first, *others = configs
    for path in others:
        one, other = configs[first].task, configs[path].task
        if one != other:
            raise ConfigError(
                f"{first} is of task {one}, and {path} of {other}; name runs of one task"
            )


def folds_of(tests: Mapping[Path, frozenset[str]]) -> dict[Path, int]:
    """The fold of each run: those of the same test patients are one, those of none in common two.

    Raises:
        RunError: two runs have some of their test patients in common; no patient counts twice.
    """
    first_of: dict[frozenset[str], Path] = {}
    for path, test in tests.items():
        for known, other in first_of.items():
            if test != known and (both := test & known):
                raise RunError(
                    f"{other} and {path} share {len(both)} of their {len(known)} and {len(test)} "
                    "test patients; name runs that share all of them or none (medtl train "
                    "--splits keeps them)"
                )
        first_of.setdefault(test, path)
    order = list(first_of)
    return {path: order.index(test) for path, test in tests.items()}
