"""Small versions of images, as text that the cache keeps.

Axes: I J K voxels, N image.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.grids import bounding_box, resample_array

#: Edges of thumbnails.
PICTURE_EDGE, VOLUME_EDGE = 96, 24


def thumbnail_of(canonical_IJK: NDArray[np.float32], shown_IJK: NDArray[np.bool_] | None) -> str:
    """The image with equal edges, in 256 levels.

    Args:
        shown_IJK: the foreground, whose box alone is shown; None: the whole image.
    """
    box: Any = (bounding_box(shown_IJK) if shown_IJK is not None else None) or ...
    flat = canonical_IJK.shape[2] == 1
    shape = (PICTURE_EDGE, PICTURE_EDGE, 1) if flat else (VOLUME_EDGE,) * 3
    small = resample_array(canonical_IJK[box], shape)
    low, high = np.percentile(small, (0.5, 99.5))
    if low >= high:
        low, high = float(small.min()), float(small.max())
    levels = np.clip((small - low) * (255 / max(high - low, 1e-30)), 0, 255)
    return b64encode(np.rint(levels).astype(np.uint8).tobytes()).decode()


def as_rows(images_N: NDArray[Any]) -> NDArray[np.float32]:
    """Images as rows of mean 0 and norm 1, whose products are correlations."""
    rows = images_N.reshape(len(images_N), -1)
    rows = rows - rows.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def unpacked(thumbnail: str, flat: bool) -> NDArray[np.uint8]:
    """The levels of a thumbnail: I J of a picture, I J K of a volume."""
    shape = (PICTURE_EDGE,) * 2 if flat else (VOLUME_EDGE,) * 3
    return np.frombuffer(b64decode(thumbnail), dtype=np.uint8).reshape(shape)
