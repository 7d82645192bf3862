"""Which layout a folder or a file has, and its listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medtl.data.formats.case_list import Listing, check_list, list_in, read_object
from medtl.data.formats.datalist import read_datalist
from medtl.data.formats.nnunet import has_numbers, read_flat, read_nnunet
from medtl.data.formats.table import read_table
from medtl.data.phantom import INDEX, read_index
from medtl.errors import DataError


def read_listing(root: Path) -> Listing:
    """Whatever layout ``root`` has: a folder, or the .json or .csv file itself."""
    path: Path | None = root
    if root.is_dir():
        named = root / "dataset.json"
        path = named if named.is_file() else list_in(root, (INDEX, "splits_final.json"))
    if path is None:
        return read_flat(root)
    check_list(path)
    synthetic = bool(read_index(path.parent).get("synthetic"))
    if path.suffix.lower() == ".csv":
        return replace(read_table(path), synthetic=synthetic)
    content = read_object(path)
    synthetic = synthetic or content.get("synthetic") is True
    return replace(_read_json(path, content), synthetic=synthetic)


def _read_json(path: Path, content: Mapping[str, Any]) -> Listing:
    training = content.get("training")
    first = training[0] if isinstance(training, list) and training else {}
    image = first.get("image") if isinstance(first, Mapping) else None
    numbered = isinstance(image, str) and has_numbers(path.parent / image)
    if path.name == "dataset.json" and (not training or numbered):
        return read_nnunet(path, content)
    listing = read_datalist(path, content)
    if path.name == "dataset.json" and (not listing.regions or not listing.channels):
        missing = "modality" if listing.regions else "labels"
        raise DataError(f'{path}: has no "{missing}", which says what is in the images')
    return listing
