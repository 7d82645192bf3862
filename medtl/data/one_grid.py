"""Images of a case that lie on different grids, resampled onto one.

Axes: I J K voxels, as stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from medtl.data.case import Case, ImageFile
from medtl.data.io.geometry import Header, check_same_grid, lost_header, same_grid
from medtl.data.io.images import read_header, read_volume
from medtl.data.io.nifti import write_nifti
from medtl.data.io.pictures import is_picture
from medtl.data.io.register import rigid
from medtl.data.io.resample_onto import resample_onto
from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.runtime.cache import cache_dir, content_of, key_of

#: The image on whose grid the others are laid comes first among these.
_FIRST = ("t1ce",)

#: An image that shows less than this share of the reference's box is of something else.
LEAST_SHOWN = 0.25


def reference_of(headers: Mapping[Modality, Header]) -> Modality:
    """The image whose grid the others are laid onto: T1 with contrast, else the finest voxels."""
    for name in _FIRST:
        if name in headers:
            return Modality(name)

    def size(name: Modality) -> tuple[float, str]:
        """Rounded, as files round it; of equal ones the first by name."""
        return float(f"{np.prod(headers[name].spacing_mm):.4g}"), name

    return min(headers, key=size)


def on_one_grid(
    case: Case, modalities: Sequence[Modality], *, register: bool = False
) -> tuple[Case, str]:
    """The case with its images on one grid, and what was done ("" where they lie on one already).

    Resampled images are kept in the cache.

    Args:
        register: move the others onto the reference first, also those on its grid.

    Raises:
        DataError: an image lacks its header, or shows another place than the reference.
    """
    if any(name not in case.images or is_picture(case.images[name].path) for name in modalities):
        return case, ""
    headers = {name: read_header(case.images[name]) for name in modalities}
    reference = reference_of(headers)
    onto = headers[reference]
    others = [name for name in headers if name != reference]
    moved = [name for name in others if not same_grid(onto, headers[name])]
    for name in moved:
        if lost_header(onto, headers[name]):
            check_same_grid(case, {reference: onto, name: headers[name]})  # says which and why
        try:
            check_shown(name, headers[name], reference, onto)
        except DataError as error:
            raise DataError(f"{case.id}: {error}") from error
    changed = others if register else moved
    if not changed:
        return case, ""
    images = dict(case.images)
    for name in changed:
        images[name] = _resampled(case.images[name], case.images[reference], onto, register)
    how = "registered and laid" if register else "laid"
    return replace(case, images=images), f"{', '.join(changed)} {how} onto the grid of {reference}"


def check_shown(name: str, header: Header, reference: str, onto: Header) -> None:
    """Raise DataError for an image that shows too little of what the reference shows."""
    shown = _shown(header, onto)
    if shown < LEAST_SHOWN:
        raise DataError(
            f"{name} shows {shown:.0%} of what {reference} shows; register the images first"
        )


def _shown(header: Header, onto: Header) -> float:
    """The share of 9 x 9 x 9 places in the box of ``onto`` that lie in an image."""
    steps = (np.linspace(0, edge - 1, 9) for edge in onto.shape)
    places = np.array(list(product(*steps)))
    way = np.linalg.inv(header.affine) @ onto.affine
    index = places @ way[:3, :3].T + way[:3, 3]
    inside = (index >= -0.5) & (index <= np.array(header.shape) - 0.5)
    return float(inside.all(axis=1).mean())


def _resampled(file: ImageFile, reference: ImageFile, onto: Header, register: bool) -> ImageFile:
    sources = [(content_of(each.path), each.channel) for each in (file, reference)]
    path = cache_dir() / "grids" / f"{key_of(sources, register)}.nii"
    if not path.is_file():
        image_IJK, affine = read_volume(file)
        place = onto.affine
        if register:
            fixed_IJK, _ = read_volume(reference)
            place = rigid(fixed_IJK, onto.affine, image_IJK, affine) @ onto.affine
        moved_IJK = resample_onto(image_IJK, affine, onto.shape, place)
        write_nifti(path, moved_IJK, onto.path)
    return ImageFile(path)
