"""Read images as right-anterior-superior views with a foreground mask.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.data.case import Case
from medtl.data.cohort import check_case, region_masks
from medtl.data.io.foreground import foreground
from medtl.data.io.geometry import axis_codes, fill, to_canonical
from medtl.data.io.images import read_labels, read_volume
from medtl.data.io.pictures import is_picture
from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.shift.contract import View

#: Fewest foreground voxels that can be measured.
FEWEST_FOREGROUND = 8


def read_view(
    case: Case,
    modalities: tuple[Modality, ...],
    regions: tuple[str, ...] = (),
    *,
    with_target: bool = False,
) -> View:
    """Read one or several modalities of a case, and its target if ``with_target``.

    Raises:
        DataError: a file is missing, damaged or empty, or the modalities differ in their grids.
    """
    header = check_case(case, modalities)[modalities[0]]
    images, masks = [], []
    for name in modalities:
        # One affine for all: near 45 degrees, rounding could turn equal grids in different ways.
        stored_IJK, _ = read_volume(case.images[name])
        image_IJK, ras_affine, _ = to_canonical(stored_IJK, header.affine)
        foreground_IJK = foreground(image_IJK)
        if int(foreground_IJK.sum()) < FEWEST_FOREGROUND:
            raise DataError(
                f"{case.images[name].path}: contains only background; leave out the case"
            )
        images.append(image_IJK)
        masks.append(foreground_IJK)
    target_LIJK: NDArray[np.bool_] | None = None
    if with_target and case.target is not None:
        labels_IJK, _ = read_labels(case.target, case.labels)
        ras_IJK, _, _ = to_canonical(labels_IJK, header.affine)
        target_LIJK = region_masks(ras_IJK, case, regions)
    x, y, z = (float(mm) for mm in np.linalg.norm(ras_affine[:3, :3], axis=0))
    return View(
        case.id,
        modalities,
        np.ascontiguousarray(np.stack(images), dtype=np.float32),
        np.stack(masks),
        (x, y, z),
        axis_codes(header.affine),
        is_picture(case.images[modalities[0]].path),
        target_LIJK,
        case.class_name,
        fill(header.affine),
    )
