"""What rows weigh: a patient weighs 1 on each side.

Were all rows to weigh the same, exchanging patients with different numbers of rows would change the
sizes of the sides, and the observed sides would not be one permutation among the others. Weights
alone do not always do: patients with few rows are noisier, and if all of them are in the smaller
domain, or if the metric is larger where there is noise, the observed distance is larger than those
of other permutations. So all images give the same number of rows, and metrics that grow with noise
take the same number of images of every patient.

Axes: N row, U unit, P patient, R permutation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl.shift.contract import Rows, Scorer


def equalise_rows(rows: Rows) -> Rows:
    """As many rows of every unit as the one with the fewest has, at even steps.

    Where rows are left out, those kept are brought back to the old deviations, around 0: units of
    many rows had more say in the common scale, so that others lay farther out.
    """
    rows_U = np.bincount(rows.unit_N)
    starts_U, fewest = np.cumsum(rows_U) - rows_U, rows_U.min()
    if (rows_U == fewest).all():
        return rows
    steps_UN = (2 * np.arange(fewest) + 1) * rows_U[:, None] // (2 * fewest)
    kept_N = (starts_U[:, None] + steps_UN).ravel()
    values_NF = rows.values_NF[kept_N]
    values_NF -= values_NF.mean(0)
    deviation_F = values_NF.std(0)
    values_NF *= rows.values_NF.std(0) / np.where(deviation_F > 0, deviation_F, 1)
    return Rows(values_NF, rows.names, rows.unit_N[kept_N], rows.patient_U)


@dataclass(frozen=True, slots=True)
class Patients:
    """Rows of each unit, and whose they are."""

    rows_U: NDArray[np.int64]
    of_U: NDArray[np.intp]  #: 0 to P - 1
    order_U: NDArray[np.intp]  #: units by patient
    starts_P: NDArray[np.intp]  #: where each patient starts in that order

    def summed(self, values_RU: Floats) -> Floats:
        """Sums over the units of each patient: values_RP. Further axes may follow."""
        if len(self.starts_P) == len(self.order_U):
            return values_RU[:, self.order_U]
        totals_RP: Floats = np.add.reduceat(values_RU[:, self.order_U], self.starts_P, axis=1)
        return totals_RP

    def rows(self, chosen_RU: Chosen) -> Floats:
        """How many rows each patient has on a side: rows_RP."""
        return self.summed((chosen_RU * self.rows_U).astype(np.float64))

    def count(self, chosen_RU: Chosen) -> NDArray[np.intp]:
        """How many patients a side has: count_R."""
        present_RP = self.rows(chosen_RU) > 0
        return np.asarray(present_RP.sum(1))

    def weights(self, chosen_RU: Chosen) -> Floats:
        """What each row of a unit weighs on a side: 1 / the rows that its patient has there."""
        weights_RU: Floats = chosen_RU / self.rows(chosen_RU).clip(1)[:, self.of_U]
        return weights_RU

    def balanced(self, source_RU: Chosen, target_RU: Chosen) -> tuple[Chosen, Chosen]:
        """As many units of every patient on each side as the one with the fewest there has.

        One patient's start at the first, the next one's at the second and so on: where units are
        modalities, all of them stay in. Exchanging patients exchanges what was taken.
        """
        sides = source_RU, target_RU
        units_RP = [self.summed(side_RU.astype(np.float64)) for side_RU in sides]
        fewest_R = np.min([np.where(u > 0, u, np.inf).min(1) for u in units_RP], axis=0)[:, None]
        source_RU, target_RU = (
            side_RU if (u <= fewest_R).all() else self._in_turn(side_RU, u, fewest_R)
            for side_RU, u in zip(sides, units_RP, strict=True)
        )
        return source_RU, target_RU

    def _in_turn(self, chosen_RU: Chosen, units_RP: Floats, most_R1: Floats) -> Chosen:
        by_patient_RU = chosen_RU[:, self.order_U]
        of_U = self.of_U[self.order_U]
        before_RP = np.cumsum(units_RP, axis=1) - units_RP
        place_RU = np.cumsum(by_patient_RU, axis=1) - 1 - before_RP[:, of_U]
        turn_RU = (place_RU + of_U) % units_RP[:, of_U].clip(1)
        kept_RU = np.zeros_like(chosen_RU)
        kept_RU[:, self.order_U] = by_patient_RU & (turn_RU < most_R1)
        return kept_RU


def patients_of(rows: Rows) -> Patients:
    _, of_U = np.unique(rows.patient_U, return_inverse=True)
    order_U = np.argsort(of_U, kind="stable")
    starts_P = np.flatnonzero(np.diff(of_U[order_U], prepend=-1))
    rows_U = np.bincount(rows.unit_N, minlength=rows.units)
    return Patients(rows_U, of_U, order_U, starts_P)


#: Numbers held at once by a scorer.
HELD = 4_000_000


Floats = NDArray[np.float64]


Chosen = NDArray[np.bool_]


def in_chunks(score: Scorer, held: int) -> Scorer:
    """``score``, given as many permutations at a time as fit; each holds ``held`` numbers."""
    most = max(1, HELD // held)

    def chunked(source_RU: Chosen, target_RU: Chosen) -> Floats:
        starts = range(0, len(source_RU), most)
        parts = [score(source_RU[s : s + most], target_RU[s : s + most]) for s in starts]
        return np.concatenate(parts)

    return chunked


def reduce_columns(values_NF: Floats, most: int) -> Floats:
    """Centred rows; of more than ``most`` columns, so many principal components of them.

    Nothing but the rest of the variance is lost: distances, Gaussians and ridge regression do not
    depend on how the axes are turned.
    """
    from sklearn.decomposition import PCA

    if values_NF.shape[1] <= most:
        centred_NF: Floats = values_NF - values_NF.mean(0)
        return centred_NF
    turned_NF: Floats = PCA(min(most, len(values_NF)), random_state=0).fit_transform(values_NF)
    return turned_NF
