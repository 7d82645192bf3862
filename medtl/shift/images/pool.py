"""Rows of all images -> one pooled sample on one scale.

Source and target are never scaled apart: that would take away the very shift in mean and scale that
is to be measured.

Axes: N row, F feature, U unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medtl.errors import DataError
from medtl.shift.contract import FeatureExtractor, FeatureRows, Rows
from medtl.shift.images.domains import Image
from medtl.shift.stats.metric_result import Comparison

#: A column whose deviation is a smaller share than this of its size is constant.
CONSTANT = 1e-9


@dataclass(frozen=True, slots=True, order=True)
class _Unit:
    patient: str
    modalities: tuple[str, ...]
    in_source: bool
    in_target: bool
    group: str


@dataclass(frozen=True, slots=True)
class Pooled:
    """Rows with the images of each unit, and what the user should know."""

    rows: Rows
    source_U: NDArray[np.bool_]
    target_U: NDArray[np.bool_]
    modality_U: tuple[str, ...]  #: joint units have all, joined by "+"
    group_U: tuple[str, ...]  #: site or part, where these are compared
    patients: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def sides(self) -> Comparison:
        """The domains as wholes."""
        return Comparison(self.source_U, self.target_U, self.rows.patient_U)

    def same_patients(self, other: Pooled) -> bool:
        """Whether the same patients lie in the same domains, so that permutations are the same."""
        return self._ends() == other._ends()

    def _ends(self) -> set[tuple[str, bool, bool, str]]:
        patients = (self.patients[p] for p in self.rows.patient_U)
        sides = zip(self.source_U.tolist(), self.target_U.tolist(), self.group_U, strict=True)
        return {(patient, *side) for patient, side in zip(patients, sides, strict=True)}

    def unit_mask(self, modality: str) -> NDArray[np.bool_]:
        return np.array([name == modality for name in self.modality_U])


def thinned(measured: FeatureRows, most: int, seed: int) -> FeatureRows:
    """At most ``most`` rows, a random choice in their order: neighbours are alike."""
    if len(measured.values_NF) <= most:
        return measured
    chosen = np.random.default_rng(seed).choice(len(measured.values_NF), most, replace=False)
    return FeatureRows(measured.values_NF[np.sort(chosen)], measured.names)


def pool(
    images: Sequence[Image], measured: Sequence[FeatureRows], features: FeatureExtractor
) -> Pooled:
    """All rows on one scale.

    Raises:
        DataError: rows of different lengths, values that are not finite, or nothing that varies.
    """
    found = gather(images, measured, features)
    values_NF, names, notes = scale(found.rows.values_NF, found.rows.names, features.name)
    if features.embed is not None:
        embedded = features.embed(values_NF)
        values_NF, names = embedded.values_NF, embedded.names
    return replace(found, rows=replace(found.rows, values_NF=values_NF, names=names), notes=notes)


def gather(
    images: Sequence[Image], measured: Sequence[FeatureRows], features: FeatureExtractor
) -> Pooled:
    """All rows as measured, not scaled yet. One unit per patient, modality and sides; a patient's
    images of one modality share theirs.

    Raises:
        DataError: rows of different lengths, or values that are not finite.
    """
    _check(images, measured, features)
    keys = [
        _Unit(image.patient, image.modalities, image.in_source, image.in_target, image.group)
        for image in images
    ]
    units = sorted(set(keys))
    unit_of = {key: index for index, key in enumerate(units)}
    order = sorted(range(len(images)), key=lambda index: unit_of[keys[index]])
    unit_N = np.concatenate(
        [np.full(len(measured[i].values_NF), unit_of[keys[i]], dtype=np.intp) for i in order]
    )
    values_NF = np.concatenate([measured[i].values_NF for i in order])
    patients = sorted({unit.patient for unit in units})
    index_of = {patient: index for index, patient in enumerate(patients)}
    patient_U = np.array([index_of[unit.patient] for unit in units], dtype=np.intp)
    return Pooled(
        Rows(values_NF, measured[0].names, unit_N, patient_U),
        np.array([unit.in_source for unit in units]),
        np.array([unit.in_target for unit in units]),
        tuple("+".join(unit.modalities) for unit in units),
        tuple(unit.group for unit in units),
        tuple(patients),
    )


def scale(
    values_NF: NDArray[np.float64], names: tuple[str, ...], what: str
) -> tuple[NDArray[np.float64], tuple[str, ...], tuple[str, ...]]:
    """Pooled z-score per column, less the constant columns; and a note that says how many."""
    mean_F, deviation_F = values_NF.mean(axis=0), values_NF.std(axis=0)
    varies_F = deviation_F > CONSTANT * np.maximum(np.abs(values_NF).max(axis=0), 1e-300)
    if not varies_F.any():
        raise DataError(f"features {what} are the same in every image; choose others by --features")
    notes: tuple[str, ...] = ()
    if not varies_F.all():
        notes = (
            f"{what}: {int((~varies_F).sum())} of {len(names)} features are constant, left out",
        )
    scaled_NF = (values_NF[:, varies_F] - mean_F[varies_F]) / deviation_F[varies_F]
    kept = tuple(name for name, varies in zip(names, varies_F, strict=True) if varies)
    return scaled_NF, kept, notes


def _check(
    images: Sequence[Image], measured: Sequence[FeatureRows], features: FeatureExtractor
) -> None:
    what = f"features {features.name}"
    for image, found in zip(images, measured, strict=True):
        if found.names != measured[0].names:
            raise DataError(
                f"{what}: {_file(image)} has {len(found.names)} of them, {_file(images[0])} "
                f"{len(measured[0].names)}; resample the images to one grid or use other --features"
            )
        if not len(found.values_NF):
            raise DataError(f"{what}: nothing to measure in {_file(image)}; leave out the case")
        bad = ~np.isfinite(found.values_NF).all(axis=0)
        if bad.any():
            name = found.names[int(np.flatnonzero(bad)[0])]
            raise DataError(
                f"{what}: {name} of {_file(image)} is not a finite number; leave out the case"
            )


def _file(image: Image) -> str:
    return str(image.case.images[image.modalities[0]].path)
