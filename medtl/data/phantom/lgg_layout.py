"""The phantom as TCGA slices: RGB pictures of T1, FLAIR and T1ce with masks, from 5 hospitals.

Axes: I left, J posterior, K superior; R rows, Q columns, H red, green, blue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medtl.data.phantom.brats_layout import (
    draw_anatomy,
    image_case,
    scanner_of,
    site_of,
    sites_of,
    tumour_count,
)
from medtl.data.phantom.cohort import Settings
from medtl.data.phantom.physics import Scanner
from medtl.data.phantom.pictures import AXIAL, Display, display_of, levels_IJK, slice_RQ
from medtl.data.phantom.tumour import draw_tumours

VERSION = 1


HOSPITALS = ("CS", "DU", "EZ", "FG", "HT")


#: Red, green and blue of the set.
CONTRASTS = ("t1", "flair", "t1ce")


SLICES = 12  #: of each patient, evenly spaced


#: One patient in this many lacks T1ce: FLAIR stands in for it, as in the real set.
LACKS_T1CE = 11


def jobs(folder: Path, settings: Settings) -> list[Callable[[], None]]:
    """See :class:`medtl.data.phantom.cohort.Writer`."""
    sites = range(settings.sites)
    scanners = [scanner_of(settings.seed, site, settings.shift) for site in sites]
    displays = [display_of(settings.seed, site, settings.shift) for site in sites]
    return [
        partial(_write_patient, folder, settings, n, scanners[site], displays[site])
        for n, site in enumerate(sites_of(settings))
    ]


def index(settings: Settings) -> dict[str, Any]:
    """See :class:`medtl.data.phantom.cohort.Writer`."""
    sites = enumerate(sites_of(settings))
    return {"sites": {patient_id(settings, n): HOSPITALS[site] for n, site in sites}}


def patient_id(settings: Settings, index: int) -> str:
    site = HOSPITALS[site_of(settings.seed, index, settings.sites)]
    return f"TCGA_{site}_{9000 + index:04d}_20000101"


def _write_patient(
    root: Path, settings: Settings, index: int, scanner: Scanner, display: Display
) -> None:
    """``TCGA_CS_9000_20000101/TCGA_CS_9000_20000101_1.tif`` and ``..._1_mask.tif``."""
    seed, size = settings.seed, settings.size
    count = max(1, tumour_count(seed, index))
    anatomy = draw_anatomy(seed, index, size, partial(draw_tumours, count=count))
    images = image_case(anatomy, seed, index, scanner, CONTRASTS)
    if index % LACKS_T1CE == LACKS_T1CE - 1:
        images["t1ce"] = images["flair"]
    levels = [levels_IJK(images[name], display) for name in CONTRASTS]
    folder = root / patient_id(settings, index)
    folder.mkdir()
    inside = np.flatnonzero(anatomy.brain_IJK.any((0, 1)))
    for number, place in enumerate(np.linspace(inside[0], inside[-1], SLICES + 2)[1:-1], 1):
        k = round(place)
        picture_RQH = np.stack([slice_RQ(volume, AXIAL, k) for volume in levels], axis=-1)
        mask_RQ = 255 * (slice_RQ(anatomy.labels_IJK, AXIAL, k) > 0).astype(np.uint8)
        Image.fromarray(picture_RQH).save(folder / f"{folder.name}_{number}.tif")
        Image.fromarray(mask_RQ).save(folder / f"{folder.name}_{number}_mask.tif")
