"""What rows weigh: a patient weighs 1 on each side, however many rows it has there.

Were all rows to weigh the same, exchanging patients with different numbers of rows would change the
sizes of the sides, and the observed sides would not be one arrangement among the others.

Axes: U unit, P patient, R arrangement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl.shift.chunks import Chosen, Floats
from medtl.shift.contract import Rows


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
        return self.summed(chosen_RU * self.rows_U.astype(np.float64))

    def weights(self, chosen_RU: Chosen) -> Floats:
        """What each row of a unit weighs on a side: 1 / the rows that its patient has there."""
        return chosen_RU / self.rows(chosen_RU).clip(1)[:, self.of_U]


def patients_of(rows: Rows) -> Patients:
    _, of_U = np.unique(rows.patient_U, return_inverse=True)
    order_U = np.argsort(of_U, kind="stable")
    starts_P = np.flatnonzero(np.diff(of_U[order_U], prepend=-1))
    rows_U = np.bincount(rows.unit_N, minlength=rows.units)
    return Patients(rows_U, of_U, order_U, starts_P)
