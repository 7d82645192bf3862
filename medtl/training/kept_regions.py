"""What preparation keeps of each region: a structure may be too thin for the training grid, or lie
where the image shows nothing.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch

from medtl.data.case import Case
from medtl.data.cohort import region_masks
from medtl.data.content_hash import image_fingerprint
from medtl.data.formats.case_list import spread
from medtl.data.io.geometry import orient, to_ras
from medtl.data.io.grids import bounding_box, resample
from medtl.data.io.images import read_labels, read_volume
from medtl.data.tasks.fingerprint import SAMPLE
from medtl.data.voxel_size import Spacing, as_option, axes_mm, in_mm, thick_axis
from medtl.runtime.cache import remembered
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads
from medtl.runtime.table import Table
from medtl.transforms.preprocess import prepared_shape
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import Preset

#: Number of cases, evenly spread, whose label maps are read.
MOST_CASES = 200


#: A case keeps a region of which the training grid shows at least this share.
LEAST_KEPT = 0.5


#: Share of a region where the image shows nothing, above which there is a warning.
MOST_OUTSIDE = 0.02


#: The step between spacings that are tried, and the cases that each is tried on.
FINER, TRIED = 0.8, 6


_KEPT, _OUTSIDE = "regions kept 4", "regions shown 2"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of a region, over the cases that have it."""

    region: str
    shares: tuple[float, ...]  #: of its volume that is kept, of each case; at most 1
    on_grid: tuple[float, ...]  #: the same of what lies in the box around what the image shows
    outside: tuple[float, ...]  #: of its voxels where the image shows nothing, of sampled cases
    #: the coarsest tried spacing that keeps it, where this one fails
    finer_mm: Spacing | None = None

    @property
    def lost(self) -> int:
        """The cases of which nothing is left."""
        return sum(share == 0 for share in self.shares)

    @property
    def poor(self) -> int:
        """The cases of which the grid shows less than half."""
        return sum(share < LEAST_KEPT for share in self.on_grid)

    @property
    def mostly_outside(self) -> float:
        """The median share where the image shows nothing; 0 if it was not asked."""
        return median(self.outside) if self.outside else 0.0


@dataclass(frozen=True, slots=True)
class _LabelMap:
    """A case's label map and the box that is cut out of it: that of what the image shows, or, where
    the image was not read (None), one around the regions."""

    case: Case
    box: tuple[tuple[int, int], ...] | None = None


def kept_regions(
    cases: Sequence[Case], preprocessor: Preprocessor, finest_mm: float
) -> tuple[Kept, ...]:
    """What preparation keeps of each region of labelled ``cases``.

    Args:
        finest_mm: the finest spacing to try for what is lost. Unused for pictures.
    """
    looked_at = spread([case for case in cases if case.target is not None], MOST_CASES)
    regions, preset = preprocessor.regions, preprocessor.preset
    outside, boxes = {}, {}
    if not preset.fits:
        sampled = spread(looked_at, SAMPLE)
        facts = in_threads(lambda case: _shown_facts(case, preprocessor), sampled, threads=2)
        for case, fact in zip(sampled, facts, strict=True):
            outside[case.id] = fact["outside"]
            boxes[case.id] = tuple((int(start), int(stop)) for start, stop in fact["box"])
    maps = [_LabelMap(case, boxes.get(case.id)) for case in looked_at]
    shares = in_threads(lambda one: _shares(one, regions, preset), maps, threads=2)
    found = []
    for n, region in enumerate(regions):
        own = [
            (row[n][0], row[n][1], one)
            for row, one in zip(shares, maps, strict=True)
            if row[n][0] >= 0
        ]
        own.sort(key=lambda found: found[:2])
        worst = [one for _, on_grid, one in own if on_grid < LEAST_KEPT][:TRIED]
        finer_mm = None
        if worst and not preset.fits:
            finer_mm = _finer(n, worst, regions, preset, finest_mm)
        missing = tuple(row[n] for row in outside.values() if row[n] >= 0)
        total, on_grid = tuple(one[0] for one in own), tuple(one[1] for one in own)
        found.append(Kept(region, total, on_grid, missing, finer_mm))
    return tuple(found)


def _finer(
    n: int, worst: Sequence[_LabelMap], regions: Sequence[str], preset: Preset, finest_mm: float
) -> Spacing | None:
    """The coarsest spacing that keeps region number ``n`` in the ``worst`` cases.

    On the grids of three boxes, as a thin structure may lie in one voxel or between two.
    """
    shifted = [one if k == 0 else _shifted(one, k) for one in worst for k in range(3)]
    axes, least_mm = axes_mm(preset.spacing_mm), float(f"{finest_mm:.4g}")
    tries = max(1, math.ceil(math.log(finest_mm / max(axes), FINER)))
    for turn in range(1, tries + 1):
        shorter_mm = [math.floor(100 * mm * FINER**turn) / 100 for mm in axes]
        finer = preset.with_spacing([max(least_mm, mm) for mm in shorter_mm])
        if all(_shares(one, regions, finer)[n][1] >= LEAST_KEPT for one in shifted):
            return finer.spacing_mm
    return None


def _shifted(one: _LabelMap, voxels: int) -> _LabelMap:
    """The same with a box that starts earlier."""
    if one.box is None:
        return one
    return _LabelMap(one.case, tuple((max(0, start - voxels), stop) for start, stop in one.box))


def _shares(one: _LabelMap, regions: Sequence[str], preset: Preset) -> list[list[float]]:
    """The share of each region's volume that is kept, and that of its volume within the box; the
    first is -1 where the case does not have the region."""
    case = one.case
    assert case.target is not None
    values = [sorted(case.values_of(region)) for region in regions]
    grid = preset.size if preset.fits else in_mm(preset.spacing_mm)
    fact = f"{_KEPT} {grid} {one.box} {values}"
    compute = partial(_read_shares, one, regions, preset)
    return list(remembered(fact, case.target.path, case.target.channel, compute))


def _read_shares(one: _LabelMap, regions: Sequence[str], preset: Preset) -> list[list[float]]:
    case = one.case
    assert case.target is not None
    labels_IJK, affine = read_labels(case.target, case.labels)
    masks_LIJK = region_masks(labels_IJK, case, regions)
    held = masks_LIJK.reshape(len(regions), -1).sum(1)
    axes, flips = to_ras(affine)
    native_mm = np.linalg.norm(affine[:3, :3], axis=0)
    box = bounding_box(masks_LIJK.any(0))
    if box is None:
        return [[-1.0, 1.0]] * len(regions)
    if one.box is not None:
        box = tuple(slice(start, stop) for start, stop in one.box)
    elif not preset.fits:
        box = _wider(box, native_mm, max(axes_mm(preset.spacing_mm)))
    else:
        box = (slice(None),) * 3
    masks_LIJK = orient(masks_LIJK[(slice(None), *box)], axes, flips)
    size, within = masks_LIJK.shape[1:], masks_LIJK.reshape(len(regions), -1).sum(1)
    shape = prepared_shape(size, native_mm[list(axes)], preset)
    slices = None if preset.fits else thick_axis(preset.spacing_mm)
    covered = resample(torch.from_numpy(np.array(masks_LIJK, np.float32, order="C")), shape, slices)
    kept = (covered >= 0.5).flatten(1).sum(1).numpy() * (math.prod(size) / math.prod(shape))
    return [
        [
            min(1.0, float(new) / float(old)) if old else -1.0,
            min(1.0, float(new) / float(inner)) if inner else 1.0,
        ]
        for new, old, inner in zip(kept, held, within, strict=True)
    ]


def _wider(box: Sequence[slice], spacing_mm: Any, wanted_mm: float) -> tuple[slice, ...]:
    """The box with a margin of two voxels of the training grid."""
    margins = [math.ceil(2 * wanted_mm / float(mm)) for mm in spacing_mm]
    return tuple(
        slice(max(0, side.start - margin), side.stop + margin)
        for side, margin in zip(box, margins, strict=True)
    )


def _shown_facts(case: Case, preprocessor: Preprocessor) -> dict[str, Any]:
    """``outside``: the share of each region's voxels where the image shows nothing (-1: not in this
    case), and ``box``, start and stop per native axis, of what it shows."""
    assert case.target is not None
    preset = preprocessor.preset
    images = [image_fingerprint(case.images[name]) for name in preprocessor.modalities]
    values = [sorted(case.values_of(region)) for region in preprocessor.regions]
    rule = preset.whole, preset.images, preset.windows
    fact = f"{_OUTSIDE} {images} {preprocessor.modalities} {values} {rule}"
    compute = partial(_read_shown, case, preprocessor)
    return dict(remembered(fact, case.target.path, case.target.channel, compute))


def _read_shown(case: Case, preprocessor: Preprocessor) -> dict[str, Any]:
    assert case.target is not None
    volumes = [read_volume(case.images[name])[0] for name in preprocessor.modalities]
    shown_IJK = np.logical_or.reduce(preprocessor.covered(np.stack(volumes)))
    labels_IJK, _ = read_labels(case.target, case.labels)
    masks_LIJK = region_masks(labels_IJK, case, preprocessor.regions)
    box = bounding_box(shown_IJK)
    assert box is not None  # read_volume refuses constant images
    return {
        "outside": [
            1 - float(np.mean(shown_IJK[mask_IJK])) if mask_IJK.any() else -1.0
            for mask_IJK in masks_LIJK
        ],
        "box": [(side.start, side.stop) for side in box],
    }


def report_kept(kept: Sequence[Kept], preset: Preset, reporter: Reporter, domain: str = "") -> None:
    """A table of what each region keeps, and a warning for each that loses much.

    Args:
        domain: its name, where there are several.
    """
    columns = ("region", "volume kept (median)", "wholly lost in", "in the background")
    rows = [
        (
            one.region,
            f"{median(one.shares):.0%}",
            f"{one.lost} of {len(one.shares)} cases",
            f"{one.mostly_outside:.0%}" if one.outside else "-",
        )
        for one in kept
        if one.shares
    ]
    title = "Regions after preparation" + (f": {domain}" if domain else "")
    reporter.show(Table(title, columns, tuple(rows)))
    for text in (text for one in kept for text in _losses(one, preset)):
        reporter.warn(text)


def _losses(one: Kept, preset: Preset) -> Iterator[str]:
    """What a region loses, and how to keep it."""
    if one.poor:
        grid = "at this size" if preset.fits else f"at {in_mm(preset.spacing_mm)}"
        mend = "no spacing that was tried keeps it: leave it out, or join it with another"
        if preset.fits:
            mend = "a larger patch_size would keep more"
        elif one.finer_mm is not None:
            mend = f"--spacing {as_option(one.finer_mm)} would keep half or more in each"
        yield (
            f"region {one.region}: the training grid {grid} keeps {median(one.on_grid):.0%} of it "
            f"(median), less than half in {one.poor} and nothing in {one.lost} of "
            f"{len(one.shares)} cases; {mend}"
        )
    if max(one.outside, default=0.0) > MOST_OUTSIDE:
        cases = sum(share > MOST_OUTSIDE for share in one.outside)
        yield (
            f"region {one.region}: {one.mostly_outside:.0%} of its voxels (median; at most "
            f"{max(one.outside):.0%}) lie where the images show nothing, in {cases} of "
            f"{len(one.outside)} cases that were looked at; these can be neither learnt nor "
            "predicted: check that masks and images belong together"
        )
