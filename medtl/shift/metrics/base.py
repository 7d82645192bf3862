"""Weights of rows: every patient has the same weight in each domain.

With equal weights for all rows, exchanging patients with different numbers of rows would change the
sizes of the domains, and the observed domains would not be one permutation among the others.
Weights alone are not always enough. Patients with few rows are noisier: if all of them are in the
smaller domain, or if the metric grows with noise, the observed distance is larger than that of the
permutations. Therefore every unit gives the same number of rows, and metrics that grow with noise
use the same number of units of every patient.

Axes: N row, F feature, U unit, P patient, R permutation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl.shift.contract import Rows, Scorer


def equalise_rows(rows: Rows) -> Rows:
    """Keep the same number of rows of every unit, evenly spaced: that of the smallest unit.

    If rows are dropped, the others are centred and scaled back to the former standard deviations:
    units of many rows had dominated the common scale.
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
    """The number of rows and the patient of each unit."""

    rows_U: NDArray[np.int64]
    of_U: NDArray[np.intp]  #: the patient, 0 to P - 1
    order_U: NDArray[np.intp]  #: units sorted by patient
    starts_P: NDArray[np.intp]  #: each patient's first position in that order

    def summed(self, values_RU: Floats) -> Floats:
        """Sums over the units of each patient: values_RP. Further axes may follow."""
        if len(self.starts_P) == len(self.order_U):
            return values_RU[:, self.order_U]
        return np.asarray(np.add.reduceat(values_RU[:, self.order_U], self.starts_P, axis=1))

    def rows(self, chosen_RU: Chosen) -> Floats:
        """The number of rows of each patient among the chosen units: rows_RP."""
        return self.summed((chosen_RU * self.rows_U).astype(np.float64))

    def count(self, chosen_RU: Chosen) -> NDArray[np.intp]:
        """The number of patients with a chosen unit: count_R."""
        return np.asarray((self.rows(chosen_RU) > 0).sum(1))

    def weights(self, chosen_RU: Chosen) -> Floats:
        """The weight of each row of a unit: 1 / the number of its patient's chosen rows."""
        return np.asarray(chosen_RU / self.rows(chosen_RU).clip(1)[:, self.of_U])

    def balanced(self, source_RU: Chosen, target_RU: Chosen) -> tuple[Chosen, Chosen]:
        """Choose the same number of units of every patient in each domain: that of the smallest.

        One patient's choice starts at the first unit, the next one's at the second, and so on: if
        units are modalities, all of them stay in. Exchanging patients exchanges their choices.
        """
        domains = source_RU, target_RU
        units_RP = [self.summed(chosen_RU.astype(np.float64)) for chosen_RU in domains]
        fewest_R = np.min([np.where(u > 0, u, np.inf).min(1) for u in units_RP], axis=0)[:, None]
        source_RU, target_RU = (
            chosen_RU if (u <= fewest_R).all() else self._in_turn(chosen_RU, u, fewest_R)
            for chosen_RU, u in zip(domains, units_RP, strict=True)
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
    """The patients of a sample; metrics make them once in ``prepare``."""
    _, of_U = np.unique(rows.patient_U, return_inverse=True)
    order_U = np.argsort(of_U, kind="stable")
    starts_P = np.flatnonzero(np.diff(of_U[order_U], prepend=-1))
    rows_U = np.bincount(rows.unit_N, minlength=rows.units)
    return Patients(rows_U, of_U, order_U, starts_P)


#: Most numbers that a scorer holds in memory at once.
HELD = 4_000_000

Floats = NDArray[np.float64]


Chosen = NDArray[np.bool_]


def in_chunks(score: Scorer, held: int) -> Scorer:
    """``score`` for a bounded number of permutations per call; each one holds ``held`` numbers."""
    most = max(1, HELD // held)

    def chunked(source_RU: Chosen, target_RU: Chosen) -> Floats:
        starts = range(0, len(source_RU), most)
        parts = [score(source_RU[s : s + most], target_RU[s : s + most]) for s in starts]
        return np.concatenate(parts)

    return chunked


def reduce_columns(values_NF: Floats, most: int) -> Floats:
    """Centre the rows; reduce more than ``most`` columns to that number of principal components.

    Only the remaining variance is lost: distances, Gaussians and ridge regression do not depend on
    a rotation of the axes.
    """
    from sklearn.decomposition import PCA

    if values_NF.shape[1] <= most:
        return np.asarray(values_NF - values_NF.mean(0))
    return np.asarray(PCA(min(most, len(values_NF)), random_state=0).fit_transform(values_NF))
