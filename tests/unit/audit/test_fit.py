"""How well labels fit an image, against a dense formula and planted movements."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.stats import f_oneway

from medtl.audit.facts.fit import MARGIN, best_mirror, best_movement, ratio


def planted() -> tuple[np.ndarray, np.ndarray]:
    """An image with two structures brighter than what surrounds them, and their labels."""
    random = np.random.default_rng(0)
    values = np.zeros((40, 36, 30), np.int16)
    values[8:20, 10:18, 6:16], values[20:24, 10:18, 6:16] = 1, 2
    image = 40 * values + 20 * gaussian_filter(random.normal(size=values.shape), 1)
    return values, image.astype(np.float32)


def test_the_ratio_is_that_of_an_analysis_of_variance() -> None:
    values, image = planted()
    near = binary_dilation(values > 0, iterations=MARGIN)
    groups = [image[near & (values == value)].astype(float) for value in (0, 1, 2)]
    count = sum(map(len, groups))
    statistic = f_oneway(*groups).statistic  # between over within, each by its degrees of freedom
    share = 2 * statistic / (2 * statistic + count - 3)
    assert ratio(values, [image]) == pytest.approx(share, rel=1e-5)


def test_labels_in_their_place_fit_best() -> None:
    values, image = planted()
    own = ratio(values, [image])
    assert best_movement(values, [image], own) == ((0, 0, 0), 0.0)
    assert best_mirror(values, [image], own) == (-1, 0.0)


@pytest.mark.parametrize(("axis", "step"), [(0, 4), (1, -3), (2, 2)])
def test_a_movement_is_found(axis: int, step: int) -> None:
    values, image = planted()
    wrong = np.roll(values, step, axis)
    moved, gain = best_movement(wrong, [image], ratio(wrong, [image]))
    assert moved[axis] == -step and gain > 0.1


def test_a_mirror_is_found() -> None:
    values, image = planted()
    wrong = np.flip(values, 1)
    axis, gain = best_mirror(wrong, [image], ratio(wrong, [image]))
    assert axis == 1 and gain > 0.3
