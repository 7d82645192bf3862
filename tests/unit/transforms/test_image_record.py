"""Images that differ from those of the training are prepared alike, and a warning says how.

Axes: C modality, I J K voxels.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl.data.case import Case, ImageFile
from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.transforms.image_record import ImageRecord
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import Preset, brain_mr, brain_mr_plain, ct, mr, picture

SHAPE = (30, 28, 26)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
ZERO = ImageRecord(0.0, (0.0, 0.0), (140.0, 180.0))
NOISE = ImageRecord(None, (0.0, 0.1), (140.0, 180.0))
WINDOW = (-100.0, 150.0, 40.0, 50.0)
TOMOGRAPH = ImageRecord(None, (-1010.0, -1000.0), (250.0, 400.0))


def sphere(radius: float, centre: tuple[float, ...] = (15, 14, 13)) -> np.ndarray:
    grid = np.indices(SHAPE).astype(float)
    return np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))) < radius


def head(seed: int = 0) -> np.ndarray:
    """Tissue of 100, a bright lesion and dark fluid, on a background of exactly 0."""
    random = np.random.default_rng(seed)
    inside = sphere(11)
    values = 100 + 50 * sphere(4, (12, 12, 12)) - 75 * sphere(3, (18, 16, 13))
    return (inside * (values + random.normal(0, 4, SHAPE))).astype(np.float32)


def abdomen() -> np.ndarray:
    """Hounsfield units: air, body, and a lung that opens to the volume's face beside a liver."""
    random = np.random.default_rng(3)
    i, j, k = np.indices(SHAPE)
    body = ((i - 15) / 13) ** 2 + ((j - 14) / 12) ** 2 < 1
    trunk = ((i - 15) / 9) ** 2 + ((j - 14) / 8) ** 2 < 1
    hu = np.where(body, 20.0, -1000.0)
    hu[trunk & (k > 12)] = -850
    hu[trunk & (k <= 12) & (k > 4)] = 60
    return (hu + random.normal(0, 12, SHAPE)).astype(np.float32)


def prepared(
    array: np.ndarray, preset: Preset, record: ImageRecord | None, name: str = "mr"
) -> tuple[np.ndarray, list[str]]:
    warnings: list[str] = []
    if record is not None:
        preset = preset.with_images({name: record})
    preprocessor = Preprocessor((Modality(name),), (), preset.with_spacing(2.0), warnings.append)
    found = preprocessor.prepare(array[None], AFFINE)
    placement = found["placement"]
    full = np.full(array.shape, np.nan, np.float32)
    box = tuple(slice(a, a + n) for a, n in zip(placement.start, placement.size, strict=True))
    full[box] = found["image"][0].numpy()
    return full, warnings


def expected_scores(array: np.ndarray, inside: np.ndarray) -> np.ndarray:
    values = array[inside].astype(np.float64)
    clipped = np.clip(values, *np.percentile(values, (0.5, 99.5)))
    return (clipped - clipped.mean()) / clipped.std()


KINDS = {
    "half normal": lambda random, size: np.abs(random.normal(0, 1, size)),
    "rayleigh": lambda random, size: random.rayleigh(1, size),
    "offset": lambda random, size: 5 + random.normal(0, 1, size),
    "uniform": lambda random, size: random.uniform(0, 3, size),
    "whole numbers": lambda random, size: random.poisson(1.5, size),
}


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    level=st.floats(0.05, 1.0),
    share=st.sampled_from([0.1, 0.3, 0.6, 0.9, 1.0]),
    seed=st.integers(0, 99),
    preset=st.sampled_from([mr, brain_mr]),
)
def test_noise_around_the_head_changes_nothing_in_it(kind, level, share, seed, preset) -> None:
    clean = head(seed)
    inside = clean != 0
    random = np.random.default_rng(seed)
    noise = level * KINDS[kind](random, SHAPE) * (random.random(SHAPE) < share)
    noisy = np.where(inside, clean, noise).astype(np.float32)
    found, warnings = prepared(noisy, preset(), ZERO)
    # Compared with the z-scores of the clean head, by NumPy.
    assert np.nanmax(np.abs(found[inside] - expected_scores(clean, inside))) < 0.05
    assert (np.abs(found[~inside & np.isfinite(found)]) > 0).mean() < 0.01
    assert len(warnings) == 1 and "mr differs from the training images" in warnings[0]


@pytest.mark.parametrize("preset", [mr, brain_mr])
@pytest.mark.parametrize("background", [0.0, -1024.0, -3.5])
def test_a_uniform_background_keeps_its_bits(preset, background: float) -> None:
    array = np.where(head() == 0, np.float32(background), head())
    alone, _ = prepared(array, preset(), None)
    found, warnings = prepared(array, preset(), ZERO)
    np.testing.assert_array_equal(found, alone)
    assert not warnings


@pytest.mark.parametrize("preset", [mr, brain_mr])
@pytest.mark.parametrize("record", [ZERO, None])
@pytest.mark.parametrize("value", [-5.0, 5.0, -1000.0])
def test_padding_with_another_value_changes_nothing(preset, record, value: float) -> None:
    found, warnings = prepared(np.pad(head(), 2, constant_values=value), preset(), record)
    expected, _ = prepared(np.pad(head(), 2), preset(), record)
    np.testing.assert_array_equal(found, expected)
    assert not warnings


def test_bright_padding_of_ct_becomes_air_whatever_lies_within() -> None:
    random = np.random.default_rng(4)
    brain = np.where(sphere(9), 35 + random.normal(0, 8, SHAPE), -1000).astype(np.float32)
    record = ImageRecord(-1000.0, (-1000.0, -1000.0), (60.0, 80.0))
    preset = ct().with_windows({"ct": WINDOW})
    found, warnings = prepared(np.pad(brain, 6), preset, record, "ct")
    expected, _ = prepared(np.pad(brain, 6, constant_values=-1000), preset, record, "ct")
    np.testing.assert_array_equal(found, expected)
    assert "it is padded with 0, which is set to training's -1000" in warnings[0]


def test_two_channels_of_one_image_are_warned_of(tmp_path: Path) -> None:
    files = {}
    for name, seed in {"flair": 1, "t1": 2, "t2": 1}.items():
        path = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(head(seed), AFFINE), path)
        files[Modality(name)] = ImageFile(path)
    warnings: list[str] = []
    Preprocessor(tuple(files), (), mr(), warnings.append)(Case("a", "a", files))
    assert warnings == ["a: flair and t2 are the same image; check the files"]


@pytest.mark.parametrize(
    ("edge", "warned"), [(0.2, True), (0.3, False), (9.0, False), (11.0, True)]
)
def test_voxels_of_another_unit_are_warned_of(tmp_path: Path, edge: float, warned: bool) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(head(), np.diag([edge, edge, edge, 1.0])), path)
    warnings: list[str] = []
    files = {Modality("t1"): ImageFile(path)}
    Preprocessor((Modality("t1"),), (), mr().with_spacing(2.0), warnings.append)(
        Case("a", "a", files)
    )
    told = f"a: its voxels are {edge:g} mm, those of the training grid 2 mm; check the unit"
    assert [text.removesuffix(" in its header") for text in warnings] == [told] * warned
    picture_of = Preprocessor(
        (Modality("t1"),), (), picture().with_size((30, 28, 26)), warnings.append
    )
    del warnings[:]
    picture_of(Case("a", "a", files))
    assert not warnings


@pytest.mark.parametrize("preset", [mr, brain_mr])
@pytest.mark.parametrize("background", [0.0, -1024.0])
def test_no_noise_where_training_had_some(preset, background: float) -> None:
    clean, random = head(), np.random.default_rng(5)
    noisy = np.where(clean == 0, np.abs(random.normal(0, 0.5, SHAPE)), clean).astype(np.float32)
    reference, none = prepared(noisy, preset(), NOISE)
    array = np.where(clean == 0, np.float32(background), clean)
    found, warnings = prepared(array, preset(), NOISE)
    assert not none and len(warnings) == 1
    shown = (clean != 0) & np.isfinite(found)
    assert shown.sum() > 0.95 * (clean != 0).sum()
    assert np.abs(found[shown] - reference[shown]).max() < 0.05


def test_an_image_without_background_is_shown_whole() -> None:
    full = (60 + 40 * np.random.default_rng(2).random(SHAPE)).astype(np.float32)
    found, warnings = prepared(full, mr(), ZERO)
    np.testing.assert_allclose(
        found.ravel(), expected_scores(full, np.ones(SHAPE, bool)), atol=1e-3
    )
    assert "the whole image is kept" in warnings[0]


def test_clipped_air_stays_air_and_lung_is_darker_than_liver() -> None:
    raw = abdomen()
    clipped = np.clip(raw, -160, 240)
    preset = ct().with_windows({"ct": WINDOW})
    reference, _ = prepared(raw, preset, TOMOGRAPH, "ct")
    found, _ = prepared(clipped, preset, TOMOGRAPH, "ct")
    low, high, mean, deviation = WINDOW
    by_hand = (np.clip(raw, low, high) - mean) / deviation
    np.testing.assert_allclose(found, by_hand, atol=1e-5)
    np.testing.assert_array_equal(found, reference)
    assert found[0, 0, 0] == pytest.approx((low - mean) / deviation)
    assert found[15, 14, 20] < found[15, 14, 8] - 2  # lung, liver


def test_bright_padding_becomes_air() -> None:
    padded = abdomen()
    padded[:6], padded[-2:], padded[:, :4], padded[:, -4:] = 0, 0, 0, 0
    padded[..., :4], padded[..., -4:] = 0, 0
    preset = ct().with_windows({"ct": WINDOW})
    found, warnings = prepared(padded, preset, TOMOGRAPH, "ct")
    assert found[0, 0, 0] == pytest.approx((WINDOW[0] - WINDOW[2]) / WINDOW[3])
    assert found[15, 14, 8] == pytest.approx((np.clip(padded[15, 14, 8], *WINDOW[:2]) - 40) / 50)
    assert "padded with 0" in warnings[0]


@pytest.mark.parametrize(
    "changed",
    [
        lambda hu: (hu + 1000) / 1400,
        lambda hu: hu + 1024,
        lambda hu: hu - 1024,
        lambda hu: np.clip((hu + 160) / 400 * 255, 0, 255),
        lambda hu: hu * 10,
    ],
    ids=["0 to 1", "+1024", "-1024", "8 bits", "tenfold"],
)
def test_another_scale_is_warned_of(changed) -> None:
    preset = ct().with_windows({"ct": WINDOW})
    record = ImageRecord(None, (-1030.0, -1020.0), (80.0, 100.0))
    _, none = prepared(abdomen(), preset, record, "ct")
    assert not none
    _, warnings = prepared(changed(abdomen()).astype(np.float32), preset, record, "ct")
    assert len(warnings) == 1 and "another scale" in warnings[0]


def test_a_checkpoint_without_a_record_warns_from_its_window() -> None:
    preset = ct().with_windows({"ct": WINDOW})
    assert "images" not in preset.to_json()
    old, none = prepared(abdomen(), preset, None, "ct")
    assert not none and np.isfinite(old).all()
    _, warnings = prepared((abdomen() + 1000) / 1400 - 500, preset, None, "ct")
    assert "hardly a voxel" in warnings[0]


@pytest.mark.parametrize("record", [ZERO, NOISE, TOMOGRAPH])
def test_a_record_comes_back_from_json(record: ImageRecord) -> None:
    preset = mr().with_images({"mr": record})
    stored = json.loads(json.dumps(preset.to_json()))["images"]["mr"]
    assert ImageRecord.from_json(stored) == record


@pytest.mark.parametrize(
    "damage",
    [{"low": [1.0]}, {"high": None}, {"background": "x"}, {"low": [float("nan"), 0.0]}],
)
def test_a_damaged_record_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        ImageRecord.from_json({**ZERO.to_json(), **damage})


def saved(path: Path, array: np.ndarray) -> Case:
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    return Case("c1", "c1", {Modality("mr"): ImageFile(path)})


@pytest.mark.parametrize("worst", [3e38, -3e38, 1e25])
def test_voxels_of_no_intensity_are_refused(tmp_path: Path, worst: float) -> None:
    array = head()
    array[15, 14, 13] = worst
    case = saved(tmp_path / "a.nii", array)
    with pytest.raises(DataError, match=r"a\.nii: a voxel of .* is no intensity"):
        Preprocessor((Modality("mr"),), (), brain_mr_plain())(case)


def test_a_few_broken_voxels_do_not_hide_the_head(tmp_path: Path) -> None:
    clean = head()
    broken = clean.copy()
    broken[15, 14, 13] = 1e12
    found, warnings = prepared(broken, mr(), ZERO)
    inside = clean != 0
    inside[15, 14, 13] = False
    # One voxel among 5,000 shifts the upper percentile a little.
    assert np.abs(found[inside] - prepared(clean, mr(), ZERO)[0][inside]).max() < 0.05
    assert not warnings


def test_a_case_that_is_not_finite_is_named(tmp_path: Path, monkeypatch) -> None:
    case = saved(tmp_path / "a.nii", head())

    def broken(*_args: object) -> np.ndarray:
        return np.full(SHAPE, np.nan, np.float32)

    monkeypatch.setattr("medtl.transforms.preprocess.zscore_in_brain", broken)
    with pytest.raises(DataError, match=r"a\.nii: .*not finite"):
        Preprocessor((Modality("mr"),), (), brain_mr_plain())(case)
