"""Pictures of every kind become the arrays they show; broken ones are one clear line.

Axes: I rows, J columns, K one slice, H colours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl.data.case import ImageFile
from medtl.data.io.images import read_header, read_volume
from medtl.data.io.pictures import is_picture, picture_facts
from medtl.errors import DataError

RANDOM = np.random.default_rng(0)
GREY_IJ = RANDOM.integers(0, 256, (7, 5), dtype=np.uint8)
COLOUR_IJH = RANDOM.integers(0, 256, (7, 5, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> ImageFile:
    image.save(path, **options)
    return ImageFile(path)


def pixels(file: ImageFile, channel: int | None = None) -> np.ndarray:
    array_IJK, affine = read_volume(ImageFile(file.path, channel))
    header = read_header(file)
    assert array_IJK.shape == header.shape and array_IJK.dtype == np.float32
    assert np.array_equal(affine, np.eye(4)) and header.spacing_mm == (1, 1, 1)
    return array_IJK[:, :, 0]


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_grey_picture_is_read_as_it_is(tmp_path: Path, suffix: str) -> None:
    file = saved(tmp_path / f"a.{suffix}", Image.fromarray(GREY_IJ))
    assert np.array_equal(pixels(file), GREY_IJ)
    assert np.array_equal(pixels(file, 2), GREY_IJ)


def test_jpeg_is_read_as_its_decoder_has_it(tmp_path: Path) -> None:
    smooth = Image.fromarray(GREY_IJ).resize((40, 56), Image.Resampling.BICUBIC)
    file = saved(tmp_path / "a.jpg", smooth)
    assert np.array_equal(pixels(file), np.asarray(Image.open(file.path)))


def test_grey_content_of_any_mode_is_the_same_picture(tmp_path: Path) -> None:
    grey = Image.fromarray(GREY_IJ)
    files = {
        mode: saved(tmp_path / f"{mode}.png", grey.convert(mode)) for mode in ("L", "RGB", "RGBA")
    }
    files["LA"] = saved(tmp_path / "la.png", grey.convert("LA"))
    files["P"] = saved(tmp_path / "p.png", grey.convert("P"))
    for mode, file in files.items():
        assert np.array_equal(pixels(file), GREY_IJ), mode
        assert picture_facts(file.path) == {"mode": mode, "coloured": False}


def test_colours_are_channels_and_grey_is_their_luminance(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.png", Image.fromarray(COLOUR_IJH))
    for channel in range(3):
        assert np.array_equal(pixels(file, channel), COLOUR_IJH[..., channel])
    # Pillow rounds to whole numbers.
    assert np.abs(pixels(file) - np.asarray(Image.open(file.path).convert("L"))).max() <= 1
    assert picture_facts(file.path)["coloured"]


def test_palette_of_colours_is_looked_up(tmp_path: Path) -> None:
    indexed = Image.fromarray(np.array([[0, 1], [2, 0]], dtype=np.uint8), "P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    file = saved(tmp_path / "a.png", indexed)
    assert pixels(file, 0).tolist() == [[10, 40], [70, 10]]
    assert pixels(file, 2).tolist() == [[30, 60], [90, 30]]


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    seen = np.dstack([COLOUR_IJH, np.full((7, 5), 255, np.uint8)])
    seen[0, 0, 3] = 0
    file = saved(tmp_path / "a.png", Image.fromarray(seen))
    expected = COLOUR_IJH[..., 1].copy()
    expected[0, 0] = 0
    assert np.array_equal(pixels(file, 1), expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    deep_IJ = RANDOM.integers(0, 65536, (7, 5), dtype=np.uint16)
    file = saved(tmp_path / f"a.{suffix}", Image.fromarray(deep_IJ))
    assert np.array_equal(pixels(file), deep_IJ)
    assert read_header(file).dtype == np.uint16


def test_cmyk_is_read_as_colours(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.tif", Image.fromarray(COLOUR_IJH).convert("CMYK"))
    assert np.array_equal(pixels(file, 0), COLOUR_IJH[..., 0])


def test_content_counts_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(GREY_IJ).save(path, format="PNG")
    assert np.array_equal(pixels(ImageFile(path)), GREY_IJ)
    path.rename(tmp_path / "a.dat")
    assert is_picture(tmp_path / "a.dat")


def test_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it
    file = saved(tmp_path / "a.png", Image.fromarray(GREY_IJ), exif=exif)
    assert np.array_equal(pixels(file), np.rot90(GREY_IJ, -1))


def test_damaged_pictures_are_refused_by_name(tmp_path: Path) -> None:
    big = Image.fromarray(RANDOM.integers(0, 256, (64, 64), dtype=np.uint8))
    for suffix in ("jpg", "png", "tif", "bmp"):
        path = saved(tmp_path / f"cut.{suffix}", big).path
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match=rf"cut\.{suffix}: .*fetch it again$") as problem:
            read_volume(ImageFile(path))
        assert "\n" not in str(problem.value)
    for name, content in (("text.jpg", b"hello"), ("magic.png", b"\x89PNG")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            DataError, match=rf"{name}: no picture that can be read \(PNG, JPEG, TIFF, BMP\)"
        ):
            read_header(ImageFile(tmp_path / name))
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"empty\.png: the file is empty; fetch it again"):
        read_header(ImageFile(tmp_path / "empty.png"))
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        read_volume(ImageFile(tmp_path / "gone.png"))


def test_constant_picture_and_several_in_one_file_are_refused(tmp_path: Path) -> None:
    flat = saved(tmp_path / "flat.png", Image.new("L", (4, 4), 9))
    with pytest.raises(DataError, match=r"flat\.png: every pixel is 9; leave out the case"):
        read_volume(flat)
    assert read_volume(flat, allow_constant=True)[0].tolist() == [[[9.0]] * 4] * 4
    pages = [Image.fromarray(GREY_IJ)] * 2
    stack = saved(tmp_path / "stack.tif", pages[0], save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"stack\.tif: holds several pictures"):
        read_header(stack)
