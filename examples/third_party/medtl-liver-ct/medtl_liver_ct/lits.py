"""The files of LiTS: which volume belongs to which segmentation, and who was scanned where.

LiTS numbers its CT volumes, in folders of any name::

    Training Batch 1/volume-0.nii    segmentation-0.nii
    Training Batch 2/volume-28.nii   segmentation-28.nii
    sites.csv                        optional: a row per volume, "volume,site"
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medtl.data.modality import Modality
from medtl.errors import DataError

CT = Modality("ct")
#: What the voxels of a segmentation may hold.
BACKGROUND, LIVER, TUMOUR = 0, 1, 2
SITES = "sites.csv"
EXPECTED = "volume-0.nii and segmentation-0.nii, as LiTS calls them (or .nii.gz)"

_FILE = re.compile(r"(?P<what>volume|segmentation)-(?P<number>\d+)\.nii(\.gz)?")


@dataclass(frozen=True, slots=True)
class Scan:
    """One CT volume, and its segmentation where there is one."""

    number: int
    volume: Path
    segmentation: Path | None
    site: str

    @property
    def id(self) -> str:
        return f"volume-{self.number}"


def find_scans(root: Path) -> list[Scan]:
    """All volumes below ``root``, by number.

    Raises:
        DataError: no folder, no volumes, a number that is there twice, a segmentation without its
            volume, or a damaged ``sites.csv``; always naming the file.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; it should hold {EXPECTED}")
    found: dict[str, dict[int, Path]] = {"volume": {}, "segmentation": {}}
    for path in sorted(root.rglob("*.nii*")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        files, number = found[match["what"]], int(match["number"])
        if number in files:
            raise DataError(f"{path}: is there twice (also {files[number]}); keep one")
        files[number] = path
    volumes, segmentations = found["volume"], found["segmentation"]
    if not volumes:
        raise DataError(f"{root}: no CT volumes found; expected {EXPECTED}")
    alone = sorted(set(segmentations) - set(volumes))
    if alone:
        raise DataError(f"{segmentations[alone[0]]}: its volume-{alone[0]} is missing; add it")
    sites = _read_sites(root / SITES)
    return [
        Scan(number, volumes[number], segmentations.get(number), sites.get(number, ""))
        for number in sorted(volumes)
    ]


def _read_sites(path: Path) -> Mapping[int, str]:
    """Number of a volume -> hospital or scanner; nothing where nobody wrote it down."""
    if not path.is_file():
        return {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return {int(row["volume"]): row["site"].strip() for row in csv.DictReader(stream)}
    except (OSError, UnicodeError, csv.Error, KeyError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: cannot be read; it needs the columns volume (a number) and site"
        ) from error
