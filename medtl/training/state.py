"""The state of an unfinished stage, from which training resumes to identical weights.

One safetensors file holds the network's live weights, their running average, the best weights so
far, and the tensors of the optimiser and the losses. Its metadata hold the progress. Nothing else
has to be kept, as random draws depend only on the numbers of the sample and of the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from medtl.errors import RunError
from medtl.networks.blocks import Network, tensors
from medtl.runtime.run_folder import read_lines, write_text
from medtl.training.optimizer import EMA
from medtl.transfer.weights import write_tensors

FORMAT = 1


STATE = Path("checkpoint_last") / "resume.safetensors"


_DAMAGE = (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError)


@dataclass(slots=True)
class Progress:
    """How far a stage has come."""

    step: int = 0  #: optimiser steps taken
    best_step: int = 0
    best_score: float | None = None  #: highest validation score; None before the first
    stale: int = 0  #: validations since then
    factor: float = 1.0  #: on the rates, of the plateau schedule
    seconds: float = 0.0
    waiting_seconds: float = 0.0  #: of them spent waiting for patches
    at_once: int | None = None  #: samples that the memory holds at once; None: the batch
    best: dict[str, Tensor] = field(default_factory=dict)  #: weights at ``best_step``, on the CPU


@dataclass(frozen=True, slots=True)
class Resumable:
    """Everything that training changes, except its :class:`Progress`."""

    network: Network
    losses: nn.Module
    optimizer: torch.optim.Optimizer
    average: EMA
    precision: Any  #: Fabric's precision plugin, which scales the loss in fp16

    def write(self, path: Path, progress: Progress) -> None:
        """Write the state, whole or not at all. Raises RunError if the file cannot be written."""
        optimizer = self.optimizer.state_dict()
        moments = {
            f"{index}/{key}": value
            for index, values in optimizer["state"].items()
            for key, value in values.items()
            if value is not None
        }
        parts = {
            "network": tensors(self.network),
            "average": self.average.named(),
            "optimizer": moments,
            "losses": self.losses.state_dict(),
            "best": progress.best,
        }
        kept = {f"{p}/{name}": t for p, named in parts.items() for name, t in named.items()}
        facts = {f.name: getattr(progress, f.name) for f in fields(progress) if f.name != "best"}
        record = {"format": FORMAT, "progress": facts, "precision": self.precision.state_dict()}
        write_tensors(path, kept, json.dumps(record))

    def read(self, path: Path) -> Progress:
        """Put a kept state back. Raises RunError if the file does not fit or is damaged."""
        hint = "delete it to train this stage anew"
        try:
            parts, record = _read(path)
            if record["format"] != FORMAT:
                raise RunError(f"{path} was written by another version of medtl; {hint}")
            progress = Progress(**record["progress"], best=parts["best"])
            _copy(parts["network"], tensors(self.network))
            _copy(parts["average"], self.average.named())
            self.losses.load_state_dict(parts["losses"])
            self._restore_optimizer(parts["optimizer"])
            self.precision.load_state_dict(record["precision"])
        except _DAMAGE as error:
            raise RunError(f"{path} is damaged or of another plan; {hint}") from error
        return progress

    def _restore_optimizer(self, moments: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in moments.items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _read(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    parts: dict[str, dict[str, Tensor]] = {
        part: {} for part in ("network", "average", "optimizer", "losses", "best")
    }
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["medtl"])
        for full_name in file.keys():  # noqa: SIM118
            part, _, name = full_name.partition("/")
            parts[part][name] = file.get_tensor(full_name)
    return parts, record


@torch.no_grad()
def _copy(kept: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> None:
    if kept.keys() != live.keys():
        raise LookupError("other tensors than the network's")
    for name, tensor in live.items():
        if tensor.shape != kept[name].shape:
            raise ValueError(f"{name} has another shape")
        tensor.detach().copy_(kept[name])


def cut_rows(path: Path, step: int) -> None:
    """Drop what ``metrics.jsonl`` says of steps after ``step``, and a line that was cut off."""
    if not path.is_file():
        return
    rows = [row for row in read_lines(path, torn=True) if row["step"] <= step]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
