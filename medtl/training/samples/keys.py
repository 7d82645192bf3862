"""Keys of prepared cases: of all that preparation depends on, and of no path or time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import medtl
from medtl.data.case import Case
from medtl.data.content_hash import files_of
from medtl.data.modality import Modality
from medtl.transforms.preprocessor import Preprocessor

#: Raised when entries hold something else than before, though their code is the same.
ENTRY_VERSION = 2

#: medtl's code that reads and prepares a case, below the package.
_CODE = ("data/cohort.py", "data/io/*.py", "transforms/*.py", "training/samples/*.py")

#: Packages whose code does it.
_LIBRARIES = ("medtl", "numpy", "scipy", "torch", "monai", "nibabel", "pillow", "SimpleITK")


@dataclass(frozen=True, slots=True)
class Item:
    """A case, and the hashes of its files in the order of ``files_of``."""

    case: Case
    contents: tuple[str, ...]


def recipe_key(preprocessor: Preprocessor) -> str:
    """Changes with the preset but for its augmentation, with names and order of modalities and
    regions, and with the code that prepares a case."""
    plain = preprocessor.plain
    return _digest(ENTRY_VERSION, plain, plain.preset.version, code_version())


def case_key(item: Item, modalities: Sequence[Modality]) -> str:
    """Changes with any byte of the files that are used, with which of them is which modality, and
    with the label scheme; not with their paths."""
    case = item.case
    content = dict(zip(files_of(case), item.contents, strict=True))
    used = [(name, case.images[name]) for name in modalities if name in case.images]
    if case.target is not None:
        used.append((Modality("target"), case.target))
    files = [(name, file.channel, content[file]) for name, file in used]
    scheme = sorted(case.regions.items()), case.labels, case.ignored, case.unannotated
    return _digest(files, case.target is not None, *scheme)


@cache
def code_version() -> str:
    """Changes with the source files and the versions of the libraries that prepare a case."""
    root = Path(medtl.__file__).parent
    sources = [p.read_bytes() for pattern in _CODE for p in sorted(root.glob(pattern))]
    return _digest(medtl.__version__, [_version_of(name) for name in _LIBRARIES], sources)


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
