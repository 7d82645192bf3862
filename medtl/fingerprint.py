"""Content hashes of images: has a model seen this patient before, under whatever file name?

Axes: I J K voxels (K J I: the same array as it lies in memory).
"""

from __future__ import annotations

import hashlib

import numpy as np

from medtl.cache import remembered
from medtl.case import Case, ImageFile
from medtl.io.nifti import read_volume, to_canonical

#: Part of the key under which hashes are remembered; raise it whenever they change.
_FACT = "fingerprint 1"


def fingerprint(case: Case) -> tuple[str, ...]:
    """One hash of each image's voxels, in the order of the case's modalities.

    Compression, storage type, and flipped or permuted axes do not change it. Remembered between
    runs. Errors as :func:`medtl.io.nifti.read_volume`.
    """
    return tuple(image_fingerprint(file) for file in case.images.values())


def image_fingerprint(file: ImageFile) -> str:
    """Hash of the float32 voxels in canonical (RAS) order and of their shape."""
    return str(remembered(_FACT, file, lambda: _hash(file)))


def _hash(file: ImageFile) -> str:
    array_IJK, affine = read_volume(file, allow_constant=True)
    canonical_IJK, _, _ = to_canonical(array_IJK, affine)
    content_KJI = np.ascontiguousarray(canonical_IJK.T)
    content_KJI += 0.0  # -0.0 and 0.0 are one value
    digest = hashlib.blake2b(repr(content_KJI.shape).encode(), digest_size=16)
    digest.update(content_KJI.data)
    return digest.hexdigest()
