"""A folder per class of images, perhaps below ``Training`` and ``Testing``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medtl.data.formats.case_list import Entry, Listing, checked, is_nifti
from medtl.data.formats.folders import dicom_advice, walk
from medtl.data.formats.masks import without_masks
from medtl.data.formats.parts import TESTING, TRAINING, VALIDATION, kind_of, words_of
from medtl.data.io.pictures import is_picture
from medtl.errors import DataError, shortened

__all__ = ["Entry", "Listing", "read_class_folders"]

_UNDERSTOOD = (
    "understood: a folder per class, a MONAI datalist (.json), a table (.csv); images are .png, "
    ".jpg, .tif, .bmp and .nii.gz"
)


@dataclass(slots=True)
class _Found:
    """Names below the root, as parts of their paths: folders, images and other files."""

    folders: list[tuple[str, ...]] = field(default_factory=list)
    images: list[tuple[str, ...]] = field(default_factory=list)
    others: list[tuple[str, ...]] = field(default_factory=list)


def read_class_folders(root: Path) -> Listing:
    """A case per image, sorted by name, which is its path; without class folders it has no class.

    Links are followed. Masks beside the images they belong to are left out.

    Raises:
        DataError: no images, a class folder without one, images beside the class folders, a link
            that leads nowhere or twice to one folder, or a path that cannot name a case.
    """
    found = _find(root)
    if not found.images:
        raise DataError(f"{root}: no images found; {dicom_advice(root) or _UNDERSTOOD}")
    top = [names[0] for names in found.folders if len(names) == 1]
    parts = [name for name in top if kind_of(name) and _inner(found.folders, name)]
    depth = 2 if parts else 1 if top else 0
    _check_places(root, found, parts, depth)
    others = [names[-1] for names in found.others if not depth or len(names) > 1]
    notes = [f"no images, left out: {shortened(sorted(others))}"] if others else []
    kept = without_masks(["/".join(names) for names in found.images], root, notes)
    entries = tuple(_entry(root, tuple(name.split("/")), depth) for name in kept)
    if depth == 1:
        _check_classes(root, {entry.class_name for entry in entries})
    unlabelled = "holds no folder per class, so no image has one"
    return checked(Listing(root, entries, notes=tuple(notes), unlabelled=unlabelled))


def _find(root: Path) -> _Found:
    found = _Found()
    for held in walk(root):
        inside = held.path.relative_to(root).parts
        found.folders += [(*inside, name) for name in held.folders]
        for name in held.files:
            image = is_nifti(name) or is_picture(held.path / name)
            (found.images if image else found.others).append((*inside, name))
    return found


def _inner(folders: Iterable[tuple[str, ...]], top: str) -> list[str]:
    """The names of the folders in one of the top folders."""
    return [names[1] for names in folders if len(names) == 2 and names[0] == top]


def _check_places(root: Path, found: _Found, parts: Sequence[str], depth: int) -> None:
    """Every image lies in the folder of a class, and every class has one.

    Images of a part that has no class folders have no class.
    """
    for names in found.images:
        if parts and len(names) > 1 and names[0] not in parts and not kind_of(names[0]):
            raise DataError(
                f"{root / names[0]}: lies beside the parts {', '.join(parts)} and is none; call it "
                "train, validation or test, or move it away"
            )
        if len(names) <= depth and (len(names) < 2 or names[0] in parts):
            raise DataError(
                f"{root.joinpath(*names)}: lies beside the folders of classes; move it into one, "
                "or away"
            )
    held = {names[:n] for names in found.images for n in range(1, len(names))}
    for names in found.folders:
        if len(names) == depth and (not parts or names[0] in parts) and names not in held:
            folder = root.joinpath(*names)
            advice = dicom_advice(folder) or "remove the folder, or add its images"
            raise DataError(f"{folder}: holds no image; {advice}")


def _entry(root: Path, names: tuple[str, ...], depth: int) -> Entry:
    """The case of an image whose part, then class, the first ``depth`` folders name."""
    folders = names[:-1]
    part = kind_of(folders[0]) if depth == 2 else ""
    class_name = folders[depth - 1] if depth and len(folders) >= depth else ""
    if depth == 1:  # benign/train/x.png
        inner = [kind_of(name) for name in folders[1:] if len(words_of(name)) == 1]
        part = next(filter(None, inner), "")
    where = str(root.joinpath(*folders[:depth]))
    return Entry(
        "_".join(names),
        {0: root.joinpath(*names)},
        where,
        packed=True,
        part=part,
        class_name=class_name,
    )


def _check_classes(root: Path, names: Iterable[str]) -> None:
    """Refuse classes that are parts, such as ``train`` and ``test``, or ``train_benign``."""
    kinds = {name: kind_of(name) for name in sorted(names)}
    if all(kinds.values()) and len(set(kinds.values())) > 1:
        listed = ", ".join(f"{root.name}/{name}" for name in list(kinds)[:3])
        raise DataError(
            f"{root}: {listed} are parts, not classes; make a folder per class in each, as in "
            f"{TRAINING}/CLASS, {VALIDATION}/CLASS and {TESTING}/CLASS"
        )
