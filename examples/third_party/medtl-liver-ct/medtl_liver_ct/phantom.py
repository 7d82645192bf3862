"""Synthetic abdomens in Hounsfield units, in the layout of LiTS: to try and to test without data.

An elliptic body with fat below the skin and a wall of muscle, in it bowel, a spine, a spleen on the
left and a liver on the right that holds up to three tumours. Two scanners take turns: ``portal``
waits for the contrast agent to reach the liver; ``arterial`` does not, so that its livers and
tumours look more alike, and is noisier. The sizes and densities are roughly those of adults;
nothing else about it is anatomy.

Axes: A axis, I J K voxels (right-anterior-superior).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medtl.data.io.nifti import write_nifti
from medtl_liver_ct.lits import BACKGROUND, LIVER, SITES, TUMOUR

SHAPE, SPACING_MM = (48, 40, 32), 7.5
AIR_HU, FAT_HU, MUSCLE_HU, BOWEL_HU, BONE_HU = -1000.0, -100.0, 55.0, 0.0, 350.0
#: A voxel shows something of its neighbours, too.
BLUR_VOXELS = 0.5
#: Scanners store nothing below it.
LOWEST_HU = -1024.0


@dataclass(frozen=True, slots=True)
class Scanner:
    """What tells one hospital's images from another's."""

    site: str
    liver_hu: float
    tumour_hu: float
    spleen_hu: float
    noise_hu: float


SCANNERS = (
    Scanner("portal", liver_hu=115.0, tumour_hu=45.0, spleen_hu=120.0, noise_hu=12.0),
    Scanner("arterial", liver_hu=80.0, tumour_hu=35.0, spleen_hu=105.0, noise_hu=16.0),
)


def write_phantom(folder: Path, cases: int, seed: int) -> None:
    """Write ``volume-N.nii.gz`` and ``segmentation-N.nii.gz`` for N from 0, and ``sites.csv``.

    A case depends on ``seed`` and its number alone.
    """
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    with open(folder / SITES, "w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("volume", "site"))
        for number in range(cases):
            scanner = SCANNERS[number % len(SCANNERS)]
            image_IJK, labels_IJK = draw_case(np.random.default_rng([seed, number]), scanner)
            write_nifti(folder / f"volume-{number}.nii.gz", image_IJK, affine)
            write_nifti(folder / f"segmentation-{number}.nii.gz", labels_IJK, affine)
            table.writerow((number, scanner.site))


def draw_case(
    rng: np.random.Generator, scanner: Scanner
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """One abdomen as a scanner shows it (HU), and its labels."""
    body_mm = np.array([150.0, 115.0, 400.0]) * rng.uniform(0.92, 1.05)
    liver_mm = np.array([68.0, 62.0, 75.0]) * rng.uniform(0.85, 1.1, 3)
    liver_at_mm = np.array([62.0, 15.0, 15.0]) + rng.uniform(-8, 8, 3)
    image_IJK = np.full(SHAPE, AIR_HU)
    for centre_mm, radii_mm, density_hu in (
        ((0, 0, 0), body_mm, FAT_HU),
        ((0, 0, 0), body_mm - rng.uniform(12, 25), MUSCLE_HU),
        ((0, 10, 0), body_mm - (35, 40, 0), BOWEL_HU),
        ((0, -70, 0), (20, 20, 400), BONE_HU),
        ((-80, -25, 20), (30, 40, 45), scanner.spleen_hu),
        (liver_at_mm, liver_mm, scanner.liver_hu + rng.normal(0, 5)),
    ):
        image_IJK[_ellipsoid(centre_mm, radii_mm)] = density_hu
    liver_IJK = _ellipsoid(liver_at_mm, liver_mm)
    labels_IJK = np.where(liver_IJK, LIVER, BACKGROUND).astype(np.uint8)
    for tumour_IJK in _tumours(rng, liver_at_mm, liver_mm):
        image_IJK[tumour_IJK & liver_IJK] = scanner.tumour_hu
        labels_IJK[tumour_IJK & liver_IJK] = TUMOUR
    shown_IJK = gaussian_filter(image_IJK, BLUR_VOXELS) + rng.normal(0, scanner.noise_hu, SHAPE)
    return np.rint(np.maximum(shown_IJK, LOWEST_HU)).astype(np.int16), labels_IJK


def _tumours(
    rng: np.random.Generator, liver_at_mm: NDArray[np.float64], liver_mm: NDArray[np.float64]
) -> Iterator[NDArray[np.bool_]]:
    """None in one liver of six, else one to three balls."""
    for _ in range(rng.choice((0, 1, 2, 3), p=(1 / 6, 1 / 2, 1 / 6, 1 / 6))):
        centre_mm = liver_at_mm + rng.uniform(-0.5, 0.5, 3) * liver_mm
        yield _ellipsoid(centre_mm, np.full(3, rng.uniform(18, 32)))


def _ellipsoid(centre_mm: object, radii_mm: object) -> NDArray[np.bool_]:
    """Which voxels lie in it, IJK; millimetres are counted from the centre of the volume."""
    places_IJKA = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2
    scaled_IJKA = (places_IJKA * SPACING_MM - np.asarray(centre_mm)) / np.asarray(radii_mm)
    inside_IJK: NDArray[np.bool_] = (scaled_IJKA**2).sum(-1) <= 1
    return inside_IJK
