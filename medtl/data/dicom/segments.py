"""The segments of DICOM segmentations (SEG), painted on the grid of a series.

A voxel can lie in several segments, so every set of segments that occurs has a number of its own.

Axes: J rows, I columns of a frame; I J K voxels of a :class:`~medtl.data.dicom.stacks.Stack`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from medtl.data.dicom.frames import Frame, reading
from medtl.data.dicom.pixels import decode, open_pixels
from medtl.data.dicom.series import Series, without_names
from medtl.data.dicom.stacks import GAP_MM, GAP_SHARE, TURN, Stack
from medtl.data.io.resample_onto import nearest_onto
from medtl.errors import DataError, visible

#: Names of segments in lower case, as files spell them differently.
Names = frozenset[str]

#: A segment of this name is none.
_BACKGROUND = "background"

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
            pairs, pair_IJ = np.unique(
                slice_IJ.astype(np.uint32) * len(other.sets) + added_IJ, return_inverse=True
            )
            both = [divmod(pair, len(other.sets)) for pair in pairs.tolist()]
            joined = [self._index(self.sets[own] | other.sets[added]) for own, added in both]
            slice_IJ[...] = np.array(joined, np.uint16)[pair_IJ.reshape(slice_IJ.shape)]
        self.spelt |= other.spelt


def paint_segments(segmentations: Sequence[Series], grids: Sequence[Stack], onto: Stack) -> Painted:
    """All segments of a study on the grid of ``onto``.

    Args:
        grids: of the study's series, on one of which each segmentation lies.

    Raises:
        DataError: two segmentations have segments of one name, one lies on none of the grids, or a
            file cannot be read.
    """
    done = Painted(np.zeros(onto.shape, np.uint16))
    for series in segmentations:
        drawn = _drawn(series, [onto, *(grid for grid in grids if grid is not onto)], onto)
        shared = sorted(drawn.spelt.keys() & done.spelt.keys())
        if shared:
            raise DataError(
                f"several of its segmentations have a segment {drawn.spelt[shared[0]]}; keep one"
            )
        done.add(drawn)
    return done.compact()


def _drawn(series: Series, grids: Sequence[Stack], onto: Stack) -> Painted:
    """The segments of one segmentation, which may have several files, on the grid of ``onto``."""
    grid, slices = _grid_of(series, grids)
    drawn = Painted(np.zeros(grid.shape, np.uint16))
    by_file: dict[Any, list[tuple[Frame, int]]] = {}
    for frame, k in zip(series.frames, slices, strict=True):
        by_file.setdefault(frame.file, []).append((frame, k))
    for file, frames in by_file.items():
        dataset = open_pixels(frames[0][0])
        with reading(file):
            names = _names(dataset, series.origin.names)
            for name in names.values():
                if name.casefold() != _BACKGROUND:
                    drawn.spelt.setdefault(name.casefold(), name)
            for frame, k in frames:
                for number, mask_JI in _masks(dataset, frame, names):
                    if (name := names[number].casefold()) != _BACKGROUND:
                        drawn.paint(mask_JI.T, k, name)
    if grid is not onto:
        drawn.set_IJK = nearest_onto(drawn.set_IJK, grid.affine, onto.shape, onto.affine)
    return drawn


def _names(dataset: Dataset, patient: Sequence[str]) -> dict[int, str]:
    """The label of each segment, by number, without words that name the patient."""
    found = {}
    for segment in dataset.get("SegmentSequence") or ():
        number = int(segment.SegmentNumber)
        label = visible(without_names(str(segment.get("SegmentLabel") or "").strip(), patient))
        found[number] = label or f"segment {number}"
    if not found:
        raise DataError("names no segments")
    return found


def _masks(
    dataset: Dataset, frame: Frame, names: Iterable[int]
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The segments that a frame shows, each with its mask (JI)."""
    pixels_JI = decode(dataset, frame)
    kind = str(dataset.get("SegmentationType"))
    if kind == "LABELMAP":
        for number in np.unique(pixels_JI).astype(int).tolist():
            if number in names:
                yield number, pixels_JI == number
            elif number:
                raise DataError(f"{frame}: shows a segment {number}, which the file does not name")
        return
    number = _segment_of(dataset, frame)
    if number not in names:
        raise DataError(f"{frame}: is of segment {number}, which the file does not name")
    half = float(dataset.get("MaximumFractionalValue") or 1) / 2 if kind == "FRACTIONAL" else 0.5
    yield number, pixels_JI >= half


def _segment_of(dataset: Dataset, frame: Frame) -> int:
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    own = (dataset.get("PerFrameFunctionalGroupsSequence") or shared)[frame.index or 0]
    for group in (own, shared[0]):
        if items := group.get("SegmentIdentificationSequence"):
            return int(items[0].ReferencedSegmentNumber)
    raise DataError(f"{frame}: does not say its segment")


def _grid_of(series: Series, grids: Sequence[Stack]) -> tuple[Stack, list[int]]:
    """The first grid on which all frames lie, and the slice of each."""
    for grid in grids:
        slices = [_slice_of(frame, grid) for frame in series.frames]
        if None not in slices:
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
    if not np.allclose(frame.spacing_mm, first.spacing_mm, rtol=GAP_SHARE):
        return None
    i, j, k = np.linalg.solve(grid.affine[:3, :3], _ras(frame) - grid.affine[:3, 3])
    away_mm = np.abs([i, j, k - round(k)]) * grid.spacing_mm
    limit_mm = max(GAP_SHARE * min(grid.spacing_mm), GAP_MM)
    fits = away_mm.max() <= limit_mm and 0 <= round(k) < grid.shape[2]
    return round(k) if fits else None


def _ras(frame: Frame) -> NDArray[np.float64]:
    return np.array(frame.position, float) * (-1, -1, 1)
