"""Which case, contrast and patient the name of a file says, whatever the layout.

Only names are looked at. It is what an audit goes by where no task reads the folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medtl.data.formats.case_list import is_nifti
from medtl.data.formats.masks import image_of, says_mask, stem_of
from medtl.data.formats.nnunet import CHANNEL
from medtl.data.formats.parts import kind_of, words_of
from medtl.data.modality import ALIASES, CANONICAL, Modality

#: Of an image whose name says no contrast.
IMAGE = Modality("image")

_CONTRASTS = {**ALIASES, **{name: name for name in (*CANONICAL, "ct", "pet", "pd", "adc", "dwi")}}

#: Words that say nothing of a case.
_EMPTY = frozenset(("raw", "native", "scan", "image", "images", "img", "subtrmeandivstd"))

_MASKS = frozenset(("seg", "mask", "label", "labels", "segmentation", "gt", "otmulticlass", "roi"))

#: Files that show where the brain is.
BRAIN_MASK = re.compile(r"(.*[ _.-])?brain[ _.-]?mask", re.IGNORECASE)

#: Folders that hold the images, or the labels, of every case.
_HOLDERS = re.compile(r"(images?|labels?|masks?)(tr|ts|val)?", re.IGNORECASE)

#: The time of a scan.
_TIMES = frozenset(("pre", "post", "baseline", "followup", "before", "after"))

#: Folders where nnU-Net's numbers are channels: elsewhere they may count the patients.
_NUMBERED = re.compile(r"images(tr|ts|val)", re.IGNORECASE)

_TCGA = re.compile(r"TCGA[-_](?P<site>[A-Z0-9]{2})[-_](?P<subject>[A-Z0-9]{4})", re.IGNORECASE)

_SPLIT = re.compile(r"[ _.-]+")


@dataclass(frozen=True, slots=True)
class Name:
    """What the path of an image says. ``key`` is equal for all files of a case."""

    key: tuple[str, str]
    id: str
    patient: str
    site: str
    part: str
    modality: Modality
    channel: str  #: as nnU-Net numbers it
    mask: bool


def read_name(relative: Path) -> Name:
    """What a path below the root says.

    >>> from pathlib import Path
    >>> name = read_name(Path("02/Pre_Scan_T1.nii.gz"))
    >>> name.id, name.patient, name.modality, name.mask
    ('02_Pre', '02', 't1', False)
    >>> read_name(Path("labelsTr/hippocampus_001.nii.gz")).key
    ('', 'hippocampus_001')
    """
    stem, folders = stem_of(relative.name), relative.parts[:-1]
    channels = any(map(_NUMBERED.fullmatch, folders))
    number = CHANNEL.fullmatch(stem) if channels else None
    if number:
        stem = number["case"]
    volume = is_nifti(relative.name)
    words = _SPLIT.split(stem) if volume else []
    contrast, mask = IMAGE, says_mask(stem) or any(map(_holds_masks, folders))
    kept = [] if volume else [stem]
    for place, word in enumerate(words):
        lower = word.lower()
        if lower in _CONTRASTS and place >= len(words) - 2:
            contrast = Modality(_CONTRASTS[lower])
        elif lower in _MASKS:
            mask = True
        elif lower not in _EMPTY:
            kept.append(word)
    own = [name for name in folders if not _HOLDERS.fullmatch(name)]
    rest = "_".join(kept)
    rest = image_of(rest) or rest
    time = len(kept) == 1 and rest.lower() in _TIMES
    names = [own[-1]] if own and (not rest or time) else []
    case = "_".join([*names, rest] if rest else names) or stem
    tcga = _TCGA.search(str(relative))
    return Name(
        key=("/".join(own), rest),
        id=case,
        patient=f"TCGA_{tcga['site']}_{tcga['subject']}".upper() if tcga else (*names, case)[0],
        site=tcga["site"].upper() if tcga else "",
        part=next(filter(None, map(kind_of, folders)), ""),
        modality=contrast,
        channel=number["channel"] if number else "",
        mask=mask,
    )


def _holds_masks(folder: str) -> bool:
    return bool(re.fullmatch(r"(labels?|masks?|segmentations?)(tr|ts|val)?", folder, re.IGNORECASE))


def numbered(id: str) -> tuple[str, int] | None:
    """The name and the last number in it, by which slices are neighbours: ``p (130)``."""
    found = re.fullmatch(r"(.*?)(\d+)\D*", id)
    return (found[1], int(found[2])) if found else None


def classes_of(paths: Iterable[Path]) -> dict[Path, str]:
    """The class of each picture: its folder's name, where two folders or more hold pictures.

    A folder that says a part, such as ``Testing``, is no class.
    """
    folders = {path: path.parent.name for path in paths}
    names = {name for name in folders.values() if name and not _is_part(name)}
    if len(names) < 2:
        return dict.fromkeys(folders, "")
    return {path: "" if _is_part(name) else name for path, name in folders.items()}


def _is_part(name: str) -> bool:
    return bool(kind_of(name)) and len(words_of(name)) == 1
