"""Finding TCGA slices and their masks by name, and facts of their pixels.

Axes: I rows, J columns, K the one slice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl.data.case import ImageFile
from medtl.data.formats.folders import dicom_advice, walk
from medtl.data.io.pictures import read_picture, read_picture_labels
from medtl.data.modality import Modality
from medtl.errors import DataError, shortened
from medtl.runtime.cache import remembered
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads

#: Red, green and blue; where T1 or T1ce is missing, FLAIR takes its place.
MODALITIES = tuple(map(Modality, ("t1", "flair", "t1ce")))
FLAIR = MODALITIES[1]
#: Levels of a mask.
OUTSIDE, TUMOR = 0, 255
EXPECTED = "TCGA_<hospital>_<patient>_<date>_<slice>.tif, its mask <the same>_mask.tif"
_NAME = re.compile(
    r"(?P<patient>TCGA_(?P<site>[A-Z0-9]{2})_[A-Z0-9]{4})_\d{8}_(?P<number>\d{1,3})(?P<mask>_mask)?",
    re.IGNORECASE,
)
_FACT = "tcga slice 2"


@dataclass(frozen=True, slots=True)
class Slice:
    """One picture, by its name and its content."""

    id: str
    patient: str
    site: str
    path: Path
    mask: Path | None
    empty: tuple[Modality, ...]  #: all pixels have one value
    copies: tuple[Modality, ...]  #: identical to FLAIR
    tumor: bool


def find_slices(root: Path, reporter: Reporter) -> list[Slice]:
    """All slices below ``root``, ordered by patient and number; every picture is read once.

    Raises:
        DataError: no slices, names that say no patient, a mask without its picture, one slice
            twice, or what is wrong with a file.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; it should hold {EXPECTED}")
    pictures: dict[str, tuple[Path, re.Match[str]]] = {}
    masks: dict[str, Path] = {}
    files = (held.path / name for held in walk(root) for name in held.files)
    for path in sorted(path for path in files if path.suffix.lower() in (".tif", ".tiff")):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            raise DataError(f"{path}: its name says no patient; expected {EXPECTED}")
        name = path.stem.removesuffix(match["mask"] or "")
        known = masks.get(name) if match["mask"] else pictures.get(name, (None,))[0]
        if known:
            raise DataError(f"{path}: slice {name} is there twice (also {known}); keep one")
        if match["mask"]:
            masks[name] = path
        else:
            pictures[name] = path, match
    if not pictures:
        raise DataError(f"{root}: no slices found; {dicom_advice(root) or f'expected {EXPECTED}'}")
    alone = sorted(set(masks) - set(pictures))
    if alone:
        raise DataError(f"{masks[alone[0]]}: there is no picture of this mask; fetch it again")
    jobs = [(name, path, match, masks.get(name)) for name, (path, match) in pictures.items()]
    with reporter.progress("reading slices", len(pictures)) as advance:
        slices = in_threads(lambda job: _slice(*job), jobs, advance, threads=2)
    return sorted(slices, key=lambda one: (one.patient, int(one.id.rpartition("_")[2])))


def stand_ins(slices: Sequence[Slice]) -> list[str]:
    """Notes on patients whose FLAIR replaces a missing modality."""
    by_patient: dict[str, list[Slice]] = {}
    for one in slices:
        by_patient.setdefault(one.patient, []).append(one)
    notes = []
    for name in MODALITIES:
        lacking = [p for p, own in by_patient.items() if all(name in s.copies for s in own)]
        if lacking:
            notes.append(f"{name} is missing in {shortened(lacking)}: FLAIR stands in for it")
    return notes


def _slice(name: str, path: Path, match: re.Match[str], mask: Path | None) -> Slice:
    facts = remembered(_FACT, path, None, lambda: _facts(path))
    tumor = mask is not None and remembered(_FACT, mask, None, lambda: _shows_tumor(mask))
    return Slice(
        id=name,
        patient=match["patient"].upper(),
        site=match["site"].upper(),
        path=path,
        mask=mask,
        empty=tuple(MODALITIES[n] for n in facts["empty"]),
        copies=tuple(MODALITIES[n] for n in facts["copies"]),
        tumor=bool(tumor),
    )


def _facts(path: Path) -> Mapping[str, Any]:
    """Numbers of the channels that are empty, and of those identical to FLAIR."""
    channels = [
        read_picture(ImageFile(path, n), allow_constant=True)[0] for n in range(len(MODALITIES))
    ]
    flair = MODALITIES.index(FLAIR)
    same = [n for n, c in enumerate(channels) if n != flair and (c == channels[flair]).all()]
    empty = [n for n, c in enumerate(channels) if c.min() == c.max()]
    return {"empty": empty, "copies": same}


def _shows_tumor(mask: Path) -> bool:
    labels_IJK, _ = read_picture_labels(ImageFile(mask), (OUTSIDE, TUMOR))
    return bool((labels_IJK == TUMOR).any())
