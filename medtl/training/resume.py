"""Going on with a run that was stopped: its own settings, its own split."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtl.config import TrainConfig, option_name, read_config
from medtl.errors import ConfigError
from medtl.runtime.lock import refuse_held
from medtl.runtime.run_folder import CONFIG, SPLITS, SUMMARY, Run

#: Settings that change no weight, so that they may differ from the run's.
CHANGEABLE = ("workers", "cache", "device", "devices", "num_nodes")


def going_on(run: Run, options: Mapping[str, Any]) -> TrainConfig | None:
    """The settings to go on with; None for a finished run.

    ``options`` are those of the command line, None if not given.

    Raises:
        ConfigError: an option contradicts the run.
        RunError: another process is working on it.
    """
    finished = run.has(SUMMARY)
    if not finished:
        refuse_held(run.path)
    config = read_config(run.path / CONFIG)
    given = {key: value for key, value in options.items() if value is not None}
    wanted = TrainConfig.model_validate({**config.model_dump(), **given})
    for key in given:
        if key not in CHANGEABLE and getattr(wanted, key) != getattr(config, key):
            name = "TASK" if key == "task" else option_name(key)
            raise ConfigError(
                f"--resume goes on with the settings of {run.path}; drop {name}, or start a new run"
            )
    # The patients stay where they are, whatever has become of the data since.
    kept = {"splits": run.path / SPLITS, "folds": None, "fold": None, "out": None}
    return None if finished else wanted.model_copy(update=kept)


def requeued(out: Path) -> bool:
    """Whether SLURM runs this job again and ``out`` is what its first part left."""
    again = os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")
    return again and (out / CONFIG).is_file()
