"""Advice on how to transfer: sentences that each cite a measured number.

The rules and their sources: ``docs/decisions/0015-advice.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def advise(
    rows: Sequence[ShiftRow], attribution: Attribution | None, target_patients: int
) -> list[str]:
    """Advice on the transfer from source to target; empty if the primary metric has no p."""
    primary = rows[0]
    if primary.p is None or primary.p_floor is None:
        return []
    p = f"{primary.metric} {primary.value:.3g}, p = {primary.p:.2g}"
    n = min(primary.n_source, primary.n_target)
    if primary.p_floor > ALPHA:
        return [
            "These patients are too few: they cannot show a shift, however large. Collect more "
            f"before deciding how to transfer (smallest possible p = {primary.p_floor:.2g})."
        ]
    if primary.p > ALPHA and n < FEW_PATIENTS:
        return [
            "No shift was found, which says little with so few patients: evaluate the source "
            "model on the target as it is, and compare with both controls (--with-control) "
            f"({p}; {primary.n_source} and {primary.n_target} patients)."
        ]
    if primary.p > ALPHA:
        return [
            "No shift was found: evaluate the source model on the target as it is before "
            f"adapting anything (medtl evaluate) ({p})."
        ]
    best = attribution.best if attribution and not attribution.modalities_differ else None
    first = best if best and (best.removed or 0.0) >= WORTHWHILE else None
    harmonising = _harmonising(attribution, first, n) if attribution else ""
    return [*filter(None, (harmonising, _depth(rows, first, n))), _amount(target_patients)]


def _harmonising(attribution: Attribution, first: Removal | None, n: int) -> str:
    """``first``: the harmoniser to apply first, if one is advised."""
    best, leading = attribution.best, attribution.leading
    removed = max(0.0, best.removed or 0.0) if best else 0.0
    if first is not None:
        preset = PRESETS.get(first.harmoniser, "see README")
        return (
            f"Harmonise first: {first.harmoniser} ({preset}) (it removes {removed:.0%} of the "
            "squared difference of the means)."
        )
    if attribution.modalities_differ and (n < FEW_PATIENTS or best is None):
        return ""  # few patients do not separate intensities from tissues
    if attribution.modalities_differ and best is not None:
        return (
            f"Of the shift between these modalities {removed:.0%} is a mapping of intensities, "
            "which first layers can learn; the rest is tissue contrast (the share of the squared "
            f"difference of the means that {best.harmoniser} to the source removes)."
        )
    if leading is None:
        return ""
    family, share = FAMILIES[leading.family], f"{leading.share:.0%} of the squared difference"
    if best is None:
        return f"Most of the shift is {family} ({share} of the means)."
    return (
        f"Harmonising does not solve it; most of the shift is {family} ({share}; the best "
        f"harmoniser, {best.harmoniser}, removes {removed:.0%})."
    )


def _depth(rows: Sequence[ShiftRow], first: Removal | None, n: int) -> str:
    """How much of the network should change, after harmonising with ``first``.

    With few patients, no shift after harmonising is weak evidence and gives no advice.
    """
    if first is not None and first.p is not None and first.p > ALPHA and n >= FEW_PATIENTS:
        return (
            "After that, freeze most of the network or fine-tune it briefly (no shift is found any "
            f"more after {first.harmoniser}, p = {first.p:.2g})."
        )
    auroc = next((r for r in rows if r.metric == "domain-auroc" and r.value is not None), None)
    if auroc is None or auroc.value is None or auroc.p is None or auroc.p > ALPHA:
        return ""
    reason = f"a linear classifier separates the domains with AUROC {auroc.value:.2f}"
    reason += ", before harmonising" if first is not None else ""
    if auroc.value >= APART:
        return (
            "Let the first layers learn: nearly every image looks different to them, so do not "
            f"freeze the stem (--strategy modality-transfer or fine-tune) ({reason})."
        )
    return (
        f"The domains overlap in part: freezing the encoder may be enough to start with ({reason})."
    )


def _amount(patients: int) -> str:
    advice = "Fine-tune from the source and compare with both controls (--with-control)"
    if patients < FEW_PATIENTS:
        advice = (
            "Keep most weights at first and compare with both controls (--with-control): a network "
            "overfits few patients soon, and intervals will be wide"
        )
    elif patients >= MANY_PATIENTS:
        advice = (
            "Training from scratch is a serious rival; transfer may only save time "
            "(compare with --with-control)"
        )
    return f"{advice} ({patients} target patients)."
