"""Pool the rows of all images into one sample on one scale.

Source and target are never scaled separately: that would remove shifts in mean and scale.

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
from medtl.shift.stats.permutations import Comparison

#: A column is constant if its standard deviation is below this share of its largest value.
CONSTANT = 1e-9


@dataclass(frozen=True, slots=True)
class Pooled:
    """The pooled rows, and the domains, modality and group of each unit."""

    rows: Rows
    source_U: NDArray[np.bool_]
    target_U: NDArray[np.bool_]
    modality_U: tuple[str, ...]  #: several modalities of joint features: joined by "+"
    group_U: tuple[str, ...]  #: site or part if these are compared, otherwise ""
    patients: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def comparison(self) -> Comparison:
        """The comparison of the whole domains."""
        return Comparison(self.source_U, self.target_U, self.rows.patient_U)

    def same_patients(self, other: Pooled) -> bool:
        """Whether both hold the same patients in the same domains and can share permutations."""
        return self._memberships() == other._memberships()

    def _memberships(self) -> set[tuple[str, bool, bool, str]]:
        patients = (self.patients[p] for p in self.rows.patient_U)
        domains = self.source_U.tolist(), self.target_U.tolist(), self.group_U
        return set(zip(patients, *domains, strict=True))

    def unit_mask(self, modality: str) -> NDArray[np.bool_]:
        return np.array([name == modality for name in self.modality_U])


def sample_rows(measured: FeatureRows, most: int, seed: int) -> FeatureRows:
    """At most ``most`` rows, drawn at random (neighbouring rows are similar), in their order."""
    rows = len(measured.values_NF)
    if rows <= most:
        return measured
    chosen = np.random.default_rng(seed).choice(rows, most, replace=False)
    return FeatureRows(measured.values_NF[np.sort(chosen)], measured.names)


def pool(
    images: Sequence[Image], measured: Sequence[FeatureRows], features: FeatureExtractor
) -> Pooled:
    """All rows as z-scores of the pooled sample, without constant columns, and embedded.

    Raises:
        DataError: rows of different lengths, values that are not finite, or only constant columns.
    """
    pooled = gather(images, measured, features)
    values_NF, names, notes = scale(pooled.rows.values_NF, pooled.rows.names, features.name)
    if features.embed is not None:
        embedded = features.embed(values_NF)
        values_NF, names = embedded.values_NF, embedded.names
    return replace(pooled, rows=replace(pooled.rows, values_NF=values_NF, names=names), notes=notes)


def gather(
    images: Sequence[Image], measured: Sequence[FeatureRows], features: FeatureExtractor
) -> Pooled:
    """All rows as measured, without scaling.

    A unit holds a patient's images of one modality in the same domains.

    Raises:
        DataError: rows of different lengths, or values that are not finite.
    """
    _check(images, measured, features)
    keys = [(i.patient, i.modalities, i.in_source, i.in_target, i.group) for i in images]
    units = sorted(set(keys))
    unit_of = {key: index for index, key in enumerate(units)}
    order = sorted(range(len(images)), key=lambda index: unit_of[keys[index]])
    unit_N = np.concatenate(
        [np.full(len(measured[i].values_NF), unit_of[keys[i]], dtype=np.intp) for i in order]
    )
    values_NF = np.concatenate([measured[i].values_NF for i in order])
    owners, modalities, in_source, in_target, groups = zip(*units, strict=True)
    patients = sorted(set(owners))
    index_of = {patient: index for index, patient in enumerate(patients)}
    patient_U = np.array([index_of[owner] for owner in owners], dtype=np.intp)
    return Pooled(
        Rows(values_NF, measured[0].names, unit_N, patient_U),
        np.array(in_source),
        np.array(in_target),
        tuple(map("+".join, modalities)),
        groups,
        tuple(patients),
    )


def scale(
    values_NF: NDArray[np.float64], names: tuple[str, ...], what: str
) -> tuple[NDArray[np.float64], tuple[str, ...], tuple[str, ...]]:
    """Pooled z-scores without constant columns, the columns' names, and notes for the user."""
    mean_F, deviation_F = values_NF.mean(axis=0), values_NF.std(axis=0)
    varies_F = deviation_F > CONSTANT * np.maximum(np.abs(values_NF).max(axis=0), 1e-300)
    if not varies_F.any():
        raise DataError(f"features {what} are the same in every image; choose other --features")
    scaled_NF = (values_NF[:, varies_F] - mean_F[varies_F]) / deviation_F[varies_F]
    kept = tuple(name for name, varies in zip(names, varies_F, strict=True) if varies)
    constant = len(names) - len(kept)
    note = f"{what}: {constant} of {len(names)} features are constant and left out"
    return scaled_NF, kept, (note,) if constant else ()


def _check(
    images: Sequence[Image], measured: Sequence[FeatureRows], features: FeatureExtractor
) -> None:
    first = measured[0].names
    for image, rows in zip(images, measured, strict=True):
        file, problem = _file(image), ""
        finite_F = np.isfinite(rows.values_NF).all(axis=0)
        if rows.names != first:
            problem = (
                f"{file} has {len(rows.names)} columns, {_file(images[0])} has {len(first)}; "
                "resample the images to one grid or use other --features"
            )
        elif not len(rows.values_NF):
            problem = f"{file} gives no rows; leave out the case"
        elif not finite_F.all():
            name = first[int(finite_F.argmin())]
            problem = f"{name} of {file} is not a finite number; leave out the case"
        if problem:
            raise DataError(f"features {features.name}: {problem}")


def _file(image: Image) -> str:
    return str(image.case.images[image.modalities[0]].path)
