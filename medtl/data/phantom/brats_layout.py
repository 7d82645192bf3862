"""One phantom case: from (seed, index) to arrays and to files.

Axes: I left, J posterior, K superior; L tissue.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medtl.data.phantom.anatomy import draw_patient, render_head
from medtl.data.phantom.cohort import Settings
from medtl.data.phantom.fields import HEAD_MM, FloatArray, grid_CIJK, random_field
from medtl.data.phantom.physics import (
    CONTRASTS,
    TISSUE_NAMES,
    UNEVENNESS,
    Scanner,
    acquire_IJK,
    contrast_IJK,
    draw_scanner,
)
from medtl.data.phantom.tumour import Tumour, add_tumours, draw_tumours, push_aside

VERSION = 3


# Independent random streams: a case's anatomy does not depend on its scanner.
_ANATOMY, _ACQUISITION, _SCANNER, _COUNTS, _SITES = range(5)


_BLOCK = 20  #: every 20 cases hold exactly one without a tumour


@dataclass(frozen=True, slots=True)
class PhantomCase:
    """Images int16 by contrast (0 outside the brain) and uint8 labels 0, 1, 2, 4."""

    images_IJK: dict[str, NDArray[np.int16]]
    labels_IJK: NDArray[np.uint8]


def tumour_count(seed: int, index: int) -> int:
    """0 in one case of each 20, else mostly 1, sometimes 2 or 3."""
    block, place = divmod(index, _BLOCK)
    rng = np.random.default_rng([seed, _COUNTS, block])
    if place == rng.integers(_BLOCK):
        return 0
    return int(rng.choice((1, 2, 3), size=_BLOCK, p=(0.78, 0.16, 0.06))[place])


def site_of(seed: int, index: int, sites: int) -> int:
    """Each run of ``sites`` cases visits every site once, in random order."""
    block, place = divmod(index, sites)
    return int(np.random.default_rng([seed, _SITES, block]).permutation(sites)[place])


def sites_of(settings: Settings) -> list[int]:
    """The site of each case of a cohort."""
    return [site_of(settings.seed, n, settings.sites) for n in range(settings.cases)]


def scanner_of(seed: int, site: int, shift: float) -> Scanner:
    return draw_scanner(np.random.default_rng([seed, _SCANNER, site]), shift)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A head with its tumours before it is imaged: what tissues each voxel holds."""

    fractions_LIJK: FloatArray
    labels_IJK: NDArray[np.uint8]
    brain_IJK: NDArray[np.bool_]
    agent_IJK: FloatArray
    variation_L2: FloatArray


def draw_anatomy(
    seed: int,
    index: int,
    size: int,
    draw: Callable[[np.random.Generator], tuple[Tumour, ...]],
) -> Anatomy:
    """The anatomy of one case, with the tumours that ``draw`` draws; no scanner changes it."""
    rng = np.random.default_rng([seed, _ANATOMY, index])
    patient = draw_patient(rng)
    variation_L2 = np.exp(np.clip(rng.normal(0, 0.05, (len(TISSUE_NAMES), 2)), -0.1, 0.1))
    tumours = draw(rng)
    head = render_head(rng, patient, push_aside(grid_CIJK(size), tumours))
    fractions_LIJK, labels_IJK = add_tumours(rng, head, tumours)
    agent_IJK = np.exp(0.35 * random_field(rng, size, 12.0))
    return Anatomy(fractions_LIJK, labels_IJK, head.brain_IJK, agent_IJK, variation_L2)


def image_case(
    anatomy: Anatomy, seed: int, index: int, scanner: Scanner, contrasts: tuple[str, ...]
) -> dict[str, NDArray[np.int16]]:
    """Images of one case by contrast, 0 outside the brain."""
    rng = np.random.default_rng([seed, _ACQUISITION, index])
    brain_IJK = anatomy.brain_IJK
    images = {}
    for name in contrasts:
        signal = contrast_IJK(
            name, anatomy.fractions_LIJK, anatomy.agent_IJK, scanner, anatomy.variation_L2
        )
        gain = scanner.gains[name] * float(np.exp(rng.normal(0, 0.05)))
        spacing_mm = HEAD_MM / len(brain_IJK)
        image = acquire_IJK(signal, brain_IJK, scanner, spacing_mm, gain, UNEVENNESS[name], rng)
        # Brain stays above 0, so that "not 0" is the brain mask, as in BraTS.
        stored = np.clip(np.rint(image), 1, np.iinfo(np.int16).max) * brain_IJK
        images[name] = stored.astype(np.int16)
    return images


def render_case(seed: int, index: int, size: int, scanner: Scanner) -> PhantomCase:
    """Images and labels of one case; depends on nothing but the arguments."""
    count = tumour_count(seed, index)
    anatomy = draw_anatomy(seed, index, size, partial(draw_tumours, count=count))
    return PhantomCase(image_case(anatomy, seed, index, scanner, CONTRASTS), anatomy.labels_IJK)


def write_nifti(path: Path, array_IJK: NDArray[np.int16] | NDArray[np.uint8]) -> None:
    """Same array, same bytes: the gzip header carries no time.

    BraTS's orientation: I to the left, J to the back, K up.
    """
    size = len(array_IJK)
    spacing_mm = HEAD_MM / size
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    affine[1, 3] = (size - 1) * spacing_mm
    image = nib.Nifti1Image(array_IJK, affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def write_case(folder: Path, seed: int, index: int, size: int, scanner: Scanner) -> None:
    """``folder/<folder name>_{flair,t1,t1ce,t2,seg}.nii.gz``."""
    case = render_case(seed, index, size, scanner)
    folder.mkdir()
    for name, image_IJK in case.images_IJK.items():
        write_nifti(folder / f"{folder.name}_{name}.nii.gz", image_IJK)
    write_nifti(folder / f"{folder.name}_seg.nii.gz", case.labels_IJK)


def case_id(index: int) -> str:
    return f"Phantom_{index + 1:04d}"


def jobs(folder: Path, settings: Settings) -> list[Callable[[], None]]:
    """See :class:`medtl.data.phantom.cohort.Writer`."""
    seed, size = settings.seed, settings.size
    scanners = [scanner_of(seed, site, settings.shift) for site in range(settings.sites)]
    return [
        partial(write_case, folder / case_id(n), seed, n, size, scanners[site])
        for n, site in enumerate(sites_of(settings))
    ]


def index(settings: Settings) -> dict[str, Any]:
    """See :class:`medtl.data.phantom.cohort.Writer`."""
    ids = [case_id(index) for index in range(settings.cases)]
    sites = [f"S{site + 1}" for site in sites_of(settings)]
    return {"sites": dict(zip(ids, sites, strict=True)), "patients": {name: name for name in ids}}
