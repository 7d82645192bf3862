"""What appearance measures. Axes: C modality, I J K voxels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from medtl.data.case import Case, ImageFile
from medtl.data.io.grids import resample_array
from medtl.data.modality import Modality
from medtl.plugins.catalog import load_catalog
from medtl.shift.contract import FeatureSettings, View
from medtl.shift.features.resolution import orientation_number
from medtl.shift.images.read import read_view
from medtl.shift.report.sentences import feature_words

EDGE = 48
ROWS = ("appearance", "intensity", "texture", "lines", "slices", "patches", "pca")


def blobs(edge: int = EDGE, width: float = 1.5) -> np.ndarray:
    """Smooth structure that knows no grid."""
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(edge,) * 3), width)
    return (1000 + 200 * smooth / smooth.std()).astype(np.float32)


def ball(edge: int = EDGE) -> np.ndarray:
    axis = np.linspace(-1, 1, edge)
    i, j, k = np.meshgrid(axis, axis, axis, indexing="ij")
    return (i / 0.9) ** 2 + (j / 0.8) ** 2 + (k / 0.7) ** 2 < 1


def volume(
    image_IJK: np.ndarray | None = None,
    foreground_IJK: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> View:
    image_IJK = blobs() if image_IJK is None else image_IJK
    foreground_IJK = ball(len(image_IJK)) if foreground_IJK is None else foreground_IJK
    masked = np.where(foreground_IJK, image_IJK, 0).astype(np.float32)
    return View(
        "one",
        (Modality("t1"),),
        masked[None],
        foreground_IJK[None],
        spacing_mm,
        "RAS",
        is_2d=False,
    )


def picture(image_IJ: np.ndarray) -> View:
    image_IJK = image_IJ.astype(np.float32)[:, :, None]
    shown = np.ones_like(image_IJK, dtype=bool)
    return replace(volume(), image_CIJK=image_IJK[None], foreground_CIJK=shown[None], is_2d=True)


def measure(view: View, features: str = "appearance") -> dict[str, float]:
    measured = load_catalog().features[features].load()(FeatureSettings()).rows(view)
    assert len(measured.names) == measured.values_NF.shape[1]
    return dict(zip(measured.names, measured.values_NF[0], strict=True))


def moved(before: dict[str, float], after: dict[str, float], tolerance: float = 1e-3) -> set[str]:
    """Families of the columns that differ."""
    assert before.keys() == after.keys()
    names = [name for name in before if abs(before[name] - after[name]) > tolerance]
    return {name.partition("/")[0] for name in names}


def test_a_factor_moves_scale_alone_and_by_its_log() -> None:
    view = volume()
    before, after = (
        measure(view),
        measure(replace(view, image_CIJK=3 * view.image_CIJK)),
    )
    assert moved(before, after) == {"scale"}
    for name in before:
        if name.startswith("scale/"):
            assert after[name] - before[name] == pytest.approx(np.log(3), abs=1e-4)


def test_scale_and_contrast_are_the_percentiles_and_moments_of_what_is_shown() -> None:
    view = volume()
    values = view.image_CIJK[0][view.foreground_CIJK[0]].astype(np.float64)
    found = measure(view)
    assert found["scale/median"] == pytest.approx(np.arcsinh(np.median(values)), abs=1e-6)
    low, median, high = np.percentile(values, (0.5, 50, 99.5))
    clipped = np.clip(values, low, high)
    spread = np.abs(clipped - median).mean()
    p95 = (np.percentile(values, 95) - median) / spread
    assert found["contrast/p95"] == pytest.approx(np.arcsinh(p95), abs=1e-4)
    assert found["contrast/skewness"] == pytest.approx(stats.skew(clipped), abs=1e-4)
    kurtosis = np.log(stats.kurtosis(clipped, fisher=False))
    assert found["contrast/kurtosis"] == pytest.approx(kurtosis, abs=1e-4)


def test_a_curve_moves_contrast_and_not_the_grid() -> None:
    view = volume()
    curved = 1000 * (view.image_CIJK / 1000) ** 3
    families = moved(measure(view), measure(replace(view, image_CIJK=curved)), 0.1)
    assert "contrast" in families and "view" not in families and "resolution" not in families


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_noise_level_is_the_deviation_of_the_noise(share: float) -> None:
    image_IJK = blobs(width=3.0)
    sigma = share * 200
    noise = np.random.default_rng(1).normal(0, sigma, image_IJK.shape)
    noisy = volume(image_IJK + noise.astype(np.float32))
    values = np.sort(noisy.image_CIJK[0][noisy.foreground_CIJK[0]].astype(np.float64))
    clipped = np.clip(values, *np.percentile(values, (0.5, 99.5)))
    spread = np.abs(clipped - np.median(values)).mean()
    found = measure(noisy, "texture")
    assert np.exp(found["noise/level"]) == pytest.approx(sigma / spread + 1e-3, rel=0.05)
    assert np.exp(measure(volume(image_IJK), "texture")["noise/level"]) < 0.02


def test_noise_hardly_moves_the_width_of_details() -> None:
    image_IJK = blobs()
    noise = np.random.default_rng(1).normal(0, 20, image_IJK.shape).astype(np.float32)
    assert "resolution" not in moved(
        measure(volume(image_IJK)), measure(volume(image_IJK + noise)), 0.1
    )


def test_blur_widens_details() -> None:
    random = np.random.default_rng(0).normal(size=(EDGE,) * 3)
    fine, blurred = (measure(volume(gaussian_filter(random, s) * 1e4)) for s in (1.0, 2.0))
    for axis in "ijk":
        # Noise filtered by a Gaussian correlates as a Gaussian that is wider by the root of 2.
        assert fine[f"resolution/width_{axis}"] == pytest.approx(np.log(2**0.5), abs=0.08)
        assert blurred[f"resolution/width_{axis}"] == pytest.approx(np.log(2 * 2**0.5), abs=0.12)


def test_a_finer_grid_moves_the_spacing_and_nothing_else() -> None:
    coarse = volume(foreground_IJK=np.ones((EDGE,) * 3, dtype=bool))
    fine_IJK = resample_array(coarse.image_CIJK[0], (2 * EDGE,) * 3)
    fine = volume(fine_IJK, np.ones(fine_IJK.shape, dtype=bool), (0.5, 0.5, 0.5))
    before, after = measure(coarse), measure(fine)
    assert after["resolution/spacing_i"] - before["resolution/spacing_i"] == pytest.approx(
        np.log(0.5)
    )
    others = {name for name in before if "spacing" not in name}
    apart = {name: abs(before[name] - after[name]) for name in others}
    assert max(apart.values()) < 0.25, max(apart, key=lambda name: apart[name])


def test_an_enlarged_picture_has_more_pixels_and_is_else_the_same() -> None:
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(256, 200)), 1.5)
    image_IJ = 300 + 40 * smooth / smooth.std()
    large = resample_array(image_IJ[:, :, None], (512, 400, 1))[:, :, 0]
    before, after = measure(picture(image_IJ)), measure(picture(large))
    assert after["resolution/pixels"] - before["resolution/pixels"] == pytest.approx(np.log(2))
    assert moved(before, after, 0.25) == {"resolution"}
    assert after["view/aspect"] == pytest.approx(np.log(256 / 200))


def test_extent_and_offset_are_those_of_the_box() -> None:
    shown = np.zeros((20, 30, 40), dtype=bool)
    shown[2:8, 10:20, 36:40] = True
    image = np.random.default_rng(0).normal(100, 5, shown.shape)
    found = measure(volume(image, shown, (1.0, 2.0, 3.0)))
    assert found["view/extent_i"] == pytest.approx(np.log(6))
    assert found["view/extent_k"] == pytest.approx(np.log(12))
    assert found["view/field_j"] == pytest.approx(np.log(60))
    assert found["view/offset_i"] == pytest.approx(5 / 20 - 0.5)
    assert found["view/offset_k"] == pytest.approx(38 / 40 - 0.5)
    assert found["view/share"] == pytest.approx(240 / 24000)


def test_stored_orientation_changes_no_other_column(tmp_path: Path) -> None:
    view = volume(spacing_mm=(1.0, 1.5, 2.0))
    image_IJK = view.image_CIJK[0]
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    turned = np.diag([-1.0, -1.5, 2.0, 1.0])
    turned[:2, 3] = (EDGE - 1) * np.array([1.0, 1.5])
    nib.save(nib.Nifti1Image(image_IJK, affine), tmp_path / "ras.nii.gz")
    nib.save(nib.Nifti1Image(image_IJK[::-1, ::-1].copy(), turned), tmp_path / "lps.nii.gz")
    axes = np.eye(4)[:, [2, 0, 1, 3]] @ np.diag([2.0, 1.0, 1.5, 1.0])
    nib.save(nib.Nifti1Image(image_IJK.transpose(2, 0, 1).copy(), axes), tmp_path / "sra.nii.gz")
    found = {}
    for name in ("ras", "lps", "sra"):
        files = {Modality("t1"): ImageFile(tmp_path / f"{name}.nii.gz")}
        found[name] = read_view(Case(name, name, files), (Modality("t1"),))
    for features in ROWS:
        extractor = load_catalog().features[features].load()(FeatureSettings())
        first = extractor.rows(found["ras"])
        kept = [name != "view/orientation" for name in first.names]
        for other in (found["lps"], found["sra"]):
            same = extractor.rows(other)
            assert same.names == first.names
            assert np.array_equal(same.values_NF[:, kept], first.values_NF[:, kept]), features
    numbers = [measure(found[name])["view/orientation"] for name in ("ras", "lps", "sra")]
    assert len(set(numbers)) == 3 and numbers[0] == 0


def test_every_orientation_has_a_number_of_its_own() -> None:
    from itertools import permutations, product

    codes = {
        orientation_number("".join(pair[turn] for pair, turn in zip(axes, turns, strict=True)))
        for axes in permutations(("RL", "AP", "SI"))
        for turns in product((0, 1), repeat=3)
    }
    assert codes == set(range(48))


@pytest.mark.parametrize("features", ROWS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (2, 2, 2), (30, 20, 1), (9, 8, 7)])
@pytest.mark.filterwarnings("error")
def test_degenerate_images_give_finite_rows(features: str, shape: tuple[int, int, int]) -> None:
    constant = np.full(shape, 7.0, dtype=np.float32)
    random = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    one = np.zeros(shape, dtype=bool)
    one[0, 0, 0] = True
    masks = (np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool), one)
    names = set()
    for image_IJK in (constant, random, random * 1e30):
        for foreground_IJK in masks:
            view = replace(
                volume(), image_CIJK=image_IJK[None], foreground_CIJK=foreground_IJK[None]
            )
            measured = load_catalog().features[features].load()(FeatureSettings()).rows(view)
            assert len(measured.values_NF) and np.isfinite(measured.values_NF).all()
            names.add(measured.names)
    assert len(names) == 1


def test_values_far_from_zero_lose_no_noise() -> None:
    image_IJK = np.random.default_rng(0).normal(size=(EDGE,) * 3).astype(np.float32)
    near, far = (measure(volume(image_IJK + offset), "texture") for offset in (10.0, 10_000.0))
    assert moved(near, far, 0.01) == set()


def test_every_feature_of_appearance_is_told_in_words() -> None:
    pixels = np.random.default_rng(0).uniform(size=(32, 40))
    for view, pictures in ((volume(), False), (picture(pixels), True)):
        told = {name: feature_words(name, pictures=pictures) for name in measure(view)}
        assert not [words for words in told.values() if "/" in words or "_" in words]
        assert len(set(told.values())) == len(told)
    assert feature_words("resolution/width_k") == "width of details, foot-head"
    assert feature_words("view/extent_i", pictures=True).endswith("top-bottom")
    assert feature_words("activations/3") == "activations/3"
