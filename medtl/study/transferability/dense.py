"""Transferability to a segmentation, from features of sampled voxels, with patients as units.

A volume has mostly background, and voxels of one patient resemble each other. Each patient is
therefore scored alone, on equally many voxels of every region, and the patients' scores averaged.
The draw depends on labels, patients and seed only: all arms are compared on the same voxels.

Axes: V voxel, F feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medtl.errors import DataError
from medtl.evaluation.intervals import Interval, interval
from medtl.study.transferability.inputs import check_length

#: Voxels of each region that a patient gives at most.
MOST_VOXELS = 200

#: A region of fewer voxels is left out for this patient.
FEWEST_VOXELS = 10

#: A score of features (or source probabilities, or source labels) and labels.
Score = Callable[[NDArray[Any], NDArray[Any]], float]


@dataclass(frozen=True, slots=True)
class DenseScore:
    """The mean over patients, with its interval."""

    mean: Interval
    by_patient: dict[str, float]
    left_out: tuple[str, ...]  #: patients with fewer than two regions of enough voxels


def dense_score(
    score: Score,
    features_VF: NDArray[Any],
    labels_V: ArrayLike,
    patients_V: Sequence[str],
    *,
    most: int = MOST_VOXELS,
    fewest: int = FEWEST_VOXELS,
    seed: int = 0,
) -> DenseScore:
    """The mean over patients of ``score`` within each of them, on the same number per region.

    That number is the size of the patient's smallest region, and at most ``most``.

    Args:
        score: such as :func:`~medtl.study.transferability.logme.logme`.
        features_VF: what ``score`` takes first: features, for LEEP the source probabilities, for
            NCE the source labels (a single axis).
        labels_V: the region of each voxel.
        patients_V: the patient of each voxel.
        most: voxels of each region that a patient gives at most.
        fewest: a region of fewer voxels is left out for this patient.
        seed: of the draw.

    Raises:
        DataError: not one label and patient per voxel, no patient with two regions, or what
            ``score`` raises, with the patient's name.
    """
    label_V, patient_V = np.asarray(labels_V), np.asarray(patients_V)
    check_length(label_V, len(features_VF))
    check_length(patient_V, len(features_VF))
    random = np.random.default_rng(seed)
    by_patient: dict[str, float] = {}
    left_out = []
    for patient in np.unique(patient_V).tolist():
        chosen = _balanced(np.flatnonzero(patient_V == patient), label_V, most, fewest, random)
        if not len(chosen):
            left_out.append(str(patient))
            continue
        try:
            by_patient[str(patient)] = score(features_VF[chosen], label_V[chosen])
        except DataError as error:
            raise DataError(f"patient {patient}: {error}") from error
    if not by_patient:
        raise DataError(f"no patient has {fewest} voxels in each of two regions; sample more")
    mean = interval(by_patient, bounds=(-math.inf, math.inf), seed=seed)
    return DenseScore(mean, by_patient, tuple(left_out))


def _balanced(
    voxels: NDArray[np.intp],
    label_V: NDArray[Any],
    most: int,
    fewest: int,
    random: np.random.Generator,
) -> NDArray[np.intp]:
    """As many of a patient's voxels of each region; none if fewer than two regions are left."""
    regions = [voxels[label_V[voxels] == label] for label in np.unique(label_V[voxels])]
    regions = [region for region in regions if len(region) >= fewest]
    if len(regions) < 2:
        return voxels[:0]
    each = min(most, *(len(region) for region in regions))
    return np.concatenate([random.choice(region, each, replace=False) for region in regions])
