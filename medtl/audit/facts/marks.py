"""Marks beside the patient in a picture that may be characters, and the longest row of them.

Axes: I J pixels, as stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects, label

from medtl.data.io.grids import block_mean

#: The patient is searched in a picture of this edge; the region found is widened by these steps.
EDGE, WIDER = 96, 3

#: Levels of the patient and of marks, from the background to the brightest.
PATIENT, BRIGHT = 0.12, 0.3

#: Heights of characters: the least in pixels, and the most as a share of the picture.
LEAST_HEIGHT, MOST_HEIGHT = 5, 0.08

#: Characters of a row, relative to their height: how far apart, how unequal in height and place.
APART, UNEQUAL = 1.5, 0.3

_ALL_NEIGHBOURS = np.ones((3, 3))


def find_marks(picture_IJ: NDArray[np.float32]) -> tuple[int, int]:
    """Bright marks of the size of characters: their number, and how many the longest row has."""
    factor = max(1, round(max(picture_IJ.shape) / EDGE))
    small_IJ = block_mean(picture_IJ, [min(factor, edge) for edge in picture_IJ.shape])
    ground, top = float(np.percentile(small_IJ, 5)), float(picture_IJ.max())
    if ground >= top:
        return 0, 0
    beside_IJ = _beside(small_IJ, ground, picture_IJ.shape)
    bright_IJ = (picture_IJ > ground + BRIGHT * (top - ground)) & beside_IJ
    numbers_IJ, count = label(bright_IJ, _ALL_NEIGHBOURS)
    if count == 0:
        return 0, 0
    sizes = np.bincount(numbers_IJ.ravel(), minlength=count + 1)[1:]
    most = max(2.4 * LEAST_HEIGHT, MOST_HEIGHT * picture_IJ.shape[0])
    boxes = [
        (rows.start, rows.stop, columns.start, columns.stop)
        for (rows, columns), size in zip(find_objects(numbers_IJ), sizes, strict=True)
        if size >= LEAST_HEIGHT
        and LEAST_HEIGHT <= rows.stop - rows.start <= most
        and columns.stop - columns.start <= 2 * (rows.stop - rows.start)
    ]
    return len(boxes), _longest_row(boxes)


def _beside(
    small_IJ: NDArray[np.float32], ground: float, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Where the patient, the largest part that is not dark, is not."""
    level = ground + PATIENT * (float(np.percentile(small_IJ, 99)) - ground)
    parts_IJ, count = label(small_IJ > level, _ALL_NEIGHBOURS)
    if count == 0:
        return np.ones(shape, bool)
    largest = int(np.bincount(parts_IJ.ravel())[1:].argmax()) + 1
    patient_IJ = binary_dilation(parts_IJ == largest, iterations=WIDER)
    places = [
        np.minimum(np.arange(edge) * own // edge, own - 1)
        for edge, own in zip(shape, small_IJ.shape, strict=True)
    ]
    return np.asarray(~patient_IJ[np.ix_(*places)])


def _longest_row(boxes: Sequence[tuple[int, int, int, int]]) -> int:
    """Marks of like height that stand on one line, beside each other."""
    longest = 0
    for first in boxes:
        low, height = first[1], first[1] - first[0]
        row = sorted(
            (left, right)
            for top, bottom, left, right in boxes
            if abs(bottom - low) <= UNEQUAL * height + 1
            and abs(bottom - top - height) <= UNEQUAL * height + 1
        )
        count, best = 1, 1
        for (_, end), (start, _) in pairwise(row):
            count = count + 1 if 0 <= start - end <= APART * height else 1
            best = max(best, count)
        longest = max(longest, best)
    return longest
