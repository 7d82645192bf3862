"""The shift that each harmoniser leaves, and the share that it removes.

The measure is the squared difference of the scaled columns' means, as for the families. It adds up
over columns, so a corrected column removes its part regardless of the others. For the reasons
against MMD see ``docs/decisions/0015-advice.md``.

Axes: N row, F feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medtl.shift.contract import ShiftMetric
from medtl.shift.images.pool import Pooled, scale
from medtl.shift.report.attribution import MetricTest, Removal, family_of, without_interval
from medtl.shift.stats.metric_result import join_notes
from medtl.shift.stats.permutations import ALPHA

#: A column is equal in all images, except for rounding, if harmonising reduces its variation
#: (relative to the size of its family) to less than this share.
EQUAL = 1e-3

#: Tables give shares in whole per cent: smaller ones are 0.
ROUNDED = 0.005

NO_SHIFT = "no shift as stored, by mmd or by the means"
WORSE = "farther apart than as stored"
NOTHING_LEFT = "not tested: the features are the same in every image afterwards"


def removals_of(
    stored: Pooled,
    harmonised: Mapping[str, Pooled],
    test: MetricTest,
    metric: ShiftMetric,
    linear: ShiftMetric,
) -> Iterator[Removal]:
    """The shift that each harmoniser leaves.

    Args:
        stored: rows before harmonising, without scaling (:func:`medtl.shift.images.pool.gather`).
        harmonised: harmoniser -> the same rows after it.
        metric: tests whether a shift is left.
        linear: MMD with the linear kernel, the unbiased squared difference of the means.

    Raises DataError if no stored column varies.
    """
    scaled_NF, names, _ = scale(stored.rows.values_NF, stored.rows.names, "as stored")
    chosen = [stored.rows.names.index(name) for name in names]
    stored_NF = stored.rows.values_NF[:, chosen]
    rows = replace(stored.rows, values_NF=scaled_NF, names=names)
    before = test(linear, linear.prepare(rows))
    primary = test(metric, metric.prepare(rows))
    tested = (before.p, primary.p)
    shift = before.value if all(p is not None and p <= ALPHA for p in tested) else None
    for harmoniser, sample in harmonised.items():
        values_NF = rescaled(sample.rows.values_NF[:, chosen], stored_NF, names)
        if not values_NF.any():
            yield Removal(harmoniser, 0.0, None, None if shift is None else 1.0, NOTHING_LEFT)
            continue
        rows = replace(stored.rows, values_NF=values_NF, names=names)
        left = test(linear, linear.prepare(rows)).value
        after = test(metric, metric.prepare(rows))
        removed = None if shift is None or left is None else 1 - max(0.0, left) / shift
        note = without_interval(after.note)
        if shift is None:
            note = note or NO_SHIFT
        elif removed is not None and removed < -ROUNDED:
            note = join_notes(WORSE, note)
        yield Removal(harmoniser, left, after.p, removed, note)


def rescaled(
    values_NF: NDArray[np.float64], stored_NF: NDArray[np.float64], names: Sequence[str]
) -> NDArray[np.float64]:
    """Pooled z-scores of harmonised columns, which do not depend on their unit.

    Columns that are equal in all rows, except for rounding, are 0: columns without a shift.
    """
    equal_F = _variation(values_NF, names) <= EQUAL * _variation(stored_NF, names)
    deviation_F = np.where(equal_F, np.inf, values_NF.std(axis=0))
    return np.asarray((values_NF - values_NF.mean(axis=0)) / deviation_F)


def _variation(values_NF: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    """Standard deviations relative to the largest value of the family.

    Relative to the column itself, a percentile that is mapped to 0 would show rounding errors.
    """
    families = np.array([family_of(name) for name in names])
    size_F = np.abs(values_NF).max(axis=0)
    for family in set(families):
        size_F[families == family] = size_F[families == family].max()
    return np.asarray(values_NF.std(axis=0) / np.where(size_F > 0, size_F, 1.0))
