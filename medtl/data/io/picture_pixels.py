"""The pixels of an opened picture, upright and at full depth, whatever way they are stored in.

Pillow keeps the high bytes of colours of 16 bits alone, takes white-is-zero of 16 bits for the
opposite and wraps the largest of 32 bits: those are read here.

Axes: I rows (down), J columns (right), H colours, A colours and what lies behind them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF: rows and columns are exchanged


#: Tags of a TIFF.
_COLUMNS, _ROWS, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_PLANES, _COLOUR_MAP, _SAMPLE_FORMAT, _SUBSAMPLING = 284, 320, 339, 530


#: Values of these tags.
_UNCOMPRESSED, _WHITE_IS_ZERO, _YCBCR, _SEPARATE, _UNSIGNED, _SIGNED = 1, 0, 6, 2, 1, 2


#: White in 8, 12 and 16 bits.
_WHITE8, _WHITE12, _WHITE16 = 255, 4095, 65535


#: Colours of 16 bits, as Pillow's raw modes name them, and their order of bytes.
_DEEP = re.compile(r";16[BLN]$")
_NATIVE = "L" if sys.byteorder == "little" else "B"
#: Numbers that libtiff gives in the machine's order; Pillow takes these in the file's.
_NUMBERS = re.compile(r"^(I;16|I;32|F;32)B?([SF])$")
_OTHER = {"B": "L", "L": "B"}


class UnreadablePixels(ValueError):
    """Why pixels that are stored in a legal way cannot be read, and what to do."""


def upright_shape(image: Image.Image) -> tuple[int, int]:
    """Rows and columns as displayed."""
    tags = _tags(image)
    columns, rows = (tags[_COLUMNS], tags[_ROWS]) if tags else image.size
    # Pillow may have exchanged the size of a TIFF already. For a PNG, this decodes it.
    if image.getexif().get(_ORIENTATION) in _TURNED:
        columns, rows = rows, columns
    return rows, columns


def stored_type(image: Image.Image) -> np.dtype[Any]:
    """The type of the levels that are read; it says what white is in 8 and in 16 bits."""
    tags = _tags(image)
    if _is_deep(image) or image.mode.startswith("I;16") or _deep_palette(image, tags) is not None:
        return np.dtype(np.uint16)
    if image.mode == "F":
        return np.dtype(np.float32)
    if image.mode == "I":
        if not tags:
            return np.dtype(np.uint16)  # PNG of 16 bits
        signed, bits = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _SIGNED, tags[_BITS][0]
        return np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    return np.dtype(np.int8 if _is_signed_byte(image, tags) else np.uint8)


def pixels(image: Image.Image, file: BinaryIO) -> NDArray[Any]:
    """Grey levels (I, J) or colours (I, J, H) as stored; what is transparent is black.

    ``file``: what ``image``, not yet loaded, was opened from.

    Raises:
        UnreadablePixels: stored in a way that is not read here.
    """
    tags = _tags(image)
    _check(image, tags)
    if _is_deep(image):
        return _deep_colours(image, file)
    palette, stored, clear = _deep_palette(image, tags), stored_type(image), _clear_level(image)
    if tags.get(_COMPRESSION, 1) != _UNCOMPRESSED:
        _take(image, _NUMBERS.sub(r"\1N\2", _raw_mode(image)))
    upright = ImageOps.exif_transpose(image)
    if palette is not None:
        return np.asarray(palette[np.asarray(upright)])
    if upright.mode == "1":
        upright = upright.convert("L")  # white is 255, as in all 8-bit pictures
    if upright.mode not in ("L", "I", "F") and not upright.mode.startswith("I;16"):
        return _shallow_colours(upright)
    grey_IJ = _grey_levels(np.asarray(upright), stored, tags)
    return grey_IJ if clear is None else np.where(grey_IJ == clear, 0, grey_IJ)


def _grey_levels(
    grey_IJ: NDArray[Any], stored: np.dtype[Any], tags: Mapping[int, Any]
) -> NDArray[Any]:
    """As the file means what Pillow has decoded."""
    grey_IJ = grey_IJ.astype(grey_IJ.dtype.newbyteorder("="))
    if stored.kind in "iu" and grey_IJ.dtype.itemsize == stored.itemsize:
        grey_IJ = grey_IJ.view(stored)
    if stored == np.uint16 and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return np.asarray(_WHITE16 - grey_IJ)
    if stored == np.uint16 and tags.get(_BITS) == (12,):
        return ((grey_IJ.astype(np.uint32) * _WHITE16 + _WHITE12 // 2) // _WHITE12).astype(stored)
    return grey_IJ


def _tags(image: Image.Image) -> Mapping[int, Any]:
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def _check(image: Image.Image, tags: Mapping[int, Any]) -> None:
    """Raises UnreadablePixels for what would be read wrongly."""
    if image.mode == "LAB":
        raise UnreadablePixels("holds LAB colours; save it with red, green and blue")
    if not tags:
        return
    meaning, plain = tags.get(_PHOTOMETRIC), tags.get(_COMPRESSION, 1) == _UNCOMPRESSED
    if meaning is None:
        raise UnreadablePixels("does not say whether 0 is black or white; save it anew, as PNG")
    if image.mode == "F" and meaning == _WHITE_IS_ZERO:
        raise UnreadablePixels("0 is white in floating point; save it with 0 as black")
    if meaning == _YCBCR and plain and tags.get(_SUBSAMPLING, (2, 2)) != (1, 1):
        raise UnreadablePixels("holds subsampled colours, uncompressed; save it as PNG")
    if _is_deep(image) and tags.get(_PLANES) == _SEPARATE:
        raise UnreadablePixels("holds 16-bit colours in separate planes; save it as PNG")
    if image.mode == "PA" and _deep_palette(image, tags) is not None:
        raise UnreadablePixels("holds a palette of 16 bits and transparency; save it as PNG")
    if plain and _described(image) < tags[_COLUMNS] * tags[_ROWS] * _separate_planes(tags):
        raise UnreadablePixels("a part of its rows is missing; fetch it again")


def _described(image: Image.Image) -> int:
    """The pixels of all strips or tiles; Pillow leaves black what none of them holds."""
    assert isinstance(image, ImageFile.ImageFile)
    boxes = [tile.extents or (0, 0, *image.size) for tile in image.tile]
    return sum((right - left) * (low - high) for left, high, right, low in boxes)


def _separate_planes(tags: Mapping[int, Any]) -> int:
    return int(tags.get(_SAMPLES, 1)) if tags.get(_PLANES) == _SEPARATE else 1


def _raw_mode(image: Image.Image) -> str:
    """How Pillow's decoder takes the pixels from the file."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return ""
    given = image.tile[0].args
    return str(given[0] if isinstance(given, tuple) and given else given)


def _take(image: Image.Image, raw: str) -> None:
    """Have Pillow's decoder take the pixels as ``raw`` says."""
    assert isinstance(image, ImageFile.ImageFile)
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile in image.tile
    ]


def _is_deep(image: Image.Image) -> bool:
    """Whether its colours have 16 bits, of which Pillow would keep the high ones."""
    if image.mode not in ("RGB", "RGBA", "CMYK"):
        return False
    return bool(_DEEP.search(_raw_mode(image))) or max(_tags(image).get(_BITS, (8,))) > 8


def _is_signed_byte(image: Image.Image, tags: Mapping[int, Any]) -> bool:
    return image.mode == "L" and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _SIGNED


def _clear_level(image: Image.Image) -> int | None:
    """The grey level that is transparent. Pillow spreads 2 and 4 bits over 8, but not this."""
    level = image.info.get("transparency")
    if not isinstance(level, int):
        return None
    return level * {"L;2": 85, "L;4": 17}.get(_raw_mode(image), 1)


def _deep_palette(image: Image.Image, tags: Mapping[int, Any]) -> NDArray[np.uint16] | None:
    """Colours by index where a TIFF's palette needs its 16 bits; some writers fill 8 of them."""
    if image.mode not in ("P", "PA") or _COLOUR_MAP not in tags:
        return None
    palette_IH = np.array(tags[_COLOUR_MAP], dtype=np.uint16).reshape(3, -1).T
    if palette_IH.max() <= _WHITE8:
        return palette_IH * np.uint16(257)
    high, low = np.divmod(palette_IH, 256)
    return None if ((low == high) | (low == 0)).all() else palette_IH


def _shallow_colours(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "La":  # multiplied by its transparency already
        return np.asarray(image.getchannel("L"))
    if "A" in image.getbands() or image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return np.asarray(image.convert("RGB"))


def _deep_colours(image: Image.Image, file: BinaryIO) -> NDArray[np.uint16]:
    """Colours (I, J, H) of 16 bits, decoded twice: the high bytes, then the low ones."""
    raw, clear = _raw_mode(image), image.info.get("transparency")
    if raw == "LA;16B":  # grey and its transparency
        bytes_IJA = _decoded(image, file, "RGBA").astype(np.uint32)
        parts_IJA = bytes_IJA[..., 0::2] * 256 + bytes_IJA[..., 1::2]
        return np.repeat(_times(parts_IJA[..., :1], parts_IJA[..., 1:]), 3, axis=-1)
    multiplied = raw.startswith("RGBa")
    raw = raw.replace("RGBa", "RGBA")
    order = raw[-1] if raw[-1] != "N" else _NATIVE
    high_IJA = _decoded(image, file, raw).astype(np.uint32)
    parts_IJA = high_IJA * 256 + _decoded(image, file, raw[:-1] + _OTHER[order])
    colours_IJH = parts_IJA[..., :3]
    if image.mode == "CMYK":  # what the inks leave of white
        return _times(_WHITE16 - colours_IJH, _WHITE16 - parts_IJA[..., 3:])
    if parts_IJA.shape[-1] == 4 and not multiplied:
        return _times(colours_IJH, parts_IJA[..., 3:])
    if isinstance(clear, tuple):
        colours_IJH[(colours_IJH == clear).all(axis=-1)] = 0
    return colours_IJH.astype(np.uint16)


def _decoded(image: Image.Image, file: BinaryIO, raw: str) -> NDArray[np.uint8]:
    """The file decoded anew as ``raw`` says, upright."""
    file.seek(0)
    with Image.open(file, formats=(str(image.format),)) as again:
        _take(again, raw)
        return np.asarray(ImageOps.exif_transpose(again))


def _times(levels: NDArray[np.uint32], share: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Levels of 16 bits times a share of which 65535 is all."""
    return ((levels * share + _WHITE16 // 2) // _WHITE16).astype(np.uint16)
