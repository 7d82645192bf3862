"""Two sites made of one: half of the hippocampus cases get another contrast, stated here.

The images of every second case are changed as another scanner and sequence might change them:
dark becomes bright (intensities are inverted within the case's 1st to 99th percentile), a gamma of
0.7, a blur of 0.7 mm, and noise of 3% of the range. Labels stay as they are. A table of cases names
both sites.

    python examples/studies/hippocampus_sites.py --out hippocampus-sites
    medtl compare --config examples/studies/hippocampus.yaml --out studies/hippocampus
"""

from __future__ import annotations

import argparse
import csv
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from common import shared_data
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

GAMMA, BLUR_MM, NOISE = 0.7, 0.7, 0.03
COLUMNS = ("case", "patient", "site", "mri", "label")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=shared_data() / "hippocampus")
    parser.add_argument("--out", type=Path, default=Path("hippocampus-sites"))
    options = parser.parse_args()
    write_sites(options.data.resolve(), options.out.resolve())


def write_sites(data: Path, out: Path) -> None:
    """Write the changed images and ``cases.csv``; the others stay where they are."""
    out.mkdir(parents=True, exist_ok=True)
    labels = sorted((data / "labelsTr").glob("*.nii.gz"))
    rows = []
    for number, label in enumerate(labels):
        name = label.name.removesuffix(".nii.gz")
        found = (data / "imagesTr" / f"{name}{end}" for end in ("_0000.nii.gz", ".nii.gz"))
        image = next(path for path in found if path.is_file())
        site = "original" if number % 2 else "changed"
        if site == "changed":
            image = change(image, out / f"{name}.nii.gz")
        rows.append((name, name, site, image, label))
    with (out / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def change(image: Path, to: Path) -> Path:
    """Write the image in the other contrast."""
    read: Any = nibabel.load(image)
    values_IJK = np.asarray(read.dataobj, dtype=np.float32)
    seed = zlib.crc32(image.name.encode())
    changed = nibabel.Nifti1Image(
        other_contrast(values_IJK, read.header.get_zooms(), seed), read.affine
    )
    nibabel.save(changed, to)
    return to


def other_contrast(
    values_IJK: NDArray[np.float32], spacing_mm: tuple[float, ...], seed: int
) -> NDArray[np.float32]:
    """Inverted, with a gamma, blurred, with noise; 0 to 1000."""
    low, high = np.percentile(values_IJK, (1, 99))
    share = 1 - np.clip((values_IJK - low) / (high - low), 0, 1)
    blurred = gaussian_filter(share**GAMMA, [BLUR_MM / float(mm) for mm in spacing_mm[:3]])
    noise = np.random.default_rng(seed).normal(0, NOISE, values_IJK.shape)
    return (1000 * (blurred + noise)).astype(np.float32)


if __name__ == "__main__":
    main()
