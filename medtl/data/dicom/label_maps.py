"""Segments of studies as label maps: which value stands for which set of segments."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medtl.data.case import ImageFile
from medtl.data.dicom.segments import Names, paint_segments
from medtl.data.dicom.stacks import Stack
from medtl.data.dicom.study import Study
from medtl.data.io.images import read_labels
from medtl.data.io.nifti import write_nifti
from medtl.errors import DataError, shortened

#: Of a study in the cache: the number of each voxel's set of segments, and those sets.
_NUMBERS, _SETS = "sets.nii", "sets.json"

Values = Mapping[str, tuple[int, ...]]  #: region -> its label values, as in a Case


@dataclass(frozen=True, slots=True)
class LabelMaps:
    """Where label maps are written, and their values."""

    path_of: Callable[[str], str]  #: case -> path below the folder
    regions: Values | None = None  #: None: the segments become regions
    needed: bool = True  #: leave out studies whose segmentation cannot be used


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
    painted = paint_segments(study.segmentations, study.grids, onto)
    write_nifti(folder / _NUMBERS, painted.set_IJK.astype(np.int16), onto.affine)
    kept = {"sets": [sorted(names) for names in painted.sets], "spelt": painted.spelt}
    (folder / _SETS).write_text(json.dumps(kept), encoding="utf-8")


def kept_segments(folder: Path) -> Segmented:
    """What :func:`keep_segments` wrote."""
    kept = json.loads((folder / _SETS).read_text(encoding="utf-8"))
    return Segmented(folder, tuple(map(frozenset, kept["sets"])), kept["spelt"])


def check_known(segmented: Segmented, regions: Values) -> None:
    """Raise DataError for segments that are no regions, or that overlap as no label value says."""
    known = {name.casefold() for name in regions}
    shown = frozenset().union(*segmented.sets)
    strange = [segmented.spelt[name] for name in sorted(shown - known)]
    if strange:
        raise DataError(
            f"its segmentation has {shortened(strange)}, which is none of the regions "
            f"{', '.join(regions)}"
        )
    value_of = _values_of(regions)
    for names in segmented.sets:
        if names not in value_of:
            alone = " and ".join(sorted(segmented.spelt[name] for name in names))
            raise DataError(
                f"its segmentation has voxels of {alone} alone, which no label value means"
            )


def chosen_values(every: Sequence[Segmented], regions: Values | None) -> dict[Names, int]:
    """The label value of each set of segments that occurs.

    Args:
        regions: whose values are taken; None: sets are numbered, those of few segments first.
    """
    if regions is not None:
        return _values_of(regions)
    order = {name: n for n, name in enumerate(dict.fromkeys(n for one in every for n in one.spelt))}
    sets = {names for one in every for names in one.sets}
    ordered = sorted(sets, key=lambda names: (len(names), sorted(order[name] for name in names)))
    return {names: value for value, names in enumerate(ordered)}


def regions_of(every: Sequence[Segmented], value_of: Mapping[Names, int]) -> dict[str, list[int]]:
    """Each segment with the values of the sets that hold it."""
    spelt = {name: text for one in reversed(every) for name, text in one.spelt.items()}
    found = {
        spelt[name]: sorted(value for names, value in value_of.items() if name in names)
        for name in dict.fromkeys(name for one in every for name in one.spelt)
    }
    return {name: values for name, values in found.items() if values}


def _values_of(regions: Values) -> dict[Names, int]:
    every = {value for values in regions.values() for value in values}
    sets = {v: frozenset(n.casefold() for n, own in regions.items() if v in own) for v in every}
    return {frozenset(): 0, **{names: value for value, names in sorted(sets.items(), reverse=True)}}
