"""Settings planned from a fingerprint, CT windows, exclusive labels, folds.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from terminal import Terminal
from tomograms import list_tomograms, tomogram

from medtl.data.case import Case
from medtl.data.io.grids import nearest_slices, resample
from medtl.data.label_scheme import LabelScheme
from medtl.data.splits import fold_patients, listed_fold
from medtl.data.task import Defaults
from medtl.data.tasks.classification import Classification
from medtl.data.tasks.fingerprint import Fingerprint, measure_fingerprint, window
from medtl.data.tasks.segmentation_defaults import (
    MANY_CASES,
    advice,
    choose_patch,
    choose_preset,
    choose_spacing,
    describe,
    plan_spacing,
)
from medtl.errors import ConfigError
from medtl.inference.segmentation import decide
from medtl.runtime.console import Reporter
from medtl.transforms.preprocess import prepare
from medtl.transforms.presets import ct


def fingerprint(**changes: Any) -> Fingerprint:
    """Of BraTS, but for the ``changes``."""
    usual: dict[str, Any] = {
        "cases": 100,
        "sampled": 12,
        "shape_ras": (240, 240, 155),
        "spacing_mm": (1.0, 1.0, 1.0),
        "thin_mm": (1.0, 1.0, 1.0),
        "extent_mm": (141.0, 180.0, 145.0),
        "shown_ml": 1300.0,
        "uniform": True,
        "intensities": {name: (0.0, 1.0, 2.0) for name in ("flair", "t1", "t1ce", "t2")},
        "volumes_ml": {"WT": (57.0, 90.0), "TC": (40.0,), "ET": (26.0,)},
    }
    return Fingerprint(**{**usual, **changes})


# --- choices --------------------------------------------------------------------------------------


def test_brats_like_data_get_the_defaults_of_brats() -> None:
    from medtl_brats.task import Brats

    found = fingerprint()
    spacing_mm, _ = choose_spacing(found)
    patch, why = choose_patch(found, spacing_mm)
    defaults = Brats.defaults
    assert (spacing_mm, patch) == (defaults.spacing_mm, defaults.patch_size)
    assert "100%" in why
    assert choose_preset(found, tuple(found.intensities), ())[0] == defaults.transforms


def test_cubes_are_planned_per_axis_as_they_are_as_cubes() -> None:
    for found in (fingerprint(), fingerprint(extent_mm=(35.0, 50.0, 36.0))):
        assert plan_spacing(found)[0] == choose_spacing(found)[0]


def test_thick_slices_keep_their_distance_and_the_thinnest_tenths() -> None:
    extent_mm = (60.0, 60.0, 60.0)
    thick = fingerprint(spacing_mm=(0.6, 0.6, 3.6), thin_mm=(0.5, 0.5, 3.0), extent_mm=extent_mm)
    spacing_mm, why = plan_spacing(thick)
    assert spacing_mm == (0.6, 0.6, 3.0) and "thinnest tenth" in why
    # Slices of one case in ten that are thinner than the voxels within are taken as those.
    thin = fingerprint(spacing_mm=(0.6, 0.6, 3.6), thin_mm=(0.5, 0.5, 0.1), extent_mm=extent_mm)
    assert plan_spacing(thin, voxels=2_000_000)[0] == 0.6


def test_the_finest_axes_are_coarsened_first() -> None:
    """0.5x0.5x2 mm over 200x200x200 mm: 16 million voxels for .6; both fine axes grow alike."""
    found = fingerprint(
        spacing_mm=(0.5, 0.5, 2.0), thin_mm=(0.5, 0.5, 2.0), extent_mm=(200.0, 200.0, 200.0)
    )
    spacing_mm, _ = plan_spacing(found, voxels=1_000_000)
    assert spacing_mm == (1.5, 1.5, 2.0)  # 2**2 * 100 = 1.41 mm would hold it exactly; 3 * 0.5


def test_slices_are_resampled_to_the_nearest_within_first() -> None:
    image = torch.arange(2 * 2 * 4, dtype=torch.float32).reshape(1, 2, 2, 4)
    found = resample(image, (4, 2, 6), slices=2)
    assert nearest_slices(4, 6) == [0, 1, 1, 2, 3, 3]
    assert torch.equal(found, resample(image, (4, 2, 4))[..., [0, 1, 1, 2, 3, 3]])


def test_small_organs_keep_their_own_spacing() -> None:
    found = fingerprint(extent_mm=(35.0, 50.0, 36.0), volumes_ml={"hippocampus": (1.5,)})
    spacing_mm, why = choose_spacing(found)
    assert spacing_mm == 1.0 and why == "the data's own"
    assert choose_patch(found, spacing_mm)[0] == (48, 64, 48)


def test_small_lesions_bound_the_spacing() -> None:
    found = fingerprint(extent_mm=(400.0, 300.0, 500.0), volumes_ml={"tumour": (0.1,)})
    spacing_mm, why = choose_spacing(found)
    assert spacing_mm == 1.0 and "fewer than 64 voxels" in why
    assert np.prod(choose_patch(found, spacing_mm)[0]) <= 80 * 96 * 80


def test_anisotropic_data_are_told() -> None:
    spacing_mm, why = choose_spacing(fingerprint(spacing_mm=(0.5, 0.5, 5.0)))
    assert spacing_mm >= round(1.25 ** (1 / 3), 2) and "slices 5 mm apart" in why


def test_labels_of_sides_warn_of_flips() -> None:
    found = fingerprint(volumes_ml={"kidney_left": (150.0,), "aright": (1.0,)})
    defaults = Defaults(src="flair", dst="flair")
    assert "flips mix up left and right" in advice([], found, defaults).reasons["transforms"]
    plain = advice([], fingerprint(), defaults).reasons["transforms"]
    assert "flips" not in plain


def test_size_inside_the_background_is_told_in_words() -> None:
    told = dict(describe(fingerprint()))["without background"]
    assert told == "141x180x145 mm, 1300 ml; the background has one value"
    told = dict(describe(fingerprint(uniform=False)))["without background"]
    assert told.endswith("; there is no uniform background")


def test_images_without_uniform_background_are_not_cut() -> None:
    few = {"cases": MANY_CASES - 1}
    assert choose_preset(fingerprint(uniform=False, **few), ("flair",), ())[0] == "mr"
    assert choose_preset(fingerprint(**few), ("adc",), ())[0] == "mr"
    assert choose_preset(fingerprint(cases=MANY_CASES), ("adc",), ())[0] == "mr-usual"
    assert choose_preset(fingerprint(), ("ct",), ("ct",))[0] == "ct"


# --- measuring ------------------------------------------------------------------------------------


def test_fingerprint_is_measured_in_the_patients_axes(tmp_path: Path) -> None:
    found = measure_fingerprint([tomogram(tmp_path, "a")], ("ct",), ("organ",))
    assert found.shape_ras == (16, 24, 20) and found.spacing_mm == (3.0, 1.0, 2.0)
    assert found.extent_mm == (48.0, 24.0, 40.0) and not found.uniform
    assert found.volumes_ml["organ"] == pytest.approx((8 * 8 * 4 * 6 / 1000,))


def test_ct_window_is_that_of_the_labelled_voxels(tmp_path: Path) -> None:
    cases = [tomogram(tmp_path, "a"), tomogram(tmp_path, "b", 40)]
    pooled = np.concatenate(
        [
            np.asanyarray(nib.load(c.images["ct"].path).dataobj)[
                np.asanyarray(nib.load(c.target.path).dataobj) > 0
            ]
            for c in cases
        ]
    )
    low, high = np.percentile(pooled, (0.5, 99.5))
    inside = np.clip(pooled, low, high)
    assert window(cases, "ct") == pytest.approx((low, high, inside.mean(), inside.std()), rel=1e-5)


def test_ct_is_scaled_alike_in_every_case() -> None:
    preset = ct().with_spacing(1.0).with_windows({"ct": (-100.0, 100.0, 10.0, 50.0)})
    image = np.linspace(-1000, 1000, 4**3, dtype=np.float32).reshape(1, 4, 4, 4)
    covered = np.ones((1, 4, 4, 4), dtype=bool)
    found = prepare(image, covered, None, np.eye(4), preset, ("ct",))["image"]
    expected = (np.clip(image, -100, 100) - 10) / 50
    assert np.allclose(found.numpy(), expected)
    other = prepare(image, covered, None, np.eye(4), preset, ("pet",))["image"]
    assert float(other.mean()) == pytest.approx(0, abs=1e-5)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return list_tomograms(tmp_path)


# --- exclusive labels -----------------------------------------------------------------------------


def decided(logits: Sequence[Sequence[float]], **how: bool) -> np.ndarray:
    """Masks of one voxel per column."""
    settings = {"nested": False, "exclusive": False, **how}
    return decide(torch.tensor(logits)[:, None, None, :], **settings)[:, 0, 0]


def test_exclusive_labels_go_to_the_highest_positive_logit() -> None:
    masks = decided([[1.0, -1.0, 3.0], [2.0, -2.0, -1.0]], exclusive=True)
    assert masks.tolist() == [[False, False, True], [True, False, False]]
    scheme = LabelScheme.of({"a": (5,), "b": (300,)}, ("a", "b"))
    label = scheme.paint(masks[:, None, None])
    assert label.ravel().tolist() == [300, 0, 5]


def test_nested_and_overlapping_regions_stay_as_they_are() -> None:
    logits = [[-1.0, 1.0], [1.0, 2.0]]
    assert decided(logits, nested=True).tolist() == [[False, True], [False, True]]
    assert decided(logits).tolist() == [[False, True], [True, True]]


# --- folds ----------------------------------------------------------------------------------------


def cohort(patients: int, studies: int = 2) -> list[Case]:
    return [
        Case(f"p{p:02}_{s}", f"p{p:02}", {}, stratum=f"k{p % 2}", site=f"s{p // 5 % 2}")
        for p in range(patients)
        for s in range(studies)
    ]


def test_every_patient_is_tested_in_one_fold() -> None:
    cases = cohort(23)
    folds = [fold_patients(cases, folds=5, fold=fold, seed=7) for fold in range(5)]
    assert sorted(p for fold in folds for p in fold) == sorted({case.patient for case in cases})
    assert {len(fold) for fold in folds} == {4, 5}
    for fold in folds:  # strata as even as whole patients allow
        odd = sum(int(patient[1:]) % 2 for patient in fold)
        assert abs(odd - 11 / 5) < 1.3
    assert folds[1] == fold_patients(reversed(cases), folds=5, fold=1, seed=7)
    assert folds[1] != fold_patients(cases, folds=5, fold=1, seed=8)


def test_impossible_folds_are_refused() -> None:
    with pytest.raises(ConfigError, match="numbered from 0 to 4"):
        fold_patients(cohort(9), folds=5, fold=5, seed=0)
    with pytest.raises(ConfigError, match="3 patients cannot be divided into 5"):
        fold_patients(cohort(3), folds=5, fold=0, seed=0)
    with pytest.raises(ConfigError, match="the number of folds is open"):
        listed_fold(cohort(3), 0)


def plan_split(listed: Path, **settings: Any) -> Any:
    from medtl.config import TrainConfig
    from medtl.plugins.catalog import load_catalog
    from medtl.training.plan import make_plan

    small = {"width": 4, "patch_size": (32, 32, 32), "steps": 1}
    config = TrainConfig.model_validate(
        {"task": "segmentation", "data": listed, **small, **settings}
    )
    return make_plan(config, load_catalog(), Reporter(quiet=True)).split


def test_nnunets_val_is_locked_away(listed: Path, tmp_path: Path) -> None:
    folds = [
        {"train": ["c0", "c1", "c2", "c3"], "val": ["c4", "c5"]},
        {"train": ["c2", "c3", "c4"], "val": ["c0"]},
    ]
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps(folds))
    split = plan_split(listed, splits=path, fold=1)
    assert (split.train, split.val, split.test) == (("c2", "c3", "c4"), (), ("c0",))
    split = plan_split(listed, splits=path, fold=0, val_fraction=0.25)
    assert len(split.val) == 1 and split.test == ("c4", "c5")
    assert {*split.train, *split.val} == {"c0", "c1", "c2", "c3"}


def test_written_splits_are_taken_as_they_are(listed: Path, tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    fold = {"train": ["c0"], "val": ["c1"], "test": []}
    path.write_text(json.dumps([fold]))
    split = plan_split(listed, splits=path)
    assert (split.train, split.val, split.test) == (("c0",), ("c1",), ())


CONFLICTS = {
    "which fold": (("--folds", "3"), "name one by --fold, from 0 to 2"),
    "no such fold": (("--folds", "3", "--fold", "3"), "numbered from 0 to 2"),
    "other test": (("--folds", "3", "--fold", "0", "--test-cases", "c0"), "drop --test-cases"),
    "not listed": (("--fold", "7"), "has folds 0, 1, 2"),
    "one fold": (("--folds", "1", "--fold", "0"), "--folds: must be greater than"),
}


@pytest.mark.parametrize("words,told", CONFLICTS.values(), ids=CONFLICTS)
def test_contradicting_folds_are_one_line(
    listed: Path, medtl: Terminal, words: tuple[str, ...], told: str
) -> None:
    (line,) = "".join(
        medtl("train", "segmentation", "-q", "--data", listed, *words, "--dry-run", code=2)
    ).splitlines()
    assert told in line


# --- words ----------------------------------------------------------------------------------------

MISTAKES = {
    "modality": (("--dst", "cct"), "has no modality 'cct'; did you mean 'ct'?"),
    "source": (("--src", "ct"), "with --src name a --strategy"),
}


@pytest.mark.parametrize("words,told", MISTAKES.values(), ids=MISTAKES)
def test_mistyped_words_are_one_line(
    listed: Path, medtl: Terminal, words: tuple[str, ...], told: str
) -> None:
    (line,) = "".join(
        medtl("train", "segmentation", "-q", "--data", listed, *words, "--dry-run", code=2)
    ).splitlines()
    assert told in line


def test_segmentation_without_data_says_what_to_give(medtl: Terminal) -> None:
    assert "--data" in "".join(medtl("train", "segmentation", "-q", code=2))


@pytest.mark.parametrize("columns", [("t2", "t1", "t1ce"), ("t1ce", "t2"), ("t2",)])
def test_columns_of_a_table_are_told_by_name(tmp_path: Path, columns: tuple[str, ...]) -> None:
    """Also where one is missing, as all its cells are empty, or where their order differs."""
    for name in columns:
        image = nib.Nifti1Image(np.random.default_rng(0).random((4, 4, 4), np.float32), np.eye(4))
        nib.save(image, tmp_path / f"{name}.nii.gz")
    cells = ",".join(f"{name}.nii.gz" for name in columns)
    (tmp_path / "cases.csv").write_text(f"case,{','.join(columns)}\na,{cells}\n")
    names = {"channels": ["t1", "t1ce", "t2"], "classes": ["x", "y"], "pictures": False}
    task = Classification().bind(tmp_path / "cases.csv", names=names)
    (case,) = task.cases(tmp_path / "cases.csv", required=(), need_target=False).cases
    assert {str(name): file.path.name for name, file in case.images.items()} == {
        name: f"{name}.nii.gz" for name in columns
    }
