"""Which layout a folder or a file has, and its listing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medtl.data.formats.bids import is_bids, read_bids
from medtl.data.formats.case_list import Listing, check_list, list_in, read_object
from medtl.data.formats.datalist import read_datalist
from medtl.data.formats.nnunet import has_numbers, read_flat, read_nnunet
from medtl.data.formats.table import read_table
from medtl.data.phantom import INDEX, read_index
from medtl.errors import DataError


def read_listing(root: Path, ignored: Sequence[str] = ()) -> Listing:
    """Whatever layout ``root`` has: a folder, or the .json or .csv file itself.

    ``ignored``: columns of a table, or keys of a list, to leave out.
    """
    if is_bids(root):
        return replace(read_bids(root, ignored=ignored), synthetic=_is_synthetic(root))
    path: Path | None = root
    if root.is_dir():
        named = root / "dataset.json"
        path = named if named.is_file() else list_in(root, (INDEX, "splits_final.json"))
    if path is None:
        return read_flat(root)
    check_list(path)
    synthetic = _is_synthetic(path.parent)
    if path.suffix.lower() == ".csv":
        return replace(read_table(path, ignored=ignored), synthetic=synthetic)
    content = read_object(path)
    synthetic = synthetic or content.get("synthetic") is True
    return replace(_read_json(path, content, ignored), synthetic=synthetic)


def _is_synthetic(folder: Path) -> bool:
    return bool(read_index(folder).get("synthetic"))


def _read_json(path: Path, content: Mapping[str, Any], ignored: Sequence[str]) -> Listing:
    training = content.get("training")
    numbered = any(_is_numbered(path, item) for item in _listed(training))
    if path.name == "dataset.json" and (not training or numbered):
        return read_nnunet(path, content, ignored)
    listing = read_datalist(path, content, ignored=ignored)
    if path.name == "dataset.json" and (not listing.regions or not listing.channels):
        missing = "modality" if listing.regions else "labels"
        raise DataError(f'{path}: has no "{missing}", which says what is in the images')
    return listing


def _listed(training: Any) -> list[Any]:
    return training if isinstance(training, list) else []


def _is_numbered(path: Path, item: Any) -> bool:
    """Whether an item of a list names an image without its channel, as version 1 of nnU-Net."""
    image = item.get("image") if isinstance(item, Mapping) else None
    return isinstance(image, str) and has_numbers(path.parent, image)
