"""Facts of a case as plain numbers, which the cache keeps between audits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import combinations
from typing import Any, TypeVar

Fact = TypeVar("Fact")

#: Stands for the label map among the modalities of a case.
LABEL = "label"


@dataclass(frozen=True, slots=True)
class Placement:
    """What a header says of the grid. Lengths in mm.

    Args:
        affine: its 16 numbers, row by row.
        codes: where the stored axes run to, e.g. "LPS".
        placed: whether the header says where the grid lies.
        unit: the unit that the header names: "mm", "metre", "micron" or "".
        stored: the type of the stored voxels.
        apart: the largest distance between the corners that sform and qform give, in voxels; 0
            where it has only one of them.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: tuple[float, ...]
    codes: str = ""
    placed: bool = True
    unit: str = ""
    stored: str = ""
    apart: float = 0.0


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image. Shares are of all voxels, unless said otherwise.

    Args:
        content: a hash of the voxels in canonical orientation; "" for a constant image.
        flat: whether it is a picture, of one slice.
        levels: quantiles 1, 5, 25, 50, 75, 95 and 99% of the foreground.
        ground: the value of a background of one value; 0 where there is none.
        stripped: whether a background of one value fills the border.
        saturated: share of the foreground at its highest value.
        blank: slices of one value at the start and the end of the slice axis, and between others.
        doubled: slices that are equal to the one before, and not of one value.
        repeated: slices beyond the first and the last that repeat it.
        slices: their number along the axis of the thickest voxels.
        jumps: the change from each slice to the next, relative to the second largest of those
            around; 0 near the ends.
        thick: the usual change from slice to slice, relative to that from voxel to voxel within.
        area: share of the foreground in the slices next to those that are blank at an end.
        texture: features of the appearance, for outliers.
        thumbnail: see :mod:`medtl.audit.search.thumbnails`.
        border: mean and spread of the outermost rows and columns, relative to the range.
        marks: of the size of characters, beside the patient in a picture: their number, and how
            many stand in one row.
    """

    placement: Placement
    content: str = ""
    flat: bool = False
    not_finite: int = 0
    low: float = 0.0
    high: float = 0.0
    levels: tuple[float, ...] = ()
    ground: float = 0.0
    stripped: bool = False
    saturated: float = 0.0
    blank: tuple[int, int, int] = (0, 0, 0)
    doubled: tuple[int, ...] = ()
    repeated: tuple[int, int] = (0, 0)
    slices: int = 1
    jumps: tuple[float, ...] = ()
    thick: float = 0.0
    area: float = 0.0
    texture: Mapping[str, float] = field(default_factory=dict)
    thumbnail: str = ""
    border: tuple[float, ...] = ()
    marks: tuple[int, int] = (0, 0)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ImageFacts:
        return _plain(cls, content, placement=_plain(Placement, content["placement"]))


@dataclass(frozen=True, slots=True)
class Structure:
    """One value of a label map.

    Args:
        voxels: their number.
        parts: sizes of its connected parts, the largest first, at most 20.
        place: its centre of mass along right, front and up, from 0 to 1 of what the image shows.
        outside: share that lies outside of what the image shows.
    """

    value: int
    voxels: int
    parts: tuple[int, ...] = ()
    place: tuple[float, float, float] = (0.5, 0.5, 0.5)
    outside: float = 0.0


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """A label map, with what its image shows.

    Args:
        content: a hash of the voxels; "" where all have one value.
        fractional: share of voxels that are no whole number; values are rounded.
        holes: voxels without a label that labels enclose.
        fit: the share of the variance of the intensities that the labels explain.
        moved: the movement, in voxels, that fits the image best, and how much better than none.
        mirrored: the axis whose mirror fits the image better, and how much.
    """

    placement: Placement
    content: str = ""
    fractional: float = 0.0
    negative: int = 0
    structures: tuple[Structure, ...] = ()
    holes: int = 0
    fit: float = 0.0
    moved: tuple[int, int, int] = (0, 0, 0)
    moved_gain: float = 0.0
    mirrored: int = -1
    mirrored_gain: float = 0.0


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """What was measured of a case.

    Args:
        images: by modality; those that cannot be read are missing.
        problems: modality, or "label" -> kind of the problem and what the reader says.
    """

    images: Mapping[str, ImageFacts]
    label: LabelFacts | None = None
    problems: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def equal(self) -> list[tuple[str, str]]:
        """Pairs of modalities whose voxels are the same."""
        varied = [(name, one.content) for name, one in self.images.items() if one.content]
        return [(a, b) for (a, one), (b, other) in combinations(varied, 2) if one == other]

    @property
    def first(self) -> ImageFacts | None:
        """The first image that is not constant."""
        return next((one for one in self.images.values() if one.content), None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CaseFacts:
        label = content["label"]
        return cls(
            images={name: ImageFacts.from_json(one) for name, one in content["images"].items()},
            label=_label(label) if label else None,
            problems={name: (kind, text) for name, (kind, text) in content["problems"].items()},
        )


def _plain(kind: type[Fact], content: Mapping[str, Any], **given: Any) -> Fact:
    """An object of its fields, with tuples where JSON has lists."""
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    own = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in content.items()
        if name in names and name not in given
    }
    return kind(**own, **given)


def _label(content: Mapping[str, Any]) -> LabelFacts:
    structures = tuple(_plain(Structure, one) for one in content["structures"])
    placement = _plain(Placement, content["placement"])
    return _plain(LabelFacts, content, placement=placement, structures=structures)
