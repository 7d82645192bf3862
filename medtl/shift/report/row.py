"""One metric on one source and target, and what the first of them says in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medtl.shift.report.sentences import probability
from medtl.shift.stats.permutations import ALPHA

#: What the source of an omnibus row starts with: "each site".
EACH = "each "


@dataclass(frozen=True, slots=True)
class ShiftRow:
    """One metric on one source and target; None where it could not be computed or is not tested."""

    source: str
    target: str
    metric: str
    features: str
    value: float | None
    null_low: float | None
    null_high: float | None
    low: float | None
    high: float | None
    p: float | None
    p_floor: float | None
    p_adjusted: float | None
    effect: float | None
    design: str
    n_source: int
    n_target: int
    synthetic: bool
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def verdict_of(row: ShiftRow) -> str:
    """One sentence on the primary metric."""
    ends = f"{row.source} -> {row.target}"
    if row.note.startswith("identical"):
        return f"No shift: {ends} holds the same images on both sides; nothing was tested."
    if row.p is None or row.p_floor is None:
        return f"No verdict on {ends}: {row.note or 'no p-value'}."
    n = f"{row.n_source} and {row.n_target} patients, {row.design}"
    if row.source.startswith(EACH):
        n = f"{row.n_source} patients"
    if row.p_floor > ALPHA:
        return f"No verdict on {ends} ({n}): {row.note}."
    effect = (
        f", {row.effect:.1f} times that between random halves"
        if row.effect and row.effect > 0
        else ""
    )
    measured = f"{row.metric} of {row.features} {row.value:.3g}{effect}, p = {probability(row.p)}"
    least = _least(row.p, row.p_floor)
    if row.p <= ALPHA:
        return f"There is a shift, {ends}: {measured} ({n}{least})."
    return (
        f"No evidence of a shift, {ends}: {measured} ({n}{least}); that does not prove there is "
        "none."
    )


def _least(p: float, floor: float) -> str:
    """What the number of patients allows, where that is little or all of it was needed."""
    if 2 * floor > ALPHA:
        return f"; {floor:.2g}, of the most extreme permutation alone, is the least possible"
    return f"; {floor:.2g} is the least possible" if p <= floor * 1.001 else ""
