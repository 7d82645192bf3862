"""Duplicate images, identical or nearly, under any file name.

Near duplicates are recompressed, resized, rescaled in intensity, or have other margins. Two
modalities of one patient are no duplicates, nor are neighbouring slices or two patients' brains.

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

#: Shapes of thumbnails, and the least correlation of their details for duplicates. Measured:
#: copies of pictures 0.993 and more; T1 and contrast-enhanced T1 of a slice 0.979 and less, of
#: volumes 0.94 and less.
PICTURE, LEAST_PICTURE = (48, 48, 1), 0.985


VOLUME, LEAST_VOLUME = (24, 24, 24), 0.97


#: Pictures are averaged to about this edge before their foreground is found.
EDGE = 256


#: Images compared with all others at once.
BLOCK = 1024


_FACT = "thumbnails 2"


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A hash of an image's content, and the details of its thumbnails, each of mean 0 and norm 1.

    A constant image has an empty hash and no details.
    """

    hash: str
    details: tuple[NDArray[np.float32], ...]
    least: float  #: correlation of details from which two images are duplicates


@dataclass(frozen=True, slots=True)
class Group:
    """Indices of images that are duplicates of each other, in order."""

    members: tuple[int, ...]
    identical: bool  #: in every pixel


def thumbnails_of(files: Sequence[ImageFile], reporter: Reporter) -> list[Thumbnail]:
    """The thumbnails of all files. Errors as read_volume."""
    with reporter.progress("looking for duplicates", len(files)) as advance:
        return in_threads(thumbnail, files, advance, threads=2)


def groups_of(thumbnails: Sequence[Thumbnail], least: float | None = None) -> list[Group]:
    """All groups of two and more duplicates, by their first member.

    Chains count: a duplicate of a member is a member. ``least`` replaces the correlation from which
    two images are duplicates.
    """
    if least is not None:
        thumbnails = [replace(image, least=least) for image in thumbnails]
    pairs = [*_identical(thumbnails), *_similar(thumbnails)]
    members: dict[int, list[int]] = {}
    for number, first in enumerate(joined(len(thumbnails), pairs)):
        members.setdefault(first, []).append(number)
    return [
        Group(tuple(group), len({thumbnails[number].hash for number in group}) == 1)
        for group in members.values()
        if len(group) > 1
    ]


def joined(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each of ``count`` indices the first one that a chain of ``pairs`` joins it to."""
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


def thumbnail(file: ImageFile) -> Thumbnail:
    """The thumbnail of an image, kept between runs. Errors as read_volume."""
    known = remembered(_FACT, file.path, file.channel, lambda: _record(file))
    details = tuple(map(_unpacked, known["details"]))
    return Thumbnail(known["hash"], details, LEAST_PICTURE if known["flat"] else LEAST_VOLUME)


def _identical(thumbnails: Sequence[Thumbnail]) -> Iterator[tuple[int, int]]:
    first: dict[str, int] = {}
    for number, image in enumerate(thumbnails):
        if image.hash:
            yield first.setdefault(image.hash, number), number


def _similar(thumbnails: Sequence[Thumbnail]) -> Iterator[tuple[int, int]]:
    """Compare thumbnails of one kind with each other, in blocks."""
    kinds: dict[tuple[int, int, float], list[int]] = {}
    for number, image in enumerate(thumbnails):
        for kind, details in enumerate(image.details):
            kinds.setdefault((kind, len(details), image.least), []).append(number)
    for (kind, _, least), numbers in kinds.items():
        details_NF = np.stack([thumbnails[number].details[kind] for number in numbers])
        for start in range(0, len(numbers), BLOCK):
            correlation = details_NF[start : start + BLOCK] @ details_NF[start:].T
            for a, b in np.argwhere(np.triu(correlation, 1) >= least):
                yield numbers[start + int(a)], numbers[start + int(b)]


def _record(file: ImageFile) -> dict[str, Any]:
    array_IJK, affine = read_volume(file, allow_constant=True)
    flat = array_IJK.shape[2] == 1
    small: list[NDArray[np.float32]] = []
    if array_IJK.min() < array_IJK.max():
        canonical_IJK, _, _ = to_canonical(array_IJK, affine)
        if flat:
            factor = max(1, max(array_IJK.shape) // EDGE)
            factors = [min(factor, edge) for edge in canonical_IJK.shape]  # 1 along K
            small_IJK = block_mean(canonical_IJK, factors)
            shown = small_IJK[bounding_box(foreground(small_IJK)) or ...]
            small = [resample_array(small_IJK, PICTURE), resample_array(shown, PICTURE)]
        else:
            shown = canonical_IJK[bounding_box(foreground(canonical_IJK)) or ...]
            small = [resample_array(shown, VOLUME)]
    packed = [_packed(image_IJK) for image_IJK in small if np.ptp(image_IJK) > 0]
    return {"hash": content_hash(array_IJK, affine), "flat": flat, "details": packed}


def _packed(thumbnail_IJK: NDArray[np.float32]) -> str:
    """The details of a thumbnail: each pixel less the mean of its 3 x 3 (x 3) neighbourhood."""
    window = [3 if n > 1 else 1 for n in thumbnail_IJK.shape]
    details = thumbnail_IJK - uniform_filter(thumbnail_IJK, window)
    levels = np.round(details * (127 / max(float(np.abs(details).max()), 1e-30)))
    return b64encode(levels.astype(np.int8).tobytes()).decode()


def _unpacked(packed: str) -> NDArray[np.float32]:
    levels = np.frombuffer(b64decode(packed), dtype=np.int8).astype(np.float32)
    centred = levels - levels.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-30))
