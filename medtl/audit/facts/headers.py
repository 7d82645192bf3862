"""Where a header places an image, also where medtl would refuse it."""

# nibabel is typed in part only.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.audit.facts.model import Placement
from medtl.data.case import ImageFile
from medtl.data.io.geometry import away_mm, axis_codes, same_place
from medtl.data.io.images import read_header
from medtl.data.io.nifti import opened, space_unit
from medtl.data.io.pictures import is_picture

_UNITS = ("", "metre", "mm", "micron")


def read_placement(file: ImageFile) -> Placement:
    """The placement of an image. Errors as :func:`medtl.data.io.images.read_header`."""
    header = read_header(file)
    shape, spacing_mm = header.shape, header.spacing_mm
    affine = tuple(map(float, header.affine.ravel()))
    if is_picture(file.path):
        return Placement(shape, spacing_mm, affine, stored=str(header.dtype))
    with opened(file.path) as (image, _):
        fields = image.header
        number = space_unit(image)
        unit = _UNITS[number] if number < len(_UNITS) else "other"
        both = int(fields["sform_code"]) > 0 and int(fields["qform_code"]) > 0
        apart = _apart(fields.get_sform(), fields.get_qform(), shape) if both else 0.0
    codes = axis_codes(header.affine)
    stored = str(header.dtype)
    return Placement(shape, spacing_mm, affine, codes, header.placed, unit, stored, apart)


def _apart(
    one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, int, int]
) -> float:
    """The largest distance of two corners, in voxels of the shortest edge of ``one``."""
    edge = float(np.linalg.norm(one[:3, :3], axis=0).min())
    return float(np.linalg.norm(away_mm(shape, one, other), axis=1).max() / max(edge, 1e-9))


def one_grid(a: Placement, b: Placement) -> bool:
    """See :func:`medtl.data.io.geometry.same_grid`, by which training goes, too."""
    one, other = (np.reshape(grid.affine, (4, 4)) for grid in (a, b))
    return a.shape == b.shape and same_place(a.shape, one, other)
