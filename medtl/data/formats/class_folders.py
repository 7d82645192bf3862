"""A folder per class of images, perhaps below ``Training`` and ``Testing``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from medtl.data.formats.case_list import TRAINING, Entry, Listing, checked, is_nifti
from medtl.data.io.pictures import is_picture
from medtl.errors import DataError, shortened

__all__ = ["Entry", "Listing", "read_class_folders"]


_PARTS = {"train": TRAINING, "test": "testing", "val": "validation"}


_PART = re.compile(r"(train|test|val)(ing|idation)?([ _.-].*)?", re.IGNORECASE)


def read_class_folders(root: Path) -> Listing:
    """A case per image, sorted by name, which is its path; without class folders it has no class.

    Raises:
        DataError: no images, a class folder without one, or a path that cannot name a case.
    """
    parts = [folder for folder in _folders(root) if _PART.fullmatch(folder.name)]
    parts = [folder for folder in parts if _folders(folder)]
    entries: list[Entry] = []
    others: list[str] = []
    for top, part in [(p, _part(p.name)) for p in parts] or [(root, "")]:
        for folder in _folders(top):
            images = list(_entries(root, folder, part, folder.name, others))
            if not images:
                raise DataError(f"{folder}: holds no image; remove the folder, or add its images")
            entries += images
    if not entries:  # to predict
        entries = list(_entries(root, root, "", "", others))
    if not entries:
        raise DataError(
            f"{root}: no images found; understood: a folder per class, a MONAI datalist (.json), a "
            "table (.csv); images are .png, .jpg, .tif, .bmp and .nii.gz"
        )
    notes = [f"no images, left out: {shortened(sorted(others))}"] if others else []
    unlabelled = "holds no folder per class, so no image has one"
    return checked(Listing(root, tuple(entries), notes=tuple(notes), unlabelled=unlabelled))


def _entries(
    root: Path, folder: Path, part: str, class_name: str, others: list[str]
) -> Iterator[Entry]:
    """The images below a folder; the names of other files go to ``others``."""
    for path in sorted(folder.rglob("*") if class_name else folder.glob("*")):
        inside = path.relative_to(root).parts
        if any(name.startswith(".") for name in inside) or not path.is_file():
            continue
        if is_nifti(path.name) or is_picture(path):
            name = "_".join(inside)
            yield Entry(name, {0: path}, str(folder), packed=True, part=part, class_name=class_name)
        else:
            others.append(path.name)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _part(name: str) -> str:
    match = _PART.fullmatch(name)
    assert match is not None  # the caller chose these folders by this pattern
    return _PARTS[match[1].lower()]
