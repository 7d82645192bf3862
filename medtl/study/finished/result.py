"""What a comparison of finished runs found, as tables and as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medtl.evaluation.comparison.effects import Effect
from medtl.evaluation.comparison.ranks import Rank
from medtl.evaluation.comparison.verdicts import TOO_POOR, Judged
from medtl.evaluation.controls import FLOOR
from medtl.evaluation.intervals import Interval
from medtl.evaluation.tables import (
    LABELS,
    gain_cell,
    output_word,
    p_cell,
    score_cell,
    titled,
    warned,
)
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table
from medtl.study.finished.runs import FinishedArm, FinishedRun


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """An arm less the first one, in one output."""

    arm: str
    reference: str
    output: str
    effect: Effect
    judged: Judged

    def to_json(self) -> dict[str, Any]:
        return {
            "arm": self.arm,
            "reference": self.reference,
            "output": self.output,
            "verdict": self.judged.verdict,
            "p": self.judged.p,
            "p_holm": self.judged.p_holm,
            "difference": self.effect.to_json(),
        }


@dataclass(frozen=True, slots=True, repr=False)
class FinishedComparison(Shown):
    """Arms of finished runs, each against the first.

    ``scores``: arm -> output -> mean over patients. ``ranks``: output -> arm, of the arms that
    were tested on the patients of the first.
    """

    task: str
    metric: str
    margin: float | None
    arms: tuple[FinishedArm, ...]
    scores: Mapping[str, Mapping[str, Interval]]
    differences: tuple[ArmDifference, ...]
    ranks: Mapping[str, Mapping[str, Rank]]
    notes: tuple[str, ...]

    @property
    def reference(self) -> str:
        """The first arm, from which the others are compared."""
        return self.arms[0].label

    @property
    def title(self) -> str:
        runs = sum(len(arm.runs) for arm in self.arms)
        return f"{self.task}: {len(self.arms)} arms of {runs} runs"

    @property
    def synthetic(self) -> bool:
        return any(run.summary.synthetic for run in self._runs())

    @property
    def leak(self) -> str:
        """What biases these scores upwards; "" if nothing is known to."""
        return " ".join(dict.fromkeys(run.summary.leak for run in self._runs() if run.summary.leak))

    def _runs(self) -> Iterator[FinishedRun]:
        return (run for arm in self.arms for run in arm.runs.values())

    def rows(self) -> list[dict[str, Any]]:
        """One per arm but the first, and output, with the difference and its verdict."""
        return [each.to_json() for each in self.differences]

    def tables(self) -> list[Table]:
        """Scores of the arms, then the differences to the first with verdicts."""
        return warned([_score_table(self), _difference_table(self)], self.leak)

    def to_json(self) -> dict[str, Any]:
        return {
            "data": {"synthetic": self.synthetic, "leak": self.leak},
            "task": self.task,
            "metric": self.metric,
            "margin": self.margin,
            "reference": self.reference,
            "arms": [
                {
                    "arm": arm.label,
                    "runs": [
                        {"run": str(run.path), "stage": run.stage, "fold": fold, "seed": seed}
                        for (fold, seed), run in arm.runs.items()
                    ],
                    "scores": {n: s.to_json() for n, s in self.scores[arm.label].items()},
                }
                for arm in self.arms
            ],
            "comparisons": self.rows(),
            "ranks": {
                output: {arm: rank.to_json() for arm, rank in ranks.items()}
                for output, ranks in self.ranks.items()
            },
            "notes": list(self.notes),
        }


def _score_table(found: FinishedComparison) -> Table:
    rows = []
    for output in found.arms[0].outputs():
        ranks = found.ranks.get(output, {})
        for arm in found.arms:
            if (score := found.scores[arm.label].get(output)) is None:
                continue
            rank = ranks.get(arm.label)
            rows.append(
                (
                    output,
                    arm.label,
                    str(len(arm.scored(output))),
                    str(score.n),
                    score_cell(found.metric, score.to_json()),
                    f"{rank.mean:.2f}" if rank else "",
                    f"{rank.best:.0%}" if rank else "",
                )
            )
    columns = (output_word(found.metric), "arm", "runs", "n", LABELS[found.metric], "rank", "best")
    notes = (
        "Mean over test patients [95% interval]; a patient's runs are averaged first.",
        "rank: mean over patients of an arm's place; best: share of resamples of the patients in "
        "which the arm has the highest mean.",
    )
    return Table(titled("Scores", found.synthetic), columns, tuple(rows), notes)


def _difference_table(found: FinishedComparison) -> Table:
    rows = tuple(
        (
            each.output,
            each.arm,
            str(each.effect.runs),
            str(each.effect.n),
            gain_cell(each.effect.to_json()),
            p_cell(each.judged.p_holm),
            each.judged.verdict,
        )
        for each in found.differences
    )
    columns = (output_word(found.metric), "arm", "runs", "n", "difference", "p", "verdict")
    title = f"Difference in {LABELS[found.metric]} to {found.reference}"
    return Table(titled(title, found.synthetic), columns, rows, tuple(_notes(found)))


def _notes(found: FinishedComparison) -> Iterator[str]:
    yield (
        "Mean difference within patients [95% interval]; p is adjusted by Holm over the arms of a "
        f"{output_word(found.metric)}."
    )
    methods = dict.fromkeys(each.effect.method for each in found.differences)
    yield f"Intervals: {'; '.join(methods)}."
    if found.margin is not None:
        yield f"equivalent: the difference is within {found.margin:g} in either direction."
    if any(each.judged.verdict == TOO_POOR for each in found.differences):
        yield (
            f"{TOO_POOR}: neither arm reaches a mean {LABELS[found.metric]} of {FLOOR:g} in the "
            "test cases that have the region."
        )
    yield from found.notes
