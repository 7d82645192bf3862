"""What maps are held against: the masks of cases, and words on why there is none.

Axes: I J K voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.case import Case, ImageFile
from medtl.saliency.maps import Explained, class_mask, region_mask

Mask = NDArray[np.bool_]


def has_mask(case: Case) -> bool:
    """Whether a file may show what is explained."""
    return case.mask is not None or case.target is not None


def truth(one: Explained) -> Mask | None:
    """Where the case shows what is explained; None where it does not say, or shows it nowhere.

    The mask of a classified image shows its own class: a map of another is not held against it.
    """
    if one.probability is None:
        return region_mask(one.case, one.output)
    return class_mask(one.case) if one.case.class_name in ("", one.output) else None


def _truth_file(one: Explained) -> ImageFile | None:
    return one.case.target if one.probability is None else one.case.mask


def no_outline(one: Explained) -> str:
    """Why a picture shows no truth, in a few words."""
    if _truth_file(one) is None:
        return "no mask"
    if one.probability is None:
        return f"no {one.output} in its mask"
    return "its mask is empty" if class_mask(one.case) is None else "its mask is of another class"


def why_not(one: Explained, new: bool) -> str:
    """Why a map is not scored, as :func:`medtl.saliency.localisation.left_out` says it."""
    if not new:
        return "seen in training"
    if _truth_file(one) is None:
        return "without a mask"
    return "whose mask shows nothing of what is explained"
