"""Blockwise kernel sums against dense formulas, closed forms and hand-written pairs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from terminal import run_python

from medtl.errors import ConfigError, DataError
from medtl.shift.contract import Rows
from medtl.shift.metrics import mmd as metrics
from medtl.shift.metrics.kernel_sums import unit_sums
from medtl.shift.metrics.kernels import distance, median_gamma, polynomial, rbf
from medtl.shift.metrics.mmd import mmd2
from medtl.shift.stats.metric_result import p_value
from medtl.shift.stats.permutations import Comparison, draw_permutations

KERNELS = ("rbf", "linear", "polynomial", "distance")


def samples(n: int = 130, m: int = 91, shift: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return 5 + random.normal(size=(n, 7)), 5 + shift + random.normal(size=(m, 7))


def dense(kernel: str, values_NF: np.ndarray) -> np.ndarray:
    apart = cdist(values_NF, values_NF)
    median = np.median(pdist(values_NF))
    return {
        "rbf": np.exp(-(apart**2) / (2 * median**2)),
        "linear": values_NF @ values_NF.T,
        "polynomial": (values_NF @ values_NF.T / values_NF.shape[1] + 1) ** 3,
        "distance": -apart,
    }[kernel]


def dense_mmd2(values: np.ndarray, n: int, biased: bool) -> float:
    m = len(values) - n
    xx, yy, xy = values[:n, :n], values[n:, n:], values[:n, n:]
    if biased:
        return float(xx.mean() + yy.mean() - 2 * xy.mean())
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("block", [13, 64, 130, 2048])
@pytest.mark.parametrize("kernel", KERNELS)
def test_blockwise_equals_the_dense_formula(kernel: str, block: int, biased: bool) -> None:
    x_NF, y_MF = samples()
    values_NF = np.concatenate([x_NF, y_MF])
    values = dense(kernel, values_NF)
    expected = dense_mmd2(values, len(x_NF), biased)
    options = {"kernel": kernel, "block": block, "biased": biased}
    scale = max(1.0, float(np.abs(values).max()))
    double = mmd2(x_NF, y_MF, dtype=torch.float64, **options)
    single = mmd2(x_NF, y_MF, dtype=torch.float32, **options)
    assert double == pytest.approx(expected, abs=1e-8 * scale)
    assert single == pytest.approx(expected, abs=1e-5 * scale)


def test_order_of_rows_does_not_matter() -> None:
    x_NF, y_MF = samples()
    random = np.random.default_rng(1)
    shuffled = mmd2(random.permutation(x_NF), random.permutation(y_MF), block=1)
    assert shuffled == pytest.approx(mmd2(x_NF, y_MF, block=50), abs=1e-12)
    assert mmd2(y_MF, x_NF) == pytest.approx(mmd2(x_NF, y_MF), abs=1e-12)


def test_set_of_bandwidths_is_the_mean_of_their_kernels() -> None:
    x_NF, y_MF = samples()
    apart = cdist(*[np.concatenate([x_NF, y_MF])] * 2)
    widths = (0.5, 2.0, 7.0)
    values = np.mean([np.exp(-(apart**2) / (2 * width**2)) for width in widths], axis=0)
    expected = dense_mmd2(values, len(x_NF), biased=False)
    assert mmd2(x_NF, y_MF, bandwidths=widths) == pytest.approx(expected, abs=1e-10)


def test_single_precision_holds_far_from_the_origin() -> None:
    x_NF, y_MF = samples()
    near = mmd2(x_NF, y_MF, dtype=torch.float32)
    assert mmd2(x_NF + 1e4, y_MF + 1e4, dtype=torch.float32) == pytest.approx(near, abs=1e-5)


@pytest.mark.parametrize("kernel", [rbf([0.1]), rbf([0.1, 1.0]), distance(), polynomial(7)])
@pytest.mark.parametrize("sizes", [(60, 40, 30), (1,) * 130, (1, 2, 100, 20, 7)])
def test_sums_of_any_units_equal_those_of_dense_blocks(kernel, sizes: tuple[int, ...]) -> None:
    x_NF, _ = samples()
    unit_N = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(x_NF))
    values = unit_sums(x_NF, rows, kernel)
    member_NU = (unit_N[:, None] == np.arange(len(sizes))).astype(float)
    found_UU = unit_sums(x_NF, unit_N, kernel, block=37)
    np.testing.assert_allclose(found_UU, member_NU.T @ values @ member_NU, rtol=1e-10, atol=1e-9)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_sums_take_the_memory_of_one_matrix() -> None:
    """4,000 units are 128 MB; a copy would be as much again."""
    code = """
import numpy as np
from medtl.shift.metrics.kernels import rbf
from medtl.shift.metrics.kernel_sums import unit_sums

def peak_mb():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

values_NF = np.random.default_rng(0).normal(size=(4000, 3))
unit_sums(values_NF[:99], np.arange(99), rbf([1.0]))
before = peak_mb()
unit_sums(values_NF, np.arange(4000), rbf([1.0]), block=256)
print(peak_mb() - before)
"""
    grown_mb = run_python("-c", code, code=0).stdout
    assert 100 < float(grown_mb) < 210


def test_unbiased_estimate_averages_to_zero_on_equal_distributions() -> None:
    random = np.random.default_rng(2)
    found = [
        mmd2(random.normal(size=(20, 3)), random.normal(size=(31, 3)), bandwidths=(1.5,))
        for _ in range(400)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_matches_the_closed_form_for_gaussians() -> None:
    """E k of N(a, s^2 I) and N(b, t^2 I) with k = exp(-|x - y|^2 / (2 h^2)), in d dimensions, is
    (h^2 / v)^(d/2) exp(-|a - b|^2 / (2 v)) with v = h^2 + s^2 + t^2."""
    d, h, apart, s, t = 3, 1.3, 0.7, 1.0, 1.5

    def mean_kernel(one: float, other: float, gap: float) -> float:
        v = h**2 + one**2 + other**2
        return float((h**2 / v) ** (d / 2) * np.exp(-(gap**2) / (2 * v)))

    expected = mean_kernel(s, s, 0) + mean_kernel(t, t, 0) - 2 * mean_kernel(s, t, apart)
    random = np.random.default_rng(3)
    found = []
    for _ in range(200):
        x_NF, y_MF = s * random.normal(size=(60, d)), t * random.normal(size=(40, d))
        y_MF[:, 0] += apart
        found.append(mmd2(x_NF, y_MF, bandwidths=(h,)))
    assert abs(np.mean(found) - expected) < 3 * np.std(found) / np.sqrt(len(found))
    assert expected > 10 * np.std(found) / np.sqrt(len(found))


def test_bandwidth_is_the_median_of_distances_that_are_not_zero() -> None:
    x_NF, _ = samples()
    twice_NF = np.repeat(x_NF[:40], 3, axis=0)
    apart = pdist(twice_NF)
    assert median_gamma(twice_NF) == pytest.approx(1 / (2 * np.median(apart[apart > 1e-9]) ** 2))
    many_NF = np.random.default_rng(4).normal(size=(9000, 5))
    assert median_gamma(many_NF) == median_gamma(many_NF)
    exact = 1 / (2 * np.median(pdist(many_NF[:4000])) ** 2)
    assert median_gamma(many_NF) == pytest.approx(exact, rel=0.02)


def test_bad_samples_are_refused_in_one_line() -> None:
    x_NF, y_MF = samples()
    with pytest.raises(DataError, match=r"\(130, 7\) and \(91, 6\)"):
        mmd2(x_NF, y_MF[:, :6])
    with pytest.raises(DataError, match="too few"):
        mmd2(x_NF, y_MF[:1])
    with pytest.raises(DataError, match="equal"):
        mmd2(np.ones((4, 2)), np.ones((5, 2)))
    with pytest.raises(DataError, match="not finite"):
        mmd2(x_NF, np.full_like(y_MF, np.nan))
    with pytest.raises(ConfigError, match="unknown kernel 'rfb'"):
        mmd2(x_NF, y_MF, kernel="rfb")


def cohort(pairs: int = 5) -> tuple[Rows, np.ndarray]:
    """Units of 3 correlated rows: patients with one to three images in the source and one in the
    target, and two patients in one domain only."""
    random = np.random.default_rng(5)
    images_P = 1 + np.arange(pairs) % 3
    patient_U = np.concatenate([np.repeat(np.arange(pairs), images_P + 1), [pairs, pairs + 1]])
    last_U = np.diff(patient_U, append=-1) != 0
    source_U = np.where(patient_U < pairs, ~last_U, patient_U == pairs)
    unit_N = np.repeat(np.arange(len(patient_U)), 3)
    centre_PF = random.normal(size=(pairs + 2, 4))
    values_NF = centre_PF[patient_U[unit_N]] + random.normal(size=(len(unit_N), 4))
    values_NF[source_U[unit_N]] += 0.4
    return Rows(values_NF, ("a/1", "a/2", "b/1", "b/2"), unit_N, patient_U), source_U


@pytest.mark.parametrize(
    ("metric", "kernel"),
    [(metrics.mmd, "rbf"), (metrics.mmd_linear, "linear"), (metrics.energy, "distance")],
)
def test_pairs_within_a_patient_do_not_count_and_patients_weigh_alike(metric, kernel: str) -> None:
    rows, source_U = cohort()
    values = dense(kernel, rows.values_NF)
    patient_N = rows.patient_U[rows.unit_N]
    counts = (patient_N[:, None] != patient_N).astype(float)
    s, t = source_U[rows.unit_N].astype(float), (~source_U)[rows.unit_N].astype(float)
    s, t = (side / np.bincount(patient_N, side).clip(1)[patient_N] for side in (s, t))

    def mean(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ (values * counts) @ other / (one @ counts @ other))

    expected = mean(s, s) + mean(t, t) - 2 * mean(s, t)
    found = metric().prepare(rows)(source_U[None], ~source_U[None])
    assert found == pytest.approx([expected], abs=1e-9)


def test_rows_of_one_patient_each_give_the_classical_estimate() -> None:
    x_NF, y_MF = samples()
    values_NF, own = np.concatenate([x_NF, y_MF]), np.arange(221)
    source_RU = own[None] < len(x_NF)
    scorer = metrics.mmd().prepare(Rows(values_NF, ("f/1",) * 7, own, own))
    assert scorer(source_RU, ~source_RU)[0] == pytest.approx(mmd2(x_NF, y_MF), abs=1e-12)
    biased = metrics.mmd_biased().prepare(Rows(values_NF, ("f/1",) * 7, own, own))
    expected = mmd2(x_NF, y_MF, biased=True)
    assert biased(source_RU, ~source_RU)[0] == pytest.approx(expected, abs=1e-12)


def test_random_halves_of_patients_average_to_zero() -> None:
    """Rows of a patient are alike, yet the estimate is not above 0, as the classical one is."""
    random = np.random.default_rng(6)
    by_patient, by_row = [], []
    for _ in range(200):
        patient_U, unit_N = np.arange(12), np.repeat(np.arange(12), 8)
        values_NF = random.normal(size=(12, 2))[unit_N] + 0.3 * random.normal(size=(96, 2))
        rows = Rows(values_NF, ("f/1", "f/2"), unit_N, patient_U)
        source_RU = patient_U[None] < 6
        by_patient.append(metrics.mmd().prepare(rows)(source_RU, ~source_RU)[0])
        by_row.append(mmd2(values_NF[:48], values_NF[48:]))
    assert abs(np.mean(by_patient)) < 3 * np.std(by_patient) / np.sqrt(200)
    assert np.mean(by_row) > 10 * np.std(by_row) / np.sqrt(200)


def test_test_holds_where_patients_have_more_modalities_in_one_domain() -> None:
    """Three images of each patient in the source, one in the target, and no shift."""
    random = np.random.default_rng(7)
    patient_U, source_U = np.repeat(np.arange(12), 4), np.tile([True, True, True, False], 12)
    found = []
    for seed in range(300):
        values_NF = random.normal(size=(12, 4)).repeat(4, axis=0) * 0.2
        values_NF += random.normal(size=(48, 4))
        rows = Rows(values_NF, ("f/1",) * 4, np.arange(48), patient_U)
        permutations = draw_permutations(Comparison(source_U, ~source_U, patient_U), 99, seed)
        scorer = metrics.energy().prepare(rows)
        value = scorer(source_U[None], ~source_U[None])[0]
        null_R = scorer(*permutations.apply(Comparison(source_U, ~source_U, patient_U)))
        found.append(p_value(value, null_R, exhaustive=False))
    for level in (0.05, 0.1, 0.5):
        error = (level * (1 - level) / 300) ** 0.5
        assert abs(np.mean(np.array(found) <= level) - level) < 3 * error
