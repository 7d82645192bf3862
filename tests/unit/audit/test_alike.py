"""The exact search over all orientations, against a product over each of them."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medtl.audit.search.alike import alike_pairs


def smooth(random: np.random.Generator, count: int, edge: int, dimensions: int) -> NDArray:
    shape = (edge,) * dimensions
    made = [gaussian_filter(random.normal(size=shape), 1.2) for _ in range(count)]
    return np.stack(made).astype(np.float32)


def turned(image: NDArray, axes: tuple[int, ...], mirrored: tuple[int, ...]) -> NDArray:
    moved = image.transpose(axes)
    return np.flip(moved, mirrored) if mirrored else moved


def normed(images_N: NDArray) -> NDArray:
    rows = images_N.reshape(len(images_N), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(first_N: NDArray, second_N: NDArray) -> NDArray:
    """The best correlation of each two images over all orientations of the second."""
    dimensions = first_N.ndim - 1
    best = np.full((len(first_N), len(second_N)), -1.0)
    for axes in permutations(range(dimensions)):
        for flags in product((0, 1), repeat=dimensions):
            mirrored = tuple(n for n, flag in enumerate(flags) if flag)
            moved = np.stack([turned(image, axes, mirrored) for image in second_N])
            best = np.maximum(best, normed(first_N) @ normed(moved).T)
    return best


@pytest.mark.parametrize(("dimensions", "edge", "count"), [(2, 32, 120), (3, 10, 40)])
def test_pairs_and_orientations_are_those_of_a_search_in_each(
    dimensions: int, edge: int, count: int
) -> None:
    random = np.random.default_rng(dimensions)
    images_N = smooth(random, count, edge, dimensions)
    for n in range(0, 20, 2):
        axes = tuple(map(int, random.permutation(dimensions)))
        mirrored = tuple(a for a in range(dimensions) if random.random() < 0.5)
        noise = 0.02 * random.normal(size=(edge,) * dimensions)
        images_N[n + 1] = turned(images_N[n], axes, mirrored) + noise * images_N[n].std()
    wanted = np.triu(brute_force(images_N, images_N), 1)

    found = alike_pairs(images_N, 0.5)

    assert {(one.first, one.second) for one in found} == {
        (int(a), int(b)) for a, b in np.argwhere(wanted >= 0.5)
    }
    assert len(found) >= 10
    for one in found:
        assert one.correlation == pytest.approx(wanted[one.first, one.second], abs=1e-5)
        moved = turned(images_N[one.second], one.axes, one.mirrored)
        own = np.corrcoef(images_N[one.first].ravel(), moved.ravel())[0, 1]
        assert own == pytest.approx(one.correlation, abs=1e-5)


def test_views_find_what_whole_images_do_not() -> None:
    random = np.random.default_rng(5)
    images_N, others = smooth(random, 30, 16, 2), smooth(random, 30, 16, 2)
    others[3] = images_N[8].T
    assert not any(one.view for one in alike_pairs(images_N, 0.9))
    (pair,) = (one for one in alike_pairs(images_N, 0.9, [others]) if one.view)
    assert (pair.first, pair.second, pair.view) == (3, 8, 1)
    assert pair.correlation == pytest.approx(1, abs=1e-5)


def test_a_constant_image_is_like_no_other() -> None:
    images_N = np.zeros((4, 8, 8), np.float32)
    images_N[2:] = 5
    assert alike_pairs(images_N, 0.1) == []


def test_edges_must_be_equal() -> None:
    with pytest.raises(ValueError, match="equal edges"):
        alike_pairs(np.zeros((2, 8, 9), np.float32), 0.5)
