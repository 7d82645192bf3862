"""Images that are the same, pixel by pixel or nearly, under whatever file name.

Nearly: recompressed, resized, rescaled in intensity, or with other margins. Two modalities of one
patient are not the same, nor are neighbouring slices, nor two patients' brains.

Axes: I J K voxels, N image, F pixel of a thumbnail.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from medtl.data.case import ImageFile
from medtl.data.content_hash import content_hash
from medtl.data.io.foreground import foreground
from medtl.data.io.geometry import to_canonical
from medtl.data.io.grids import block_mean, bounding_box, resample_array
from medtl.data.io.images import read_volume
from medtl.runtime.cache import remembered
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads

#: Edges of thumbnails, and the least correlation of their details that makes two images the same.
#: Seen: copies of pictures .993 and more, T1 and contrast-enhanced T1 of a slice .979 and less; of
#: volumes .94 and less.
PICTURE, LEAST_PICTURE = (48, 48, 1), 0.985


VOLUME, LEAST_VOLUME = (24, 24, 24), 0.97


#: Pictures are averaged to about this edge before it is looked for what they show.
EDGE = 256


#: Images that are compared with all others at once.
BLOCK = 1024


_FACT = "thumbnails 1"


@dataclass(frozen=True, slots=True)
class Look:
    """What tells an image: a hash of its content, and the details of its thumbnails, each of mean 0
    and length 1. A constant image shows nothing: its hash is empty, and it has no thumbnail."""

    hash: str
    details: tuple[NDArray[np.float32], ...]
    least: float  #: correlation of one of them that makes it the same as another image


@dataclass(frozen=True, slots=True)
class Group:
    """Images that are the same, by their number, in order."""

    members: tuple[int, ...]
    identical: bool  #: every pixel of every one


def look_at(files: Sequence[ImageFile], reporter: Reporter) -> list[Look]:
    """Look at all, several at once. Errors as read_volume."""
    with reporter.progress("looking for duplicates", len(files)) as advance:
        return in_threads(look, files, advance, threads=2)


def groups_of(looks: Sequence[Look], least: float | None = None) -> list[Group]:
    """All groups of two and more, by their first member. Chains count: what is the same as a member
    is a member. ``least``: another correlation that makes two images the same."""
    if least is not None:
        looks = [replace(each, least=least) for each in looks]
    pairs = [*_identical(looks), *_alike(looks)]
    members: dict[int, list[int]] = {}
    for number, first in enumerate(joined(len(looks), pairs)):
        members.setdefault(first, []).append(number)
    return [
        Group(tuple(group), len({looks[number].hash for number in group}) == 1)
        for group in members.values()
        if len(group) > 1
    ]


def joined(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each of ``count`` numbers the first that pairs join it to, however indirectly."""
    first = list(range(count))

    def root(number: int) -> int:
        while first[number] != number:
            first[number] = first[first[number]]
            number = first[number]
        return number

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        first[high] = low
    return [root(number) for number in range(count)]


def look(file: ImageFile) -> Look:
    """Read an image, or remember what was found in it. Errors as read_volume."""
    known = remembered(_FACT, file.path, file.channel, lambda: _record(file))
    details = tuple(map(_unpacked, known["details"]))
    return Look(known["hash"], details, LEAST_PICTURE if known["flat"] else LEAST_VOLUME)


def _identical(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    first: dict[str, int] = {}
    for number, each in enumerate(looks):
        if each.hash:
            yield first.setdefault(each.hash, number), number


def _alike(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Thumbnails of one kind are compared with each other, a block of them at once."""
    kinds: dict[tuple[int, int, float], list[int]] = {}
    for number, each in enumerate(looks):
        for kind, details in enumerate(each.details):
            kinds.setdefault((kind, len(details), each.least), []).append(number)
    for (kind, _, least), numbers in kinds.items():
        details_NF = np.stack([looks[number].details[kind] for number in numbers])
        for start in range(0, len(numbers), BLOCK):
            correlation = details_NF[start : start + BLOCK] @ details_NF[start:].T
            for a, b in np.argwhere(np.triu(correlation, 1) >= least):
                yield numbers[start + int(a)], numbers[start + int(b)]


def _record(file: ImageFile) -> dict[str, Any]:
    array_IJK, affine = read_volume(file, allow_constant=True)
    flat = array_IJK.shape[2] == 1
    thumbnails: list[NDArray[np.float32]] = []
    if array_IJK.min() < array_IJK.max():
        canonical_IJK, _, _ = to_canonical(array_IJK, affine)
        if flat:
            factor = max(1, max(array_IJK.shape) // EDGE)
            small_IJK = block_mean(canonical_IJK, (factor, factor, 1))
            shown = small_IJK[bounding_box(foreground(small_IJK)) or ...]
            thumbnails = [resample_array(small_IJK, PICTURE), resample_array(shown, PICTURE)]
        else:
            shown = canonical_IJK[bounding_box(foreground(canonical_IJK)) or ...]
            thumbnails = [resample_array(shown, VOLUME)]
    packed = [_packed(thumbnail) for thumbnail in thumbnails if np.ptp(thumbnail) > 0]
    return {"hash": content_hash(array_IJK, affine), "flat": flat, "details": packed}


def _packed(thumbnail_IJK: NDArray[np.float32]) -> str:
    """Its details: what is left without the mean of the 3 x 3 (x 3) around each pixel."""
    window = [3 if n > 1 else 1 for n in thumbnail_IJK.shape]
    details = thumbnail_IJK - uniform_filter(thumbnail_IJK, window)
    levels = np.round(details * (127 / max(float(np.abs(details).max()), 1e-30)))
    return b64encode(levels.astype(np.int8).tobytes()).decode()


def _unpacked(packed: str) -> NDArray[np.float32]:
    levels = np.frombuffer(b64decode(packed), dtype=np.int8).astype(np.float32)
    centred = levels - levels.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-30))
