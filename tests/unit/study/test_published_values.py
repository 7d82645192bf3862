"""Similarity and transferability against published numbers, and examples that are done by hand.

Of CKA, SVCCA and PWCCA no table with its data was found in print: their examples here have values
that follow from their construction. Canonical correlations have one that several manuals print.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_linnerud
from sklearn.linear_model import BayesianRidge

from medtl.errors import DataError
from medtl.study.similarity.cca import canonical_correlations, pwcca, svcca
from medtl.study.similarity.cka import batch_hsic, linear_cka
from medtl.study.transferability.logme import logme_regression

Array = NDArray[np.float64]


def hsic(x_N: Array, y_N: Array) -> float:
    """The unbiased HSIC of one feature each."""
    return float(batch_hsic([x_N[:, None]], [y_N[:, None]]).cross_AB[0, 0]) / len(x_N)


def test_canonical_correlations_of_linnerud_s_fitness_club() -> None:
    """SAS/STAT User's Guide, the CANCORR procedure, "Fitness Club Data": 20 men."""
    club = load_linnerud()
    found = canonical_correlations(club.target, club.data)
    assert found.round(6).tolist() == [0.795608, 0.200556, 0.07257]
    assert svcca(club.target, club.data, variance=1) == pytest.approx(1.068734 / 3, abs=1e-6)


X, Y, Z = (np.array(row, dtype=float) for row in ([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 2]))


@pytest.mark.parametrize(
    ("one_N", "two_N", "expected"),
    [
        # Song et al. 2012, eq. 4, for n = 4: (tr KL + (1'K1)(1'L1) / 6 - 1'KL1) / 4, with
        # products of different points in K and L. x: only K34 = 1. y: only L24 = 1.
        # z: L23 = 1, L24 = L34 = 2. Sums of rows: (0 0 1 1), (0 1 0 1), (0 3 3 4).
        (X, X, (2 + 2 * 2 / 6 - 2) / 4),  # 1/6
        (Y, Y, (2 + 2 * 2 / 6 - 2) / 4),  # 1/6
        (X, Y, (0 + 2 * 2 / 6 - 1) / 4),  # -1/12
        (X, Z, (4 + 2 * 10 / 6 - 7) / 4),  # 1/12
        (Z, Z, (18 + 10 * 10 / 6 - 34) / 4),  # 1/6
    ],
)
def test_hsic_of_four_points_by_hand(one_N: Array, two_N: Array, expected: float) -> None:
    assert hsic(one_N, two_N) == pytest.approx(expected, abs=1e-12)


def test_debiased_cka_of_four_points_by_hand() -> None:
    """-1/12 over 1/6, and 1/12 over 1/6."""
    assert linear_cka(X[:, None], Y[:, None]) == pytest.approx(-1 / 2)
    assert linear_cka(X[:, None], Z[:, None]) == pytest.approx(1 / 2)


def test_unbiased_hsic_is_zero_on_average_whatever_the_features() -> None:
    """Over all orders of the examples of one network, exactly; the biased one is not."""
    x_NF, y_NG = np.random.default_rng(0).normal(size=(2, 5, 9)) + 3
    orders = [y_NG[list(order)] for order in permutations(range(5))]
    own = batch_hsic([x_NF], [y_NG])
    scale = float(np.sqrt(own.own_A[0] * own.own_B[0]))
    unbiased = np.mean([batch_hsic([x_NF], [order]).cross_AB[0, 0] for order in orders])
    assert unbiased / scale == pytest.approx(0, abs=1e-12)
    biased = [batch_hsic([x_NF], [order], debiased=False).cross_AB[0, 0] for order in orders]
    assert np.mean(biased) > 0.1 * scale


def test_unbiased_hsic_of_independent_draws_is_zero_on_average() -> None:
    random = np.random.default_rng(1)
    drawn = [hsic(random.exponential(size=8), random.normal(size=8) ** 3) for _ in range(4000)]
    assert abs(np.mean(drawn)) < 4 * np.std(drawn) / 4000**0.5


@pytest.mark.parametrize("debiased", [True, False])
def test_cka_tells_linear_maps_apart_that_cca_does_not(debiased: bool) -> None:
    """Kornblith et al. 2019, section 2: invariance to rotation and one scale, not to any map."""
    random = np.random.default_rng(2)
    x_NF, y_NG = random.normal(size=(50, 4)) * [4, 2, 1, 0.5], random.normal(size=(50, 4))
    y_NG += x_NF
    turn = np.linalg.qr(random.normal(size=(4, 4)))[0]
    plain = linear_cka(x_NF, y_NG, debiased=debiased)
    assert linear_cka(x_NF @ turn * 0.01, y_NG, debiased=debiased) == pytest.approx(plain)
    mapped_NF = x_NF @ np.diag([0.1, 1, 2, 8]) @ random.normal(size=(4, 4))
    assert abs(linear_cka(mapped_NF, y_NG, debiased=debiased) - plain) > 0.1
    assert canonical_correlations(mapped_NF, y_NG) == pytest.approx(
        canonical_correlations(x_NF, y_NG)
    )


def test_with_as_many_features_as_examples_only_cka_tells_networks_apart() -> None:
    """Kornblith et al. 2019, theorem 1: an index that knows any linear map again is constant.

    Both spaces are all centred vectors: every cosine is 1. Such correlations are refused.
    """
    random = np.random.default_rng(3)
    x_NF, y_NG = random.normal(size=(2, 12, 20))
    bases = [np.linalg.svd(rows - rows.mean(0))[0][:, :11] for rows in (x_NF, y_NG)]
    cosines = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    assert cosines == pytest.approx(1)
    with pytest.raises(DataError, match="1 whatever the networks"):
        svcca(x_NF, y_NG, variance=1)
    with pytest.raises(DataError, match="1 whatever the networks"):
        pwcca(x_NF, y_NG)
    assert linear_cka(x_NF, y_NG) < 0.3 < linear_cka(x_NF, x_NF + y_NG / 4)


def waves(strength_D: Array, phase_D: Array, seed: int) -> Array:
    """Sines of 1, 2, ... whole periods (the SVCCA paper's toy), in the axes of a random basis.

    Sines of different periods are orthogonal and have one norm. A sine and the same one moved by a
    phase have the correlation cos(phase).
    """
    time_N = 2 * np.pi * np.arange(240) / 240
    period_D = np.arange(1, len(strength_D) + 1)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(strength_D),) * 2))[0]
    return np.asarray(strength_D * np.sin(time_N[:, None] * period_D + phase_D) @ basis)


def test_sines_out_of_phase_have_the_correlations_of_their_phases() -> None:
    phase_D = np.arccos([0.9, 0.7, 0.5, 0.2])
    strength_D = np.array([5.0, 1.0, 3.0, 0.01])
    x_NF, y_NG = waves(strength_D, 0 * phase_D, 1), waves(strength_D, phase_D, 2)
    assert canonical_correlations(x_NF, y_NG) == pytest.approx([0.9, 0.7, 0.5, 0.2])
    assert svcca(x_NF, y_NG, variance=1) == pytest.approx(2.3 / 4)
    # The fourth has a share of 3e-6 of the variance: 99% is that of the other three.
    assert svcca(x_NF, y_NG) == pytest.approx(2.1 / 3)
    # The second has a share of 1 / 35.
    assert svcca(x_NF, y_NG, variance=0.95) == pytest.approx((0.9 + 0.5) / 2)


def test_pwcca_of_sines_weighs_by_their_strength() -> None:
    """In the axes of the sines, a direction's products with the features are its strength."""
    phase_D = np.arccos([0.9, 0.7, 0.5, 0.2])
    strength_D = np.array([5.0, 1.0, 3.0, 1.0])
    time_N = 2 * np.pi * np.arange(240) / 240
    x_NF = strength_D * np.sin(time_N[:, None] * np.arange(1, 5))
    y_NG = waves(np.ones(4), phase_D, 3)
    expected = (5 * 0.9 + 0.7 + 3 * 0.5 + 0.2) / 10
    assert pwcca(x_NF, y_NG) == pytest.approx(expected)
    assert pwcca(y_NG, x_NF) != pytest.approx(expected)


@pytest.mark.parametrize("features", [3, 12])
def test_logme_is_the_log_evidence_of_scikit_learn_s_bayesian_ridge(features: int) -> None:
    """Without intercept and with flat priors on both precisions, its fixed point is LogME's."""
    random = np.random.default_rng(features)
    x_NF = random.normal(size=(80, features)) * random.uniform(0.5, 3, features)
    y_N = x_NF @ random.normal(size=features) + random.normal(size=80)
    flat = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    ridge = BayesianRidge(max_iter=3000, tol=1e-12, fit_intercept=False, compute_score=True, **flat)
    ridge.fit(x_NF, y_N)
    assert logme_regression(x_NF, y_N) == pytest.approx(ridge.scores_[-1] / 80, abs=1e-8)
