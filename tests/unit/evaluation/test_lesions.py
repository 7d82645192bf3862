"""Lesion-wise scores against counts by hand and a slow transcription of the definition.

Axes: I J K voxels.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter, generate_binary_structure, label

from medtl.evaluation.lesions import REACH_MM, dilated, lesion_metrics
from medtl.evaluation.metrics import case_metrics

ISOTROPIC = (1.0, 1.0, 1.0)
EVERY = np.ones((3, 3, 3))


def boxes(*corners: tuple[tuple[int, int, int], tuple[int, int, int]]) -> np.ndarray:
    """A mask of 40 cubed with boxes: first voxel, edges."""
    mask = np.zeros((40, 40, 40), bool)
    for (i, j, k), (di, dj, dk) in corners:
        mask[i : i + di, j : j + dj, k : k + dk] = True
    return mask


def specks(seed: int, shape=(18, 15, 13), share: float = 0.06, sigma: float = 0.8) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return noise > np.quantile(noise, 1 - share)


def element(spacing_mm) -> np.ndarray:
    """The dilation's structuring element, from its words."""
    far = [int(REACH_MM / mm + 1e-9) for mm in spacing_mm]
    away_mm = np.meshgrid(
        *(np.abs(np.arange(-n, n + 1)) * mm for n, mm in zip(far, spacing_mm, strict=True)),
        indexing="ij",
    )
    return sum(away_mm) <= 2 * REACH_MM + 1e-9


def brute(prediction: np.ndarray, truth: np.ndarray, spacing_mm) -> dict[str, float]:
    """Lesion by lesion over the whole volume, by scipy's dilation and labels."""
    zones, true = label(binary_dilation(truth, element(spacing_mm)), EVERY)
    parts, predicted = label(prediction, EVERY)
    scores, belonging, matched, missed = [], set(), set(), 0
    for number in range(1, true + 1):
        lesion = truth & (zones == number)
        own = set(np.unique(parts[binary_dilation(lesion, element(spacing_mm))])) - {0}
        belonging |= own
        mask = np.isin(parts, list(own))
        scores.append(2 * (mask & lesion).sum() / (mask.sum() + lesion.sum()))
        matched |= own if scores[-1] >= 0.1 else set()
        missed += scores[-1] < 0.1
    false = predicted - len(matched)
    found = true - missed
    scores += [0.0] * (predicted - len(belonging))
    precision = found / (found + false) if found + false else float(true == predicted)
    recall = found / true if true else float(true == predicted)
    both = precision + recall
    return {
        "lesion_dice": float(np.mean(scores)) if scores else 1.0,
        "lesion_precision": precision,
        "lesion_recall": recall,
        "lesion_f1": 2 * precision * recall / both if both else 0.0,
        "true_lesions": true,
        "predicted_lesions": predicted,
        "missed_lesions": missed,
        "false_lesions": false,
    }


def test_dilation_on_a_grid_of_1_mm_is_that_of_brats() -> None:
    mask = specks(3, (30, 30, 30), share=0.002)
    brats = binary_dilation(mask, generate_binary_structure(3, 2), iterations=3)
    np.testing.assert_array_equal(dilated(mask, ISOTROPIC), brats)


@pytest.mark.parametrize("spacing_mm", [(0.5, 1.0, 2.5), (1.5, 1.5, 1.0), (1.0, 3.0, 1.2)])
def test_dilation_is_in_mm_along_every_axis(spacing_mm) -> None:
    mask = specks(4, (22, 18, 16), share=0.004)
    np.testing.assert_array_equal(
        dilated(mask, spacing_mm), binary_dilation(mask, element(spacing_mm))
    )


def test_nothing_is_dilated_on_a_coarse_grid() -> None:
    mask = specks(5)
    np.testing.assert_array_equal(dilated(mask, (7.5, 7.5, 7.5)), mask)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spacing_mm", [ISOTROPIC, (1.0, 1.4, 4.0), (7.5, 7.5, 7.5)])
def test_scores_equal_brute_force(seed: int, spacing_mm) -> None:
    truth = specks(seed, share=0.01 + 0.01 * (seed % 3), sigma=0.5 + 0.3 * (seed % 2))
    prediction = specks(seed + 50, share=0.015) | (truth & specks(seed + 70, share=0.5))
    expected = brute(prediction, truth, spacing_mm)
    assert lesion_metrics(prediction, truth, spacing_mm) == pytest.approx(expected)
    # The box around both masks is all that matters, and case_metrics cuts to it.
    wide = [np.pad(mask, ((4, 1), (0, 7), (3, 3))) for mask in (prediction, truth)]
    (found,) = case_metrics(wide[0][None], wide[1][None], spacing_mm, ["WT"]).values()
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_lesions_found_missed_and_invented_match_a_count_by_hand() -> None:
    truth = boxes(((5, 5, 5), (4, 4, 4)), ((25, 5, 5), (2, 2, 2)))  # 64 and 8 voxels
    prediction = boxes(
        ((6, 5, 5), (4, 4, 4)),  # 48 of the first one's, 16 beside it
        ((30, 30, 30), (1, 1, 1)),
        ((10, 30, 30), (2, 1, 1)),
    )
    found = lesion_metrics(prediction, truth, ISOTROPIC)
    assert found == {
        "lesion_dice": pytest.approx((2 * 48 / 128 + 0 + 0 + 0) / 4),
        "lesion_precision": pytest.approx(1 / 3),
        "lesion_recall": 1 / 2,
        "lesion_f1": pytest.approx(2 / 5),
        "true_lesions": 2,
        "predicted_lesions": 3,
        "missed_lesions": 1,
        "false_lesions": 2,
    }


def test_splinters_within_3_mm_belong_to_their_lesion() -> None:
    lesion = ((5, 5, 5), (4, 4, 4))  # ends at 8
    near, far = ((12, 5, 5), (1, 4, 4)), ((16, 5, 5), (1, 4, 4))  # 3 and 7 voxels between them
    one = lesion_metrics(boxes(lesion), boxes(lesion, near), ISOTROPIC)
    assert (one["true_lesions"], one["lesion_f1"]) == (1, 1)
    assert one["lesion_dice"] == 2 * 64 / (64 + 80)
    two = lesion_metrics(boxes(lesion), boxes(lesion, far), ISOTROPIC)
    assert (two["true_lesions"], two["missed_lesions"], two["lesion_dice"]) == (2, 1, 0.5)
    # A predicted component that only comes near is no false lesion, but spoils the Dice.
    beside = lesion_metrics(boxes(lesion, ((11, 5, 5), (1, 4, 4))), boxes(lesion), ISOTROPIC)
    assert beside["false_lesions"] == 0 and beside["predicted_lesions"] == 2
    assert beside["lesion_dice"] == 2 * 64 / (80 + 64)


def test_voxels_that_touch_at_a_corner_are_one_lesion() -> None:
    askew = np.eye(5, dtype=bool)[:, :, None] & np.eye(5, dtype=bool)[:, None, :]
    found = lesion_metrics(askew, askew, (7.5, 7.5, 7.5))
    assert found["true_lesions"] == found["predicted_lesions"] == found["lesion_dice"] == 1


def test_one_component_over_two_lesions_counts_in_full_for_each() -> None:
    truth = boxes(((5, 5, 5), (2, 2, 2)), ((25, 5, 5), (2, 2, 2)))
    prediction = boxes(((5, 5, 5), (22, 2, 2)))
    found = lesion_metrics(prediction, truth, ISOTROPIC)
    assert (found["true_lesions"], found["predicted_lesions"], found["lesion_f1"]) == (2, 1, 1)
    assert found["lesion_dice"] == 2 * 8 / (8 + 88)


def test_a_lesion_that_is_only_touched_or_flooded_is_not_found() -> None:
    lesion = boxes(((10, 10, 10), (4, 4, 4)))  # 64 voxels
    touched = boxes(((13, 10, 10), (1, 1, 3)))  # 3 of them: Dice 6 / 67
    flooded = boxes(((2, 2, 2), (13, 13, 13)))  # 2197 voxels: Dice 128 / 2261
    for prediction, dice in ((touched, 6 / 67), (flooded, 128 / 2261)):
        found = lesion_metrics(prediction, lesion, ISOTROPIC)
        assert found["lesion_dice"] == pytest.approx(dice)
        assert found["lesion_f1"] == found["lesion_recall"] == found["lesion_precision"] == 0
        assert (found["missed_lesions"], found["false_lesions"]) == (1, 1)
    enough = lesion_metrics(boxes(((13, 10, 10), (1, 1, 4))), lesion, ISOTROPIC)  # 8 / 68
    assert (enough["lesion_f1"], enough["missed_lesions"], enough["false_lesions"]) == (1, 0, 0)


def test_empty_masks_are_perfect_together_and_a_failure_alone() -> None:
    empty, some = boxes(), boxes(((5, 5, 5), (4, 4, 4)))
    scores = ("lesion_dice", "lesion_precision", "lesion_recall", "lesion_f1")
    for prediction, truth, score in ((empty, empty, 1), (some, empty, 0), (empty, some, 0)):
        found = lesion_metrics(prediction, truth, ISOTROPIC)
        assert [found[name] for name in scores] == [score] * 4


def test_volumes_are_in_ml_and_errors_absolute_and_relative() -> None:
    truth, prediction = boxes(((5, 5, 5), (4, 5, 5))), boxes(((5, 5, 5), (4, 5, 4)))
    spacing_mm = (0.5, 2.0, 3.0)  # 3 mm3 a voxel

    def volumes(prediction: np.ndarray, truth: np.ndarray) -> list[float]:
        (found,) = case_metrics(prediction[None], truth[None], spacing_mm, ["WT"]).values()
        names = ("truth_ml", "predicted_ml", "volume_error_ml", "relative_volume_error")
        return [found[name] for name in names]

    assert volumes(prediction, truth) == pytest.approx([0.3, 0.24, 0.06, 0.2])
    assert volumes(truth, prediction) == pytest.approx([0.24, 0.3, 0.06, 0.25])
    assert volumes(truth & False, truth) == pytest.approx([0.3, 0, 0.3, 1])
    assert volumes(truth, truth & False) == pytest.approx([0, 0.3, 0.3, 1])
    assert volumes(truth & False, truth & False) == [0, 0, 0, 0]
