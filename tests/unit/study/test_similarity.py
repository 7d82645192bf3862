"""CKA and canonical correlations against their definitions, scipy and scikit-learn."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.cross_decomposition import CCA

from medtl.errors import ConfigError, DataError
from medtl.study.similarity.cca import canonical_correlations, pwcca, svcca
from medtl.study.similarity.cka import batch_hsic, linear_cka, minibatch_cka

Array = np.ndarray


def related(examples: int, features: tuple[int, int], seed: int = 0) -> tuple[Array, Array]:
    """Features of two networks that share some signal, off centre and of unequal scales."""
    random = np.random.default_rng(seed)
    signal_NS = random.normal(size=(examples, 3))
    x_NF, y_NG = (
        signal_NS @ random.normal(size=(3, count))
        + random.normal(size=(examples, count)) * random.uniform(0.5, 2, count)
        + random.normal(size=count)
        for count in features
    )
    return x_NF, y_NG


def orthogonal(size: int, seed: int = 5) -> Array:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def hsic_1(x_NF: Array, y_NG: Array) -> float:
    """Song et al. 2012, with kernel matrices of zeroed diagonals."""
    k_NN, l_NN = x_NF @ x_NF.T, y_NG @ y_NG.T
    np.fill_diagonal(k_NN, 0)
    np.fill_diagonal(l_NN, 0)
    n, one_N = len(k_NN), np.ones(len(k_NN))
    return float(
        np.trace(k_NN @ l_NN)
        + (one_N @ k_NN @ one_N) * (one_N @ l_NN @ one_N) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * one_N @ k_NN @ l_NN @ one_N
    ) / (n * (n - 3))


@pytest.mark.parametrize("features", [(4, 7), (90, 6), (80, 120)])
def test_debiased_cka_is_that_of_kernels_with_zeroed_diagonals(features):
    x_NF, y_NG = related(25, features)
    expected = hsic_1(x_NF, y_NG) / np.sqrt(hsic_1(x_NF, x_NF) * hsic_1(y_NG, y_NG))
    assert linear_cka(x_NF, y_NG) == pytest.approx(expected, rel=1e-9)
    assert 0.1 < expected < 0.99


def test_hsic_is_the_mean_over_all_quadruples_of_examples():
    """The U-statistic of four different examples, which no matrix formula enters."""
    x_NF, y_NG = related(6, (3, 4))
    k_NN, l_NN = x_NF @ x_NF.T, y_NG @ y_NG.T
    mean = np.mean(
        [
            k_NN[i, j] * (l_NN[i, j] + l_NN[q, r] - 2 * l_NN[i, q])
            for i, j, q, r in permutations(range(6), 4)
        ]
    )
    found = batch_hsic([x_NF], [y_NG])
    assert found.cross_AB[0, 0] / 6 == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("features", [(4, 7), (80, 120)])
def test_biased_cka_is_that_of_centred_features(features):
    x_NF, y_NG = related(25, features)
    x_NF, y_NG = x_NF - x_NF.mean(0), y_NG - y_NG.mean(0)
    norms = np.linalg.norm(x_NF.T @ x_NF) * np.linalg.norm(y_NG.T @ y_NG)
    expected = np.linalg.norm(y_NG.T @ x_NF) ** 2 / norms
    assert linear_cka(x_NF + 3, y_NG - 1, debiased=False) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("debiased", [True, False])
def test_cka_knows_features_again_after_rotation_shift_and_one_scale(debiased):
    x_NF, y_NG = related(20, (8, 8))
    turned_NF = -7 * x_NF @ orthogonal(8) + 100
    assert linear_cka(x_NF, turned_NF, debiased=debiased) == pytest.approx(1)
    plain = linear_cka(x_NF, y_NG, debiased=debiased)
    assert linear_cka(turned_NF, y_NG, debiased=debiased) == pytest.approx(plain)
    stretched_NF = x_NF * [30, 1, 1, 1, 1, 1, 1, 1]
    assert linear_cka(x_NF, stretched_NF, debiased=debiased) < 0.9


def test_unrelated_features_have_no_debiased_cka_but_a_high_biased_one():
    random = np.random.default_rng(0)
    pairs = [random.normal(size=(2, 30, 600)) for _ in range(20)]
    debiased = [linear_cka(x_NF, y_NF) for x_NF, y_NF in pairs]
    assert abs(np.mean(debiased)) < 0.02
    assert min(debiased) < 0 < max(debiased)
    assert min(linear_cka(x_NF, y_NF, debiased=False) for x_NF, y_NF in pairs) > 0.9


def test_cka_of_features_with_noise_is_the_one_expected():
    """Noise of twice the deviation: covariances I, I and 5 I, and so 1 / sqrt(5 * 5)."""
    random = np.random.default_rng(8)
    x_NF = random.normal(size=(500, 400))
    noisy_NF = x_NF + 2 * random.normal(size=(500, 400))
    assert linear_cka(x_NF, noisy_NF) == pytest.approx(0.2, abs=0.01)


def test_cka_is_within_one_of_zero():
    random = np.random.default_rng(1)
    found = [linear_cka(*random.normal(size=(2, 4, 3))) for _ in range(200)]
    assert -1 <= min(found) < -0.9
    assert 0.9 < max(found) <= 1


def test_batches_of_all_subsets_give_the_cka_of_all_examples():
    """HSIC is a U-statistic of degree 4: its mean over all batches of 4 is that of the whole."""
    x_NF, y_NG = related(8, (5, 9))
    subsets = [list(chosen) for chosen in combinations(range(8), 4)]
    found_AB = minibatch_cka(([x_NF[chosen]], [y_NG[chosen]]) for chosen in subsets)
    assert found_AB.shape == (1, 1)
    assert found_AB[0, 0] == pytest.approx(linear_cka(x_NF, y_NG), rel=1e-9)


def test_hsic_is_averaged_by_examples_before_it_is_divided():
    x_NF, y_NG = related(30, (5, 9))
    parts = [slice(0, 12), slice(12, 24), slice(24, 30)]
    cross, own_x, own_y = (
        np.average([hsic_1(one[part], two[part]) for part in parts], weights=[12, 12, 6])
        for one, two in ((x_NF, y_NG), (x_NF, x_NF), (y_NG, y_NG))
    )
    found_AB = minibatch_cka([([x_NF[part]], [y_NG[part]]) for part in parts])
    assert found_AB[0, 0] == pytest.approx(cross / np.sqrt(own_x * own_y), rel=1e-9)


def test_layers_are_compared_in_pairs_and_feature_maps_as_rows():
    random = np.random.default_rng(2)
    first = [random.normal(size=(10, 2, 3, 4, 4)).astype(np.float32), random.normal(size=(10, 5))]
    second = [first[1] * 2, random.normal(size=(10, 7)), first[0][:, ::-1]]
    found_AB = minibatch_cka([(first, second)])
    assert found_AB.shape == (2, 3)
    for (a, b), cka in np.ndenumerate(found_AB):
        rows = first[a].reshape(10, -1), second[b].reshape(10, -1)
        assert cka == pytest.approx(linear_cka(*rows), abs=1e-9)
    assert (found_AB[1, 0], found_AB[0, 2]) == (pytest.approx(1), pytest.approx(1))


@pytest.mark.parametrize(
    ("x_NF", "message"),
    [
        (np.full((6, 2), np.nan), "not finite"),
        (np.ones((5, 2)), "one network has 5 examples, the other 6"),
        (np.full((6, 2), 0.1), "layer 1 of the first network does not tell"),
        (np.eye(6), "layer 1 of the first network does not tell"),
        (np.arange(6.0), "shape"),
    ],
)
def test_features_that_have_no_cka_are_named(x_NF, message):
    y_NG = np.random.default_rng(0).normal(size=(6, 4))
    with pytest.raises(DataError, match=message):
        linear_cka(x_NF, y_NG)


def test_debiased_cka_needs_four_examples_and_the_biased_one_two():
    x_NF, y_NG = related(4, (5, 9))
    assert linear_cka(x_NF, y_NG) < 1
    assert linear_cka(x_NF[:2], y_NG[:2], debiased=False) == pytest.approx(1)
    with pytest.raises(DataError, match="3 examples; debiased CKA needs at least 4"):
        linear_cka(x_NF[:3], y_NG[:3])


def test_batches_that_do_not_belong_together_are_named():
    x_NF, y_NG = related(8, (5, 9))
    with pytest.raises(DataError, match="no batch"):
        minibatch_cka([])
    with pytest.raises(DataError, match="same layers"):
        minibatch_cka([([x_NF], [y_NG]), ([x_NF, x_NF], [y_NG])])


def of_known_correlations() -> tuple[Array, Array]:
    """Canonical correlations of .8 and .3, the first on three times as strong a feature."""
    columns_ND = np.random.default_rng(3).normal(size=(40, 5))
    columns_ND[:, 0] = 1
    one_N, two_N, three_N, four_N = np.linalg.qr(columns_ND)[0].T[1:]
    x_NF = np.stack([3 * one_N, two_N], axis=1)
    y_NG = np.stack([0.8 * one_N + 0.6 * three_N, 0.3 * two_N + np.sqrt(0.91) * four_N], axis=1)
    return x_NF, y_NG + 5


def test_known_correlations_are_found_and_weighted():
    x_NF, y_NG = of_known_correlations()
    assert canonical_correlations(x_NF, y_NG) == pytest.approx([0.8, 0.3])
    assert svcca(x_NF, y_NG) == pytest.approx(0.55)
    assert pwcca(x_NF, y_NG) == pytest.approx((3 * 0.8 + 0.3) / 4)


def test_correlations_are_those_of_scikit_learn_and_of_the_angles_between_spaces():
    x_NF, y_NG = related(60, (5, 4))
    found_D = canonical_correlations(x_NF, y_NG)
    centred = x_NF - x_NF.mean(0), y_NG - y_NG.mean(0)
    assert found_D == pytest.approx(np.sort(np.cos(subspace_angles(*centred)))[::-1], rel=1e-9)
    one_ND, two_ND = CCA(4, max_iter=5000, tol=1e-12).fit_transform(x_NF, y_NG)
    theirs_D = [np.corrcoef(one_ND[:, d], two_ND[:, d])[0, 1] for d in range(4)]
    assert found_D == pytest.approx(theirs_D, abs=1e-6)
    assert found_D[0] - found_D[-1] > 0.3


def test_correlations_do_not_change_with_invertible_linear_maps():
    random = np.random.default_rng(4)
    x_NF, y_NG = related(60, (5, 4))
    mapped_NF = x_NF @ random.normal(size=(5, 5)) - 2
    mapped_NG = y_NG @ random.normal(size=(4, 4))
    plain_D = canonical_correlations(x_NF, y_NG)
    assert canonical_correlations(mapped_NF, mapped_NG) == pytest.approx(plain_D)
    assert svcca(mapped_NF, mapped_NG, variance=1) == pytest.approx(plain_D.mean())
    assert pwcca(x_NF, mapped_NG) == pytest.approx(pwcca(x_NF, y_NG))
    assert abs(pwcca(mapped_NF, y_NG) - pwcca(x_NF, y_NG)) > 1e-3  # its weights are of features


def by_eigenvalues(x_NF: Array, y_NG: Array) -> tuple[Array, Array]:
    """Squared correlations are the eigenvalues of Cxx^-1 Cxy Cyy^-1 Cyx; and variates of x."""
    covariance = np.cov(x_NF.T, y_NG.T)
    f = x_NF.shape[1]
    xx, xy, yy = covariance[:f, :f], covariance[:f, f:], covariance[f:, f:]
    values, vectors = np.linalg.eig(np.linalg.solve(xx, xy) @ np.linalg.solve(yy, xy.T))
    order = np.argsort(-values.real)[: min(f, y_NG.shape[1])]
    variates = (x_NF - x_NF.mean(0)) @ vectors.real[:, order]
    return np.sqrt(values.real[order]), variates / np.linalg.norm(variates, axis=0)


def test_weights_are_absolute_products_with_the_features():
    x_NF, y_NG = related(60, (5, 4))
    correlation_D, variate_ND = by_eigenvalues(x_NF, y_NG)
    weight_D = [
        sum(abs(variate_ND[:, d] @ (column_N - column_N.mean())) for column_N in x_NF.T)
        for d in range(4)
    ]
    expected = np.average(correlation_D, weights=weight_D)
    assert pwcca(x_NF, y_NG) == pytest.approx(expected, rel=1e-6)
    assert abs(expected - correlation_D.mean()) > 0.01


@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99])
def test_svcca_keeps_the_fewest_directions_with_the_share_of_the_variance(variance):
    x_NF, y_NG = related(80, (9, 12))
    kept = []
    for features_NF in (x_NF, y_NG):
        centred_NF = features_NF - features_NF.mean(0)
        values_F, vectors_FD = np.linalg.eigh(centred_NF.T @ centred_NF)
        values_F, vectors_FD = values_F[::-1], vectors_FD[:, ::-1]
        count = next(d for d in range(1, 99) if values_F[:d].sum() >= variance * values_F.sum())
        kept.append(centred_NF @ vectors_FD[:, :count])
    expected_D, _ = by_eigenvalues(*kept)
    assert svcca(x_NF, y_NG, variance=variance) == pytest.approx(expected_D.mean(), rel=1e-6)


def test_features_that_repeat_others_in_single_precision_add_no_direction():
    x_NF, y_NG = related(20, (5, 6))
    mix_FG = np.random.default_rng(7).normal(size=(5, 9))
    repeated_NF = np.concatenate([x_NF + 40, (x_NF + 40) @ mix_FG], axis=1).astype(np.float32)
    found_D = canonical_correlations(repeated_NF, y_NG)
    assert found_D == pytest.approx(canonical_correlations(x_NF, y_NG), abs=1e-4)


def test_correlations_that_too_few_examples_force_to_one_are_refused():
    random = np.random.default_rng(6)
    x_NF, y_NG = random.normal(size=(20, 12)), random.normal(size=(20, 8))
    forced_D = np.cos(subspace_angles(x_NF - x_NF.mean(0), y_NG - y_NG.mean(0)))
    assert (forced_D > 1 - 1e-9).sum() == 1
    with pytest.raises(DataError, match="12 and 8 directions: some correlations are 1"):
        canonical_correlations(x_NF, y_NG)
    assert canonical_correlations(x_NF[:, 1:], y_NG).max() < 1 - 1e-6
    with pytest.raises(DataError, match="give more than 38 examples"):
        svcca(*random.normal(size=(2, 20, 50)), variance=1)


def test_features_that_have_no_correlations_are_named():
    x_NF, y_NG = related(20, (3, 4))
    with pytest.raises(DataError, match="constant"):
        svcca(np.full((20, 3), 0.1), y_NG)
    with pytest.raises(DataError, match="20 examples, the other 19"):
        pwcca(x_NF, y_NG[1:])
    with pytest.raises(DataError, match="not finite"):
        svcca(x_NF, np.where(y_NG > 1, np.inf, y_NG))
    with pytest.raises(ConfigError, match="variance is 99"):
        svcca(x_NF, y_NG, variance=99)
