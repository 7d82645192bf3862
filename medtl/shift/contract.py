"""What feature extractors and shift metrics see and give.

An extractor turns an image into rows of features; a metric scores how far two sets of rows are
apart. The framework knows which rows belong to which image of which patient, and tests by
exchanging or permuting whole patients, never rows.

Axes: N row, F feature, U unit (all rows of one patient's image of one modality), R permutation,
C modality, L region, I J K voxels (right-anterior-superior).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl.data.modality import Modality
from medtl.transforms.histogram import Landmarks


@dataclass(frozen=True, slots=True)
class View:
    """What an extractor sees: one modality of a case, or for joint features all of the domain's.

    Intensities are as stored, or as a harmoniser left them.
    """

    case: str  #: id, for errors
    modalities: tuple[Modality, ...]
    image_CIJK: NDArray[np.float32]
    foreground_CIJK: NDArray[np.bool_]  #: where an image shows the patient (or the brain)
    spacing_mm: tuple[float, float, float]
    orientation: str  #: of the stored axes, e.g. "LPS"
    is_2d: bool  #: a 2-D image: its pixel size is unknown, and K is 1
    target_LIJK: NDArray[np.bool_] | None = None
    class_name: str = ""


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Rows of one view, and what the columns are called: ``family/name``, e.g. ``scale/median``."""

    values_NF: NDArray[np.float64]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """What a user can tell an extractor."""

    run: Path | None = None  #: a trained run, for ``activations``
    layer: str | None = None  #: name of one of its modules or blocks
    regions: tuple[str, ...] = ()  #: what the task segments, or its classes, for ``labels``


@dataclass(frozen=True, slots=True)
class FeatureExtractor:
    """A feature extractor. A component's target makes one from :class:`FeatureSettings`."""

    name: str
    rows: Callable[[View], FeatureRows]
    joint: bool = False  #: needs all modalities of a domain at once
    target: bool = False  #: needs the case's target or class
    #: fitted on the pooled, scaled rows of both domains, e.g. a principal component analysis
    embed: Callable[[NDArray[np.float64]], FeatureRows] | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """The pooled rows of all images in a comparison, on one scale; a unit's rows are contiguous."""

    values_NF: NDArray[np.float64]
    names: tuple[str, ...]
    unit_N: NDArray[np.intp]  #: ascending, 0 to U - 1
    patient_U: NDArray[np.intp]  #: units of one patient are not independent of each other

    @property
    def units(self) -> int:
        return len(self.patient_U)


#: source_RU, target_RU (bool: which units are on which side in each permutation) -> values_R.
#: NaN where a side has too few patients.
Scorer = Callable[[NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class ShiftMetric:
    """Larger is farther apart. ``prepare`` does once what all permutations share."""

    name: str
    prepare: Callable[[Rows], Scorer]
    jackknife: bool = False  #: whether a delete-one-patient interval makes sense
    tested: bool = True  #: False: a value alone, no p-value
    no_shift_value: float = 0.0  #: what it is where there is no shift
    symmetric: bool = True  #: whether it stays the same where source and target change places
    warning: str = ""  #: what the user must know about it


#: What fitting leaves: numbers by modality, or by what they are; plain data.
Fitted = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Harmoniser:
    """A way to make images alike. Fitted on the source, so that it can be frozen and trained with.

    ``apply`` raises DataError for a view whose modality it was not fitted on; harmonisers of the
    grid take any. ``landmarks``: what training needs to apply it, for those that it can.
    """

    name: str
    fit: Callable[[Iterable[View]], Fitted]
    apply: Callable[[View, Fitted], View]
    landmarks: Landmarks | None = None
