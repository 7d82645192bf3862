"""What a training would do, decided and not yet done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medtl.api.receipts import Receipt
from medtl.api.shown import Shown
from medtl.api.splits import PARTS, Split

if TYPE_CHECKING:
    from medtl.config import TrainConfig
    from medtl.console import Recorder
    from medtl.launching import Launched
    from medtl.report.tables import Table


@dataclass(frozen=True, slots=True, repr=False)
class Plan(Shown):
    """``stages``: a row each, with its share of trainable parameters. ``receipts``: by stage, what
    its weights would start from; what is trained before it stands there as random weights would.
    ``seconds_per_step`` is None where a step does not fit the memory. ``notes``: all that
    ``medtl train --dry-run`` tells beside the tables.
    """

    config: TrainConfig
    stages: tuple[Mapping[str, Any], ...]
    split: Split
    receipts: Mapping[str, Receipt]
    seconds_per_step: float | None
    notes: tuple[str, ...]
    told: tuple[Table, ...]
    of_phantom: bool

    @property
    def title(self) -> str:
        steps = " + ".join(f"{row['stage']} {row['steps']}" for row in self.stages)
        return f"{self.config.task}, {self.config.strategy}: {steps} steps"

    @property
    def synthetic(self) -> bool:
        return self.of_phantom

    def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.stages]

    def tables(self) -> list[Table]:
        return [*self.told, *self.split.tables()]

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json"),
            "synthetic": self.synthetic,
            "stages": self.rows(),
            "split": self.split.to_json(),
            "receipts": {stage: receipt.to_json() for stage, receipt in self.receipts.items()},
            "seconds_per_step": self.seconds_per_step,
        }


def plan_of(launched: Launched, told: Recorder) -> Plan:
    plan, preview = launched.plan, launched.preview
    cases = plan.cohort.cases
    train, val, test = (
        tuple(sorted(case.id for case in cases if case.patient in getattr(plan.split, part)))
        for part in PARTS
    )
    rows = tuple(
        {
            "stage": each.stage.name,
            "domain": str(each.stage.domain),
            "steps": each.stage.steps,
            "init": each.stage.init,
            "frozen": each.stage.frozen,
            "optimizer": each.stage.optimizer,
            "rates": dict(each.stage.rates),
            "trainable": each.trainable,
            "transferred": each.receipt.transferred,
            "minutes": each.minutes,
        }
        for each in preview.stages
    )
    return Plan(
        plan.config,
        rows,
        Split(train, val, test, {case.id: case.patient for case in cases}),
        {each.stage.name: Receipt(each.stage.name, each.receipt) for each in preview.stages},
        preview.seconds_per_step,
        tuple(told.lines),
        tuple(told.tables),
        plan.cohort.synthetic,
    )
