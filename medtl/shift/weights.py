"""What rows weigh: all units the same number of rows, and a patient 1 on each side.

Were all rows to weigh the same, exchanging patients with different numbers of images would change
the sizes of the sides, and the observed sides would not be one arrangement among the others. Where
images have different numbers of rows, weights alone do not do: those with few are noisier, and if
they are the smaller domain's, the observed distance is larger than under other arrangements.

Axes: N row, U unit, P patient, R arrangement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl.shift.chunks import Chosen, Floats
from medtl.shift.contract import Rows


def thinned(rows: Rows) -> Rows:
    """As many rows of every unit as the one with the fewest has, at even steps."""
    rows_U = np.bincount(rows.unit_N)
    starts_U, fewest = np.cumsum(rows_U) - rows_U, rows_U.min()
    steps_UN = (2 * np.arange(fewest) + 1) * rows_U[:, None] // (2 * fewest)
    kept_N = (starts_U[:, None] + steps_UN).ravel()
    return Rows(rows.values_NF[kept_N], rows.names, rows.unit_N[kept_N], rows.patient_U)


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

    def weights(self, chosen_RU: Chosen, whole: float = 1.0) -> Floats:
        """What each row of a unit weighs on a side, where a patient weighs ``whole`` there."""
        share_RP = whole / self.rows(chosen_RU).clip(1)
        weights_RU: Floats = chosen_RU * share_RP[:, self.of_U]
        return weights_RU


def patients_of(rows: Rows) -> Patients:
    _, of_U = np.unique(rows.patient_U, return_inverse=True)
    order_U = np.argsort(of_U, kind="stable")
    starts_P = np.flatnonzero(np.diff(of_U[order_U], prepend=-1))
    rows_U = np.bincount(rows.unit_N, minlength=rows.units)
    return Patients(rows_U, of_U, order_U, starts_P)
