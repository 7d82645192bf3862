"""Transferability scores against formulas written out, numerical maxima, scipy and scikit-learn."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from sklearn.covariance import ledoit_wolf

from medtl.errors import DataError
from medtl.study.transferability.agreement import rank_agreement, weighted_taus
from medtl.study.transferability.dense import dense_score
from medtl.study.transferability.hscore import h_score, regularised_h_score
from medtl.study.transferability.leep import leep, nce
from medtl.study.transferability.logme import logme, logme_regression

Array = np.ndarray


def task(
    examples: int = 40, features: int = 6, classes: int = 3, shift: float = 1.0, seed: int = 0
) -> tuple[Array, Array]:
    """Features around class means, off centre, and labels that are not 0, 1, 2."""
    random = np.random.default_rng(seed)
    class_N = np.arange(examples) % classes
    means_CF = shift * random.normal(size=(classes, features))
    noise_NF = random.normal(size=(examples, features)) * random.uniform(0.5, 2, features)
    return means_CF[class_N] + noise_NF + 2, 10 + 5 * class_N


def log_density(y_N: Array, x_NF: Array, log_alpha: float, log_beta: float) -> float:
    """Of y ~ N(0, I / beta + F F' / alpha), with the dense covariance."""
    covariance_NN = np.exp(-log_beta) * np.eye(len(y_N)) + np.exp(-log_alpha) * x_NF @ x_NF.T
    volume = np.linalg.slogdet(2 * np.pi * covariance_NN)[1]
    return float(-(volume + y_N @ np.linalg.solve(covariance_NN, y_N)) / 2)


def largest_density(y_N: Array, x_NF: Array) -> float:
    """Over alpha and beta from several starts, by simplices."""
    found = [
        minimize(
            lambda logs: -log_density(y_N, x_NF, *logs),
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 400},
        ).fun
        for start in ([0.0, 0.0], [4.0, 1.0])
    ]
    return -min(found)


@pytest.mark.parametrize("features", [4, 30])
def test_logme_of_numbers_is_the_largest_density_over_alpha_and_beta(features):
    random = np.random.default_rng(1)
    x_NF = random.normal(size=(20, features)) + 0.5
    y_NK = x_NF[:, :2] @ random.normal(size=(2, 2)) + random.normal(size=(20, 2))
    expected = [largest_density(y_N, x_NF) / 20 for y_N in y_NK.T]
    assert logme_regression(x_NF, y_NK) == pytest.approx(np.mean(expected), abs=1e-6)
    assert logme_regression(x_NF, y_NK[:, 0]) == pytest.approx(expected[0], abs=1e-6)


def test_logme_of_classes_is_the_mean_of_each_one_against_the_rest():
    x_NF, labels_N = task(20, 4)
    expected = [
        largest_density((labels_N == label).astype(float), x_NF) / 20 for label in (10, 15, 20)
    ]
    assert logme(x_NF, labels_N) == pytest.approx(np.mean(expected), abs=1e-6)
    assert logme(x_NF, [f"class {label}" for label in labels_N]) == logme(x_NF, labels_N)


def fixed_point(y_N: Array, x_NF: Array, rounds: int = 300) -> tuple[float, float]:
    """alpha, beta of You et al. 2021, with the posterior mean and precision written out."""
    alpha = beta = 1.0
    for _ in range(rounds):
        precision_FG = alpha * np.eye(x_NF.shape[1]) + beta * x_NF.T @ x_NF
        mean_F = beta * np.linalg.solve(precision_FG, x_NF.T @ y_N)
        known = np.trace(beta * x_NF.T @ x_NF @ np.linalg.inv(precision_FG))
        alpha = known / (mean_F @ mean_F)
        beta = (len(y_N) - known) / ((y_N - x_NF @ mean_F) ** 2).sum()
    return alpha, beta


def test_logme_is_the_evidence_at_the_published_fixed_point():
    x_NF, labels_N = task(60, 5, classes=2)
    expected = []
    for label in (10, 15):
        y_N = (labels_N == label).astype(float)
        expected.append(log_density(y_N, x_NF, *np.log(fixed_point(y_N, x_NF))) / 60)
    assert logme(x_NF, labels_N) == pytest.approx(np.mean(expected), abs=1e-7)


def test_logme_takes_the_higher_of_two_maxima():
    """One strong direction says nothing, six weak ones all: the fixed point has weights of 0."""
    x_NF = np.eye(30)[:, :7] * [1, *[0.03] * 6]
    y_N = np.repeat([0.05, 1, 0.2], [1, 6, 23])
    logs = [(a, b) for a in np.linspace(-12, 4, 33) for b in np.linspace(-1, 6, 29)]
    highest = max(log_density(y_N, x_NF, *each) for each in logs) / 30
    assert highest <= logme_regression(x_NF, y_N) < highest + 0.01
    assert log_density(y_N, x_NF, *np.log(fixed_point(y_N, x_NF, 40))) / 30 < highest - 0.3


def test_logme_of_features_that_say_nothing_is_that_of_noise():
    """Weights of 0: y ~ N(0, I / beta), and beta has its best value."""
    x_NF, y_N = np.eye(30)[:, :3], np.eye(30)[:, 20] + 1
    y_N[:3] = 0
    noise = stats.norm.logpdf(y_N, scale=np.sqrt((y_N**2).mean())).mean()
    assert logme_regression(x_NF, y_N) == pytest.approx(noise, abs=1e-6)


def test_logme_of_a_perfect_fit_is_high_and_finite_and_knows_no_scale():
    x_NF, labels_N = task(40, 5)
    perfect_NF = np.eye(3)[(labels_N - 10) // 5]
    found = logme(perfect_NF, labels_N)
    assert logme(x_NF, labels_N) + 5 < found < 20
    assert logme(1e3 * perfect_NF, labels_N) == pytest.approx(found)
    assert logme(1e-3 * x_NF, labels_N) == pytest.approx(logme(x_NF, labels_N))


def test_logme_grows_with_the_distance_of_the_classes():
    scores = [logme(*task(shift=shift)) for shift in (0.0, 0.5, 1.0, 3.0)]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.1


def source(examples: int = 50, classes: int = 4, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    labels_N = random.integers(0, 3, examples)
    logits_NZ = random.normal(size=(examples, classes)) + 2 * np.eye(classes)[labels_N]
    return np.exp(logits_NZ) / np.exp(logits_NZ).sum(1, keepdims=True), labels_N


def leep_by_loops(probabilities_NZ: Array, labels_N: Array) -> float:
    n, sources = probabilities_NZ.shape
    total = 0.0
    for row in range(n):
        likelihood = 0.0
        for z in range(sources):
            together = sum(probabilities_NZ[i, z] for i in range(n) if labels_N[i] == labels_N[row])
            given = together / sum(probabilities_NZ[i, z] for i in range(n))
            likelihood += given * probabilities_NZ[row, z]
        total += np.log(likelihood)
    return total / n


def test_leep_is_the_mean_log_of_the_expected_prediction():
    probabilities_NZ, labels_N = source(25)
    expected = leep_by_loops(probabilities_NZ, labels_N)
    assert leep(probabilities_NZ, labels_N) == pytest.approx(expected, rel=1e-12)
    never_NZ = np.concatenate([probabilities_NZ, np.zeros((25, 2))], axis=1)
    assert leep(never_NZ.astype(np.float32), labels_N) == pytest.approx(expected, rel=1e-6)


def test_nce_is_the_negative_conditional_entropy():
    probabilities_NZ, labels_N = source()
    source_N = probabilities_NZ.argmax(1)
    joint_CZ = stats.contingency.crosstab(labels_N, source_N).count
    entropy = stats.entropy(joint_CZ.ravel()) - stats.entropy(joint_CZ.sum(0))
    assert nce(source_N, labels_N) == pytest.approx(-entropy, rel=1e-12)
    assert nce([f"class {z}" for z in source_N], labels_N) == nce(source_N, labels_N)


def test_leep_and_nce_are_zero_where_the_source_knows_and_entropy_where_it_does_not():
    labels_N = np.array([0, 0, 1, 1, 1, 2])
    entropy = stats.entropy([2, 3, 1])
    assert nce(["a", "b", "c", "c", "c", "d"], labels_N) == pytest.approx(0, abs=1e-12)
    assert nce(np.zeros(6), labels_N) == pytest.approx(-entropy)
    assert leep(np.full((6, 4), 0.25), labels_N) == pytest.approx(-entropy)
    assert leep(np.eye(3)[labels_N], labels_N) == pytest.approx(0, abs=1e-12)


def covariances(x_NF: Array, labels_N: Array) -> tuple[Array, Array]:
    """Of the features, and of the features replaced by their class means."""
    means_NF = np.stack([x_NF[labels_N == label].mean(0) for label in labels_N])
    return np.cov(x_NF.T, bias=True), np.cov(means_NF.T, bias=True)


def test_h_score_is_the_trace_with_the_pseudoinverse():
    x_NF, labels_N = task()
    x_NF = np.concatenate([x_NF, x_NF[:, :2] - x_NF[:, 1:3]], axis=1)  # singular
    covariance_FG, between_FG = covariances(x_NF, labels_N)
    expected = np.trace(np.linalg.pinv(covariance_FG, hermitian=True) @ between_FG)
    assert h_score(x_NF, labels_N) == pytest.approx(expected, rel=1e-9)
    assert 0.5 < expected < 1.9


@pytest.mark.parametrize("features", [1, 6, 200])
def test_regularised_h_score_is_the_trace_with_the_covariance_of_ledoit_and_wolf(features):
    x_NF, labels_N = task(features=features)
    covariance_FG, shrinkage = ledoit_wolf(x_NF)
    _, between_FG = covariances(x_NF, labels_N)
    between_FG = (1 - shrinkage) * between_FG.reshape(features, features)
    expected = np.trace(np.linalg.inv(covariance_FG) @ between_FG)
    assert regularised_h_score(x_NF, labels_N) == pytest.approx(expected, rel=1e-9)
    assert features == 1 or 0.01 < shrinkage < 0.9


def test_h_score_is_one_less_than_the_classes_if_they_are_points_and_near_zero_if_unrelated():
    x_NF, labels_N = task(600, 8)
    points_NF = np.eye(3)[(labels_N - 10) // 5] @ np.random.default_rng(0).normal(size=(3, 8))
    assert h_score(points_NF, labels_N) == pytest.approx(2)
    assert h_score(x_NF @ np.diag(np.arange(1, 9)) + 5, labels_N) == pytest.approx(
        h_score(x_NF, labels_N)
    )
    unrelated_NF = np.random.default_rng(1).normal(size=(600, 8))
    assert h_score(unrelated_NF, labels_N) < 0.06
    assert regularised_h_score(unrelated_NF, labels_N) < 0.06


def test_h_score_that_any_features_would_have_is_refused():
    random = np.random.default_rng(0)
    labels_N = np.arange(20) % 3
    with pytest.raises(DataError, match="20 examples have 19 directions"):
        h_score(random.normal(size=(20, 19)), labels_N)
    assert h_score(random.normal(size=(20, 18)), labels_N) < 2 - 1e-3
    assert regularised_h_score(random.normal(size=(20, 19)), labels_N) < 1


@pytest.mark.parametrize("score", [logme, h_score, regularised_h_score, leep])
@pytest.mark.parametrize(
    ("x_NF", "labels_N", "message"),
    [
        (np.full((4, 2), np.nan), [0, 0, 1, 1], "not finite"),
        (np.full((4, 2), 0.5), [0, 0, 0, 0], "all 4 examples have the label 0"),
        (np.full((4, 2), 0.5), [0, 1, 0], r"shape \(3,\) for 4 examples"),
        (np.full((4, 2), 0.5), [0, 1, 0, np.nan], "labels have values that are not finite"),
        (np.full((1, 2), 0.5), [0], "at least 2 examples|all 1 examples"),
        (np.full(4, 0.5), [0, 1, 0, 1], r"shape \(4,\)"),
    ],
)
def test_inputs_without_a_score_are_named(score, x_NF, labels_N, message):
    with pytest.raises(DataError, match=message):
        score(x_NF, labels_N)


def test_features_and_targets_without_a_score_are_named():
    labels_N = np.arange(6) % 2
    for score in (h_score, regularised_h_score):
        with pytest.raises(DataError, match="all features are constant"):
            score(np.full((6, 3), 0.1), labels_N)
    with pytest.raises(DataError, match="features are all 0"):
        logme(np.zeros((6, 3)), labels_N)
    with pytest.raises(DataError, match="a target is the same"):
        logme_regression(np.ones((6, 3)), np.ones(6))
    with pytest.raises(DataError, match="targets have values that are not finite"):
        logme_regression(np.ones((6, 3)), np.full(6, np.inf))
    with pytest.raises(DataError, match="5 targets of 6 examples"):
        logme_regression(np.ones((6, 3)), np.arange(5.0))
    with pytest.raises(DataError, match="do not add up to 1; apply softmax"):
        leep(np.full((6, 3), 0.5), labels_N)
    with pytest.raises(DataError, match="do not add up to 1; apply softmax"):
        leep(np.tile([1.5, -0.5], (6, 1)), labels_N)
    with pytest.raises(DataError, match="labels have values that are not finite"):
        nce([0, 1, np.nan, 0, 1, 0], labels_N)


def voxels(counts: dict[str, tuple[int, int, int]]) -> tuple[Array, Array, Array]:
    """Numbered voxels (the feature), regions 0 to 2 of each patient, and the patients."""
    labels_V = np.concatenate([np.repeat([0, 1, 2], regions) for regions in counts.values()])
    patients_V = np.repeat(list(counts), [sum(regions) for regions in counts.values()])
    return np.arange(len(labels_V))[:, None], labels_V, patients_V


def test_patients_are_scored_alone_on_as_many_voxels_of_each_region():
    seen = []

    def score(features_VF: Array, labels_V: Array) -> float:
        seen.append((features_VF[:, 0], labels_V))
        return float(len(seen))

    numbers_VF, labels_V, patients_V = voxels(
        {"b": (500, 80, 30), "a": (900, 400, 300), "c": (700, 40, 3), "d": (800, 2, 0)}
    )
    found = dense_score(score, numbers_VF, labels_V, patients_V, most=60, fewest=10)
    assert [np.bincount(labels).tolist() for _, labels in seen] == [
        [60, 60, 60], [30, 30, 30], [40, 40],
    ]  # fmt: skip
    for (chosen, labels), patient in zip(seen, "abc", strict=True):
        assert len(set(chosen)) == len(chosen)
        assert (labels_V[chosen] == labels).all()
        assert (patients_V[chosen] == patient).all()
    assert found.by_patient == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert found.left_out == ("d",)
    assert (found.mean.mean, found.mean.n) == (2.0, 3)


@pytest.mark.parametrize("score", [logme, h_score, regularised_h_score])
def test_dense_score_is_the_mean_of_the_patients_scores(score):
    parts = [task(60, 5, seed=seed, shift=seed) for seed in range(1, 7)]
    x_VF, labels_V = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    patients_V = np.repeat([f"p{n}" for n in range(6)], 60)
    found = dense_score(score, x_VF, labels_V, patients_V)  # 20 voxels of each: all of them
    expected = [score(*part) for part in parts]
    assert list(found.by_patient.values()) == pytest.approx(expected)
    assert found.mean.mean == pytest.approx(np.mean(expected))
    low, high = stats.t.interval(0.95, 5, np.mean(expected), stats.sem(expected))
    assert (found.mean.low, found.mean.high) == (pytest.approx(low), pytest.approx(high))


def test_dense_scores_take_source_probabilities_and_labels():
    probabilities_VZ, labels_V = source(400)
    patients_V = np.repeat(["a", "b"], 200)
    soft = dense_score(leep, probabilities_VZ, labels_V, patients_V, seed=1)
    hard = dense_score(nce, probabilities_VZ.argmax(1), labels_V, patients_V, seed=1)
    assert soft.mean.mean < 0 and hard.mean.mean < 0


def test_arms_are_compared_on_the_same_voxels():
    labels_V, patients_V = np.arange(600) % 2, np.repeat(["a", "b"], 300)
    x_VF = np.random.default_rng(0).normal(size=(600, 3)) + labels_V[:, None]
    first, again, other = (
        dense_score(logme, x_VF, labels_V, patients_V, most=40, seed=seed) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_voxels_without_a_score_are_named():
    numbers_VF, labels_V, patients_V = voxels({"a": (50, 5, 0), "b": (50, 0, 9)})
    with pytest.raises(DataError, match="no patient has 10 voxels in each of two regions"):
        dense_score(logme, numbers_VF, labels_V, patients_V)
    with pytest.raises(DataError, match="shape"):
        dense_score(logme, numbers_VF, labels_V, patients_V[1:])
    wrong_VF = np.where(numbers_VF > 100, np.nan, numbers_VF)
    with pytest.raises(DataError, match="patient b: features have values that are not finite"):
        dense_score(logme, wrong_VF, labels_V, patients_V, fewest=2)


def named(scores: Array) -> dict[str, float]:
    return {f"arm {n}": float(score) for n, score in enumerate(scores)}


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_tau_is_that_of_scipy(ties):
    random = np.random.default_rng(0)
    x_A, y_RA = random.normal(size=7), random.normal(size=(15, 7))
    if ties:
        x_A, y_RA = np.round(x_A), np.round(y_RA)
        assert len(set(x_A)) < 7
    expected_R = [stats.weightedtau(x_A, y_A).statistic for y_A in y_RA]
    assert weighted_taus(x_A, y_RA) == pytest.approx(expected_R, abs=1e-12)


def test_p_is_the_share_of_all_permutations_that_agree_as_well():
    x_A, y_A = np.array([0.1, 0.5, 0.4, 0.9, 0.7]), np.array([60.0, 72.0, 65.0, 71.0, 80.0])
    found = rank_agreement(named(x_A), dict(reversed(named(y_A).items())))
    tau, spearman = stats.weightedtau(x_A, y_A).statistic, stats.spearmanr(x_A, y_A).statistic
    assert (found.weighted_tau, found.spearman) == (pytest.approx(tau), pytest.approx(spearman))
    orders = [np.array(order) for order in permutations(y_A)]
    as_high = [stats.spearmanr(x_A, order).statistic >= spearman - 1e-9 for order in orders]
    assert found.spearman_p == pytest.approx(np.mean(as_high))
    taus_R = weighted_taus(x_A, np.array(orders))
    assert found.weighted_tau_p == pytest.approx(np.mean(taus_R >= tau - 1e-9))
    assert (found.arms, found.permutations, found.exact) == (5, 120, True)


@pytest.mark.parametrize("arms", [2, 4, 8])
def test_p_of_perfect_agreement_is_one_over_all_permutations(arms):
    x_A = np.arange(arms) ** 2.0
    found = rank_agreement(named(x_A), named(np.exp(x_A / 10)))
    assert found.weighted_tau == found.spearman == pytest.approx(1)
    count = len(list(permutations(range(arms))))
    assert found.weighted_tau_p == found.spearman_p == pytest.approx(1 / count)
    against = rank_agreement(named(x_A), named(-x_A))
    assert (against.weighted_tau, against.weighted_tau_p) == (pytest.approx(-1), 1.0)


def test_p_of_more_than_eight_arms_is_drawn():
    random = np.random.default_rng(0)
    x_A = random.normal(size=9)
    y_A = x_A + 2 * random.normal(size=9)
    found = rank_agreement(named(x_A), named(y_A), seed=1)
    assert (found.permutations, found.exact) == (10_000, False)
    expected = stats.spearmanr(x_A, y_A, alternative="greater")
    assert found.spearman_p == pytest.approx(expected.pvalue, abs=0.03)
    assert found == rank_agreement(named(x_A), named(y_A), seed=1)
    assert found != rank_agreement(named(x_A), named(y_A), seed=2)
    perfect = rank_agreement(named(x_A), named(x_A), draws=99)
    assert perfect.weighted_tau_p == pytest.approx(1 / 100)


def test_p_is_as_often_small_as_it_says():
    random = np.random.default_rng(2)
    found = [
        rank_agreement(named(random.normal(size=5)), named(random.normal(size=5)))
        for _ in range(300)
    ]
    for p_R in ([f.weighted_tau_p for f in found], [f.spearman_p for f in found]):
        assert 0.05 < np.mean(np.array(p_R) <= 0.1) < 0.15


@pytest.mark.parametrize(
    ("predicted", "measured", "message"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "only one of the two sides has arm b, c"),
        ({"a": 1}, {"a": 1}, "1 arm; ranks need at least 2"),
        ({"a": 1, "b": np.nan}, {"a": 1, "b": 2}, "a predicted score is not finite"),
        ({"a": 1, "b": 2}, {"a": 1, "b": 1}, "all measured scores are equal"),
    ],
)
def test_arms_that_cannot_be_ranked_are_named(predicted, measured, message):
    with pytest.raises(DataError, match=message):
        rank_agreement(predicted, measured)
