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
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from medtl.errors import RunError
from medtl.networks.blocks import Network, tensors
from medtl.runtime.files import open_regular
from medtl.runtime.records import (
    Count,
    Number,
    Record,
    complaint,
    parse_json,
    readable_lines,
)
from medtl.runtime.run_folder import write_text
from medtl.training.optimizer import EMA
from medtl.transfer.checkpoint_metadata import NotNegative
from medtl.transfer.checksum import check_sum
from medtl.transfer.weights import write_summed

FORMAT = 1


STATE = Path("checkpoint_last") / "resume.safetensors"


#: Of the rates.
Share = Annotated[Number, Field(gt=0, le=1)]


_DAMAGE = (
    *(SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError),
    *(AttributeError, ArithmeticError),
)


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


class ProgressRecord(Record):
    """:class:`Progress` as it is kept, without the weights."""

    step: Count
    best_step: Count
    best_score: Number | None
    stale: Count
    factor: Share
    seconds: NotNegative
    waiting_seconds: NotNegative
    at_once: Annotated[Count, Field(ge=1)] | None


class StateRecord(Record):
    """The metadata of the file."""

    progress: ProgressRecord
    precision: dict[str, Number]


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
        write_summed(path, kept, record)

    def read(self, path: Path) -> Progress:
        """Put a kept state back. Raises RunError if the file does not fit or is damaged."""
        hint = "delete it to train this stage anew"
        try:
            parts, content = _read(path)
            if content.get("format") != FORMAT:
                raise RunError(f"{path} was written by another version of medtl; {hint}")
            record = StateRecord.model_validate(content)
            progress = Progress(**dict(record.progress), best=parts["best"])
            live = tensors(self.network)
            _check_fit(parts["best"] or parts["network"], live)
            _copy(parts["network"], live)
            _copy(parts["average"], self.average.named())
            self.losses.load_state_dict(parts["losses"])
            self._restore_optimizer(parts["optimizer"])
            self.precision.load_state_dict(content["precision"])  # whole numbers stay whole
        except ValidationError as error:
            raise RunError(f"{path}: {complaint(error.errors()[0])}; {hint}") from error
        except _DAMAGE as error:
            reason = str(error).partition("\n")[0][:200]
            raise RunError(f"{path} is damaged or of another plan ({reason}); {hint}") from error
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
    with open_regular(path):  # a pipe would wait for ever
        pass
    with safe_open(path, framework="pt") as file:
        record = parse_json(file.metadata()["medtl"])
        if not isinstance(record, dict):
            raise TypeError("its metadata are no mapping")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    check_sum(tensors, record)
    for full_name, tensor in tensors.items():
        part, _, name = full_name.partition("/")
        parts[part][name] = tensor
    return parts, record


def _check_fit(kept: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> None:
    if kept.keys() != live.keys():
        raise LookupError("other tensors than the network's")
    for name, tensor in live.items():
        if tensor.shape != kept[name].shape:
            raise ValueError(f"{name} has another shape")


@torch.no_grad()
def _copy(kept: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> None:
    _check_fit(kept, live)
    for name, tensor in live.items():
        tensor.detach().copy_(kept[name])


def cut_rows(path: Path, step: int) -> int:
    """Drop what ``metrics.jsonl`` says of steps after ``step``, and lines that cannot be read.

    Returns:
        The number of lines that cannot be read, but for a last one that was cut off.
    """
    if not path.exists():
        return 0
    rows, unreadable = readable_lines(path, torn=True)
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step))
    return unreadable
