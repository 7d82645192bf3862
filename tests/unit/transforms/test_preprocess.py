"""Preparation of a case, and its exact way back to the native grid.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import NormalizeIntensity
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy.ndimage import gaussian_filter, zoom

from medtl.errors import DataError
from medtl.transforms.histogram import CLIP_PERCENTILES
from medtl.transforms.intensity import n4_correct, white_of, zscore_in_brain
from medtl.transforms.native import to_native
from medtl.transforms.preprocess import prepare, prepared_shape
from medtl.transforms.presets import brain_mr, brain_mr_n4, brain_mr_plain, picture_plain

# ITK's wrappers are built by an old SWIG.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")

SHAPE = (10, 12, 14)
BOX = (slice(2, 8), slice(1, 11), slice(3, 12))
ORIENTATIONS = [
    np.array([[axis, sign] for axis, sign in zip(order, signs, strict=True)], dtype=float)
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def native(seed: int = 0, channels: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RAS image_CIJK, brain_IJK and target_LIJK, all within ``BOX``."""
    random = np.random.default_rng(seed)
    brain = np.zeros(SHAPE, dtype=bool)
    brain[BOX] = True
    image = np.where(brain, random.normal(5, 2, (channels, *SHAPE)), 0).astype(np.float32)
    target = np.zeros((2, *SHAPE), dtype=bool)
    target[0, 4:7, 3:9, 4:10] = True
    target[1, 5, 4:6, 5:7] = True
    return image, brain, target


def turned(array_IJK: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(apply_orientation(array_IJK, orientation))


def test_a_slab_that_misses_a_side_is_scored_where_it_is() -> None:
    image, brain, _ = native()
    covered = np.stack([brain, brain])
    covered[1, :4] = False
    image[1, :4] = 0
    assert covered[1].any() and not (covered[1] == brain).all()
    prepared = prepare(image, covered, None, np.eye(4), brain_mr_plain().with_spacing(1.0))[
        "image"
    ].numpy()
    whole = prepare(image, brain[None], None, np.eye(4), brain_mr_plain().with_spacing(1.0))[
        "image"
    ].numpy()
    np.testing.assert_array_equal(prepared[0], whole[0])
    crop = tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(brain))
    inside = covered[1][crop]
    assert (prepared[1][~inside] == 0).all()
    assert prepared[1][inside].mean() == pytest.approx(0, abs=1e-4)
    assert prepared[1][inside].std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: str(o.astype(int).tolist()))
def test_every_orientation_is_prepared_alike_and_restored_in_place(orientation) -> None:
    image, brain, target = native()
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    preset = brain_mr_plain().with_spacing(1.0)
    reference = prepare(image, brain[None], target, affine, preset)
    other = prepare(
        np.stack([turned(c, orientation) for c in image]),
        turned(brain, orientation)[None],
        np.stack([turned(r, orientation) for r in target]),
        affine @ inv_ornt_aff(orientation, SHAPE),
        preset,
    )
    assert torch.equal(other["image"], reference["image"])
    assert torch.equal(other["target"], reference["target"])
    back = to_native(other["target"].float(), other["placement"], fill=0.0)
    expected = np.stack([turned(region, orientation) for region in target])
    np.testing.assert_array_equal(back.numpy() > 0.5, expected)


def test_oblique_affine_is_oriented_by_its_nearest_axes() -> None:
    image, brain, target = native()
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ np.diag([-1.0, -1.0, 2.0, 1.0])
    assert nib.aff2axcodes(affine) == ("L", "P", "S")
    prepared = prepare(image, brain[None], target, affine, brain_mr_plain().with_spacing(1.0))
    assert prepared["image"].shape[1:] == (6, 10, 18)
    back = to_native(prepared["target"].float(), prepared["placement"], fill=0.0)
    overlap = (back.numpy()[0] > 0.5) & target[0]
    assert overlap.sum() == target[0].sum() == (back.numpy()[0] > 0.5).sum()


def test_voxels_outside_the_brain_box_get_the_fill_value() -> None:
    image, brain, target = native()
    prepared = prepare(image, brain[None], target, np.eye(4), brain_mr_plain().with_spacing(1.0))
    back = to_native(torch.ones(2, *prepared["image"].shape[1:]), prepared["placement"], fill=-20.0)
    assert back.shape == (2, *SHAPE)
    outside = np.ones(SHAPE, dtype=bool)
    outside[BOX] = False
    assert (back[:, torch.from_numpy(outside)] == -20).all()
    assert (back[:, torch.from_numpy(~outside)] == 1).all()


def test_image_is_cropped_to_the_brain_and_zero_around_it() -> None:
    image, brain, _ = native()
    brain[3, 2, 4] = False  # a hole: in the box, outside the brain
    prepared = prepare(image, brain[None], None, np.eye(4), brain_mr_plain().with_spacing(1.0))
    assert prepared["image"].shape == (2, 6, 10, 9)
    assert not prepared["image"][:, 1, 1, 1].any()
    assert "target" not in prepared


def test_zscore_matches_numpy_and_monai() -> None:
    image, brain, _ = native()
    scored = zscore_in_brain(image[0], brain)
    inside = image[0][brain].astype(np.float64)
    clipped = np.clip(inside, *np.percentile(inside, CLIP_PERCENTILES))
    np.testing.assert_allclose(
        scored[brain], (clipped - clipped.mean()) / clipped.std(), rtol=0, atol=1e-5
    )
    assert not scored[~brain].any()
    full = np.zeros(SHAPE, np.float32)
    full[brain] = clipped
    by_monai = NormalizeIntensity(nonzero=True)(torch.from_numpy(full)[None])[0]
    np.testing.assert_allclose(scored, by_monai.numpy(), rtol=0, atol=1e-4)


def test_few_extreme_voxels_do_not_change_the_scale() -> None:
    random = np.random.default_rng(1)
    image = random.normal(5, 2, (30, 30, 30)).astype(np.float32)
    brain = np.ones(image.shape, dtype=bool)
    spiked = image.copy()
    spiked[:2, :2, :2] = 1e6
    difference = np.abs(zscore_in_brain(spiked, brain) - zscore_in_brain(image, brain))
    assert difference[3:, 3:, 3:].max() < 0.05


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (0.5, -7.0)])
def test_units_of_the_scanner_do_not_matter(gain: float, offset: float) -> None:
    image, brain, _ = native()
    other = np.where(brain, gain * image + offset, -9).astype(np.float32)
    one, two = (
        prepare(i, brain[None], None, np.eye(4), brain_mr_plain().with_spacing(2.0))["image"]
        for i in (image, other)
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def test_constant_channel_is_a_data_error() -> None:
    image, brain, _ = native()
    image[0] = np.where(brain, 4, 0)
    with pytest.raises(DataError, match="same value"):
        prepare(image, brain[None], None, np.eye(4), brain_mr_plain().with_spacing(2.0))


def test_slice_of_a_picture_set_may_show_nothing_in_a_channel() -> None:
    preset = picture_plain().with_size((24, 24))
    slice_CIJK = np.random.default_rng(0).normal(size=(3, 24, 24, 1)).astype(np.float32)
    whole = prepare(slice_CIJK, np.ones_like(slice_CIJK, bool), None, np.eye(4), preset)["image"]
    slice_CIJK[1] = 0
    slice_CIJK[1, 0, 0] = 1  # nothing that the percentiles leave
    lacking = prepare(slice_CIJK, np.ones_like(slice_CIJK, bool), None, np.eye(4), preset)["image"]
    assert not lacking[1].any()
    torch.testing.assert_close(lacking[[0, 2]], whole[[0, 2]], rtol=0, atol=0)
    with pytest.raises(DataError, match="same value"):
        empty = np.zeros_like(slice_CIJK)
        prepare(empty, np.ones_like(empty, bool), None, np.eye(4), preset)


def test_coarser_grid_averages_whole_blocks() -> None:
    image, _, _ = native()
    brain = np.ones(SHAPE, dtype=bool)
    fine = prepare(image, brain[None], None, np.eye(4), brain_mr_plain().with_spacing(1.0))[
        "image"
    ].numpy()
    coarse = prepare(image, brain[None], None, np.eye(4), brain_mr_plain().with_spacing(2.0))[
        "image"
    ].numpy()
    blocks = fine.reshape(2, 5, 2, 6, 2, 7, 2).mean(axis=(2, 4, 6))
    np.testing.assert_allclose(coarse, blocks, atol=1e-5)


def test_finer_grid_is_trilinear() -> None:
    image, _, _ = native()
    brain = np.ones(SHAPE, dtype=bool)
    plain = prepare(
        image, brain[None], None, np.diag([2.0, 2, 2, 1]), brain_mr_plain().with_spacing(2.0)
    )
    fine = prepare(
        image, brain[None], None, np.diag([2.0, 2, 2, 1]), brain_mr_plain().with_spacing(1.0)
    )
    expected = zoom(plain["image"][0].numpy(), 2, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(fine["image"][0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 5.0), (3.0, 2.0, 1.0)])
def test_prepared_voxels_have_the_presets_spacing(spacing: tuple[float, float, float]) -> None:
    image, brain, target = native()
    prepared = prepare(
        image, brain[None], target, np.diag([*spacing, 1.0]), brain_mr_plain().with_spacing(2.0)
    )
    extent_mm = np.array([6, 10, 9]) * spacing
    got_mm = np.array(prepared["image"].shape[1:]) * 2.0
    assert (np.abs(extent_mm - got_mm) <= 1.0).all()
    assert prepared["target"].shape[1:] == prepared["image"].shape[1:]
    back = to_native(prepared["image"], prepared["placement"], 0.0)
    assert back.shape[1:] == SHAPE


def test_thin_axis_keeps_one_voxel() -> None:
    assert prepared_shape(
        (10, 10, 1), np.array([1.0, 1.0, 0.5]), brain_mr_plain().with_spacing(2.0)
    ) == (5, 5, 1)


def test_smooth_mask_survives_the_way_there_and_back() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"))
    ball = ((grid - 19.5) ** 2).sum(0) < 12**2
    image = np.random.default_rng(0).normal(size=(1, 40, 40, 40)).astype(np.float32)
    brain = ((grid - 19.5) ** 2).sum(0) < 18**2
    prepared = prepare(
        image, brain[None], ball[None], np.eye(4), brain_mr_plain().with_spacing(2.0)
    )
    back = to_native(2 * prepared["target"].float() - 1, prepared["placement"], -1.0)[0].numpy() > 0
    assert 2 * (back & ball).sum() / (back.sum() + ball.sum()) > 0.96


@pytest.mark.parametrize("offset", [0, -90], ids=["positive", "with negative values"])
def test_n4_takes_a_smooth_bias_field_out(offset: float) -> None:
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 48)] * 3, indexing="ij"))
    brain = (grid**2).sum(0) < 0.8
    tissue = np.where(gaussian_filter(random.normal(size=brain.shape), 3) > 0, 100.0, 140.0)
    image = np.where(brain, tissue * np.exp(0.5 * grid[0]) + offset, 0).astype(np.float32)
    corrected = n4_correct(image, brain, np.ones(3))

    def likeness(values: np.ndarray) -> float:
        return float(np.corrcoef(values[brain], tissue[brain])[0, 1])

    assert likeness(image) < 0.7 < likeness(corrected)
    assert np.isfinite(corrected).all()


def test_n4_finds_the_same_field_in_any_unit() -> None:
    """A scanner's values may be thousands or parts of one; the field is a factor."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 32)] * 3, indexing="ij"))
    brain = (grid**2).sum(0) < 0.8
    tissue = np.random.default_rng(0).uniform(100, 140, brain.shape)
    image = np.where(brain, tissue * np.exp(0.5 * grid[0]), 0).astype(np.float32)
    large, small = (n4_correct(image * unit, brain, np.ones(3)) / unit for unit in (1.0, 2.0**-10))
    np.testing.assert_allclose(small, large, rtol=1e-2)


def test_n4_preset_changes_the_image_and_keeps_its_grid() -> None:
    image, brain, _ = native(channels=1)
    plain, corrected = (
        prepare(image, brain[None], None, np.eye(4), preset.with_spacing(1.0))["image"]
        for preset in (brain_mr(), brain_mr_n4())
    )
    assert corrected.shape == plain.shape and not torch.equal(corrected, plain)
    torch.testing.assert_close(corrected.mean(), torch.zeros(()), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("stored", "top", "white"),
    [
        ("uint8", 1, 255),
        ("uint16", 1, 65535),
        ("uint16", 40_000, 65535),
        ("float32", 1, 1),
        ("float32", 0.04, 1),
        ("float32", 1.5, 255),
        ("float32", 300, 65535),
        ("int16", 1, 255),
        ("uint32", 300, 65535),
    ],
)
def test_white_is_told_by_the_type_and_else_by_the_levels(
    stored: str, top: float, white: float
) -> None:
    image_IJK = np.array([[[0.0]], [[top]]], dtype=np.float32)
    assert white_of(np.dtype(stored), image_IJK) == white


@pytest.mark.parametrize("levels", [(-1000.0, 400.0), (0.0, 250_000.0)])
def test_levels_without_black_and_white_are_refused_as_they_are(
    levels: tuple[float, float],
) -> None:
    image_IJK = np.array(levels, dtype=np.float32)[:, None, None]
    with pytest.raises(DataError, match="what is black and what is white; save"):
        white_of(np.dtype(np.int32), image_IJK)
