"""The interfaces of feature extractors, shift metrics and harmonisers.

An extractor turns an image into rows of features; a metric measures the distance of two sets of
rows. The framework knows the image and patient of each row, and tests by exchanging or permuting
whole patients, never rows.

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
    """The input of an extractor: one modality of a case, or all modalities for joint features.

    Intensities are as stored, or as harmonised.
    """

    case: str  #: its id, for error messages
    modalities: tuple[Modality, ...]
    image_CIJK: NDArray[np.float32]
    foreground_CIJK: NDArray[np.bool_]  #: the patient, or the brain
    spacing_mm: tuple[float, float, float]
    orientation: str  #: of the stored axes, e.g. "LPS"
    is_2d: bool  #: a 2-D image: its pixel size is unknown, and K is 1
    target_LIJK: NDArray[np.bool_] | None = None
    class_name: str = ""
    fill: float = 1.0  #: the share of a box of its edges that a voxel fills; less if sheared


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Rows of one view, and the columns' names ``family/name``, e.g. ``scale/median``."""

    values_NF: NDArray[np.float64]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """The user's settings for extractors."""

    run: Path | None = None  #: a trained run, for ``activations``
    layer: str | None = None  #: one of its blocks or modules
    regions: tuple[str, ...] = ()  #: the task's regions or classes, for ``labels``


@dataclass(frozen=True, slots=True)
class FeatureExtractor:
    """A feature extractor; the component's target makes it from :class:`FeatureSettings`."""

    name: str
    rows: Callable[[View], FeatureRows]
    joint: bool = False  #: needs all modalities of a domain at once
    target: bool = False  #: needs the case's target or class
    #: transforms the pooled, scaled rows of both domains, e.g. by principal component analysis
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


#: source_RU, target_RU (the units of each domain in each permutation) -> values_R.
#: NaN if a domain has too few patients.
Scorer = Callable[[NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class ShiftMetric:
    """A distance, larger if farther apart. ``prepare`` does the work shared by all permutations."""

    name: str
    prepare: Callable[[Rows], Scorer]
    jackknife: bool = False  #: whether a delete-one-patient interval is valid
    tested: bool = True  #: False: a value alone, no p-value
    no_shift_value: float = 0.0  #: the value without a shift
    symmetric: bool = True  #: whether exchanging source and target gives the same value
    warning: str = ""  #: a limitation that is reported with every value


#: The result of fitting: numbers by modality or by name; plain data.
Fitted = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Harmoniser:
    """Makes images of two domains similar. Fitted on the source, so that training can apply it.

    ``apply`` raises DataError for a modality that it was not fitted on; harmonisers of the grid
    accept any. ``landmarks``: for harmonisers that training can apply.
    """

    name: str
    fit: Callable[[Iterable[View]], Fitted]
    apply: Callable[[View, Fitted], View]
    landmarks: Landmarks | None = None
