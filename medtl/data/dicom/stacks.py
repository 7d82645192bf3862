"""Frames of a series -> stacks of slices in order, each with the affine of its voxels.

What cannot be stacked safely is refused, with the numbers of its slices.

Axes: I along a row (growing columns), J down the rows, K from slice to slice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.dicom.frames import Frame
from medtl.data.dicom.pixels import picture_hash
from medtl.data.voxel_size import SPACING_RANGE_MM
from medtl.errors import DataError, shortened

FloatArray = NDArray[np.float64]

#: Slices lie at the same place within this many mm, which headers round.
SAME_MM = 1e-3

#: Gaps between slices may differ by this share of the usual one, or this many mm.
GAP_SHARE, GAP_MM = 0.02, 0.02

#: The cosines of directions may differ by this much within a stack.
TURN = 1e-3

#: DICOM's x and y run to the left and back, those of affines to the right and front.
_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Slices of one volume, from the first along K to the last."""

    frames: tuple[Frame, ...]
    affine: FloatArray  #: of voxels to mm (RAS)
    doubled: int = 0  #: slices that lie there more than once

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        first = self.frames[0]
        return first.columns, first.rows, len(self.frames)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Between columns, rows and slices."""
        i, j, k = (float(edge) for edge in np.linalg.norm(self.affine[:3, :3], axis=0))
        return i, j, k


def stacked(frames: Sequence[Frame]) -> list[Stack]:
    """The volumes of one series.

    Raises:
        DataError: frames without a place, of different sizes or orientations, at one place with
            different pixels, or with a missing or displaced slice.
    """
    _check_placed(frames)
    _check_one(frames, "size", lambda frame: (frame.columns, frame.rows))
    _check_one(frames, "pixel spacing (mm)", lambda frame: frame.spacing_mm)
    _check_directions(frames)
    return [_stack(volume, doubled) for volume, doubled in _volumes(frames)]


def _check_placed(frames: Sequence[Frame]) -> None:
    for frame in frames:
        if frame.position is None or frame.directions is None or frame.spacing_mm is None:
            raise DataError(f"{frame}: its header does not say where it lies; leave it out")
        if "MOSAIC" in frame.acquisition.image_type:
            raise DataError(f"{frame}: holds many slices in one picture (mosaic); convert it")


def _check_one(frames: Sequence[Frame], what: str, of: Any) -> None:
    """Refuse frames that do not share a property with most of the others."""
    groups = defaultdict(list)
    for frame in frames:
        groups[of(frame)].append(frame)
    if len(groups) > 1:
        usual = max(groups, key=lambda value: len(groups[value]))
        odd = [frame for value, those in groups.items() if value != usual for frame in those]
        raise DataError(
            f"slices {_numbers(odd)} have another {what} than the others: "
            f"{_joined(of(odd[0]))} for {_joined(usual)}"
        )


def _check_directions(frames: Sequence[Frame]) -> None:
    directions = np.array([frame.directions for frame in frames])
    apart = np.abs(directions - np.median(directions, axis=0)).max(axis=(1, 2))
    if apart.max() > TURN:
        odd = [frame for frame, away in zip(frames, apart, strict=True) if away > TURN]
        raise DataError(f"slices {_numbers(odd)} are turned against the others")


def _joined(values: Sequence[float]) -> str:
    return "x".join(f"{value:g}" for value in values)


def _numbers(frames: Iterable[Frame]) -> str:
    """The slices as their headers number them, else their files."""
    return shortened([str(frame if frame.number is None else frame.number) for frame in frames], 12)


def _volumes(frames: Sequence[Frame]) -> list[tuple[list[Frame], int]]:
    """The frames of each volume, and how many of it lie there doubled."""
    single, doubled = _without_copies(frames)
    if not _crowded(single):
        return [(single, doubled)]
    keys = [(*frame.volume, frame.acquisition) for frame in single]
    groups = defaultdict(list)
    for key, frame in zip(keys, single, strict=True):
        groups[key].append(frame)
    crowd = next((those for those in map(_crowded, groups.values()) if those), None)
    if len(groups) == 1 or crowd:
        raise DataError(
            f"slices {_numbers(crowd or _crowded(single))} lie at one place and differ; the "
            "series holds several volumes that nothing tells apart"
        )
    return [(group, doubled) for group in groups.values()]


def _without_copies(frames: Sequence[Frame]) -> tuple[list[Frame], int]:
    """The frames, of those that are the same picture at the same place the first alone."""
    kept: dict[Any, list[Frame]] = defaultdict(list)
    pictures: dict[Frame, str] = {}
    for frame in sorted(frames, key=lambda frame: (frame.file, frame.index or 0)):
        there = kept[np.round(np.array(frame.position) / SAME_MM).astype(int).tobytes()]
        if not any(_is_copy(frame, other, pictures) for other in there):
            there.append(frame)
    single = [frame for there in kept.values() for frame in there]
    return single, len(frames) - len(single)


def _is_copy(frame: Frame, other: Frame, pictures: dict[Frame, str]) -> bool:
    """Whether two frames at one place are the same picture; ``pictures`` remembers their hashes."""
    if (frame.acquisition, frame.volume) != (other.acquisition, other.volume):
        return False
    for each in (frame, other):
        if each not in pictures:
            pictures[each] = picture_hash(each)
    return pictures[frame] == pictures[other]


def _crowded(frames: Sequence[Frame]) -> list[Frame]:
    """Frames at the place of another one."""
    ordered, along = _in_order(frames)
    close = np.flatnonzero(np.diff(along) <= SAME_MM)
    return [ordered[n] for n in sorted({*close, *(close + 1)})]


def _in_order(frames: Sequence[Frame]) -> tuple[list[Frame], FloatArray]:
    """The frames along their normal, and how far along it each lies (mm)."""
    directions = np.median(np.array([frame.directions for frame in frames]), axis=0)
    along = np.array([frame.position for frame in frames]) @ np.cross(*directions)
    order = np.argsort(along, kind="stable")
    return [frames[n] for n in order], along[order]


def _stack(frames: Sequence[Frame], doubled: int) -> Stack:
    ordered, along = _in_order(frames)
    first, last = ordered[0], ordered[-1]
    along_row, down = np.median(np.array([frame.directions for frame in frames]), axis=0)
    rows_mm, columns_mm = first.spacing_mm or (1.0, 1.0)
    positions = np.array([frame.position for frame in ordered])
    if len(ordered) > 1:
        _check_gaps(ordered, along)
        step = (positions[-1] - positions[0]) / (len(ordered) - 1)
        _check_line(ordered, positions, step)
    else:
        step = np.cross(along_row, down) * (last.thickness_mm or 1.0)
    affine = np.eye(4)
    columns = (along_row * columns_mm, down * rows_mm, step, positions[0])
    affine[:3] = _TO_RAS @ np.stack(columns, axis=1)
    stack = Stack(tuple(ordered), affine, doubled)
    low, high = SPACING_RANGE_MM
    if not all(low <= edge <= high for edge in stack.spacing_mm):
        raise DataError(f"voxels of {_joined(stack.spacing_mm)} mm are not possible; leave it out")
    return stack


def _check_gaps(ordered: Sequence[Frame], along: FloatArray) -> None:
    gaps = np.diff(along)
    usual = median(gaps)
    wrong = np.flatnonzero(np.abs(gaps - usual) > max(GAP_SHARE * usual, GAP_MM))
    if len(wrong) == 0:
        return
    n = int(wrong[0])
    between = f"slices {_numbers(ordered[n : n + 2])} lie {gaps[n]:.4g} mm apart"
    multiples = gaps / usual
    whole = np.abs(multiples - np.round(multiples)) < GAP_SHARE * np.round(multiples).clip(1)
    if whole.all():
        lacking = int((np.round(multiples) - 1).sum())
        many = "s are" if lacking > 1 else " is"
        raise DataError(
            f"{between}, the others {usual:.4g} mm: {lacking} slice{many} missing; fetch the "
            "series again"
        )
    raise DataError(f"{between}, others {usual:.4g} mm: the slices are spaced unevenly")


def thinned(stack: Stack) -> str:
    """A sentence if the slices lie further apart than their header says, so that every second one,
    or more, may be missing; else empty.

    A stored distance below the thickness is ignored: some scanners store the gap between slices.
    """
    first, gap_mm = stack.frames[0], stack.spacing_mm[2]
    apart_mm, thickness_mm = first.apart_mm, first.thickness_mm
    if apart_mm is None or thickness_mm is None or apart_mm < thickness_mm * (1 - GAP_SHARE):
        return ""
    multiple = round(gap_mm / apart_mm)
    if multiple < 2 or abs(gap_mm / apart_mm - multiple) >= GAP_SHARE * multiple:
        return ""
    return (
        f"all slices lie {gap_mm:.4g} mm apart, {multiple} times the {apart_mm:.4g} mm of their "
        "header: those between them may be missing"
    )


def _check_line(ordered: Sequence[Frame], positions: FloatArray, step: FloatArray) -> None:
    """Refuse slices that are shifted sideways; a tilted gantry shifts all alike."""
    straight = positions[0] + np.arange(len(ordered))[:, None] * step
    away = np.linalg.norm(positions - straight, axis=1)
    limit = max(GAP_SHARE * float(np.linalg.norm(step)), GAP_MM)
    if away.max() > limit:
        odd = [frame for frame, mm in zip(ordered, away, strict=True) if mm > limit]
        raise DataError(f"slices {_numbers(odd)} are shifted sideways against the others")
