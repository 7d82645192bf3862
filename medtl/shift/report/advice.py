"""Advice on how to transfer: sentences that each cite a measured number.

The rules and their sources: ``docs/decisions/0015-advice.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medtl.shift.report.attribution import FAMILIES, Attribution, Removal
from medtl.shift.report.row import ShiftRow
from medtl.shift.stats.permutations import ALPHA

#: From this AUROC on a linear classifier separates the domains almost perfectly.
APART = 0.9


#: A harmoniser that removes this share of the shift is advised.
WORTHWHILE = 0.5


#: With fewer target patients than this, most weights should be kept.
FEW_PATIENTS = 20


#: From this number of target patients on, training from scratch is a serious rival.
MANY_PATIENTS = 200


#: How to train with a harmoniser.
PRESETS = {
    "zscore": "medtl's presets do this already",
    "resampling": "medtl's presets do this already",
    "nyul": "--set harmonise=nyul",
    "histogram-matching": "--set harmonise=histogram-matching",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """Advice, and the measured number that supports it."""

    text: str
    because: str

    def __str__(self) -> str:
        return f"{self.text} ({self.because})."


def advise(
    rows: Sequence[ShiftRow], attribution: Attribution | None, target_patients: int
) -> list[Sentence]:
    """Advice on the transfer from source to target; empty if the primary metric has no p."""
    primary = rows[0]
    if primary.p is None or primary.p_floor is None:
        return []
    p = f"{primary.metric} {primary.value:.3g}, p = {primary.p:.2g}"
    if primary.p_floor > ALPHA:
        return [
            Sentence(
                "These patients are too few: they cannot show a shift, however large. Collect more "
                "before deciding how to transfer",
                f"smallest possible p = {primary.p_floor:.2g}",
            )
        ]
    if primary.p > ALPHA and min(primary.n_source, primary.n_target) < FEW_PATIENTS:
        return [
            Sentence(
                "No shift was found, which says little with so few patients: evaluate the source "
                "model on the target as it is, and compare with both controls (--with-control)",
                f"{p}; {primary.n_source} and {primary.n_target} patients",
            )
        ]
    if primary.p > ALPHA:
        return [
            Sentence(
                "No shift was found: evaluate the source model on the target as it is before "
                "adapting anything (medtl evaluate)",
                p,
            )
        ]
    first = _worthwhile(attribution)
    n = min(primary.n_source, primary.n_target)
    sentences = [_harmonising(attribution, n), _depth(rows, first), _amount(target_patients)]
    return [sentence for sentence in sentences if sentence is not None]


def _worthwhile(attribution: Attribution | None) -> Removal | None:
    """The harmoniser to apply first, if one is advised."""
    best = attribution.best if attribution and not attribution.modalities_differ else None
    return best if best and (best.removed or 0.0) >= WORTHWHILE else None


def _harmonising(attribution: Attribution | None, n: int) -> Sentence | None:
    if attribution is None:
        return None
    first, best, leading = _worthwhile(attribution), attribution.best, attribution.leading
    if first is not None:
        return Sentence(
            f"Harmonise first: {first.harmoniser} ({PRESETS.get(first.harmoniser, 'see README')})",
            f"it removes {first.removed:.0%} of the squared difference of the means",
        )
    if attribution.modalities_differ and (n < FEW_PATIENTS or best is None):
        return None  # few patients do not separate intensities from tissues
    if attribution.modalities_differ and best is not None and best.removed is not None:
        return Sentence(
            f"Of the shift between these modalities {max(0.0, best.removed):.0%} is a mapping of "
            "intensities, which first layers can learn; the rest is tissue contrast",
            "the share of the squared difference of the means that "
            f"{best.harmoniser} to the source removes",
        )
    if leading is not None and best is not None and best.removed is not None:
        return Sentence(
            f"Harmonising does not solve it; most of the shift is {FAMILIES[leading.family]}",
            f"{leading.share:.0%} of the squared difference; the best harmoniser, "
            f"{best.harmoniser}, removes {max(0.0, best.removed):.0%}",
        )
    if leading is not None:
        return Sentence(
            f"Most of the shift is {FAMILIES[leading.family]}",
            f"{leading.share:.0%} of the squared difference of the means",
        )
    return None


def _depth(rows: Sequence[ShiftRow], first: Removal | None) -> Sentence | None:
    """How much of the network should change, after harmonising with ``first``.

    With few patients, no shift after harmonising is weak evidence and gives no advice.
    """
    enough = min(rows[0].n_source, rows[0].n_target) >= FEW_PATIENTS
    if first is not None and first.p is not None and first.p > ALPHA and enough:
        return Sentence(
            "After that, freeze most of the network or fine-tune it briefly",
            f"no shift is found any more after {first.harmoniser}, p = {first.p:.2g}",
        )
    auroc = next((r for r in rows if r.metric == "domain-auroc" and r.value is not None), None)
    if auroc is None or auroc.value is None or auroc.p is None or auroc.p > ALPHA:
        return None
    reason = f"a linear classifier separates the domains with AUROC {auroc.value:.2f}"
    if first is not None:
        reason += ", before harmonising"
    if auroc.value >= APART:
        return Sentence(
            "Let the first layers learn: nearly every image looks different to them, so do not "
            "freeze the stem (--strategy modality-transfer or fine-tune)",
            reason,
        )
    return Sentence(
        "The domains overlap in part: freezing the encoder may be enough to start with", reason
    )


def _amount(patients: int) -> Sentence:
    number = f"{patients} target patients"
    if patients < FEW_PATIENTS:
        return Sentence(
            "Keep most weights at first and compare with both controls (--with-control): a network "
            "overfits few patients soon, and intervals will be wide",
            number,
        )
    if patients >= MANY_PATIENTS:
        return Sentence(
            "Training from scratch is a serious rival; transfer may only save time "
            "(compare with --with-control)",
            number,
        )
    return Sentence(
        "Fine-tune from the source and compare with both controls (--with-control)", number
    )
