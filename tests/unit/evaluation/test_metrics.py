from __future__ import annotations

import csv
import math
import time

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion, gaussian_filter
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from medtl.errors import DataError, RunError
from medtl.evaluation.metrics import (
    BOUNDS,
    case_metrics,
    metric_rows,
    region_names,
    scores_by_patient,
    summarise,
    write_metrics_csv,
)

SPACING_MM = (0.9, 1.3, 4.0)
SHAPE = (14, 12, 9)
#: Distances, counts, volumes and errors: all others are 1 at best.
NO_SCORE = [m for m, (_, high) in BOUNDS.items() if math.isinf(high)]


def blobs(seed: int, shape: tuple[int, ...] = SHAPE, share: float = 0.15) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return noise > np.quantile(noise, 1 - share)


def scores(prediction_IJK, truth_IJK, spacing_mm=SPACING_MM, tolerance_mm=1.0) -> dict[str, float]:
    return case_metrics(prediction_IJK[None], truth_IJK[None], spacing_mm, ["WT"], tolerance_mm)[
        "WT"
    ]


def brute_distances_mm(a_IJK, b_IJK, spacing_mm):
    """Every surface voxel of a against every surface voxel of b, and the other way round."""
    points = [
        np.argwhere(mask & ~binary_erosion(mask)) * np.array(spacing_mm) for mask in (a_IJK, b_IJK)
    ]
    pairwise = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
    return pairwise.min(axis=1), pairwise.min(axis=0)


def test_dice_and_friends_match_a_count_by_hand():
    truth_IJK = np.zeros((4, 4, 4), bool)
    truth_IJK[:2, :2, :2] = True  # 8 voxels
    prediction_IJK = np.zeros((4, 4, 4), bool)
    prediction_IJK[1:3, :2, :2] = True  # 8 voxels, 4 of them right
    found = scores(prediction_IJK, truth_IJK, (1, 1, 1))
    assert found["dice"] == 2 * 4 / 16
    assert found["iou"] == 4 / 12
    assert found["sensitivity"] == found["precision"] == 0.5
    assert found["specificity"] == 52 / 56
    assert found["hd95_mm"] == 1.0  # the far face of each cube lies one voxel off
    assert found["surface_dice"] == 1.0
    assert scores(prediction_IJK, truth_IJK, (1, 1, 1), 0.5)["surface_dice"] == 0.5


@pytest.mark.parametrize("seed", range(4))
def test_overlaps_equal_scikit_learn(seed):
    truth_IJK, prediction_IJK = blobs(seed), blobs(seed + 100, share=0.3)
    found = scores(prediction_IJK, truth_IJK)
    flat = truth_IJK.ravel(), prediction_IJK.ravel()
    assert found["iou"] == pytest.approx(jaccard_score(*flat))
    assert found["precision"] == pytest.approx(precision_score(*flat))
    assert found["sensitivity"] == pytest.approx(recall_score(*flat))
    assert found["specificity"] == pytest.approx(recall_score(~flat[0], ~flat[1]))
    assert found["dice"] == pytest.approx(2 * found["iou"] / (1 + found["iou"]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), SPACING_MM])
def test_surface_distances_equal_brute_force(seed, spacing_mm):
    truth_IJK, prediction_IJK = blobs(seed), blobs(seed + 100, share=0.1)
    there_mm, back_mm = brute_distances_mm(prediction_IJK, truth_IJK, spacing_mm)
    found = scores(prediction_IJK, truth_IJK, spacing_mm, 1.5)
    expected_mm = max(np.percentile(there_mm, 95), np.percentile(back_mm, 95))
    assert found["hd95_mm"] == pytest.approx(expected_mm)
    distances_mm = np.concatenate([there_mm, back_mm])
    assert found["surface_dice"] == pytest.approx((distances_mm <= 1.5).mean())


@pytest.mark.parametrize("seed", range(4))
def test_surface_distances_equal_monai(seed):
    truth_IJK, prediction_IJK = blobs(seed), np.roll(blobs(seed), 2, axis=1)
    found = scores(prediction_IJK, truth_IJK, SPACING_MM, 1.4)
    pair = [torch.from_numpy(mask)[None, None] for mask in (prediction_IJK, truth_IJK)]
    hd95_mm = compute_hausdorff_distance(
        *pair, include_background=True, percentile=95, spacing=SPACING_MM
    )
    surface_dice = compute_surface_dice(*pair, [1.4], include_background=True, spacing=SPACING_MM)
    assert found["hd95_mm"] == pytest.approx(hd95_mm.item(), rel=1e-5)
    assert found["surface_dice"] == pytest.approx(surface_dice.item(), rel=1e-5)


def test_distances_are_in_mm_along_the_right_axis():
    truth_IJK, prediction_IJK = np.zeros((2, 20, 20, 20), bool)
    truth_IJK[5, 5, 5] = prediction_IJK[5, 5, 8] = True
    assert scores(prediction_IJK, truth_IJK, (1.0, 2.0, 5.0))["hd95_mm"] == pytest.approx(15)


def test_both_empty_is_a_perfect_score():
    empty_IJK = np.zeros(SHAPE, bool)
    perfect = {metric: 0.0 if metric in NO_SCORE else 1.0 for metric in BOUNDS}
    assert scores(empty_IJK, empty_IJK) == perfect


@pytest.mark.parametrize("missed", [True, False])
def test_one_empty_is_a_complete_failure(missed):
    pair = [np.zeros(SHAPE, bool), blobs(0)]
    found = scores(*(pair if missed else reversed(pair)))
    diagonal_mm = math.sqrt(sum((n * mm) ** 2 for n, mm in zip(SHAPE, SPACING_MM, strict=True)))
    assert found.pop("hd95_mm") == pytest.approx(diagonal_mm)
    specificity = found.pop("specificity")
    assert specificity == 1.0 if missed else specificity == pytest.approx((~blobs(0)).mean())
    assert found["relative_volume_error"] == 1.0
    assert {value for metric, value in found.items() if metric not in NO_SCORE} == {0.0}


def test_a_mask_that_fills_the_volume_scores_perfect_against_itself():
    full_IJK = np.ones((5, 6, 7), bool)
    found = scores(full_IJK, full_IJK)
    assert found["hd95_mm"] == 0.0
    assert {value for metric, value in found.items() if metric not in NO_SCORE} == {1.0}


def test_every_metric_stays_within_its_range():
    for seed in range(5):
        for metric, value in scores(blobs(seed), blobs(seed + 50)).items():
            low, high = BOUNDS[metric]
            assert low <= value <= high


def test_regions_are_scored_by_name_in_any_mask_type():
    truth_LIJK = np.stack([blobs(0), blobs(1)])
    prediction_LIJK = np.stack([blobs(0), blobs(2)])
    found = case_metrics(prediction_LIJK, truth_LIJK, SPACING_MM, ["WT", "ET"])
    assert list(found) == ["WT", "ET"]
    assert found["WT"]["dice"] == 1.0 > found["ET"]["dice"]
    as_bytes = case_metrics(
        prediction_LIJK.astype(np.uint8), truth_LIJK.astype(np.float32), SPACING_MM, ["WT", "ET"]
    )
    assert as_bytes == found


def test_masks_of_different_grids_are_refused():
    with pytest.raises(DataError, match="differ in shape"):
        case_metrics(np.zeros((1, 4, 4, 4)), np.zeros((1, 4, 4, 5)), (1, 1, 1), ["WT"])


def test_a_native_case_takes_well_under_a_second():
    axes = np.ogrid[:240, :240, :155]
    square = sum((axis - centre) ** 2 for axis, centre in zip(axes, (120, 100, 80), strict=True))
    truth_LIJK = np.stack([square < radius**2 for radius in (32, 22, 14)])
    prediction_LIJK = np.roll(truth_LIJK, (2, -1), (1, 3))
    fastest = math.inf
    for _ in range(3):
        start = time.perf_counter()
        case_metrics(prediction_LIJK, truth_LIJK, (1, 1, 1), ["WT", "TC", "ET"])
        fastest = min(fastest, time.perf_counter() - start)
    assert fastest < 1.0  # 0.2 s on one quiet core


def two_patients() -> list[dict]:
    rows = []
    for case, patient, share in (("a1", "a", 0.2), ("a2", "a", 0.3), ("b1", "b", 0.4)):
        truth_LIJK = np.stack([blobs(1), blobs(2)])
        prediction_LIJK = np.stack([blobs(1, share=share), blobs(3)])
        rows += metric_rows(
            case, patient, case_metrics(prediction_LIJK, truth_LIJK, SPACING_MM, ["WT", "ET"])
        )
    return rows


def test_summary_averages_the_cases_of_a_patient_first():
    rows = two_patients()
    dice = {row["case"]: row["metrics"]["dice"] for row in rows if row["region"] == "WT"}
    summary = summarise(rows)
    assert list(summary) == ["WT", "ET"]
    assert list(summary["ET"]) == list(BOUNDS)
    assert summary["WT"]["dice"]["n"] == 2
    expected = ((dice["a1"] + dice["a2"]) / 2 + dice["b1"]) / 2
    assert summary["WT"]["dice"]["mean"] == pytest.approx(expected)
    assert scores_by_patient(rows, "WT", "dice") == {
        "a": [dice["a1"], dice["a2"]],
        "b": [dice["b1"]],
    }


def test_metrics_csv_reads_back_exactly(tmp_path):
    rows = [{"stage": "adapt", **row} for row in two_patients()]
    write_metrics_csv(tmp_path / "predictions" / "metrics.csv", rows)
    with (tmp_path / "predictions" / "metrics.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(rows)
    for line, row in zip(read, rows, strict=True):
        assert line["stage"] == "adapt"
        assert (line["case"], line["patient"], line["region"]) == (
            row["case"],
            row["patient"],
            row["region"],
        )
        assert {metric: float(line[metric]) for metric in BOUNDS} == row["metrics"]
    assert [file.name for file in (tmp_path / "predictions").iterdir()] == ["metrics.csv"]


def test_a_csv_that_cannot_be_finished_leaves_the_former_one(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("former")
    rows = two_patients()
    del rows[-1]["metrics"]["dice"]
    with pytest.raises(KeyError):
        write_metrics_csv(path, rows)
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_csv_that_has_no_place_says_so_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"metrics\.csv: cannot be written"):
        write_metrics_csv(tmp_path / "file" / "metrics.csv", two_patients())


SHEARED_MM = np.array([[1.0, 0.7, 0.0], [0.0, 1.5, 0.4], [0.0, 0.0, 2.0]])


def slow_surface(mask: np.ndarray) -> np.ndarray:
    """Coordinates (mm) of the voxels with a face neighbour outside the mask, one by one."""
    steps = np.vstack((np.eye(3, dtype=int), -np.eye(3, dtype=int)))
    inside = set(map(tuple, np.argwhere(mask).tolist()))
    rim = [
        v for v in inside if any(tuple(np.add(v, step).tolist()) not in inside for step in steps)
    ]
    return np.array(rim) @ SHEARED_MM.T


def test_a_sheared_grid_is_measured_through_its_affine() -> None:
    random = np.random.default_rng(3)
    truth = np.zeros((12, 11, 10), bool)
    truth[3:9, 2:8, 3:8] = True
    prediction = np.roll(truth, (2, 1, 1), (0, 1, 2)) & (random.random(truth.shape) > 0.2)
    edges_mm = np.linalg.norm(SHEARED_MM, axis=0)
    (found,) = case_metrics(
        prediction[None], truth[None], edges_mm, ["WT"], sheared_mm=SHEARED_MM
    ).values()
    one_ml = np.linalg.det(SHEARED_MM) / 1000
    assert found["truth_ml"] == pytest.approx(truth.sum() * one_ml)
    assert found["predicted_ml"] == pytest.approx(prediction.sum() * one_ml)
    assert found["truth_ml"] < truth.sum() * edges_mm.prod() / 1000 * 0.9
    a, b = slow_surface(prediction), slow_surface(truth)
    gaps_mm = np.linalg.norm(a[:, None] - b[None], axis=-1)
    ends = [np.percentile(gaps_mm.min(axis), 95) for axis in (0, 1)]
    assert found["hd95_mm"] == pytest.approx(max(ends))
    near = (gaps_mm.min(0) <= 1).sum() + (gaps_mm.min(1) <= 1).sum()
    assert found["surface_dice"] == pytest.approx(near / (len(a) + len(b)))
    (missed,) = case_metrics(
        truth[None] & False, truth[None], edges_mm, ["WT"], sheared_mm=SHEARED_MM
    ).values()
    corners = np.stack(np.meshgrid((0, 12), (0, 11), (0, 10)), -1).reshape(-1, 3) @ SHEARED_MM.T
    longest = np.linalg.norm(corners[:, None] - corners[None], axis=-1).max()
    assert missed["hd95_mm"] == pytest.approx(longest)


def test_steps_at_right_angles_are_measured_as_edges_are() -> None:
    random = np.random.default_rng(4)
    truth, prediction = random.random((2, 1, 9, 8, 7)) > 0.6
    edges = case_metrics(prediction, truth, (1.0, 1.5, 2.0), ["WT"])["WT"]
    steps = np.diag([1.0, 1.5, 2.0])
    by_steps = case_metrics(prediction, truth, (1.0, 1.5, 2.0), ["WT"], sheared_mm=steps)["WT"]
    assert by_steps == pytest.approx(edges)


def test_scores_are_those_of_the_labelled_part() -> None:
    """A slab that nobody labelled: the same as for volumes cut off before it, to the bit."""
    random = np.random.default_rng(4)
    truth, prediction = random.random((2, 2, 12, 11, 10)) > 0.6
    prediction[1] = False  # a complete failure: its distance is the diagonal of the image
    ignored = np.zeros((12, 11, 10), dtype=bool)
    ignored[:, 6:] = True
    found = case_metrics(prediction, truth, SPACING_MM, ["WT", "ET"], ignored_IJK=ignored)
    parts = prediction[:, :, :6], truth[:, :, :6]
    assert found == case_metrics(*parts, SPACING_MM, ["WT", "ET"])


def test_ignored_voxels_inside_are_in_no_score() -> None:
    random = np.random.default_rng(5)
    truth, prediction, ignored = random.random((3, 9, 8, 7)) > 0.5
    found = case_metrics(prediction[None], truth[None], (1, 1, 1), ["WT"], ignored_IJK=ignored)
    other = case_metrics(
        (prediction ^ ignored)[None], truth[None], (1, 1, 1), ["WT"], ignored_IJK=ignored
    )
    assert found == other
    kept = ~ignored.ravel()
    known_truth, known = truth.ravel()[kept], prediction.ravel()[kept]
    scores = found["WT"]
    assert scores["dice"] == pytest.approx(f1_score(known_truth, known))
    assert scores["specificity"] == pytest.approx(recall_score(~known_truth, ~known))


def test_regions_stand_in_the_order_of_a_case_that_has_them_all() -> None:
    rows = [
        {"case": case, "patient": case, "region": region, "metrics": {}}
        for case, regions in {"a": ["TC", "ET"], "b": ["WT", "TC", "ET"], "c": ["WT"]}.items()
        for region in regions
    ]
    assert region_names(rows) == ["WT", "TC", "ET"]
