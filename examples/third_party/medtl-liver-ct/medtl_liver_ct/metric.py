"""The shift metric histogram-overlap: how much of the two domains' histograms is not shared.

Axes: N row, F feature, B bin, U unit (all rows of one image), R permutation (who is on which side:
the observed one first, then those that a test compares it with).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.shift.contract import Rows, Scorer, ShiftMetric
from medtl.shift.metrics.base import Patients, equalise_rows, in_chunks, patients_of

Floats = NDArray[np.float64]
Chosen = NDArray[np.bool_]


def histogram_overlap() -> ShiftMetric:
    """Half the absolute difference of the sides' histograms, averaged over features: 0 where they
    agree, 1 where no bin is shared (total variation distance; 1 less the overlapping coefficient
    of Inman and Bradley 1989).

    There are as many bins as the cube root of the number of rows, and each holds as many of them,
    whatever the unit of a feature. Few rows fill bins by chance, so it is above 0 without any
    shift; the test is by permutation and allows for that.
    """
    return ShiftMetric("histogram-overlap", _prepare)


def _prepare(rows: Rows) -> Scorer:
    """Each image's histograms are counted once; a permutation adds up those of its images."""
    rows = equalise_rows(rows)
    patients = patients_of(rows)
    counts_UFB = _counts(rows)

    def score(source_RU: Chosen, target_RU: Chosen) -> Floats:
        sides = patients.balanced(source_RU, target_RU)
        ours_RFB, theirs_RFB = (_shares(counts_UFB, patients, side_RU) for side_RU in sides)
        apart_R: Floats = np.abs(ours_RFB - theirs_RFB).sum(2).mean(1) / 2
        return apart_R

    return in_chunks(score, counts_UFB[0].size)


def _counts(rows: Rows) -> NDArray[np.intp]:
    """How many rows of each image lie in each bin of each feature."""
    bins = max(2, round(np.cbrt(len(rows.values_NF))))
    counted = []
    for values_N in rows.values_NF.T:
        edges = np.quantile(values_N, np.arange(1, bins) / bins)
        bin_N = np.searchsorted(edges, values_N)
        counts = np.bincount(rows.unit_N * bins + bin_N, minlength=rows.units * bins)
        counted.append(counts.reshape(rows.units, bins))
    return np.stack(counted, axis=1)


def _shares(counts_UFB: NDArray[np.intp], patients: Patients, chosen_RU: Chosen) -> Floats:
    """Shares of a side in each bin, every patient weighing the same; NaN for an empty side."""
    total_RFB = np.tensordot(patients.weights(chosen_RU), counts_UFB, axes=1)
    with np.errstate(invalid="ignore"):
        shares_RFB: Floats = total_RFB / patients.count(chosen_RU)[:, None, None]
    return shares_RFB
