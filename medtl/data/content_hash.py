"""Content hashes of images: was a model trained on this image, under any file name?

Axes: I J K voxels (K J I: the same array in memory order).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.case import Case, ImageFile
from medtl.data.io.geometry import to_canonical
from medtl.data.io.images import read_volume
from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.runtime.cache import content_of, remembered
from medtl.runtime.parallel import in_threads

#: Part of the cache key of hashes; raise it whenever they change.
_FACT = "fingerprint 2"


def fingerprint(case: Case) -> tuple[str, ...]:
    """One hash of each image's voxels, in the order of the case's modalities.

    Compression, storage type, and flipped or permuted axes do not change it. Constant images, which
    some data sets write for missing ones, are left out. Hashes are kept between runs. Errors as
    :func:`medtl.data.io.images.read_volume`.
    """
    return tuple(filter(None, map(image_fingerprint, case.images.values())))


def check_content(case: Case, modalities: Iterable[Modality]) -> None:
    """Raise DataError if one of the ``modalities`` is a damaged, NaN or constant image."""
    for name in modalities:
        if not image_fingerprint(case.images[name]):
            read_volume(case.images[name])  # raises the error


def files_of(case: Case) -> list[ImageFile]:
    """What a prepared case is made from: its images, and its segmentation if there is one."""
    return [*case.images.values(), *([case.target] if case.target else [])]


def contents_of(cases: Sequence[Case]) -> dict[Path, str]:
    """A hash of the bytes of each file that the cases are prepared from, by path.

    Raises DataError for a file that cannot be read.
    """
    paths = list(dict.fromkeys(file.path for case in cases for file in files_of(case)))
    return dict(zip(paths, in_threads(file_hash, paths, threads=2), strict=True))


def check_unchanged(cases: Iterable[Case], contents: Mapping[Path, str]) -> None:
    """Raise DataError if a file of the ``cases`` is another than when ``contents`` were read."""
    for case in cases:
        for file in files_of(case):
            if file_hash(file.path) != contents[file.path]:
                raise DataError(
                    f"{file.path}: changed while the run was using it; put the former file back"
                )


def file_hash(path: Path) -> str:
    """A hash of a file's bytes. Raises DataError if it cannot be read."""
    try:
        return content_of(path)
    except OSError as problem:
        reason = problem.strerror or problem
        raise DataError(f"{path}: cannot be read ({reason}); fetch it again") from problem


def image_fingerprint(file: ImageFile) -> str:
    """Hash of the float32 voxels in canonical (RAS) order and of their shape; constant: empty."""

    def compute() -> str:
        return content_hash(*read_volume(file, allow_constant=True))

    return str(remembered(_FACT, file.path, file.channel, compute))


def fingerprint_of(
    file: ImageFile, array_IJK: NDArray[np.float32], affine: NDArray[np.float64]
) -> str:
    """As :func:`image_fingerprint`, of a file whose voxels have just been read."""

    def compute() -> str:
        return content_hash(array_IJK, affine)

    return str(remembered(_FACT, file.path, file.channel, compute))


def content_hash(array_IJK: NDArray[Any], affine: NDArray[np.float64]) -> str:
    """As :func:`image_fingerprint`, of an image that has been read."""
    if array_IJK.min() == array_IJK.max():
        return ""
    canonical_IJK, _, _ = to_canonical(array_IJK, affine)
    content_KJI = np.ascontiguousarray(canonical_IJK.T)
    content_KJI += 0.0  # turns -0.0 into 0.0
    digest = hashlib.blake2b(repr(content_KJI.shape).encode(), digest_size=16)
    digest.update(content_KJI.data)
    return digest.hexdigest()
