"""Every shift metric against scipy, scikit-learn or a formula written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg, stats
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from medtl.plugins.catalog import load_catalog
from medtl.shift.contract import Rows, ShiftMetric
from medtl.shift.metrics import classifier as separability
from medtl.shift.metrics import distributions, legacy
from medtl.shift.metrics import gaussian as moments
from medtl.shift.metrics.base import patients_of
from medtl.shift.metrics.mmd import mmd2
from medtl.shift.stats.metric_result import evaluate_metric
from medtl.shift.stats.permutations import Comparison, draw_permutations

NAMES = tuple(name.removeprefix("core:") for name in load_catalog().shift_metrics)
BY_PATIENT = tuple(name for name in NAMES if name != "mmd-legacy")


def metric_named(name: str) -> ShiftMetric:
    found: ShiftMetric = load_catalog().shift_metrics[name].load()()
    return found


def cohort(patients: int = 12, features: int = 5, shift: float = 0.5) -> tuple[Rows, np.ndarray]:
    """A unit of 5 rows per patient; every other patient in the source."""
    source_U = np.arange(patients) % 2 == 0
    return of_images(np.arange(patients), source_U, features, shift), source_U


def of_images(patient_U: np.ndarray, source_U: np.ndarray, features: int, shift: float) -> Rows:
    random = np.random.default_rng(0)
    unit_N = np.repeat(np.arange(len(patient_U)), 5)
    centre_PF = random.normal(size=(patient_U.max() + 1, features))
    values_NF = centre_PF[patient_U[unit_N]] + random.normal(size=(len(unit_N), features))
    values_NF[source_U[unit_N]] *= 1 + shift
    return Rows(values_NF, tuple(f"a/{i}" for i in range(features)), unit_N, patient_U)


def between(metric: ShiftMetric, x_NF: np.ndarray, y_MF: np.ndarray) -> float:
    """The metric between rows that are patients of their own."""
    values_NF = np.concatenate([x_NF, y_MF])
    own_N = np.arange(len(values_NF))
    rows = Rows(values_NF, ("a/b",) * values_NF.shape[1], own_N, own_N)
    source_RU = own_N[None] < len(x_NF)
    return float(metric.prepare(rows)(source_RU, ~source_RU)[0])


def samples(n: int, m: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    mixed = random.normal(size=(features, features))
    return random.normal(size=(n, features)) @ mixed, 0.3 + random.normal(size=(m, features))


@pytest.mark.parametrize(("n", "m"), [(80, 50), (8, 50), (80, 6)])
def test_frechet_is_the_formula_with_scipys_matrix_root(n: int, m: int) -> None:
    x_NF, y_MF = samples(n, m, 10)
    c, d = np.cov(x_NF.T), np.cov(y_MF.T)
    values = linalg.eigvals(c @ d) if min(n, m) < 11 else linalg.eigvals(linalg.sqrtm(c @ d)) ** 2
    root = np.sqrt(values.real.clip(0)).sum()
    expected = ((x_NF.mean(0) - y_MF.mean(0)) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * root
    assert between(moments.frechet(), x_NF, y_MF) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_known_gaussians_is_the_closed_form() -> None:
    """Commuting covariances: |m - n|^2 + sum (sqrt c - sqrt d)^2."""
    mean, other = np.array([[0.0, 1.0]]), np.array([[2.0, 1.0]])
    found = moments.frechet_distances(mean, np.diag([4.0, 9])[None], other, np.eye(2)[None])
    assert found == pytest.approx([4 + 1 + 4])


def test_frechet_and_coral_of_many_columns_keep_what_few_rows_span() -> None:
    x_NF, y_MF = samples(30, 25, 300)
    c, d = np.cov(x_NF.T), np.cov(y_MF.T)
    root = np.sqrt(linalg.eigvals(c @ d).real.clip(0)).sum()
    expected = ((x_NF.mean(0) - y_MF.mean(0)) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * root
    assert between(moments.frechet(), x_NF, y_MF) == pytest.approx(expected, rel=1e-6)
    coral = ((c - d) ** 2).sum() / (4 * 300**2)
    assert between(moments.coral(), x_NF, y_MF) == pytest.approx(coral, rel=1e-9)


def test_coral_is_the_distance_of_covariances() -> None:
    x_NF, y_MF = samples(80, 50, 6)
    expected = ((np.cov(x_NF.T) - np.cov(y_MF.T)) ** 2).sum() / (4 * 36)
    assert between(moments.coral(), x_NF, y_MF) == pytest.approx(expected)
    assert between(moments.coral(), x_NF, x_NF + 3) == pytest.approx(0, abs=1e-12)


def test_covariance_is_that_over_pairs_of_different_patients() -> None:
    patient_U, source_U = np.repeat(np.arange(12), 2), np.repeat(np.arange(12) % 2 == 0, 2)
    rows = of_images(patient_U, source_U, 5, 0.5)
    patient_N = rows.patient_U[rows.unit_N]
    apart = patient_N[:, None] != patient_N
    rows_N = np.bincount(patient_N)[patient_N]
    expected, means = [], []
    for side_U in (source_U, ~source_U):
        weights_N = side_U[rows.unit_N] / rows_N
        between = rows.values_NF[:, None] - rows.values_NF
        pairs = apart * weights_N[:, None] * weights_N
        expected.append(np.einsum("nm,nmf,nmg->fg", pairs, between, between) / 2 / pairs.sum())
        means.append(np.average(rows.values_NF, 0, weights_N)[None])
    coral = ((expected[0] - expected[1]) ** 2).sum() / (4 * 25)
    found = moments.coral().prepare(rows)(source_U[None], ~source_U[None])
    assert found == pytest.approx([coral])
    frechet = moments.frechet_distances(means[0], expected[0][None], means[1], expected[1][None])
    found = moments.frechet().prepare(rows)(source_U[None], ~source_U[None])
    assert found == pytest.approx(frechet)


def test_moments_of_many_small_units_are_those_of_few() -> None:
    rows, source_U = cohort(features=5)
    few = moments.frechet().prepare(rows)(source_U[None], ~source_U[None])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "HELD", 1)
        many = moments.frechet().prepare(rows)(source_U[None], ~source_U[None])
    assert many == pytest.approx(few, rel=1e-10)


def test_energy_distance_is_scipys() -> None:
    random = np.random.default_rng(2)
    x_N, y_M = random.normal(size=70), random.gamma(2, size=45)
    found = mmd2(x_N[:, None], y_M[:, None], kernel="distance", biased=True)
    assert found == pytest.approx(stats.energy_distance(x_N, y_M) ** 2, abs=1e-10)


@pytest.mark.parametrize("levels", [None, 4])
def test_wasserstein_and_ks_of_one_feature_are_scipys(levels: int | None) -> None:
    random = np.random.default_rng(3)
    x_N, y_M = random.normal(size=70), random.normal(0.4, 1.5, size=45)
    if levels:
        x_N, y_M = np.round(x_N * levels) / levels, np.round(y_M * levels) / levels
    x_NF, y_MF = x_N[:, None], y_M[:, None]
    area = between(distributions.sliced_wasserstein(), x_NF, y_MF)
    assert area == pytest.approx(stats.wasserstein_distance(x_N, y_M))
    assert between(distributions.ks(), x_NF, y_MF) == pytest.approx(stats.ks_2samp(x_N, y_M)[0])


def test_sliced_wasserstein_is_the_mean_over_unit_directions() -> None:
    x_NF, y_MF = samples(60, 40, 3)
    directions = np.random.default_rng(0).normal(size=(3, distributions.DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    pairs = zip((x_NF @ directions).T, (y_MF @ directions).T, strict=True)
    expected = np.mean([stats.wasserstein_distance(x, y) for x, y in pairs])
    found = between(distributions.sliced_wasserstein(), x_NF, y_MF)
    assert found == pytest.approx(expected)


def test_mirrored_arrangements_tie_with_patients_of_many_images() -> None:
    patient_U, source_U = np.repeat(np.arange(6), 4), np.tile([True, True, True, False], 6)
    rows = of_images(patient_U, source_U, 5, 1.0)
    for name in BY_PATIENT:
        sides = Comparison(source_U, ~source_U, patient_U)
        permutations = draw_permutations(Comparison(source_U, ~source_U, patient_U), 99, 0)
        metric = metric_named(name)
        found = evaluate_metric(metric, metric.prepare(rows), sides, permutations)
        assert found.p is not None
        assert found.p >= found.p_floor == 2 / 64
        if name == "ks":
            null_R = metric.prepare(rows)(
                *permutations.apply(Comparison(source_U, ~source_U, patient_U))
            )
            assert (null_R == null_R[::-1]).all()


def test_frechet_of_singular_covariances_ties_with_its_mirror() -> None:
    """6 pairs of 30 features: rounding must not push p below what 64 permutations give."""
    patient_U, source_U = np.repeat(np.arange(6), 2), np.tile([True, False], 6)
    for seed in range(10):
        random = np.random.default_rng(seed)
        values_NF = random.normal(size=(6, 30))[patient_U] + 0.3 * random.normal(size=(12, 30))
        values_NF[~source_U] += 3
        values_NF = (values_NF - values_NF.mean(0)) / values_NF.std(0)
        scorer = moments.frechet().prepare(Rows(values_NF, ("f/1",) * 30, np.arange(12), patient_U))
        permutations = draw_permutations(Comparison(source_U, ~source_U, patient_U), 99, 0)
        found_R = scorer(*permutations.apply(Comparison(source_U, ~source_U, patient_U)))
        np.testing.assert_allclose(found_R, found_R[::-1], rtol=1e-10)


def test_ks_is_the_largest_of_all_features_and_lists_them_corrected() -> None:
    random = np.random.default_rng(7)
    source_U, own_N = np.arange(30) % 2 == 0, np.arange(30)
    rows = Rows(random.normal(size=(30, 5)), tuple(f"a/{i}" for i in range(5)), own_N, own_N)
    rows.values_NF[source_U, 3] += 8
    sides = Comparison(source_U, ~source_U, rows.patient_U)
    permutations = draw_permutations(sides, 999, 0)
    expected = {
        name: stats.ks_2samp(column[source_U], column[~source_U])[0]
        for name, column in zip(rows.names, rows.values_NF.T, strict=True)
    }
    found = distributions.ks_features(rows, sides, permutations)
    assert {each.name: each.value for each in found} == pytest.approx(expected)
    assert [each.value for each in found] == sorted(expected.values(), reverse=True)
    assert found[0].name == "a/3"
    assert found[0].p < 0.01 < 0.1 < min(each.p for each in found[1:])
    scorer = distributions.ks().prepare(rows)
    whole = evaluate_metric(distributions.ks(), scorer, sides, permutations)
    assert (whole.value, whole.p) == (found[0].value, found[0].p)


def test_domain_auroc_is_that_of_sklearns_ridge_on_unseen_patients() -> None:
    patient_U = np.repeat(np.arange(25), 1 + np.arange(25) % 3)
    source_U = patient_U % 2 == 0
    rows = of_images(patient_U, source_U, features=4, shift=0.0)
    rows.values_NF[source_U[rows.unit_N], 0] += 1
    patient_N, side_N = rows.patient_U[rows.unit_N], source_U[rows.unit_N]
    weights_N = 1 / np.bincount(patient_N)[patient_N]
    scores_N = np.zeros(len(side_N))
    for fold in range(separability.FOLDS):
        test_N = patient_N % separability.FOLDS == fold
        x_NF, w_N, of_source_N = rows.values_NF[~test_N], weights_N[~test_N], side_N[~test_N]
        scatter = w_N @ (x_NF - np.average(x_NF, 0, w_N)) ** 2
        alpha = separability.RIDGE * scatter.mean()
        weights_F = Ridge(alpha).fit(x_NF, np.where(of_source_N, 1, -1), w_N).coef_
        means = [np.average(x_NF[side], 0, w_N[side]) for side in (of_source_N, ~of_source_N)]
        scores_N[test_N] = (rows.values_NF[test_N] - np.mean(means, 0)) @ weights_F
    found = separability.domain_auroc().prepare(rows)(source_U[None], ~source_U[None])
    expected = roc_auc_score(side_N, scores_N, sample_weight=weights_N)
    assert found == pytest.approx([expected])
    assert found[0] > 0.6


def test_units_on_both_sides_have_no_label() -> None:
    rows, source_U = cohort()
    both_U = np.arange(rows.units) < 3
    without = np.flatnonzero(~both_U[rows.unit_N])
    alone = Rows(rows.values_NF[without], rows.names, rows.unit_N[without] - 3, np.arange(9))
    found = separability.domain_auroc().prepare(rows)(
        (source_U | both_U)[None], (~source_U | both_U)[None]
    )
    expected = separability.domain_auroc().prepare(alone)(source_U[None, 3:], ~source_U[None, 3:])
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_arrangements_together_are_scored_as_each_alone(name: str) -> None:
    rows, source_U = cohort()
    random = np.random.default_rng(4)
    source_RU = np.stack([source_U, *(random.permuted(source_U) for _ in range(4))])
    target_RU = ~source_RU
    target_RU[3, :2] = False  # jackknife: a patient left out
    source_RU[3, :2] = False
    target_RU[4, 5] = source_RU[4, 5] = True  # in both domains
    scorer = metric_named(name).prepare(rows)
    together = scorer(source_RU, target_RU)
    alone = [scorer(source_RU[r : r + 1], target_RU[r : r + 1])[0] for r in range(5)]
    assert np.isfinite(together).all()
    assert together == pytest.approx(alone, rel=1e-9, abs=1e-12)
    swapped = scorer(target_RU, source_RU)
    assert swapped == pytest.approx(together, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", BY_PATIENT)
def test_patient_weighs_the_same_with_copies_of_an_image(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medtl.shift.metrics.kernels.median_gamma", lambda values_NF: 0.1)
    rows, source_U = cohort()
    copies_U = np.repeat(np.arange(12), [1, 4, 1, 1, 2, 1, 1, 1, 3, 1, 1, 1])
    values_NF = rows.values_NF.reshape(12, 5, -1)[copies_U].reshape(5 * len(copies_U), -1)
    unit_N = np.repeat(np.arange(len(copies_U)), 5)
    copied = Rows(values_NF, rows.names, unit_N, copies_U)
    expected = metric_named(name).prepare(rows)(source_U[None], ~source_U[None])
    of_copies = source_U[copies_U][None]
    found = metric_named(name).prepare(copied)(of_copies, ~of_copies)
    assert found == pytest.approx(expected, rel=1e-9)


def test_patients_give_as_many_images_as_the_one_with_the_fewest_in_turn() -> None:
    patient_U = np.repeat(np.arange(4), [4, 4, 1, 3])
    rows = Rows(np.zeros((12, 1)), ("a/b",), np.arange(12), patient_U)
    source_U = np.array([1, 1, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0], dtype=bool)
    alone_U = patient_U != 3
    source_RU = np.stack([source_U, ~source_U & alone_U, source_U & (patient_U < 2)])
    target_RU = np.stack([~source_U, source_U & alone_U, ~source_U & (patient_U == 3)])
    found = patients_of(rows).balanced(source_RU, target_RU)
    assert [np.flatnonzero(side_U).tolist() for side_U in found[0]] == [
        [0, 6, 8],  # the first of patient 0, the last of patient 1
        [3, 7],
        [0, 1, 2, 4, 5, 6],  # all have three
    ]
    assert [np.flatnonzero(side_U).tolist() for side_U in found[1]] == [
        [3, 7, 9],
        [0, 6, 8],
        [9, 10, 11],
    ]


@pytest.mark.parametrize("name", BY_PATIENT)
def test_images_give_as_many_rows_as_the_one_with_the_fewest(name: str) -> None:
    rows, source_U = cohort()
    values_NF, unit_N = [], []
    for unit, part_NF in enumerate(rows.values_NF.reshape(12, 5, -1)):
        if source_U[unit]:  # three times as many, of which every middle one is kept
            part_NF = np.stack([part_NF + 9, part_NF, part_NF - 5], axis=1).reshape(15, -1)
        values_NF.append(part_NF)
        unit_N += [unit] * len(part_NF)
    more = Rows(np.concatenate(values_NF), rows.names, np.array(unit_N), rows.patient_U)
    rows.values_NF[:] -= rows.values_NF.mean(0)
    rows.values_NF[:] *= more.values_NF.std(0) / rows.values_NF.std(0)
    few, many = (
        metric_named(name).prepare(each)(source_U[None], ~source_U[None]) for each in (rows, more)
    )
    assert many == pytest.approx(few, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_scored_where_a_side_is_empty(name: str) -> None:
    rows, source_U = cohort()
    found = metric_named(name).prepare(rows)(source_U[None], np.zeros((1, 12), bool))
    assert np.isnan(found).all()


@pytest.mark.parametrize("name", BY_PATIENT)
def test_large_shift_stands_out_of_random_arrangements(name: str) -> None:
    rows, source_U = cohort(patients=24, shift=2.0)
    rows.values_NF[source_U[rows.unit_N]] += 3
    metric, sides = metric_named(name), Comparison(source_U, ~source_U, rows.patient_U)
    permutations = draw_permutations(Comparison(source_U, ~source_U, rows.patient_U), 199, 0)
    found = evaluate_metric(metric, metric.prepare(rows), sides, permutations)
    assert found.p is not None
    assert found.p <= 0.01


def test_legacy_loop_drops_pairs_across_batches_and_depends_on_order() -> None:
    """Written out again, sharing nothing with it."""
    random = np.random.default_rng(5)
    x_NF, y_MF = random.normal(size=(2500, 3)), 9 + 4 * random.normal(size=(1200, 3))
    x_NF[:1250] += 3
    u, v = (x_NF - x_NF.mean(0)) / x_NF.std(0), (y_MF - y_MF.mean(0)) / y_MF.std(0)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-0.1 * ((a[:, None] - b[None]) ** 2).sum(-1)).sum())

    total = 0.0
    for a in (u[:1000], u[1000:2000], u[2000:]):
        for b in (v[:1000], v[1000:]):
            total += k(a, a) / (2500 * 2499) + k(b, b) / (1200 * 1199) - 2 * k(a, b) / (2500 * 1200)
    assert legacy.legacy_mmd(x_NF, y_MF) == pytest.approx(total)
    shuffled = legacy.legacy_mmd(random.permutation(x_NF), y_MF)
    assert abs(shuffled - total) > 1e-3
    assert not legacy.mmd_legacy().tested
    assert "wrong" in legacy.mmd_legacy().warning
