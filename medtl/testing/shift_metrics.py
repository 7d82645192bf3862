"""What a shift metric must keep, on rows whose shift is known.

Axes: N row, F feature, U unit, R permutation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.shift.contract import Rows, ShiftMetric
from medtl.shift.stats.permutations import Comparison, draw_permutations
from medtl.testing.check import CheckFailed, Tried, require

PATIENTS, ROWS, FEATURES = 40, 5, 4


PERMUTATIONS = 199


#: Sums in another order differ by less.
ROUNDING = 1e-6


#: A metric is at its value of no shift if it is this close, as a share of what a large one gives.
NEAR = 0.1


#: The same for sides drawn from one domain, where a metric is rarely 0 with few patients.
ABOUT = 0.4


#: How far apart: deviations between the means, or by how many times one deviation is the larger.
NONE, SMALL, LARGE = 0.0, 1.0, 4.0


KINDS = ("mean", "scale")


Floats = NDArray[np.float64]


Chosen = NDArray[np.bool_]


SOURCE_U: Chosen = np.arange(PATIENTS) % 2 == 0


def cohort(shift: float, kind: str = "mean and scale") -> Rows:
    """Five rows of each patient, of whom every other is in the source; the target's patients have
    the source's rows, but for a shift of their mean or scale."""
    random = np.random.default_rng(0)
    centres_UF = random.normal(size=(PATIENTS // 2, 1, FEATURES))
    own_UNF = centres_UF + 0.5 * random.normal(size=(PATIENTS // 2, ROWS, FEATURES))
    scaled_UNF = own_UNF * (1 + shift) if "scale" in kind else own_UNF
    shifted_UNF = scaled_UNF + shift if "mean" in kind else scaled_UNF
    both_UNF = np.stack([own_UNF, shifted_UNF], axis=1)
    return _rows(both_UNF.reshape(PATIENTS * ROWS, FEATURES))


def _rows(values_NF: Floats) -> Rows:
    patients = np.arange(PATIENTS)
    names = tuple(f"made/{n}" for n in range(values_NF.shape[1]))
    return Rows(values_NF, names, np.repeat(patients, ROWS), patients)


def values(metric: ShiftMetric, rows: Rows, source_RU: Chosen, target_RU: Chosen) -> Floats:
    """values_R. Raises CheckFailed unless there is one number per permutation."""
    found = np.asarray(metric.prepare(rows)(source_RU, target_RU))
    count = len(source_RU)
    shape = f"{count} permutations give values of shape {found.shape}"
    require(found.shape == (count,), f"{shape}; return one for each")
    return found.astype(np.float64)


def observed(metric: ShiftMetric, rows: Rows) -> float:
    return float(values(metric, rows, SOURCE_U[None], ~SOURCE_U[None])[0])


def says_what_it_is(tried: Tried) -> None:
    """It is a ShiftMetric of the component's name; an untested one warns."""
    metric = tried.returned(ShiftMetric)
    require(metric.name == tried.name, f"its name is {metric.name!r}; call it {tried.name!r}")
    require(np.isfinite(metric.no_shift_value), "no_shift_value is not finite")
    require(metric.tested or metric.warning, "it is not tested; say why in its warning")


def values_are_finite_and_repeatable(tried: Tried) -> None:
    """A number for every permutation of two patients a side and more, the same each time."""
    metric, rows = tried.returned(ShiftMetric), cohort(SMALL)
    source_RU, target_RU = _arranged()
    found = values(metric, rows, source_RU, target_RU)
    finite = np.isfinite(found).all()
    require(finite, f"it is not finite for sides of {PATIENTS // 2} patients each")
    again = values(tried.returned(ShiftMetric), rows, source_RU, target_RU)
    require((found == again).all(), "prepared again it gives other values; seed what is random")


def rows_are_left_as_they_are(tried: Tried) -> None:
    """It does not write into the rows, which other metrics see, too."""
    metric, rows = tried.returned(ShiftMetric), cohort(SMALL)
    before = rows.values_NF.copy()
    observed(metric, rows)
    require((rows.values_NF == before).all(), "it changes values_NF in place; work on a copy")


def arrangements_are_scored_as_each_alone(tried: Tried) -> None:
    """What one permutation scores does not depend on those beside it."""
    metric, rows = tried.returned(ShiftMetric), cohort(SMALL)
    source_RU, target_RU = (side_RU[:6].copy() for side_RU in _arranged())
    source_RU[3, :2] = target_RU[3, :2] = False  # the jackknife leaves a patient out
    together = values(metric, rows, source_RU, target_RU)
    scorer = metric.prepare(rows)
    alone = [scorer(source_RU[r : r + 1], target_RU[r : r + 1])[0] for r in range(6)]
    close = _close(together, np.array(alone, dtype=np.float64))
    require(close, "a permutation scores differently beside others; score each row by itself")


def an_empty_side_has_no_value(tried: Tried) -> None:
    """NaN where a side has no patient, not a number and not an error."""
    rows = cohort(SMALL)
    nobody = np.zeros((1, PATIENTS), dtype=bool)
    found = values(tried.returned(ShiftMetric), rows, SOURCE_U[None], nobody)
    require(np.isnan(found).all(), f"it is {found[0]:g} where the target is empty; give NaN")


def equal_samples_are_no_shift(tried: Tried) -> None:
    """For the same rows in both domains the value is at most ``no_shift_value`` or chance level;
    for domains drawn at random it is close to ``no_shift_value``."""
    metric = tried.returned(ShiftMetric)
    if not metric.tested:
        return
    equal, far = observed(metric, cohort(NONE)), observed(metric, cohort(LARGE))
    null_R = values(metric, cohort(NONE), *_arranged())
    usual, high = np.quantile(null_R, (0.5, 0.975))
    reach = abs(far - metric.no_shift_value)
    limits = f"no_shift_value is {metric.no_shift_value:g}, and a large shift gives {far:.3g}"
    remedy = "subtract the bias, or declare it as no_shift_value"
    near = equal <= max(metric.no_shift_value + NEAR * reach, high)
    require(near, f"equal samples give {equal:.3g}, but {limits}; {remedy}")
    near = abs(usual - metric.no_shift_value) <= ABOUT * reach
    require(near, f"sides drawn from one domain give {usual:.3g}, but {limits}; {remedy}")


def a_larger_shift_gives_a_larger_value(tried: Tried) -> None:
    """It grows with a planted shift of mean or of scale, and a large one stands out of chance."""
    metric = tried.returned(ShiftMetric)
    if not metric.tested:
        return
    found = []
    for kind in KINDS:
        none, small, large = (observed(metric, cohort(s, kind)) for s in (NONE, SMALL, LARGE))
        null_R = values(metric, cohort(LARGE, kind), *_arranged())
        chance = float(np.quantile(null_R, 0.95))
        slack = ROUNDING * max(map(abs, (none, small, large)))
        if none + slack < small <= large + slack and large > chance:
            return
        found.append(f"{none:.3g}, {small:.3g}, {large:.3g} by {kind} (by chance {chance:.3g})")
    given = f"no, a small and a large shift give {' and '.join(found)}"
    raise CheckFailed(f"{given}; larger must mean farther apart")


def sides_change_places_as_declared(tried: Tried) -> None:
    """If it says that it is symmetric, source and target can change places."""
    metric, rows = tried.returned(ShiftMetric), cohort(SMALL)
    source_RU, target_RU = _arranged()
    one = values(metric, rows, source_RU, target_RU)
    other = values(metric, rows, target_RU, source_RU)
    found = f"symmetric is true, but it is {one[0]:.6g} one way and {other[0]:.6g} the other"
    require(not metric.symmetric or _close(one, other), f"{found}; set symmetric=False")


def order_of_rows_does_not_matter(tried: Tried) -> None:
    """An image's rows can come in any order."""
    metric, rows = tried.returned(ShiftMetric), cohort(SMALL)
    turned_UNF = rows.values_NF.reshape(PATIENTS, ROWS, FEATURES)[:, ::-1]
    turned = _rows(turned_UNF.reshape(PATIENTS * ROWS, FEATURES).copy())
    one, other = observed(metric, rows), observed(metric, turned)
    found = f"it is {one:.6g}, and {other:.6g} with each image's rows in the opposite order"
    require(_close(np.array([one]), np.array([other])), found)


def _arranged() -> tuple[Chosen, Chosen]:
    """source_RU, target_RU: patients at random on either side, the same each time."""
    comparison = Comparison(SOURCE_U, ~SOURCE_U, np.arange(PATIENTS))
    return draw_permutations(comparison, PERMUTATIONS, 0).apply(comparison)


def _close(one: Floats, other: Floats) -> bool:
    scale = float(np.abs(np.concatenate([one, other])).max())
    return bool(np.allclose(one, other, rtol=ROUNDING, atol=ROUNDING * scale, equal_nan=True))
