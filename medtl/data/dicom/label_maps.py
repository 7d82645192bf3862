"""Segments of studies as label maps: which value stands for which set of segments."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medtl.data.case import ImageFile
from medtl.data.dicom.segments import MOST_SETS, Names, paint_segments
from medtl.data.dicom.stacks import Stack
from medtl.data.dicom.study import Study
from medtl.data.io.images import read_labels
from medtl.data.io.nifti import write_nifti
from medtl.errors import ConfigError, DataError, shortened

#: Of a study in the cache: the number of each voxel's set of segments, and those sets.
_NUMBERS, _SETS = "sets.nii", "sets.json"

Values = Mapping[str, tuple[int, ...]]  #: region -> its label values, as in a Case


@dataclass(frozen=True, slots=True)
class LabelMaps:
    """Where label maps are written, which segments become regions, and their values."""

    path_of: Callable[[str], str]  #: case -> path below the folder
    values: Values = field(default_factory=dict)  #: empty: they are made up
    names: tuple[str, ...] = ()  #: of the regions; empty: those of ``values``, or every segment
    needed: bool = True  #: leave out studies whose segmentation cannot be used

    @property
    def known(self) -> tuple[str, ...]:
        """The names that segments may have; empty: any."""
        return self.names or tuple(self.values)


def refuse_labels(labels: str | None) -> None:
    """Raise ConfigError for ``--labels`` beside DICOM."""
    if labels:
        raise ConfigError("--labels: segments of DICOM have names of their own; drop it")


@dataclass(frozen=True, slots=True)
class Segmented:
    """A study's sets of segments, kept in a folder of the cache."""

    folder: Path
    sets: tuple[Names, ...]  #: by number; the first is empty
    spelt: Mapping[str, str]

    def write(self, path: Path, value_of: Mapping[Names, int]) -> None:
        """Write its label map."""
        numbers = self.folder / _NUMBERS
        set_IJK, _ = read_labels(ImageFile(numbers), tuple(range(len(self.sets))))
        values = np.array([value_of[names] for names in self.sets], np.int16)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, values[set_IJK], numbers)


def keep_segments(study: Study, onto: Stack, folder: Path) -> None:
    """Write the segments of a study, on one grid, into a folder.

    Raises:
        DataError: they cannot be read, or do not lie on the grid of a series.
    """
    painted = paint_segments(study, onto)
    write_nifti(folder / _NUMBERS, painted.set_IJK.astype(np.int16), onto.affine)
    kept = {"sets": [sorted(names) for names in painted.sets], "spelt": painted.spelt}
    (folder / _SETS).write_text(json.dumps(kept), encoding="utf-8")


def kept_segments(folder: Path) -> Segmented:
    """What :func:`keep_segments` wrote."""
    kept = json.loads((folder / _SETS).read_text(encoding="utf-8"))
    return Segmented(folder, tuple(map(frozenset, kept["sets"])), kept["spelt"])


def check_known(segmented: Segmented, labels: LabelMaps) -> None:
    """Raise DataError for segments that are no regions, or that overlap as no label value says."""
    shown = frozenset().union(*segmented.sets)
    strange = [
        segmented.spelt[name]
        for name in sorted(shown - {name.casefold() for name in labels.known})
        if labels.known
    ]
    if strange:
        raise DataError(
            f"its segmentation has {shortened(strange)}, which is none of the regions "
            f"{', '.join(labels.known)}"
        )
    value_of = _values_of(labels.values)
    for names in segmented.sets if labels.values else ():
        if names not in value_of:
            alone = " and ".join(sorted(segmented.spelt[name] for name in names))
            others = ", ".join(name for name in labels.values if name.casefold() not in names)
            raise DataError(
                f"its segmentation has voxels in {alone} and not in {others}, which no label value "
                "means"
            )


def chosen_values(every: Sequence[Segmented], labels: LabelMaps) -> dict[Names, int]:
    """The label value of each set of segments that occurs: those of ``labels``, else numbers, those
    of few segments first.

    Raises:
        DataError: the sets are too many.
    """
    if labels.values:
        return _values_of(labels.values)
    order = {name: n for n, name in enumerate(_spelt(every, labels))}
    sets = {names for one in every for names in one.sets}
    ordered = sorted(sets, key=lambda names: (len(names), sorted(order[name] for name in names)))
    if len(ordered) > MOST_SETS:
        raise DataError(f"segments overlap in more than {MOST_SETS} ways; segment fewer regions")
    return {names: value for value, names in enumerate(ordered)}


def regions_of(
    every: Sequence[Segmented], labels: LabelMaps, value_of: Mapping[Names, int]
) -> dict[str, list[int]]:
    """Each region with its label values: those of the sets that hold it, or one of its own."""
    if labels.values:
        return {name: list(values) for name, values in labels.values.items()}
    unused = max(value_of.values(), default=0)
    found = {}
    for name, spelt in _spelt(every, labels).items():
        found[spelt] = sorted(value for names, value in value_of.items() if name in names)
        if not found[spelt]:
            unused += 1
            found[spelt] = [unused]
    return found


def counted_regions(every: Sequence[Segmented], labels: LabelMaps) -> str:
    """In how many studies each region was drawn."""
    counts = []
    for name, spelt in _spelt(every, labels).items():
        drawn = sum(any(name in names for names in one.sets) for one in every)
        counts.append(f"{spelt} in {drawn}")
    return f"segments of {len(every)} studies: {', '.join(counts)}; elsewhere they count as absent"


def _spelt(every: Sequence[Segmented], labels: LabelMaps) -> dict[str, str]:
    """The regions' names in lower case -> as they are spelt first."""
    if labels.known:
        return {name.casefold(): name for name in labels.known}
    found: dict[str, str] = {}
    for one in every:
        for name, spelt in one.spelt.items():
            found.setdefault(name, spelt)
    return found


def _values_of(regions: Values) -> dict[Names, int]:
    every = {value for values in regions.values() for value in values}
    sets = {v: frozenset(n.casefold() for n, own in regions.items() if v in own) for v in every}
    return {frozenset(): 0, **{names: value for value, names in sorted(sets.items(), reverse=True)}}
