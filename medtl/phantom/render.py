"""One phantom case: from (seed, index) to arrays and to files.

Axes: I left, J posterior, K superior; L tissue.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medtl.phantom.anatomy import draw_patient, render_head
from medtl.phantom.fields import HEAD_MM, grid_CIJK, random_field
from medtl.phantom.physics import (
    CONTRASTS,
    TISSUE_NAMES,
    UNEVENNESS,
    Scanner,
    acquire_IJK,
    contrast_IJK,
    draw_scanner,
)
from medtl.phantom.tumour import add_tumours, draw_tumours, push_aside

# Independent random streams: a case's anatomy stays the same whatever its scanner.
_ANATOMY, _ACQUISITION, _SCANNER, _COUNTS, _SITES = range(5)
_BLOCK = 20  #: every run of so many cases holds exactly one without a tumour


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


def scanner_of(seed: int, site: int, shift: float) -> Scanner:
    return draw_scanner(np.random.default_rng([seed, _SCANNER, site]), shift)


def render_case(seed: int, index: int, size: int, scanner: Scanner) -> PhantomCase:
    """Images and labels of one case; depends on nothing but the arguments."""
    rng = np.random.default_rng([seed, _ANATOMY, index])
    patient = draw_patient(rng)
    variation_L2 = np.exp(np.clip(rng.normal(0, 0.05, (len(TISSUE_NAMES), 2)), -0.1, 0.1))
    tumours = draw_tumours(rng, tumour_count(seed, index))
    head = render_head(rng, patient, push_aside(grid_CIJK(size), tumours))
    fractions_LIJK, labels_IJK = add_tumours(rng, head, tumours)
    agent_IJK = np.exp(0.35 * random_field(rng, size, 12.0))

    rng = np.random.default_rng([seed, _ACQUISITION, index])
    images: dict[str, NDArray[np.int16]] = {}
    for name in CONTRASTS:
        signal = contrast_IJK(name, fractions_LIJK, agent_IJK, scanner, variation_L2)
        gain = scanner.gains[name] * float(np.exp(rng.normal(0, 0.05)))
        image = acquire_IJK(
            signal, head.brain_IJK, scanner, HEAD_MM / size, gain, UNEVENNESS[name], rng
        )
        # Brain stays above 0, so that "not 0" is the brain mask, as in BraTS.
        stored = np.clip(np.rint(image), 1, np.iinfo(np.int16).max) * head.brain_IJK
        images[name] = stored.astype(np.int16)
    return PhantomCase(images, labels_IJK)


def affine_lps(size: int) -> NDArray[np.float64]:
    """BraTS's orientation: I to the left, J to the back, K up."""
    spacing_mm = HEAD_MM / size
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    affine[1, 3] = (size - 1) * spacing_mm
    return affine


def write_nifti(path: Path, array_IJK: NDArray[np.int16] | NDArray[np.uint8]) -> None:
    """Same array, same bytes: the gzip header carries no time."""
    image = nib.Nifti1Image(  # type: ignore[no-untyped-call]
        array_IJK, affine_lps(array_IJK.shape[0])
    )
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def write_case(folder: Path, seed: int, index: int, size: int, scanner: Scanner) -> None:
    """``folder/<folder name>_{flair,t1,t1ce,t2,seg}.nii.gz``."""
    case = render_case(seed, index, size, scanner)
    folder.mkdir()
    for name, image_IJK in case.images_IJK.items():
        write_nifti(folder / f"{folder.name}_{name}.nii.gz", image_IJK)
    write_nifti(folder / f"{folder.name}_seg.nii.gz", case.labels_IJK)
