"""All facts of a case; its files are read once, and not again while they are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from medtl.audit.facts.headers import one_grid, read_placement
from medtl.audit.facts.images import measure_image, without_broken
from medtl.audit.facts.labels import measure_labels
from medtl.audit.facts.model import LABEL, CaseFacts, ImageFacts, LabelFacts
from medtl.data.case import Case, ImageFile
from medtl.data.io.foreground import foreground
from medtl.data.io.geometry import to_canonical
from medtl.data.io.images import read_volume
from medtl.data.io.nifti import read_stored
from medtl.data.io.pictures import is_picture
from medtl.errors import DataError, ImpossibleSpacingError, TruncatedFileError, visible
from medtl.runtime.cache import remembered_of
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads

#: Part of the cache key; raise it whenever the facts change.
VERSION = "audit 17"


def measure_cases(cases: Sequence[Case], reporter: Reporter) -> list[CaseFacts]:
    """The facts of every case, in order."""
    # Threads of the linear algebra below would wait for each other.
    with threadpool_limits(1), reporter.progress("reading images", len(cases)) as advance:
        return in_threads(facts_of, cases, advance)


def facts_of(case: Case) -> CaseFacts:
    """The facts of a case, kept between audits. What cannot be read is among its problems."""
    target = _labels(case)
    files = [*case.images.values(), *([target] if target else [])]
    keys = [(file.path, file.channel) for file in files]
    names = ",".join([*case.images, LABEL if target else ""])
    content = remembered_of(f"{VERSION} {names}", keys, lambda: _measure(case).to_json())
    return CaseFacts.from_json(content)


def _labels(case: Case) -> ImageFile | None:
    return case.target or case.mask


@dataclass(frozen=True, slots=True)
class _Shown:
    """An image in canonical orientation, its facts, and what shows the patient in it."""

    facts: ImageFacts
    canonical_IJK: NDArray[np.float32]
    foreground_IJK: NDArray[np.bool_]


def _measure(case: Case) -> CaseFacts:
    problems: dict[str, tuple[str, str]] = {}
    images: dict[str, ImageFacts] = {}
    shown: list[_Shown] = []
    target = _labels(case)
    for name, file in case.images.items():
        try:
            placement = read_placement(file)
            array_IJK, affine = _read(file)
        except DataError as error:
            problems[name] = _problem(file, error)
            continue
        images[name], foreground_IJK = measure_image(array_IJK, affine, placement)
        if target is not None:
            shown.append(_shown(images[name], array_IJK, affine, foreground_IJK))
    label = None
    if target is not None:
        try:
            label = _measure_label(target, shown)
        except DataError as error:
            problems[LABEL] = _problem(target, error)
    return CaseFacts(images, label, problems)


def _shown(
    facts: ImageFacts,
    array_IJK: NDArray[np.float32],
    affine: NDArray[np.float64],
    foreground_IJK: NDArray[np.bool_] | None,
) -> _Shown:
    finite_IJK = without_broken(array_IJK) if facts.not_finite else array_IJK
    canonical_IJK, _, _ = to_canonical(finite_IJK, affine)
    if foreground_IJK is None:
        foreground_IJK = foreground(canonical_IJK)
    return _Shown(facts, canonical_IJK, foreground_IJK)


def _problem(file: ImageFile, error: DataError) -> tuple[str, str]:
    """The kind, and what is wrong without the file's name, as the cache keeps no names."""
    kind = "unreadable"
    if isinstance(error, TruncatedFileError):
        kind = "truncated"
    elif isinstance(error, ImpossibleSpacingError):
        kind = "units" if error.unit else "spacing"
    text = str(error)
    for name in (str(file.path), visible(str(file.path))):
        text = text.replace(name, "")
    return kind, text.removeprefix(": ")


def _read(file: ImageFile) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The voxels as stored, also those that are not finite."""
    if is_picture(file.path):
        return read_volume(file, allow_constant=True)
    array_IJK, affine = read_stored(file)
    with np.errstate(over="ignore"):
        return np.array(array_IJK, dtype=np.float32), affine


def _measure_label(file: ImageFile, shown: Sequence[_Shown]) -> LabelFacts:
    placement = read_placement(file)
    stored_IJK, affine = _read_labels(file)
    same = [one for one in shown if one_grid(one.facts.placement, placement)]
    masks = [one.foreground_IJK for one in same]
    shown_IJK = np.logical_or.reduce(masks) if masks else None
    images = [one.canonical_IJK for one in same]
    return measure_labels(stored_IJK, affine, placement, shown_IJK, images)


def _read_labels(file: ImageFile) -> tuple[NDArray[Any], NDArray[np.float64]]:
    if is_picture(file.path):
        return read_volume(file, allow_constant=True)
    return read_stored(file)
