"""The fingerprint of a data set: what its training cases look like, measured.

Axes: I J K voxels, RAS where a name ends in ``_ras``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from medtl.data.case import Case, ImageFile
from medtl.data.formats.case_list import spread
from medtl.data.io.foreground import within_uniform
from medtl.data.io.geometry import fill, ras_grid, to_canonical
from medtl.data.io.grids import bounding_box
from medtl.data.io.nifti import label_counts, read_header, read_labels, read_volume
from medtl.data.modality import Modality
from medtl.data.subset import stride
from medtl.runtime.cache import remembered

#: Number of cases, evenly spread, whose images are read; headers and labels are read of all.
SAMPLE = 12


#: Labelled voxels of each sampled case that CT windows are measured on.
WINDOW_VOXELS = 20_000


PERCENTILES = (0.5, 50, 99.5)


#: Voxels of an image that its range is measured on.
ENDS_VOXELS = 1_000_000


_FACT = "image facts 3"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Medians are over cases; ``extent_mm`` is the 90th percentile, so that most fit in it."""

    cases: int
    sampled: int
    shape_ras: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]  #: right, front, up
    thin_mm: tuple[float, float, float]  #: the 10th percentile of the spacing, per axis
    extent_mm: tuple[float, float, float]  #: of what is shown
    shown_ml: float
    uniform: bool  #: one value surrounds what is shown, in every sampled image
    intensities: Mapping[str, tuple[float, float, float]]  #: modality -> PERCENTILES, medians
    volumes_ml: Mapping[str, tuple[float, ...]]  #: region -> of each case that has it


def measure_fingerprint(
    cases: Sequence[Case], modalities: Sequence[Modality], regions: Sequence[str]
) -> Fingerprint:
    """Read headers and label volumes of all cases, images of some. Errors as read_volume."""
    grids = [ras_grid(read_header(case.images[modalities[0]])) for case in cases]
    sampled = spread(cases, SAMPLE)
    facts = {m: [_facts_of(case.images[m]) for case in sampled] for m in modalities}
    every = [fact for images in facts.values() for fact in images]
    extents = [fact["extent_mm"] for fact in every]
    volumes = {region: [_volume_ml(case, region) for case in cases] for region in regions}
    return Fingerprint(
        len(cases),
        len(sampled),
        _three(round(median(shape[axis] for shape, _ in grids)) for axis in range(3)),
        _three(round(median(mm[axis] for _, mm in grids), 3) for axis in range(3)),
        _three(round(float(mm), 3) for mm in np.percentile([mm for _, mm in grids], 10, axis=0)),
        _three(map(float, np.percentile(extents, 90, axis=0))),
        median(fact["shown_ml"] for fact in every),
        all(fact["uniform"] for fact in every),
        {
            m: _three(median(fact["percentiles"][n] for fact in images) for n in range(3))
            for m, images in facts.items()
        },
        {region: tuple(ml for ml in sizes if ml > 0) for region, sizes in volumes.items()},
    )


def measure_facts(cases: Sequence[Case], modality: Modality) -> list[dict[str, Any]]:
    """What is measured on sampled images of a modality; kept between runs.

    ``background`` (None: no uniform one), and ``ends``: percentiles 0.5 and 99.5 of all voxels.
    """
    return [_facts_of(case.images[modality]) for case in spread(cases, SAMPLE)]


def window(cases: Sequence[Case], modality: Modality) -> tuple[float, float, float, float]:
    """Percentiles .5 and 99.5, mean and deviation of the labelled voxels of sampled cases, pooled
    (Isensee et al. 2021: "intensities are clipped to the foreground's percentiles")."""
    pooled = []
    for case in spread(cases, SAMPLE):
        assert case.target is not None  # only labelled cases are trained on
        labels_IJK, _ = read_labels(case.target, case.labels)
        labelled_IJK = (labels_IJK > 0) & ~np.isin(labels_IJK, _unknown_values(case))
        values = read_volume(case.images[modality])[0][labelled_IJK]
        pooled.append(values[:: max(1, len(values) // WINDOW_VOXELS)])
    values = np.concatenate(pooled)
    if not values.size:
        values = np.concatenate([read_volume(c.images[modality])[0].ravel() for c in cases[:1]])
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    inside = np.clip(values, low, high).astype(np.float64)
    return low, high, float(inside.mean()), float(inside.std()) or 1.0


def _unknown_values(case: Case) -> list[int]:
    """Values that no annotated region has, of regions that nobody looked for or to be ignored."""
    every = {value for values in case.regions.values() for value in values}
    looked_for = {value for name in case.regions for value in case.values_of(name)}
    return sorted({*case.ignored, *(every - looked_for)})


def _facts_of(file: ImageFile) -> dict[str, Any]:
    return dict(remembered(_FACT, file.path, file.channel, lambda: _read_facts(file)))


def _read_facts(file: ImageFile) -> dict[str, Any]:
    array_IJK, affine = read_volume(file)
    shown_IJK = within_uniform(array_IJK)
    uniform = shown_IJK is not None
    if shown_IJK is None:
        shown_IJK = np.ones(array_IJK.shape, dtype=bool)
    percentiles = np.percentile(array_IJK[shown_IJK], PERCENTILES)
    shown_ras, affine_ras, _ = to_canonical(shown_IJK, affine)
    spacing_mm = np.linalg.norm(affine_ras[:3, :3], axis=0)
    box = bounding_box(shown_ras)
    assert box is not None  # read_volume refuses constant images
    sample = array_IJK.ravel(order="K")[:: stride(array_IJK.size, ENDS_VOXELS)]
    return {
        "uniform": uniform,
        "background": float(array_IJK[~shown_IJK][0]) if uniform else None,
        "ends": [float(value) for value in np.percentile(sample, (0.5, 99.5))],
        "extent_mm": [
            (side.stop - side.start) * float(mm) for side, mm in zip(box, spacing_mm, strict=True)
        ],
        "shown_ml": float(np.count_nonzero(shown_IJK) * spacing_mm.prod() / 1000) * fill(affine),
        "percentiles": [float(value) for value in percentiles],
    }


def _volume_ml(case: Case, region: str) -> float:
    assert case.target is not None  # only labelled cases are trained on
    counts = label_counts(case.target)
    header = read_header(case.target)
    voxel_ml = float(np.prod(header.spacing_mm)) / 1000 * fill(header.affine)
    return voxel_ml * sum(counts.get(value, 0) for value in case.values_of(region))


def _three(values: Any) -> tuple[Any, Any, Any]:
    a, b, c = values
    return a, b, c
