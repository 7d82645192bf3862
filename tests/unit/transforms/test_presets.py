"""Presets of pictures: what a network is shown, and what of the file it is not.

Axes: I rows, J columns, K one slice, C channel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from medtl.data.case import Case, ImageFile
from medtl.data.io.foreground import head_box
from medtl.data.io.images import read_labels
from medtl.errors import ConfigError, DataError
from medtl.transforms.intensity import IMAGENET_STATISTICS
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import Preset, head_picture, picture, picture_imagenet, picture_raw

SIZE = (32, 32)
COLOURS = ("red", "green", "blue")


def head(size: int, columns: int | None = None) -> Image.Image:
    """A smooth head with a bright spot, drawn at any size, always the same."""
    i, j = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, columns or size), indexing="ij")
    inside = np.clip(20 * (1 - np.hypot(i / 0.8, j / 0.6)), 0, 1)
    spot = np.exp(-((i + 0.3) ** 2 + (j - 0.2) ** 2) / 0.02)
    return Image.fromarray(np.rint(inside * (110 + 120 * spot)).astype(np.uint8))


def shown(
    path: Path, preset: Preset, names: tuple[str, ...] = ("image",), size: int = SIZE[0]
) -> np.ndarray:
    channels = {n: ImageFile(path, COLOURS.index(n) if n in COLOURS else None) for n in names}
    preprocessor = Preprocessor(names, (), preset.with_size((size, size)))
    return preprocessor(Case("a", "a", channels))["image"].numpy()[..., 0]


def saved(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


def test_raw_is_black_0_and_white_1_whatever_the_bits(tmp_path: Path) -> None:
    levels = np.asarray(head(32))
    eight = shown(saved(tmp_path / "8.png", Image.fromarray(levels)), picture_raw())
    np.testing.assert_allclose(eight[0], levels / 255, atol=1e-6)
    sixteen = Image.fromarray(levels.astype(np.uint16) * 257)
    np.testing.assert_allclose(shown(saved(tmp_path / "16.png", sixteen), picture_raw()), eight)


def test_imagenet_takes_each_colours_own_mean_and_deviation(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    path = saved(tmp_path / "c.png", Image.fromarray(levels))
    found_CIJ = shown(path, picture_imagenet(), COLOURS)
    for n, (mean, deviation) in enumerate(IMAGENET_STATISTICS):
        np.testing.assert_allclose(
            found_CIJ[n], (levels[..., n] / 255 - mean) / deviation, atol=1e-5
        )


def test_head_picture_is_alike_whatever_size_and_margin_the_file_had(tmp_path: Path) -> None:
    large = shown(saved(tmp_path / "large.png", head(240)), head_picture())
    small = shown(saved(tmp_path / "small.png", head(90)), head_picture())
    wide = Image.new("L", (400, 260))
    wide.paste(head(240), (110, 5))
    margins = shown(saved(tmp_path / "wide.png", wide), head_picture())
    plain = shown(tmp_path / "large.png", picture()), shown(tmp_path / "wide.png", picture())
    assert large.shape == small.shape == margins.shape
    assert plain[0].shape != plain[1].shape  # picture shows the margins
    for other in (small, margins):
        assert np.corrcoef(large.ravel(), other.ravel())[0, 1] > 0.99


def test_head_picture_takes_fine_detail_away(tmp_path: Path) -> None:
    levels = np.asarray(head(128)).astype(float)
    noise = np.random.default_rng(0).normal(0, 25, levels.shape) * (levels > 60)
    noisy = Image.fromarray((levels + noise).clip(0, 255).astype(np.uint8))
    path = saved(tmp_path / "noisy.png", noisy)

    def grain(preset: Preset) -> float:
        inside_IJ = shown(path, preset, size=96)[0, 30:66, 30:66]
        return float(np.std(inside_IJ - gaussian_filter(inside_IJ, 1.0)))

    assert grain(head_picture()) < 0.5 * grain(picture())


def test_letters_in_a_corner_are_not_of_the_head() -> None:
    image = np.asarray(head(100)).astype(np.float32)[..., None]
    alone = head_box(image[None])
    image[2:6, 2:6] = 255
    np.testing.assert_array_equal(head_box(image[None]), alone)
    assert alone[50, 50, 0] and not alone[0, 0, 0]


def test_presets_record_what_tells_them_apart() -> None:
    made = [
        preset().with_size(SIZE).to_json() for preset in (picture, picture_raw, picture_imagenet)
    ]
    assert [one.get("scaling") for one in made] == [None, "unit", "imagenet"]
    assert head_picture().to_json()["head_blur"] == pytest.approx(1 / 96)
    assert "head_blur" not in picture().to_json()


def test_mask_that_was_resized_is_refused(tmp_path: Path) -> None:
    mask = Image.fromarray((np.asarray(head(40)) > 0).astype(np.uint8) * 255)
    labels_IJK, _ = read_labels(ImageFile(saved(tmp_path / "m.png", mask)), (0, 255))
    np.testing.assert_array_equal(labels_IJK[..., 0], np.asarray(mask))
    blurred = mask.resize((31, 31), Image.Resampling.BILINEAR)
    with pytest.raises(DataError, match=r"b.png: level \d+ is no label of a mask"):
        read_labels(ImageFile(saved(tmp_path / "b.png", blurred)), (0, 255))


def test_3d_network_is_refused_for_pictures(tmp_path: Path) -> None:
    from medtl.config import TrainConfig
    from medtl.data.phantom import write_phantom
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter
    from medtl.training.plan import make_plan

    data = write_phantom(
        tmp_path / "d", cases=3, size=16, sites=2, seed=0, layout="lgg-mri", workers=1
    )
    config = TrainConfig(task="lgg-mri-seg", data=data, network="unet3d")
    with pytest.raises(ConfigError, match="3-D network; it cannot be built in 2-D"):
        make_plan(config, load_catalog(), Reporter(quiet=True))


def test_a_dark_picture_of_16_bits_is_as_dark_as_its_levels_say(tmp_path: Path) -> None:
    dark = np.asarray(head(32)).astype(np.uint16)  # nothing above 255
    path = saved(tmp_path / "dark.png", Image.fromarray(dark))
    np.testing.assert_allclose(shown(path, picture_raw())[0], dark / 65535, atol=1e-6)
    mean, deviation = np.mean(IMAGENET_STATISTICS, axis=0)
    wanted = (dark / 65535 - mean) / deviation
    np.testing.assert_allclose(shown(path, picture_imagenet())[0], wanted, atol=1e-5)
