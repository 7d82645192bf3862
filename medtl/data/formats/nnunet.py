"""nnU-Net's raw data: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``, dataset.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtl.data.formats.case_list import TRAINING, Entry, Listing, existing, is_nifti, stem
from medtl.data.formats.label_names import channel_names, dataset_regions
from medtl.errors import DataError, shortened

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def read_nnunet(path: Path, content: Mapping[str, Any]) -> Listing:
    """The data set around a dataset.json of nnU-Net v1 or v2.

    Raises:
        DataError: it names no channels or labels, or the files do not fit it.
    """
    folder = path.parent
    channels = channel_names(content.get("channel_names", content.get("modality")), path)
    regions = dataset_regions(content, path)
    if regions is None:
        raise DataError(f'{path}: names no labels; add "labels": {{"background": 0, ...}}')
    ending = str(content.get("file_ending", ".nii.gz"))
    if not is_nifti(ending):
        raise DataError(f"{path}: file_ending {ending!r} is not .nii.gz; convert the images first")
    if isinstance(content.get("dataset"), Mapping):
        return Listing(path, _listed(path, content["dataset"]), channels, regions)
    entries, notes = [], []
    for images, part in (("imagesTr", TRAINING), ("imagesTs", "test")):
        labels = folder / images.replace("images", "labels")
        cases = _grouped(folder / images, ending)
        targets = {n: labels / f"{n}{ending}" for n in cases if (labels / f"{n}{ending}").is_file()}
        entries += [
            Entry(name, files, str(folder / images), targets.get(name), part=part)
            for name, files in cases.items()
        ]
        lone = sorted({stem(p) for p in labels.glob(f"*{ending}") if _shown(p)} - set(cases))
        if lone:
            notes.append(f"{labels.name} without images, left out: {shortened(lone)}")
    trained = [entry for entry in entries if entry.part == TRAINING]
    if not entries:
        raise DataError(
            f"{folder}: no imagesTr/CASE_0000{ending} (nnU-Net), and {path.name} lists no "
            '"training" (MSD)'
        )
    if content.get("numTraining") not in (None, len(trained)):
        notes.append(
            f"{path.name} says {content['numTraining']} training cases; imagesTr holds "
            f"{len(trained)}"
        )
    expected = "{case}_{channel:04}" + ending
    return Listing(path, tuple(entries), channels, regions, tuple(notes), expected=expected)


def read_flat(folder: Path) -> Listing:
    """A folder of ``CASE_0000.nii.gz``, or of ``CASE.nii.gz`` with all channels: to predict."""
    endings = [e for e in (".nii.gz", ".nii") if any(map(_shown, folder.glob(f"*{e}")))]
    if len(endings) > 1:
        raise DataError(f"{folder}: holds .nii and .nii.gz files; keep one of the two")
    if not endings:
        raise DataError(
            f"{folder}: no cases found; understood: nnU-Net raw and MSD (dataset.json), a MONAI "
            "datalist (.json), a table (.csv), and to predict CASE_0000.nii.gz files"
        )
    ending = endings[0]
    cases = _grouped(folder, ending)
    packed = [p for p in sorted(folder.glob(f"*{ending}")) if _shown(p) and not _channel(p)]
    if cases and packed:
        raise DataError(f"{packed[0]}: lacks a channel number, as in CASE_0000{ending}")
    entries = [Entry(name, files, str(folder)) for name, files in cases.items()]
    entries += [Entry(stem(p), {0: p}, str(folder), packed=True) for p in packed]
    expected = "{case}_{channel:04}" + ending
    return Listing(folder, tuple(entries), expected=expected)


def has_numbers(path: Path) -> bool:
    """Whether one file per channel exists in place of the listed ``path`` (nnU-Net v1)."""
    return path.with_name(f"{stem(path)}_0000{path.name[len(stem(path)) :]}").is_file()


def _channel(path: Path) -> re.Match[str] | None:
    return _CHANNEL.fullmatch(stem(path))


def _shown(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_file()


def _grouped(folder: Path, ending: str) -> dict[str, dict[int, Path]]:
    """Case -> channel number -> file."""
    cases: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob(f"*{ending}")):
        match = _channel(path)
        if match and _shown(path):
            cases.setdefault(match["case"], {})[int(match["channel"])] = path
    return cases


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
