"""What scorers share: adding up units of a side, and taking arrangements a few at a time.

Axes: U unit, P patient, R arrangement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Sides = NDArray[np.bool_]


def patient_totals(
    values_RU: NDArray[np.float64], patient_U: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Sums over the units of each patient: values_RP, patients in order of their number."""
    order = np.argsort(patient_U, kind="stable")
    starts = np.flatnonzero(np.diff(patient_U[order], prepend=-1))
    if len(starts) == len(order):
        return values_RU[:, order]
    totals_RP: NDArray[np.float64] = np.add.reduceat(values_RU[:, order], starts, axis=1)
    return totals_RP
