"""Masks that lie beside the images they belong to: they are no images of a class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from medtl.data.formats.parts import words_of
from medtl.errors import DataError, shortened

_WORD = "masks?|segs?|segm|segmentations?|segmented|labels?|gt|ground[ _-]?truth|roi|annotations?"
_AFTER = re.compile(rf"(?P<image>.+?)[ _.-]+({_WORD})([ _-]?\(?\d+\)?)?", re.IGNORECASE)
_BEFORE = re.compile(rf"({_WORD})[ _.-]+(?P<image>.+)", re.IGNORECASE)
_SUFFIX = re.compile(r"\.(nii(\.gz)?|[a-z]+)$", re.IGNORECASE)
_MASK_WORDS = frozenset(
    ("mask", "masks", "seg", "segs", "segm", "segmentation", "segmentations", "label", "labels",
     "gt", "groundtruth", "roi", "annotation", "annotations")
)  # fmt: skip


def stem_of(name: str) -> str:
    """A file's name without the suffix of an image."""
    return _SUFFIX.sub("", name)


def says_mask(name: str) -> bool:
    """Whether the words of a name, such as ``tumour_mask``, say a mask."""
    words = words_of(name)
    return bool(_MASK_WORDS & set(words)) or "ground truth" in " ".join(words)


def without_masks(names: Sequence[str], root: Path, notes: list[str]) -> list[str]:
    """The paths below ``root`` of images that are not masks of others; ``notes`` say which are.

    A mask is called ``X_mask``, ``X_seg``, ``mask_X`` and so on beside ``X``, or lies as ``X`` in a
    folder of masks where an ``X`` lies elsewhere.

    Raises:
        DataError: where others are masks, one has no image.
    """
    stems = {stem_of(name).casefold() for name in names}
    anywhere = {_last(stem) for stem in stems if not _in_mask_folder(stem)}
    masks = [name for name in names if _is_mask(stem_of(name).casefold(), stems, anywhere)]
    if not masks:
        return list(names)
    kept = sorted(set(names) - set(masks))
    lone = [name for name in kept if image_of(_last(stem_of(name)))]
    if lone:
        raise DataError(
            f"{root / lone[0]}: is called a mask, and has no image beside it; fetch the image, or "
            "remove the mask"
        )
    count = f"{len(masks)} mask{'s' if len(masks) > 1 else ''}"
    notes.append(f"warning: {count} of images, no images themselves, left out: {shortened(masks)}")
    return kept


def _is_mask(stem: str, stems: Iterable[str], anywhere: Iterable[str]) -> bool:
    folder, slash, last = stem.rpartition("/")
    for pattern in (_AFTER, _BEFORE):
        match = pattern.fullmatch(last)
        if match and folder + slash + match["image"] in stems:
            return True
    if not _in_mask_folder(stem):
        return False
    match = _AFTER.fullmatch(last)
    return last in anywhere or bool(match and match["image"] in anywhere)


def image_of(last: str) -> str:
    """What a mask's name, such as ``X_mask`` or ``mask_X``, calls its image; "" for no mask's."""
    match = _AFTER.fullmatch(last) or _BEFORE.fullmatch(last)
    return match["image"] if match else ""


def _in_mask_folder(stem: str) -> bool:
    return any(set(words_of(part)) <= _MASK_WORDS and words_of(part) for part in _folders(stem))


def _folders(stem: str) -> list[str]:
    return stem.split("/")[:-1]


def _last(stem: str) -> str:
    return stem.rpartition("/")[2]
