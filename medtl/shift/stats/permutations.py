"""Which patients may change sides: the permutations that a test of no shift compares with.

A patient who lies in both domains (paired) has the two labels exchanged; patients of one domain
only (unpaired) are permuted whole; where there are both kinds, both happen at once. Rows are never
moved: those of one patient depend on each other.

Axes: R permutation, P patient, U unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from math import comb

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Design:
    """How many patients lie in both domains, in the source alone and in the target alone."""

    paired: int
    source_only: int
    target_only: int

    @property
    def name(self) -> str:
        if not self.source_only + self.target_only:
            return "paired"
        return "partly paired" if self.paired else "unpaired"

    @property
    def permutations(self) -> int:
        """All distinct ones, the observed one included."""
        alone = self.source_only + self.target_only
        return int(2**self.paired * comb(alone, self.source_only))

    @property
    def mirrored(self) -> bool:
        """Whether exchanging the domains as a whole is one of the permutations; a distance is then
        as large there as observed."""
        return self.source_only == self.target_only and self.permutations > 1

    def floor(self, draws: int) -> float:
        """The smallest p-value that ``draws`` draws, or all permutations, can give."""
        if self.permutations > draws:
            return 1 / (draws + 1)
        return (2 if self.mirrored else 1) / self.permutations

    def enough(self) -> str:
        """How many patients it would take for p <= .05, in words."""
        if self.name == "paired":
            count = next(n for n in range(1, 99) if Design(n, 0, 0).floor(10**9) <= ALPHA)
            return f"{count} patients in both domains"
        if self.paired:
            more = next(
                n
                for n in range(1, 99)
                if Design(self.paired + n, self.source_only, self.target_only).floor(10**9) <= ALPHA
            )
            return f"{more} more patients in both domains"
        small, large = sorted((self.source_only, self.target_only))
        for count in range(max(small, 2), large):  # more of the smaller domain alone may do
            if Design(self.paired, count, large).floor(10**9) <= ALPHA:
                side = "source" if self.source_only < self.target_only else "target"
                return f"{count} patients of the {side} domain"
        count = next(n for n in range(2, 99) if Design(self.paired, n, n).floor(10**9) <= ALPHA)
        return f"{count} patients in each domain"


def design_of(
    source_U: NDArray[np.bool_], target_U: NDArray[np.bool_], patient_U: NDArray[np.intp]
) -> Design:
    """Detect the design from which units are on which side."""
    paired_P, source_P, target_P = _kinds(source_U, target_U, patient_U)
    return Design(int(paired_P.sum()), int(source_P.sum()), int(target_P.sum()))


def _kinds(
    source_U: NDArray[np.bool_], target_U: NDArray[np.bool_], patient_U: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Which patients lie in both domains, in the source alone, in the target alone."""
    patients = int(patient_U.max()) + 1
    in_source_P = np.bincount(patient_U[source_U], minlength=patients) > 0
    in_target_P = np.bincount(patient_U[target_U], minlength=patients) > 0
    return in_source_P & in_target_P, in_source_P & ~in_target_P, in_target_P & ~in_source_P


@dataclass(frozen=True, slots=True)
class Permutations:
    """Patients on other sides, R times. ``exhaustive``: all there are, the observed one included;
    else random draws without it.

    ``swapped_RP``: a patient of both domains has the labels exchanged; a patient of one domain is
    on the other side.
    """

    swapped_RP: NDArray[np.bool_]
    exhaustive: bool

    def sides(
        self, source_U: NDArray[np.bool_], target_U: NDArray[np.bool_], patient_U: NDArray[np.intp]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """source_RU and target_RU of units that were observed in source_U and target_U."""
        swapped_RU = self.swapped_RP[:, patient_U]
        return (
            np.where(swapped_RU, target_U, source_U),
            np.where(swapped_RU, source_U, target_U),
        )


def draw_permutations(
    source_U: NDArray[np.bool_],
    target_U: NDArray[np.bool_],
    patient_U: NDArray[np.intp],
    draws: int,
    seed: int,
) -> Permutations:
    """All permutations where they are no more than ``draws``, else so many random ones."""
    paired_P, source_P, target_P = _kinds(source_U, target_U, patient_U)
    design = Design(int(paired_P.sum()), int(source_P.sum()), int(target_P.sum()))
    pairs, alone = np.flatnonzero(paired_P), np.flatnonzero(source_P | target_P)
    if design.permutations <= draws:
        swapped_RP = _all(pairs, alone, source_P)
        return Permutations(swapped_RP, True)
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
            chosen_P = np.zeros(len(source_P), dtype=bool)
            chosen_P[list(chosen)] = True
            swapped_P[alone] = (chosen_P != source_P)[alone]
            rows.append(swapped_P)
    return np.array(rows)
