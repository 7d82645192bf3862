"""The power of the test of a shift, and the patients that it needs, planned from a pilot.

The statistic is normal about the true shift ``s``. Its variance at n patients per domain has a part
that falls with 1 / n and one that falls with 1 / n^2 (Hoeffding 1948; Sutherland et al. 2017). The
pilot tells both: permutations have the second, the jackknife over patients has the first and twice
the second. No patient is drawn twice: copies would make the domains more different than they are.

Let ``d`` be the difference of the domains' mean embeddings, ``s = |d|^2``, and C the covariance of
one domain, of equal spread in both. These variances are then

- unpaired ``8 z / n + 8 t / n^2``, over permutations ``8 (t + z / 2 + s^2 / 16) / n^2``;
- paired, with C of the patients' differences, ``4 z / n + 2 t / n^2`` and
  ``2 (t + 2 z + s^2) / n^2``,

where ``t`` is the sum of C's squared eigenvalues and ``z = (d, C d)``, which is at most
``s sqrt(t)``. The factors of n are exact. The threshold is the pilot's multiple of the standard
deviation over permutations.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from medtl.errors import DataError
from medtl.shift.contract import Scorer
from medtl.shift.stats.metric_result import (
    ROUNDING,
    jackknife_variances,
    p_value,
    score_in_chunks,
)
from medtl.shift.stats.permutations import ALPHA, Comparison, Design, Permutations

POWER = 0.8

#: More patients per domain are not searched for.
MOST_PATIENTS = 100_000

#: Fewer patients of a domain do not tell how the statistic varies.
FEWEST_IN_PILOT = 4

#: The central 95% of a normal variable, in standard deviations.
CENTRAL = 1.959964


@dataclass(frozen=True, slots=True)
class ShiftPilot:
    """What a pilot tells of the test at other numbers of patients."""

    shift: float  #: s, the value less its mean over permutations (0 for unbiased metrics)
    p: float
    design: Design
    squares: float  #: t
    slope: float  #: z / s
    quantile: float  #: 95% quantile over permutations, in standard deviations from their mean

    @property
    def found(self) -> bool:
        return self.p <= ALPHA and self.shift > 0

    def equal(self, patients: int) -> Design:
        """The design of that many patients per domain, paired if the pilot is."""
        return Design(patients, 0, 0) if self.design.paired else Design(0, patients, patients)

    def power(self, design: Design, shift: float) -> float:
        """The probability of p <= .05, for a true ``shift`` above 0."""
        from scipy.special import ndtr

        least = self._least(design)
        if least is None:
            return 0.0
        factors = _factors(design)
        variance = factors.first * self.slope * shift + factors.second * self.squares
        return float(ndtr((shift - least) / math.sqrt(variance)))

    def patients(self, shift: float) -> int | None:
        """The fewest patients per domain that find a true ``shift`` with a power of 80%.

        None: no number is enough.
        """
        numbers = range(2, MOST_PATIENTS + 1)
        if shift <= 0 or self.power(self.equal(numbers[-1]), shift) < POWER:
            return None
        return numbers[bisect_left(numbers, POWER, key=lambda n: self.power(self.equal(n), shift))]

    def smallest(self, design: Design) -> float | None:
        """The smallest shift that ``design`` finds with a power of 80%; None: it finds none."""
        from scipy.optimize import brentq

        high = most = 1e6 * math.sqrt(self.squares)
        if self.power(design, most) < POWER:
            return None
        while self.power(design, high / 2) >= POWER:
            high /= 2
        return float(brentq(lambda shift: self.power(design, shift) - POWER, high / 2, high))

    def _least(self, design: Design) -> float | None:
        """The smallest statistic with p <= .05; None: there is none.

        It is ``quantile`` standard deviations over permutations that have this very shift.
        """
        if not _testable(design):
            return None
        factors = _factors(design)
        squared = self.quantile**2 * factors.second
        rest, half = 1 - squared * factors.by_s, squared * factors.by_z * self.slope / 2
        if rest <= 0:
            return None
        return (half + math.sqrt(half**2 + rest * squared * self.squares)) / rest

    def interval(self) -> tuple[float, float]:
        """The shifts that have the pilot's within their central 95%, from 0 on."""
        factors, k2 = _factors(self.design), CENTRAL**2
        middle = self.shift + k2 * factors.first * self.slope / 2
        square = middle**2 - self.shift**2 + k2 * factors.second * self.squares
        half = math.sqrt(max(square, 0))
        return max(middle - half, 0.0), max(middle + half, 0.0)


def pilot_of(scorer: Scorer, comparison: Comparison, permutations: Permutations) -> ShiftPilot:
    """What the patients of a comparison tell of other numbers of patients.

    Args:
        scorer: of a symmetric metric that has a valid jackknife.

    Raises:
        DataError: a partly paired design, fewer than 4 patients in a domain, or a metric that is
            undefined or the same for all permutations.
    """
    design = comparison.design
    if design.name == "partly paired":
        raise DataError("some patients are in both domains, others in one of them")
    if min(design.n_source, design.n_target) < FEWEST_IN_PILOT:
        raise DataError(f"a domain has fewer than {FEWEST_IN_PILOT} patients")
    value = float(score_in_chunks(scorer, comparison.source_U[None], comparison.target_U[None])[0])
    null_R = score_in_chunks(scorer, *permutations.apply(comparison))
    if not np.isfinite([value, *null_R]).all() or np.ptp([value, *null_R]) <= ROUNDING:
        raise DataError("the metric is undefined or the same for all permutations")
    mean, deviation = float(null_R.mean()), float(null_R.std())
    shift, p = value - mean, p_value(value, null_R, permutations.exhaustive)
    z, squares = _components(scorer, comparison, shift, deviation**2)
    largest = math.sqrt(squares)
    # Without a shift its direction is unknown: take that in which patients vary most.
    slope = min(max(z, 0) / shift, largest) if p <= ALPHA and shift > 0 else largest
    quantile = (float(np.quantile(null_R, 1 - ALPHA, method="higher")) - mean) / deviation
    return ShiftPilot(shift, p, design, squares, slope, quantile)


def _testable(design: Design) -> bool:
    """Whether p <= .05 is possible. Ten patients of a domain are enough, whatever the design."""
    many = min(design.n_source, design.n_target) >= 10
    return many or design.floor(MOST_PATIENTS) <= ALPHA


@dataclass(frozen=True, slots=True)
class _Factors:
    first: float  #: of z in the variance
    second: float  #: of t
    by_z: float  #: of z and s^2 beside t in the variance over permutations
    by_s: float


def _factors(design: Design) -> _Factors:
    if n := design.paired:
        return _Factors(4 / n, 2 / (n * (n - 1)), 2.0, 1.0)
    n, m = design.source_only, design.target_only
    second = 2 / (n * (n - 1)) + 2 / (m * (m - 1)) + 4 / (n * m)
    mixture = n * m / (n + m) ** 2
    return _Factors(4 / n + 4 / m, second, 2 * mixture, mixture**2)


def _components(
    scorer: Scorer, comparison: Comparison, shift: float, of_permutations: float
) -> tuple[float, float]:
    """z and t, from the variance over permutations and the jackknife."""
    design, factors = comparison.design, _factors(comparison.design)
    paired, source, target = jackknife_variances(scorer, comparison)
    # The jackknife gives z + share * t.
    if n := design.paired:
        z, share = n * paired / 4, 1 / (n - 2)
    else:
        n, m = design.source_only, design.target_only
        z = (n * source + m * target) / 8
        share = (1 / (n - 2) + 1 / m + 1 / (m - 2) + 1 / n) / 2
    square = max(shift**2 - (paired + source + target), 0.0)  # without what chance adds to it
    rest = of_permutations / factors.second - factors.by_s * square
    z = max(0.0, (z - share * rest) / (1 - share * factors.by_z))
    return z, max(rest - factors.by_z * z, ROUNDING)
