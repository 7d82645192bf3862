"""What is measured of a label map, alone and with what its image shows.

Axes: I J K voxels, canonical (RAS).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, find_objects, label

from medtl.audit.facts.fit import best_mirror, best_movement, ratio
from medtl.audit.facts.model import LabelFacts, Placement, Structure
from medtl.data.content_hash import content_hash
from medtl.data.io.foreground import enclosed
from medtl.data.io.geometry import to_canonical
from medtl.data.io.grids import bounding_box
from medtl.data.io.nifti import LABEL_TOLERANCE

#: Sizes of parts that are kept.
MOST_PARTS = 20

#: Larger values are kept as this one.
LARGEST = 2**15 - 1

#: Values of a label map; an image among the labels has more.
MOST_VALUES = 64


def measure_labels(
    stored_IJK: NDArray[Any],
    affine: NDArray[np.float64],
    placement: Placement,
    shown_IJK: NDArray[np.bool_] | None,
    images: list[NDArray[np.float32]],
) -> LabelFacts:
    """The facts of a label map.

    Args:
        stored_IJK: its voxels as stored.
        shown_IJK: the foreground of its image, canonical; None where the grids differ.
        images: the images of the case on the same grid, canonical.
    """
    labels_IJK = np.asarray(stored_IJK, dtype=np.float32)
    whole = np.rint(np.nan_to_num(labels_IJK))
    fractional = float(np.mean(~(np.abs(labels_IJK - whole) <= LABEL_TOLERANCE)))
    values_IJK, _, _ = to_canonical(np.clip(whole, -1, LARGEST).astype(np.int16), affine)
    negative = int(np.count_nonzero(values_IJK < 0))
    values_IJK = np.maximum(values_IJK, 0)
    content = content_hash(whole, affine)
    known = [int(value) for value in np.flatnonzero(np.bincount(values_IJK.ravel())) if value]
    box = bounding_box(shown_IJK) if shown_IJK is not None else None
    objects = find_objects(values_IJK)
    structures = tuple(
        _structure(values_IJK, value, objects[value - 1], shown_IJK, box)
        for value in known[:MOST_VALUES]
    )
    labelled_IJK = values_IJK > 0
    holes = int(np.count_nonzero(enclosed(labelled_IJK)) - np.count_nonzero(labelled_IJK))
    facts = LabelFacts(placement, content, fractional, negative, structures, holes)
    if shown_IJK is None or not known or not images or fractional:
        return facts
    own = ratio(values_IJK, images)
    moved, gain = best_movement(values_IJK, images, own)
    axis, better = best_mirror(values_IJK, images, own)
    return replace(
        facts, fit=own, moved=moved, moved_gain=gain, mirrored=axis, mirrored_gain=better
    )


def _structure(
    values_IJK: NDArray[np.int16],
    value: int,
    around: tuple[slice, ...],
    shown_IJK: NDArray[np.bool_] | None,
    box: tuple[slice, ...] | None,
) -> Structure:
    mask_IJK = values_IJK[around] == value
    parts_IJK, count = label(mask_IJK, np.ones((3, 3, 3)))
    sizes = np.sort(np.bincount(parts_IJK.ravel())[1:])[::-1] if count else np.zeros(0, int)
    voxels = int(mask_IJK.sum())
    centre = np.array(center_of_mass(mask_IJK)) + [side.start for side in around]
    frame = box or tuple(slice(0, edge) for edge in values_IJK.shape)
    place = [
        float((where + 0.5 - side.start) / max(side.stop - side.start, 1))
        for where, side in zip(centre, frame, strict=True)
    ]
    outside = 0.0
    if shown_IJK is not None:
        outside = float(1 - np.count_nonzero(mask_IJK & shown_IJK[around]) / voxels)
    return Structure(
        value,
        voxels,
        tuple(int(size) for size in sizes[:MOST_PARTS]),
        (place[0], place[1], place[2]),
        outside,
    )
