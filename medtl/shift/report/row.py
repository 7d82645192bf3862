"""The result of one metric on one source and target, and the verdict in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medtl.shift.report.sentences import probability
from medtl.shift.stats.permutations import ALPHA

#: Start of the source's name in an omnibus row, as in "each site".
EACH = "each "


@dataclass(frozen=True, slots=True)
class ShiftRow:
    """One metric of one source and target; None: not computed or not tested, see ``note``."""

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
        return f"No shift: {ends} are the same images in both domains; nothing was tested."
    if row.p is None or row.p_floor is None:
        return f"No verdict on {ends}: {row.note or 'no p-value'}."
    n = f"{row.n_source} and {row.n_target} patients, {row.design}"
    if row.source.startswith(EACH):
        n = f"{row.n_source} patients"
    if row.p_floor > ALPHA:
        return f"No verdict on {ends} ({n}): {row.note}."
    effect = ""
    if row.effect and row.effect > 0:
        effect = f" ({row.effect:.1f} times that between random halves of one domain)"
    measured = (
        f"{row.metric} of {row.features} is {row.value:.3g}{effect}, "
        f"one-sided p = {probability(row.p)}"
    )
    smallest = _smallest_p(row.p, row.p_floor)
    if row.p <= ALPHA:
        return f"There is a shift, {ends}: {measured} ({n}{smallest})."
    return (
        f"No evidence of a shift, {ends}: {measured} ({n}{smallest}). This does not prove that "
        "there is none."
    )


def _smallest_p(p: float, floor: float) -> str:
    """The smallest p that the patients allow, if it is close to .05 or reached."""
    if 2 * floor > ALPHA:
        return f"; the smallest possible p, of the most extreme permutation alone, is {floor:.2g}"
    return f"; the smallest possible p is {floor:.2g}" if p <= floor * 1.001 else ""
