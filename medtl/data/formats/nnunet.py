"""nnU-Net's raw data: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``, dataset.json."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medtl.data.formats.case_list import (
    ANNOTATED,
    TRAINING,
    Entry,
    Listing,
    annotated_regions,
    existing,
    is_nifti,
    stem,
    without_keys,
)
from medtl.data.formats.folders import Held, dicom_advice, held_in, may_be_image
from medtl.data.formats.label_names import channel_names, dataset_regions
from medtl.data.formats.masks import without_masks
from medtl.errors import DataError, shortened
from medtl.runtime.files import real_path

#: A name without its suffix: the case, and the number of the channel.
CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def read_nnunet(path: Path, content: Mapping[str, Any], ignored: Sequence[str] = ()) -> Listing:
    """The data set around a dataset.json of nnU-Net v1 or v2.

    Its key ``annotated``, ``{CASE: ["TC", "ET"]}``, names the regions that were looked for in a
    case; in cases that it does not name, all were.

    Args:
        ignored: keys to leave out, as ``--ignore-column`` names them.

    Raises:
        DataError: it names no channels or labels, or the files do not fit it.
    """
    folder, content = path.parent, without_keys(content, ignored)
    channels = channel_names(content.get("channel_names", content.get("modality")), path)
    regions = dataset_regions(content, path)
    if regions is None:
        raise DataError(f'{path}: names no labels; add "labels": {{"background": 0, ...}}')
    ending = str(content.get("file_ending", ".nii.gz"))
    if not re.fullmatch(r"\.nii(\.gz)?", ending, re.IGNORECASE):
        raise DataError(f"{path}: file_ending {ending!r} is not .nii.gz; convert the images first")
    if isinstance(content.get("dataset"), Mapping):
        listed = _listed(path, content["dataset"])
        notes = [*_unlisted(path, "imagesTr", listed), *_miscounted(path, content, listed)]
        named = _annotated(path, content, listed)
        return Listing(path, named, channels, regions, tuple(notes))
    notes = []
    entries = _entries(path, content, notes)
    if not entries:
        raise DataError(
            f"{folder}: no imagesTr/CASE_0000{ending} (nnU-Net), and {path.name} lists no "
            f'"training" (MSD){_other_format(folder)}'
        )
    trained = [entry for entry in entries if entry.part == TRAINING]
    notes += _miscounted(path, content, trained)
    expected = "{case}_{channel:04}" + ending
    every = _annotated(path, content, entries)
    return Listing(path, every, channels, regions, tuple(notes), expected=expected)


def _miscounted(path: Path, content: Mapping[str, Any], trained: Sequence[Entry]) -> list[str]:
    said = content.get("numTraining")
    if said in (None, len(trained)):
        return []
    return [f"{path.name} says {said} training cases; there are {len(trained)}"]


def _entries(path: Path, content: Mapping[str, Any], notes: list[str]) -> list[Entry]:
    """The cases for training and those for testing, as listed or as the folders hold them."""
    entries: list[Entry] = []
    for section, images, part in (
        ("training", "imagesTr", TRAINING),
        ("test", "imagesTs", "test"),
    ):
        listed, folder = content.get(section), path.parent / images
        if not isinstance(listed, list) or not listed:
            entries += _in_folder(folder, part, notes)
        elif part != TRAINING and not folder.is_dir():
            notes.append(f"no folder {images}: {len(listed)} listed {section} cases are left out")
        else:  # version 1
            own = _items(path, section, listed, part)
            notes += _unlisted(path, images, own)
            entries += own
    return entries


def _annotated(
    path: Path, content: Mapping[str, Any], entries: Sequence[Entry]
) -> tuple[Entry, ...]:
    """The entries with the regions that were looked for in each."""
    stated = content.get(ANNOTATED, {})
    if not isinstance(stated, Mapping):
        raise DataError(f'{path}: its "annotated" must map cases to regions, {{CASE: ["TC"]}}')
    lost = sorted(set(stated) - {entry.id for entry in entries})
    if lost:
        raise DataError(f'{path}: "annotated" names cases that are not there: {shortened(lost)}')
    found = {n: annotated_regions(named, f"{path}: {n}") for n, named in stated.items()}
    return tuple(replace(entry, annotated=found.get(entry.id, ())) for entry in entries)


def _unlisted(path: Path, images: str, own: Sequence[Entry]) -> list[str]:
    """A warning where ``images`` holds cases that the list leaves out."""
    folder = path.parent / images
    listed = {real_path(file) for entry in own for file in entry.files.values()}
    held = held_in(folder).files if folder.is_dir() else ()
    files = [folder / name for name in held if is_nifti(name)]
    others = [file for file in files if real_path(file) not in listed]
    names = {match["case"] if (match := _channel(file)) else stem(file) for file in others}
    which = f"warning: in {images} and not listed in {path.name}"
    return [f"{which}, left out: {shortened(sorted(names))}"] if names else []


def _in_folder(images: Path, part: str, notes: list[str]) -> list[Entry]:
    """The cases of ``imagesTr`` or ``imagesTs``, with their labels where there are any."""
    labels = images.with_name(images.name.replace("images", "labels"))
    cases = _grouped(images)
    targets = _by_stem(labels)
    lone = sorted(set(targets) - set(cases))
    if lone:
        notes.append(f"warning: {labels.name} without images, left out: {shortened(lone)}")
    return [
        Entry(name, files, str(images), targets.get(name), part=part)
        for name, files in cases.items()
    ]


def _items(path: Path, section: str, listed: Sequence[Any], part: str) -> list[Entry]:
    """The cases of version 1's list: each image's name without a channel, and its label."""
    held: dict[Path, dict[str, dict[int, Path]]] = {}
    entries = []
    for n, item in enumerate(listed):
        where = f"{path}: {section}[{n}]"
        named = {"image": item} if isinstance(item, str) else item
        image = named.get("image") if isinstance(named, Mapping) else None
        if not isinstance(image, str) or not image.strip():
            raise DataError(f'{where}: must be {{"image": ..., "label": ...}}')
        try:
            name, folder = stem(path.parent / image), (path.parent / image).parent
            if folder not in held:
                held[folder] = _grouped(folder)
        except (OSError, ValueError) as error:
            raise DataError(f"{where}: {image!r} is not the path of an image") from error
        if name not in held[folder]:
            lost = f"no {name}_0000.nii.gz in {folder}"
            raise DataError(f"{where}: {lost}; fetch it, or take it off the list")
        label = named.get("label")
        target = existing(path.parent, label, where) if label else None
        entries.append(Entry(name, held[folder][name], where, target, part=part))
    return entries


def _other_format(folder: Path) -> str:
    """What the images are, where they are not NIfTI or have no channel number."""
    images = folder / "imagesTr"
    names = held_in(images).files if images.is_dir() else []
    if not names:
        return ""
    if is_nifti(names[0]):
        return f"; {names[0]} lacks a channel number, as in {stem(images / names[0])}_0000.nii.gz"
    return f"; {names[0]} is not .nii.gz: {dicom_advice(images) or 'convert the images first'}"


def read_flat(folder: Path) -> Listing:
    """A folder of ``CASE_0000.nii.gz``, or of ``CASE.nii.gz`` with all channels: to predict."""
    held, notes = held_in(folder), []
    files = [name for name in held.files if is_nifti(name)]
    endings = sorted({name.lower().rpartition(".nii")[2] for name in files})
    if len(endings) > 1:
        raise DataError(f"{folder}: holds .nii and .nii.gz files; keep one of the two")
    if not files and (folder / "imagesTr").is_dir():
        raise DataError(
            f"{folder}: has imagesTr and no dataset.json, which names channels and labels; add it"
        )
    if not files:
        raise DataError(
            f"{folder}: no cases found; "
            + (
                dicom_advice(folder)
                or "understood: nnU-Net raw and MSD (dataset.json), a MONAI datalist (.json), a "
                "table (.csv), and to predict CASE_0000.nii.gz files"
            )
        )
    notes += _left_out(held)
    ending = f".nii{endings[0]}"
    cases = _grouped(folder)
    packed = [name for name in files if not _channel(folder / name)]
    if cases and packed:
        raise DataError(
            f"{folder / packed[0]}: lacks a channel number, as in CASE_0000{ending}, which other "
            "files of the folder have; rename it or move it away"
        )
    entries = [Entry(name, found, str(folder)) for name, found in cases.items()]
    for name in without_masks(packed, folder, notes):
        entries.append(Entry(stem(folder / name), {0: folder / name}, str(folder), packed=True))
    expected = "{case}_{channel:04}" + ending
    return Listing(folder, tuple(entries), notes=tuple(notes), expected=expected)


def _left_out(held: Held) -> list[str]:
    """Warns of files that may be images, and of subfolders with NIfTI files: they are not read."""
    others = [name for name in held.files if not is_nifti(name) and may_be_image(name)]
    within = {path.parent.name for path in held.path.glob("*/*") if is_nifti(path.name)}
    others += [f"{name}/" for name in held.folders if name in within]
    if not others:
        return []
    return [f"warning: {held.path}: only its own NIfTI files are read, not {shortened(others)}"]


def has_numbers(folder: Path, image: str) -> bool:
    """Whether one file per channel exists in place of the listed image (nnU-Net v1)."""
    try:
        path = folder / image
        return path.with_name(f"{stem(path)}_0000{path.name[len(stem(path)) :]}").is_file()
    except (OSError, ValueError):
        return False  # no path of a file; the list's reader says so


def _channel(path: Path) -> re.Match[str] | None:
    return CHANNEL.fullmatch(stem(path))


def _grouped(folder: Path) -> dict[str, dict[int, Path]]:
    """Case -> channel number -> file. DataError where one channel has two files."""
    cases: dict[str, dict[int, Path]] = {}
    for name in held_in(folder).files if folder.is_dir() else ():
        path = folder / name
        match = _channel(path) if is_nifti(name) else None
        if match:
            files = cases.setdefault(match["case"], {})
            other = files.setdefault(int(match["channel"]), path)
            if other != path:
                raise DataError(f"{path}: {other.name} is the same channel; keep one of them")
    return cases


def _by_stem(folder: Path) -> dict[str, Path]:
    """Case -> segmentation. DataError where one case has two."""
    found: dict[str, Path] = {}
    for name in held_in(folder).files if folder.is_dir() else ():
        if is_nifti(name):
            path = folder / name
            other = found.setdefault(stem(path), path)
            if other != path:
                raise DataError(f"{path}: {other.name} is of the same case; keep one of them")
    return found


def _listed(path: Path, dataset: Mapping[str, Any]) -> tuple[Entry, ...]:
    """nnU-Net's ``"dataset": {CASE: {"images": [...], "label": ...}}``."""
    entries = []
    for name, item in dataset.items():
        where = f"{path}: {name}"
        images = item.get("images") if isinstance(item, Mapping) else None
        if not isinstance(images, list) or not images:
            raise DataError(f'{where}: must be {{"images": [...], "label": ...}}')
        files = {n: existing(path.parent, text, where) for n, text in enumerate(images)}
        target = existing(path.parent, item["label"], where) if item.get("label") else None
        entries.append(Entry(name, files, where, target))
    return tuple(entries)
