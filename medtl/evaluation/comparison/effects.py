"""The difference between two training procedures, over patients and over training runs.

The difference of a patient p in a run s (a fold and a seed) is taken as ``mean + patient_p + run_s
+ residual_ps``: patients and runs are two crossed random effects (Searle, Casella and McCulloch
1992, chapter 4). Two arms are paired by fold and seed, so the effect of a run is that of the
difference. The variance components are estimated from the mean squares of each fold, pooled over
folds; negative ones are zero. The interval is Student-t with the degrees of freedom of
Satterthwaite (1946). They count the uncertainty of a component even where it came out as zero:
otherwise three seeds that agree by chance would make the interval too narrow
(``examples/studies/verdicts.py``).

The interval is of 95% if patients decide at least as much of the error as runs do. Where three
seeds decide most of it, it covers in 92% to 94%; five seeds, or folds, are enough.

With one run or one patient per fold, folds are the units. With one run in all, patients are the
units, and training noise is unknown.

Axes: P patient, S run of the same fold (seed), F fold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.errors import DataError
from medtl.evaluation.intervals import CONFIDENCE, FEWEST_FOR_INTERVAL

#: Fold and seed.
RunKey = tuple[int, int]


#: run -> patient -> score. A held-out test set is fold 0.
Runs = Mapping[RunKey, Mapping[str, float]]


#: The share of wrong rejections of a test, and 1 less the confidence of an interval.
LEVEL = round(1 - CONFIDENCE, 12)


@dataclass(frozen=True, slots=True)
class Effect:
    """A mean difference over ``n`` patients and ``runs`` training runs, with its 95% interval."""

    mean: float
    n: int
    runs: int
    low: float | None
    high: float | None
    p: float | None  #: two-sided, of no difference
    error: float | None  #: standard error of the mean
    df: float | None
    patient_sd: float | None
    run_sd: float | None  #: None: training noise is unknown
    residual_sd: float | None  #: None: part of ``patient_sd``
    method: str
    folds: int = 1
    bounds: tuple[float, float] = (-1.0, 1.0)

    def limits(self, level: float) -> tuple[float, float] | None:
        """The interval of confidence 1 - ``level``, clipped to ``bounds``."""
        if self.error is None or self.df is None:
            return None
        from scipy.special import stdtrit

        half = float(stdtrit(self.df, 1 - level / 2)) * self.error
        lowest, highest = self.bounds
        return max(self.mean - half, lowest), min(self.mean + half, highest)

    def equivalence_p(self, margin: float) -> float | None:
        """The p value of a difference of ``margin`` or more, in either direction.

        By two one-sided tests (Schuirmann 1987). None: there is no interval.
        """
        if self.error is None or self.df is None:
            return None
        from scipy.special import stdtr

        return float(stdtr(self.df, (abs(self.mean) - margin) / self.error))

    def to_json(self) -> dict[str, Any]:
        body = asdict(self)
        del body["bounds"]
        return body


def paired_effect(a: Runs, b: Runs, *, bounds: tuple[float, float] = (-1.0, 1.0)) -> Effect:
    """The mean of ``a - b`` over patients, each patient's runs averaged first.

    >>> from medtl.evaluation.comparison.effects import paired_effect
    >>> a = {(0, 0): {"p1": 0.75, "p2": 0.5}, (0, 1): {"p1": 1.0, "p2": 0.5}}
    >>> b = {(0, 0): {"p1": 0.5, "p2": 0.5}, (0, 1): {"p1": 0.5, "p2": 0.5}}
    >>> paired_effect(a, b).mean
    0.1875

    Args:
        bounds: the range of the difference; ``(-math.inf, math.inf)`` for distances.

    Raises:
        DataError: ``a`` and ``b`` differ in runs or patients, the runs of a fold in patients, a
            patient is in two folds, or a score is not finite.
    """
    differences_FPS = _differences(a, b)
    values_P = np.concatenate([each_PS.mean(axis=1) for each_PS in differences_FPS])
    mean, n = float(values_P.mean()), len(values_P)
    spread = _spread(differences_FPS, mean, n)
    effect = Effect(
        mean=mean,
        n=n,
        runs=len(a),
        low=None,
        high=None,
        p=None,
        error=None,
        df=None,
        patient_sd=spread.patient_sd,
        run_sd=spread.run_sd,
        residual_sd=spread.residual_sd,
        method=_no_interval(spread, mean, n),
        folds=len(differences_FPS),
        bounds=bounds,
    )
    return effect if effect.method else _tested(effect, spread)


@dataclass(frozen=True, slots=True)
class _Spread:
    """What is known of the variation of the mean; ``basis`` says of what."""

    error: float
    df: float
    patient_sd: float | None
    run_sd: float | None
    residual_sd: float | None
    basis: str
    units: str = "differences"


def _tested(effect: Effect, spread: _Spread) -> Effect:
    """The effect with its interval and p value."""
    from scipy.special import stdtr

    lowest, highest = effect.bounds
    known = replace(
        effect,
        error=spread.error,
        df=spread.df,
        p=2 * float(stdtr(spread.df, -abs(effect.mean) / spread.error)),
        method=f"Student-t {CONFIDENCE:.0%} {spread.basis}, clipped to [{lowest:g}, {highest:g}]",
    )
    low, high = known.limits(LEVEL) or (None, None)
    return replace(known, low=low, high=high)


def _no_interval(spread: _Spread, mean: float, n: int) -> str:
    """Why there is no interval; empty: there is one."""
    if n < FEWEST_FOR_INTERVAL:
        return f"no interval (n < {FEWEST_FOR_INTERVAL})"
    if spread.error <= 1e-12 * max(1.0, abs(mean)):
        return f"no interval (all {spread.units} equal)"
    return ""


def _differences(a: Runs, b: Runs) -> list[NDArray[np.float64]]:
    """Per fold, differences_PS."""
    if not a:
        raise DataError("there is no run to compare; give at least one run of each arm")
    if a.keys() != b.keys():
        raise DataError(f"only one arm has {_run(min(a.keys() ^ b.keys()))}; compare the same runs")
    runs_of: dict[int, list[RunKey]] = {}
    for key in sorted(a):
        runs_of.setdefault(key[0], []).append(key)
    fold_of: dict[str, int] = {}
    tables = []
    for fold, keys in runs_of.items():
        patients = sorted(a[keys[0]])
        for patient in patients:
            if fold_of.setdefault(patient, fold) != fold:
                raise DataError(f"patient {patient} is in folds {fold_of[patient]} and {fold}")
        tables.append(_of_fold(a, b, keys, patients))
    return tables


def _of_fold(a: Runs, b: Runs, keys: list[RunKey], patients: list[str]) -> NDArray[np.float64]:
    """differences_PS of the runs ``keys``."""
    for key in keys:
        for arm in (a, b):
            if odd := sorted(arm[key].keys() ^ a[keys[0]].keys()):
                raise DataError(
                    f"patient {odd[0]} is in some of the runs to compare but not in all of fold "
                    f"{key[0]} ({_run(key)}); score the same patients in every run of a fold"
                )
    if not patients:
        raise DataError(f"{_run(keys[0])} has no patient; score at least one")
    sides = [[[arm[key][patient] for key in keys] for patient in patients] for arm in (a, b)]
    a_PS, b_PS = (np.array(side, dtype=np.float64) for side in sides)
    finite_P = np.isfinite(a_PS + b_PS).all(axis=1)
    if not finite_P.all():
        raise DataError(f"patient {patients[finite_P.argmin()]}: a score is missing or not finite")
    return a_PS - b_PS


def _run(key: RunKey) -> str:
    return f"the run of fold {key[0]}, seed {key[1]}"


def _spread(differences_FPS: list[NDArray[np.float64]], mean: float, n: int) -> _Spread:
    """By the units that can be told apart: patients and runs, folds, or patients."""
    if sum((len(each) - 1) * (each.shape[1] - 1) for each in differences_FPS):
        return _over_patients_and_runs(differences_FPS, n)
    if len(differences_FPS) > 1:
        return _over_folds(differences_FPS, mean, n)
    values_P = differences_FPS[0].mean(axis=1)
    sd = float(values_P.std(ddof=1)) if n > 1 else None
    basis = "over patients of one run (training noise unknown)"
    return _Spread((sd or 0.0) / math.sqrt(n), n - 1, sd, None, None, basis)


def _over_patients_and_runs(differences_FPS: list[NDArray[np.float64]], n: int) -> _Spread:
    """Two-way analysis of variance within folds, pooled.

    With the mean squares of patients, runs and residual, of expectation ``residual + s patient``,
    ``residual + m patients per fold x run`` and ``residual``, the variance of the mean is a
    weighted sum of the three.
    """
    patients_F = np.array([len(each) for each in differences_FPS], dtype=np.float64)
    runs_F = np.array([each.shape[1] for each in differences_FPS], dtype=np.float64)
    others_F, seeds_F = patients_F - 1, runs_F - 1
    freedom = np.array([others_F.sum(), seeds_F.sum(), (others_F * seeds_F).sum()])
    squares = np.sum([_sums_of_squares(each) for each in differences_FPS], axis=0) / freedom
    of_patients, of_runs, residual = squares.tolist()
    # How often a patient, and a run, is repeated.
    repeats = float((others_F * runs_F).sum() / freedom[0])
    members = float((seeds_F * patients_F).sum() / freedom[1])
    patient = max(of_patients - residual, 0.0) / repeats
    run = max(of_runs - residual, 0.0) / members
    # How much of each component is in the variance of the mean.
    shares = np.array(
        [1 / n, (patients_F**2 / runs_F).sum() / n**2, (patients_F / runs_F).sum() / n**2]
    )
    variance = float(shares @ [patient, run, residual])
    weights = shares / [repeats, members, 1.0]
    weights[2] -= weights[:2].sum()
    uncertainty = float(((weights * squares) ** 2 / freedom).sum())
    df = min(variance**2 / uncertainty, freedom[0]) if uncertainty else freedom[0]
    sds = (math.sqrt(patient), math.sqrt(run), math.sqrt(residual))
    return _Spread(
        math.sqrt(variance), float(df), *sds, "over patients and training runs (Satterthwaite)"
    )


def _sums_of_squares(differences_PS: NDArray[np.float64]) -> tuple[float, float, float]:
    """Of patients, of runs, and of what neither explains."""
    patients, runs = differences_PS.shape
    mean = differences_PS.mean()
    of_patients_P = differences_PS.mean(axis=1) - mean
    of_runs_S = differences_PS.mean(axis=0) - mean
    rest_PS = differences_PS - mean - of_patients_P[:, None] - of_runs_S
    return (
        runs * float((of_patients_P**2).sum()),
        patients * float((of_runs_S**2).sum()),
        float((rest_PS**2).sum()),
    )


def _over_folds(differences_FPS: list[NDArray[np.float64]], mean: float, n: int) -> _Spread:
    """Folds as units: a run or a patient cannot be told from its fold."""
    values_FP = [each.mean(axis=1) for each in differences_FPS]
    patients_F = np.array([len(each) for each in values_FP], dtype=np.float64)
    means_F = np.array([each.mean() for each in values_FP])
    folds = len(means_F)
    away_F = means_F - mean
    error = math.sqrt(float(((patients_F * away_F) ** 2).sum()) / n**2 * folds / (folds - 1))
    basis = "over folds (training noise included)"
    if n == folds:
        sd = float(np.concatenate(values_FP).std(ddof=1))
        return _Spread(error, folds - 1, sd, None, None, basis, units="folds")
    within = sum(float(((each - each.mean()) ** 2).sum()) for each in values_FP) / (n - folds)
    between = float((patients_F * away_F**2).sum()) / (folds - 1)
    members = float(n - (patients_F**2).sum() / n) / (folds - 1)
    run_sd = math.sqrt(max(between - within, 0.0) / members)
    return _Spread(error, folds - 1, math.sqrt(within), run_sd, None, basis, units="folds")
