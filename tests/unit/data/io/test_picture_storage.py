"""One picture in the many ways it can be stored is read as the same upright pixels.

The files are written here, byte by byte, from arrays: what is expected is the array.

Axes: I rows, J columns, H colours.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl.data.case import ImageFile
from medtl.data.io import pictures
from medtl.data.io.pictures import picture_facts, read_picture, read_picture_header
from medtl.errors import DataError

RANDOM = np.random.default_rng(3)
GREY_IJ = RANDOM.integers(0, 256, (5, 7), dtype=np.uint8)
DEEP_IJ = RANDOM.integers(0, 65536, (5, 7), dtype=np.uint16)
DEEP_IJH = RANDOM.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
SEEN_IJ = RANDOM.integers(0, 65536, (5, 7, 1), dtype=np.uint16)

#: EXIF orientation -> how an upright picture lies in the file.
LYING = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}

#: Tags of a TIFF.
BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES = 258, 259, 262, 274, 277
PLANES, COLOUR_MAP, EXTRA, SAMPLE_FORMAT = 284, 320, 338, 339


def tiff(
    path: Path, array: np.ndarray, photometric: int | None, order: str = "<", **more: int
) -> ImageFile:
    """A TIFF of one strip; ``more``: further tags by name, in capitals."""
    rows, columns = array.shape[:2]
    samples = array.shape[2] if array.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    if more.pop("ZIPPED", 0):
        data, more["COMPRESSION"] = zlib.compress(data), 8
    if more.get("PLANES") == 2:
        data = np.moveaxis(array, -1, 0).astype(array.dtype.newbyteorder(order)).tobytes()
    tags: dict[int, list[int]] = {
        256: [columns],
        257: [rows],
        BITS: [8 * array.itemsize] * samples,
        COMPRESSION: [1],
        **({} if photometric is None else {PHOTOMETRIC: [photometric]}),
        SAMPLES: [samples],
        278: [rows],
        SAMPLE_FORMAT: [kind] * samples,
        **{globals()[name]: np.atleast_1d(value).tolist() for name, value in more.items()},
    }
    entries, extra = b"", b""
    places = 1 if more.get("PLANES") != 2 else samples
    after = 8 + 2 + 12 * (len(tags) + 2) + 4
    room = sum(2 * len(values) for values in tags.values() if len(values) > 2) + 8 * places
    sizes = [len(data) // places] * places
    long = {273: [after + room + n * sizes[0] for n in range(places)], 279: sizes}
    for tag in sorted({**tags, **long}):
        letter, code = ("I", 4) if tag in long else ("H", 3)
        values = long.get(tag) or tags[tag]
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            place, extra = struct.pack(f"{order}I", after + len(extra)), extra + packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, code, len(values)) + place
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    count = struct.pack(f"{order}H", len(tags) + 2)
    path.write_bytes(start + count + entries + bytes(4) + extra.ljust(room, b"\0") + data)
    return ImageFile(path)


def png(
    path: Path, array: np.ndarray, bits: int, colour: int, clear: tuple[int, ...] = ()
) -> ImageFile:
    """A PNG without filters; ``clear``: the colour that is transparent."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    rows, columns = array.shape[:2]
    if bits < 8:
        spread = np.unpackbits(array[..., None].astype(np.uint8), axis=-1)[..., -bits:]
        lines = [np.packbits(row.ravel()).tobytes() for row in spread]
    else:
        lines = [row.astype(">u2" if bits == 16 else "u1").tobytes() for row in array]
    header = struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, 0)
    hidden = chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)) if clear else b""
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines)))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + hidden + body + chunk(b"IEND", b"")
    )
    return ImageFile(path)


def levels(file: ImageFile) -> np.ndarray:
    array_IJK, _ = read_picture(file)
    assert read_picture_header(file).shape == array_IJK.shape
    return array_IJK[..., 0]


def colours(file: ImageFile) -> np.ndarray:
    return np.stack([levels(ImageFile(file.path, channel)) for channel in range(3)], axis=-1)


@pytest.mark.parametrize("zipped", [0, 1])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("turn", LYING)
def test_tiff_of_any_orientation_is_upright(
    tmp_path: Path, turn: int, order: str, zipped: int
) -> None:
    for name, upright, meaning in (
        ("grey", GREY_IJ, 1),
        ("deep", DEEP_IJ, 1),
        ("float", DEEP_IJ.astype(np.float32), 1),
        ("colours", DEEP_IJH, 2),
    ):
        lying = np.ascontiguousarray(LYING[turn](upright))
        path = tmp_path / f"{name}.tif"
        file = tiff(path, lying, meaning, order, ORIENTATION=turn, ZIPPED=zipped)
        found = colours(file) if upright.ndim == 3 else levels(file)
        assert np.array_equal(found, upright), name


@pytest.mark.parametrize("zipped", [0, 1])
def test_white_is_zero_is_turned_round_at_every_depth(tmp_path: Path, zipped: int) -> None:
    for upright, white in ((GREY_IJ, 255), (DEEP_IJ, 65535)):
        file = tiff(tmp_path / "a.tif", white - upright, 0, ZIPPED=zipped)
        assert np.array_equal(levels(file), upright)


@pytest.mark.parametrize(
    "array_IJ",
    [
        GREY_IJ.view(np.int8),
        DEEP_IJ.view(np.int16),
        RANDOM.integers(0, 2**32, (5, 7), dtype=np.uint32),
        RANDOM.integers(-(2**31), 2**31, (5, 7), dtype=np.int32),
        RANDOM.random((5, 7), dtype=np.float32),
    ],
    ids=lambda array_IJ: str(array_IJ.dtype),
)
def test_numbers_of_every_type_are_read_as_they_are(tmp_path: Path, array_IJ: np.ndarray) -> None:
    for order in "<" if array_IJ.dtype in (np.int8, np.uint32) else "<>":
        for zipped in (0, 1):
            file = tiff(tmp_path / "a.tif", array_IJ, 1, order, ZIPPED=zipped)
            assert np.array_equal(levels(file), array_IJ.astype(np.float32))
            assert read_picture_header(file).dtype == array_IJ.dtype


@pytest.mark.parametrize("write", ["png", "tiff", "tiff>", "zipped", "zipped>"])
def test_colours_of_16_bits_keep_them(tmp_path: Path, write: str) -> None:
    def saved(array: np.ndarray, **tags: int) -> ImageFile:
        path, order = tmp_path / f"a.{write[:4]}", "<>"[">" in write]
        if write == "png":
            return png(path, array, 16, 2 if array.shape[2] == 3 else 6)
        return tiff(path, array, 2, order, ZIPPED=int("zip" in write), **tags)

    file = saved(DEEP_IJH)
    assert np.array_equal(colours(file), DEEP_IJH)
    assert read_picture_header(file).dtype == np.uint16
    seen = saved(np.dstack([DEEP_IJH, SEEN_IJ]), EXTRA=2)
    assert np.abs(colours(seen) - DEEP_IJH * (SEEN_IJ / 65535)).max() <= 0.51
    if write != "png":
        file = saved(np.dstack([DEEP_IJH, SEEN_IJ]), EXTRA=0)  # means nothing
        assert np.array_equal(colours(file), DEEP_IJH)
        file = saved(np.dstack([DEEP_IJH, SEEN_IJ]), EXTRA=1)  # multiplied already
        assert np.array_equal(colours(file), DEEP_IJH)


def test_twelve_bits_in_16_bit_colours_are_all_there(tmp_path: Path) -> None:
    dark_IJH = np.repeat(RANDOM.permutation(4096)[:35].reshape(5, 7, 1), 3, axis=2)
    found = levels(png(tmp_path / "a.png", dark_IJH, 16, 2))
    assert np.array_equal(found, dark_IJH[..., 0])
    assert not picture_facts(tmp_path / "a.png")["coloured"]


def test_grey_and_transparency_of_16_bits(tmp_path: Path) -> None:
    both = np.stack([DEEP_IJ, SEEN_IJ[..., 0]], axis=-1)
    expected = DEEP_IJ * (SEEN_IJ[..., 0] / 65535)
    assert np.abs(levels(png(tmp_path / "a.png", both, 16, 4)) - expected).max() <= 0.51


def test_inks_of_16_bits_are_colours(tmp_path: Path) -> None:
    inks = np.dstack([65535 - DEEP_IJH, SEEN_IJ])
    expected = DEEP_IJH * (1 - SEEN_IJ / 65535)
    for zipped in (0, 1):
        found = colours(tiff(tmp_path / "a.tif", inks, 5, ZIPPED=zipped))
        assert np.abs(found - expected).max() <= 0.51


@pytest.mark.parametrize(("bits", "step"), [(1, 255), (2, 85), (4, 17), (8, 1), (16, 1)])
def test_transparent_grey_is_black_at_every_depth(tmp_path: Path, bits: int, step: int) -> None:
    stored_IJ = RANDOM.integers(0, 2**bits, (5, 7))
    stored_IJ[0, :2] = 2**bits - 1, 0
    clear = int(stored_IJ.max())
    file = png(tmp_path / "a.png", stored_IJ, bits, 0, (clear,))
    expected = np.where(stored_IJ == clear, 0, stored_IJ * step)
    array_IJK, _ = read_picture(file, allow_constant=True)
    assert np.array_equal(array_IJK[..., 0], expected)


def test_transparent_colour_of_16_bits_is_black(tmp_path: Path) -> None:
    clear = tuple(map(int, DEEP_IJH[2, 3]))
    expected = DEEP_IJH.copy()
    expected[2, 3] = 0
    assert np.array_equal(colours(png(tmp_path / "a.png", DEEP_IJH, 16, 2, clear)), expected)


@pytest.mark.parametrize("kind", ["deep", "alike", "eight"])
def test_palettes_of_tiff_are_used_at_their_depth(tmp_path: Path, kind: str) -> None:
    palette_IH = RANDOM.integers(0, {"deep": 4096}.get(kind, 256), (256, 3))
    palette_IH *= 257 if kind == "alike" else 1
    file = tiff(tmp_path / "a.tif", GREY_IJ, 3, COLOUR_MAP=palette_IH.T.ravel())
    scale = {"deep": 1, "alike": 1 / 257, "eight": 257}[kind]
    assert np.array_equal(colours(file), palette_IH[GREY_IJ] * scale)
    assert read_picture_header(file).dtype == (np.uint8 if kind == "alike" else np.uint16)


def test_grey_multiplied_by_its_transparency_is_taken_so(tmp_path: Path) -> None:
    both = np.stack([GREY_IJ // 2, np.full_like(GREY_IJ, 128)], axis=-1)
    assert np.array_equal(levels(tiff(tmp_path / "a.tif", both, 1, EXTRA=1)), GREY_IJ // 2)


def test_what_would_be_read_wrongly_is_refused(tmp_path: Path) -> None:
    eight_IJH = (DEEP_IJH >> 8).astype(np.uint8)
    path = tmp_path / "a.tif"
    for reason, write in {
        "whether 0 is black or white": lambda: tiff(path, DEEP_IJ, None),
        "0 is white in floating": lambda: tiff(path, DEEP_IJ.astype(np.float32), 0),
        "separate planes": lambda: tiff(path, DEEP_IJH, 2, PLANES=2),
        "subsampled colours": lambda: tiff(path, eight_IJH, 6),
        "LAB colours": lambda: tiff(path, eight_IJH, 8),
        "no picture that can be read": lambda: tiff(path, DEEP_IJ.astype(np.float64), 1),
    }.items():
        with pytest.raises(DataError, match=rf"a\.tif: .*{reason}.*; save it"):
            read_picture(write())
    assert np.array_equal(colours(tiff(path, eight_IJH, 2, PLANES=2)), eight_IJH)


@pytest.mark.parametrize("planes", [1, 2])
def test_tiff_without_a_part_of_its_rows_is_refused(tmp_path: Path, planes: int) -> None:
    eight_IJH = (DEEP_IJH >> 8).astype(np.uint8)
    path = tiff(tmp_path / "a.tif", eight_IJH, 2, PLANES=planes).path
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHII", 257, 3, 1, 5))
    struct.pack_into("<I", content, at + 8, 50)  # rows, of which 5 are there
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tif: a part of its rows is missing"):
        read_picture(ImageFile(path))


def test_animation_and_too_many_pixels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Image.fromarray(GREY_IJ), Image.fromarray(255 - GREY_IJ)]
    frames[0].save(tmp_path / "moves.png", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"moves\.png: holds several pictures"):
        read_picture(ImageFile(tmp_path / "moves.png"))
    monkeypatch.setattr(pictures, "MOST_PIXELS", 34)
    file = png(tmp_path / "large.png", GREY_IJ, 8, 0)
    file.path.write_bytes(file.path.read_bytes()[:60])  # refused before it is decoded
    for read in (read_picture, read_picture_header):
        with pytest.raises(DataError, match=r"large\.png: 7 x 5 pixels, more than .*; make it"):
            read(file)
