"""The segments of DICOM segmentations (SEG), painted on the grid of a series.

A voxel can lie in several segments, so every set of segments that occurs has a number of its own.

Axes: J rows, I columns of a frame; I J K voxels of a :class:`~medtl.data.dicom.stacks.Stack`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from medtl.data.dicom.files import DicomFile
from medtl.data.dicom.frames import Frame, reading
from medtl.data.dicom.pixels import decode, open_pixels
from medtl.data.dicom.series import Series, without_names
from medtl.data.dicom.stacks import GAP_MM, GAP_SHARE, TURN, Stack
from medtl.data.dicom.study import Chosen, Study
from medtl.data.io.resample_onto import nearest_onto
from medtl.errors import DataError, visible

#: Names of segments in lower case, as files spell them differently.
Names = frozenset[str]

#: The last pixel of a row or column may lie off by this share of a pixel, as headers round sizes.
FAR_SHARE = 0.25

#: A segment of this name is none.
_BACKGROUND = "background"

_REFERENCED = "ReferencedSeriesSequence"

#: Dictionaries whose words name no patient.
_PUBLIC = ("SCT", "SRT", "SNM3", "DCM", "FMA", "NCIt", "UMLS")

#: int16 holds as many label values.
MOST_SETS = 2**15 - 1


@dataclass(slots=True, eq=False)
class Painted:
    """Which of ``sets`` each voxel lies in, by its index; the first is empty."""

    set_IJK: NDArray[np.uint16]
    sets: list[Names] = field(default_factory=lambda: [frozenset()])
    spelt: dict[str, str] = field(default_factory=dict)  #: name -> as a file spells it
    index_of: dict[Names, int] = field(default_factory=lambda: {frozenset(): 0})

    def paint(self, mask_IJ: NDArray[np.bool_], k: int, name: str) -> None:
        """Add a segment to the voxels of a slice.

        Raises:
            DataError: the segments overlap in too many ways.
        """
        slice_IJ = self.set_IJK[:, :, k]
        for old in np.unique(slice_IJ[mask_IJ]).tolist():
            grown = self._index(self.sets[old] | {name})
            slice_IJ[mask_IJ & (slice_IJ == old)] = grown

    def _index(self, names: Names) -> int:
        if names not in self.index_of:
            if len(self.sets) > MOST_SETS:
                raise DataError(f"its segments overlap in more than {MOST_SETS} ways")
            self.index_of[names] = len(self.sets)
            self.sets.append(names)
        return self.index_of[names]

    def compact(self) -> Painted:
        """Without the sets that no voxel is in: they were painted over."""
        seen = np.zeros(len(self.sets), bool)
        seen[0] = True
        for k in range(self.set_IJK.shape[2]):
            seen[self.set_IJK[:, :, k]] = True
        new_of = (np.cumsum(seen) - 1).astype(np.uint16)
        sets = [names for names, kept in zip(self.sets, seen, strict=True) if kept]
        return Painted(new_of[self.set_IJK], sets, self.spelt)

    def add(self, other: Painted) -> None:
        """The segments of another map of the same shape."""
        for k in range(self.set_IJK.shape[2]):
            slice_IJ, added_IJ = self.set_IJK[:, :, k], other.set_IJK[:, :, k]
            if not added_IJ.any():
                continue
            pairs, pair_IJ = np.unique(
                slice_IJ.astype(np.uint32) * len(other.sets) + added_IJ, return_inverse=True
            )
            both = [divmod(pair, len(other.sets)) for pair in pairs.tolist()]
            joined = [self._index(self.sets[own] | other.sets[added]) for own, added in both]
            slice_IJ[...] = np.array(joined, np.uint16)[pair_IJ.reshape(slice_IJ.shape)]


def paint_segments(study: Study, onto: Stack) -> Painted:
    """All segments of a study on the grid of ``onto``.

    Raises:
        DataError: two files have segments of one name, one lies on the grid of no series, or one
            cannot be read.
    """
    done, owners = Painted(np.zeros(onto.shape, np.uint16)), dict[str, str]()
    for series in study.segmentations:
        by_file: dict[DicomFile, list[Frame]] = defaultdict(list)
        for frame in series.frames:
            by_file[frame.file].append(frame)
        for frames in by_file.values():
            _paint_file(frames, series, study.grids, onto, done, owners)
    return done.compact()


def _paint_file(
    frames: Sequence[Frame],
    series: Series,
    grids: Sequence[Chosen],
    onto: Stack,
    done: Painted,
    owners: dict[str, str],
) -> None:
    """Add the segments of one file to what is done.

    Args:
        owners: segment -> the file that shows it, which is extended; a copy of a file that was read
            is left out, and the parts of a concatenation are one file.
    """
    dataset = open_pixels(frames[0])
    with reading(frames[0].file):
        own = str(dataset.get("ConcatenationUID") or dataset.get("SOPInstanceUID"))
        if own in owners.values() and "ConcatenationUID" not in dataset:
            return
        names = _names(dataset, frames[0].file, series.origin.names)
        for name in names.values():
            done.spelt.setdefault(name.casefold(), name)
        likely = _likely_first(dataset, frames[0].apart_mm, grids, onto)
        grid, slices = _grid_of(frames, series, likely)
        drawn = done if grid is onto else Painted(np.zeros(grid.shape, np.uint16))
        for frame, k in zip(frames, slices, strict=True):
            for number, mask_JI in _masks(dataset, frame):
                if number in names and mask_JI.any():
                    name = names[number].casefold()
                    if owners.setdefault(name, own) != own:
                        raise DataError(
                            f"several of its segmentations have a segment {names[number]}; keep one"
                        )
                    drawn.paint(mask_JI.T, k, name)
    if drawn is not done:
        moved_IJK = nearest_onto(drawn.set_IJK, grid.affine, onto.shape, onto.affine)
        done.add(Painted(moved_IJK, drawn.sets))


def _names(dataset: Dataset, file: DicomFile, patient: Sequence[str]) -> dict[int, str]:
    """The label of each segment but the background, by number.

    Raises:
        DataError: none is there, or one holds words that name the patient and has no public code.
    """
    found, replaced = {}, set[str]()
    segments = dataset.get("SegmentSequence") or ()
    if not segments:
        raise DataError(f"{file}: names no segments; leave it out")
    for segment in segments:
        number = int(segment.SegmentNumber)
        label = str(segment.get("SegmentLabel") or "").strip()
        if without_names(label, patient) != label:
            label = _coded(segment)
            if not label or label.casefold() in replaced:
                raise DataError(
                    f"{file}: the label of segment {number} has words of the patient's name or "
                    "number; rename it"
                )
            replaced.add(label.casefold())
        name = visible(label) or f"segment {number}"
        if name.casefold() == "ignore":
            raise DataError(f"{file}: a segment is called ignore, which is no region; rename it")
        if name.casefold() != _BACKGROUND:
            found[number] = name
    return found


def _coded(segment: Dataset) -> str:
    """What a segment shows, in the words of a public dictionary; else ""."""
    codes = segment.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    public = str(codes[0].get("CodingSchemeDesignator")) in _PUBLIC
    return str(codes[0].get("CodeMeaning") or "").strip() if public else ""


def _masks(dataset: Dataset, frame: Frame) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The numbers of the segments that a frame shows, each with its mask (JI).

    Raises:
        DataError: the file does not name one.
    """
    pixels_JI = decode(dataset, frame)
    named = {int(segment.SegmentNumber) for segment in dataset.SegmentSequence}
    kind = str(dataset.get("SegmentationType"))
    shown = np.unique(pixels_JI).astype(int).tolist() if kind == "LABELMAP" else []
    for number in shown or [_segment_of(dataset, frame)]:
        if number in named:
            half = float(dataset.get("MaximumFractionalValue") or 1) / 2
            least = half if kind == "FRACTIONAL" else 0.5
            yield number, pixels_JI == number if kind == "LABELMAP" else pixels_JI >= least
        elif number or kind != "LABELMAP":
            raise DataError(f"{frame}: is of segment {number}, which the file does not name")


def _segment_of(dataset: Dataset, frame: Frame) -> int:
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    own = (dataset.get("PerFrameFunctionalGroupsSequence") or shared)[frame.index or 0]
    for group in (own, shared[0]):
        if items := group.get("SegmentIdentificationSequence"):
            return int(items[0].ReferencedSegmentNumber)
    raise DataError(f"{frame}: does not say its segment")


def _likely_first(
    dataset: Dataset, apart_mm: float | None, grids: Sequence[Chosen], onto: Stack
) -> list[Stack]:
    """The grids of the study: that of the series which a file says it was drawn on, those whose
    slices are as far apart as it says, ``onto``, the others."""
    named = {str(item.get("SeriesInstanceUID")) for item in dataset.get(_REFERENCED) or ()}

    def order(grid: Chosen) -> tuple[bool, bool, bool]:
        step_mm = grid.stack.spacing_mm[2]
        fits = apart_mm is not None and abs(apart_mm - step_mm) <= GAP_SHARE * step_mm
        return grid.series.origin.series not in named, not fits, grid.stack is not onto

    return [grid.stack for grid in sorted(grids, key=order)]


def _grid_of(
    frames: Sequence[Frame], series: Series, grids: Sequence[Stack]
) -> tuple[Stack, list[int]]:
    """The first grid on which all frames lie, and the slice of each."""
    for grid in grids:
        slices = list(takewhile(lambda k: k is not None, (_slice_of(f, grid) for f in frames)))
        if len(slices) == len(frames):
            return grid, [k for k in slices if k is not None]
    raise DataError(
        f"segmentation {series.description} lies on the grid of no series of its study; resample it"
    )


def _slice_of(frame: Frame, grid: Stack) -> int | None:
    """The slice of a grid at which a frame lies; None if it does not lie on it."""
    first = grid.frames[0]
    if frame.position is None or frame.directions is None or frame.spacing_mm is None:
        return None
    if first.directions is None or first.spacing_mm is None:
        return None
    if (frame.columns, frame.rows) != (first.columns, first.rows):
        return None
    if np.abs(np.subtract(frame.directions, first.directions)).max() > TURN:
        return None
    limit_mm = max(GAP_SHARE * min(grid.spacing_mm), GAP_MM)
    growth_mm = np.abs(np.subtract(frame.spacing_mm, first.spacing_mm))
    if (growth_mm * (frame.rows, frame.columns)).max() > FAR_SHARE * min(frame.spacing_mm):
        return None
    place = np.array(frame.position) * (-1, -1, 1) - grid.affine[:3, 3]  # from LPS to RAS
    i, j, k = np.linalg.solve(grid.affine[:3, :3], place)
    away_mm = np.abs([i, j, k - round(k)]) * grid.spacing_mm
    return round(k) if away_mm.max() <= limit_mm and 0 <= round(k) < grid.shape[2] else None
