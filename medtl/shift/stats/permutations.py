"""The permutations that a test of no shift compares with.

A patient in both domains (paired) has the two labels exchanged. Patients in one domain only
(unpaired) are permuted as a whole. A partly paired design does both. Rows are never exchanged:
those of one patient depend on each other.

Axes: R permutation, P patient, U unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, product
from math import comb

import numpy as np
from numpy.typing import NDArray

#: Significance level.
ALPHA = 0.05

UnitMask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Design:
    """The number of patients in both domains, in the source alone and in the target alone."""

    paired: int
    source_only: int
    target_only: int

    @property
    def n_source(self) -> int:
        return self.paired + self.source_only

    @property
    def n_target(self) -> int:
        return self.paired + self.target_only

    @property
    def name(self) -> str:
        if not self.source_only + self.target_only:
            return "paired"
        return "partly paired" if self.paired else "unpaired"

    @property
    def permutations(self) -> int:
        """The number of distinct permutations, the observed one included."""
        alone = self.source_only + self.target_only
        return int(2**self.paired * comb(alone, self.source_only))

    @property
    def mirrored(self) -> bool:
        """Whether one permutation exchanges the two domains as a whole.

        A symmetric distance has the observed value there.
        """
        return self.source_only == self.target_only and self.permutations > 1

    def floor(self, draws: int) -> float:
        """The smallest possible p with ``draws`` random permutations, or with all of them."""
        if self.permutations > draws:
            return 1 / (draws + 1)
        return (2 if self.mirrored else 1) / self.permutations

    def enough(self) -> str:
        """The number of patients that p <= .05 needs, in words."""
        source, target = self.source_only, self.target_only
        if self.name == "paired":
            return f"{_fewest(lambda n: Design(n, 0, 0))} patients in both domains"
        if self.paired:
            more = _fewest(lambda n: Design(self.paired + n, source, target))
            return f"{more} more patients in both domains"
        small, large = sorted((source, target))
        for count in range(max(small, 2), large):  # a larger smaller domain may be enough
            if Design(self.paired, count, large).floor(10**9) <= ALPHA:
                return f"{count} patients of the {'source' if source < target else 'target'} domain"
        return f"{_fewest(lambda n: Design(self.paired, n, n), 2)} patients in each domain"


def _fewest(design: Callable[[int], Design], start: int = 1) -> int:
    return next(n for n in range(start, 99) if design(n).floor(10**9) <= ALPHA)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The units in the source and in the target of one comparison, and each unit's patient."""

    source_U: UnitMask
    target_U: UnitMask
    patient_U: NDArray[np.intp]

    @property
    def patients(self) -> tuple[UnitMask, UnitMask, UnitMask]:
        """Masks (P) of the patients in both domains, in the source alone, in the target alone."""
        patients = int(self.patient_U.max()) + 1
        in_source_P = np.bincount(self.patient_U[self.source_U], minlength=patients) > 0
        in_target_P = np.bincount(self.patient_U[self.target_U], minlength=patients) > 0
        return in_source_P & in_target_P, in_source_P & ~in_target_P, in_target_P & ~in_source_P

    @property
    def design(self) -> Design:
        return Design(*(int(mask_P.sum()) for mask_P in self.patients))

    @property
    def identical(self) -> bool:
        return bool((self.source_U == self.target_U).all())


@dataclass(frozen=True, slots=True)
class Permutations:
    """R permutations of the patients' domain labels.

    ``swapped_RP``: a paired patient has the two labels exchanged, an unpaired patient is in the
    other domain. ``exhaustive``: all permutations, the observed one included; otherwise random
    draws without the observed one.
    """

    swapped_RP: NDArray[np.bool_]
    exhaustive: bool

    def apply(self, comparison: Comparison) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """source_RU and target_RU: the units of either domain in each permutation."""
        swapped_RU = self.swapped_RP[:, comparison.patient_U]
        source_U, target_U = comparison.source_U, comparison.target_U
        return np.where(swapped_RU, target_U, source_U), np.where(swapped_RU, source_U, target_U)


def draw_permutations(comparison: Comparison, draws: int, seed: int) -> Permutations:
    """All permutations if there are at most ``draws``, otherwise ``draws`` random ones."""
    paired_P, source_P, target_P = comparison.patients
    design = comparison.design
    pairs, alone = np.flatnonzero(paired_P), np.flatnonzero(source_P | target_P)
    if design.permutations <= draws:
        return Permutations(_all(pairs, alone, source_P), True)
    random = np.random.default_rng(seed)
    swapped_RP = np.zeros((draws, len(paired_P)), dtype=bool)
    swapped_RP[:, pairs] = random.random((draws, len(pairs))) < 0.5
    if len(alone):
        order_RA = random.permuted(np.tile(alone, (draws, 1)), axis=1)
        chosen_RP = np.zeros_like(swapped_RP)
        np.put_along_axis(chosen_RP, order_RA[:, : design.source_only], True, axis=1)
        swapped_RP[:, alone] = (chosen_RP != source_P)[:, alone]
    return Permutations(swapped_RP, False)


def _all(
    pairs: NDArray[np.intp], alone: NDArray[np.intp], source_P: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    rows = []
    for flips in product((False, True), repeat=len(pairs)):
        for chosen in combinations(alone, int(source_P.sum())):
            swapped_P = np.zeros(len(source_P), dtype=bool)
            swapped_P[pairs] = flips
            swapped_P[alone] = np.isin(alone, chosen) != source_P[alone]
            rows.append(swapped_P)
    return np.array(rows)
