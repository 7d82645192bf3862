"""Damage to NIfTI files and pictures."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np

from damage.accidents import damaged, field_set, gzipped, one_of, specially
from damage.texts import TEXTS

#: NIfTI-1: field -> (offset, letter, elements).
HEADER = {
    **{
        "sizeof_hdr": (0, "i", 1),
        "dim": (40, "h", 8),
        "intent_p": (56, "f", 3),
        "intent_code": (68, "h", 1),
    },
    **{
        "datatype": (70, "h", 1),
        "bitpix": (72, "h", 1),
        "pixdim": (76, "f", 8),
        "vox_offset": (108, "f", 1),
    },
    **{
        "scl_slope": (112, "f", 1),
        "scl_inter": (116, "f", 1),
        "xyzt_units": (123, "b", 1),
        "cal_max": (124, "f", 2),
    },
    **{
        "qform_code": (252, "h", 1),
        "sform_code": (254, "h", 1),
        "quatern": (256, "f", 6),
        "srow": (280, "f", 12),
    },
    **{"magic": (344, "b", 4), "extension": (348, "b", 4)},
}


def nifti(folder: Path, random: Random, canary: Path) -> str:
    path = one_of(folder, random, "*.nii.gz", "*.nii")
    if what := specially(path, random, canary):
        return what
    content, act = path.read_bytes(), random.random()
    packed = path.suffix == ".gz"
    plain = gzip.decompress(content) if packed else content
    if act < 0.2:
        path.write_bytes(damaged(content, random))
        return f"{path.name}: bytes"
    if act < 0.3:
        plain, what = damaged(plain, random), "decoded bytes"
    elif act < 0.8:
        notes = []
        for _ in range(random.choice((1, 1, 2, 3))):
            plain, note = field_set(plain, HEADER, random, "<")
            notes.append(note)
        what = ", ".join(notes)
    elif act < 0.9:
        plain, what = voxels(plain, random)
    else:
        plain, what = other_form(plain, random)
    path.write_bytes(gzipped(plain, random) if packed else plain)
    return f"{path.name}: {what}"


def voxels(plain: bytes, random: Random) -> tuple[bytes, str]:
    """The same header with other values, as float32."""
    count, value = 20**3, random.choice((np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.0, 7.0))
    made = np.random.default_rng(random.randrange(99)).random(count).astype("<f4")
    made[: random.choice((1, count // 2, count))] = value
    header = bytearray(plain[:352])
    struct.pack_into("<2h", header, 70, 16, 32)
    return bytes(header) + made.tobytes(), f"voxels of {value}"


def other_form(plain: bytes, random: Random) -> tuple[bytes, str]:
    """Another byte order, an extension, NIfTI-2, more voxels than there are."""
    body = bytearray(plain)
    form = random.choice(("swapped", "extended", "nifti2", "wide", "zeros"))
    if form == "swapped":
        body[:4] = body[:4][::-1]
    elif form == "extended":
        body[348] = 1
        struct.pack_into("<2i", body, 352, random.choice((0, -16, 16, 2**31 - 1, 17)), 6)
    elif form == "nifti2":
        body = bytearray(544)
        struct.pack_into(
            "<i8s2h8q",
            body,
            0,
            540,
            b"n+2\0\r\n\x1a\n",
            4,
            16,
            3,
            *random.choices((20, 0, -1, 2**60), k=7),
        )
        struct.pack_into("<8dq", body, 104, *[1.0] * 8, 544)
        body += bytes(20**3 * 2)
    else:
        edge = random.choice((300, 1000, 32767))
        struct.pack_into("<4h", body, 40, 3, edge, edge, edge if form == "wide" else 1)
        body += bytes(random.choice((10**6, 3 * 10**7))) if form == "zeros" else b""
    return bytes(body), form


def png_field(content: bytes, random: Random) -> bytes:
    """A field of IHDR set, or a chunk put in, with the right checksum."""
    if random.random() < 0.6:
        at = random.randrange(13)
        body = bytearray(content[12:29])
        size = 4 if at < 8 else 1
        at = at // 4 * 4 if at < 8 else at
        body[4 + at : 4 + at + size] = random.choice(
            (0, 1, 2, 7, 16, 255, 65536, 2**31 - 1)
        ).to_bytes(4, "big")[-size:]
        return content[:12] + bytes(body) + struct.pack(">I", zlib.crc32(body)) + content[33:]
    kind = random.choice((b"tEXt", b"zTXt", b"iCCP", b"tRNS", b"eXIf", b"acTL", b"PLTE", b"gAMA"))
    text = random.choice(
        (b"a\0" + b"\x1b[31m" * 9, b"a\0\0" + zlib.compress(bytes(10**8)), b"", b"\xff" * 64)
    )
    chunk = kind + text
    return (
        content[:33]
        + struct.pack(">I", len(text))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + content[33:]
    )


def tiff_field(content: bytes, random: Random) -> bytes:
    """One entry of the first directory: its tag, type, count or value."""
    start = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, start)[0]
    at = start + 2 + 12 * random.randrange(entries)
    offset, letter = random.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I")))
    value = random.choice(
        (
            0,
            1,
            2,
            3,
            5,
            8,
            255,
            274,
            65535,
            *((2**20, 2**31 - 1, 2**32 - 1) if letter == "I" else ()),
        )
    )
    body = bytearray(content)
    struct.pack_into(f"<{letter}", body, at + offset, value)
    return bytes(body)


def picture(folder: Path, random: Random, canary: Path) -> str:
    path = one_of(folder, random, "*.png", "*.jpg", "*.tif", "*.bmp")
    if what := specially(path, random, canary):
        return what
    content, act = path.read_bytes(), random.random()
    if act < 0.15:
        name = (
            random.choice(TEXTS)
            .replace("/", "_")
            .replace("\0", "_")
            .encode("utf-8", "surrogateescape" if "\ud800" not in TEXTS else "replace")[:200]
        )
        target = path.parent if act < 0.05 else path
        ending = b"" if target.is_dir() else path.suffix.encode()
        target.rename(
            Path(
                bytes(target.parent).decode()
                + "/"
                + (b"x" + name + ending).decode("utf-8", "surrogateescape")
            )
        )
        return f"{target.name}: named {name!r}"
    if act < 0.25:
        path.rename(
            path.with_suffix(
                random.choice((".png", ".jpg", ".tif", ".dcm", ".webp", ".gif", ".PNG"))
            )
        )
        return f"{path.name}: another ending"
    if act < 0.65 and path.suffix in (".png", ".tif"):
        path.write_bytes((png_field if path.suffix == ".png" else tiff_field)(content, random))
        return f"{path.name}: field"
    path.write_bytes(damaged(content, random))
    return f"{path.name}: bytes"
