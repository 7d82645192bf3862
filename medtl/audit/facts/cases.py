"""All facts of a case; its files are read once, and not again while they are the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from medtl.audit.facts.headers import read_placement
from medtl.audit.facts.images import measure_image
from medtl.audit.facts.labels import measure_labels
from medtl.audit.facts.model import CaseFacts, ImageFacts, LabelFacts, Placement
from medtl.data.case import Case, ImageFile
from medtl.data.io.foreground import foreground
from medtl.data.io.geometry import to_canonical
from medtl.data.io.images import read_volume
from medtl.data.io.nifti import read_stored
from medtl.data.io.pictures import is_picture
from medtl.errors import DataError, ImpossibleSpacingError, TruncatedFileError
from medtl.runtime.cache import remembered_of
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads

#: Part of the cache key; raise it whenever the facts change.
_FACT = "audit 11"

LABEL = "label"


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
    content = remembered_of(f"{_FACT} {names}", keys, lambda: _measure(case).to_json())
    return CaseFacts.from_json(content)


def _labels(case: Case) -> ImageFile | None:
    return case.target or case.mask


def _measure(case: Case) -> CaseFacts:
    problems: dict[str, tuple[str, str]] = {}
    images: dict[str, ImageFacts] = {}
    arrays: dict[str, NDArray[np.float32]] = {}
    affines: dict[str, NDArray[np.float64]] = {}
    for name, file in case.images.items():
        try:
            placement = read_placement(file)
            array_IJK, affine = _read(file)
        except DataError as error:
            problems[name] = _problem(file, error)
            continue
        images[name] = measure_image(array_IJK, affine, placement)
        arrays[name], affines[name] = array_IJK, affine
    label = None
    target = _labels(case)
    if target is not None:
        try:
            label = _measure_label(target, images, arrays, affines)
        except DataError as error:
            problems[LABEL] = _problem(target, error)
    contents = {name: one.content for name, one in images.items() if one.content}
    equal = tuple(
        (a, b)
        for n, a in enumerate(contents)
        for b in list(contents)[n + 1 :]
        if contents[a] == contents[b]
    )
    return CaseFacts(images, label, problems, equal)


def _problem(file: ImageFile, error: DataError) -> tuple[str, str]:
    """The kind, and what is wrong without the file's name, as the cache keeps no names."""
    kind = "unreadable"
    if isinstance(error, TruncatedFileError):
        kind = "truncated"
    elif isinstance(error, ImpossibleSpacingError):
        kind = "units" if error.unit else "spacing"
    return kind, str(error).replace(str(file.path), "").removeprefix(": ")


def _read(file: ImageFile) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The voxels as stored, also those that are not finite."""
    if is_picture(file.path):
        return read_volume(file, allow_constant=True)
    array_IJK, affine = read_stored(file)
    with np.errstate(over="ignore"):
        return np.array(array_IJK, dtype=np.float32), affine


def _measure_label(
    file: ImageFile,
    images: dict[str, ImageFacts],
    arrays: dict[str, NDArray[np.float32]],
    affines: dict[str, NDArray[np.float64]],
) -> LabelFacts:
    placement = read_placement(file)
    stored_IJK, affine = _read_labels(file)
    same = [name for name, one in images.items() if fits(one.placement, placement)]
    finite = {n: arrays[n] if not images[n].not_finite else np.nan_to_num(arrays[n]) for n in same}
    canonical = [to_canonical(finite[n], affines[n])[0] for n in same]
    shown_IJK = None
    for image_IJK in canonical:
        own = foreground(image_IJK)
        shown_IJK = own if shown_IJK is None else shown_IJK | own
    return measure_labels(stored_IJK, affine, placement, shown_IJK, canonical)


def _read_labels(file: ImageFile) -> tuple[NDArray[Any], NDArray[np.float64]]:
    if is_picture(file.path):
        return read_volume(file, allow_constant=True)
    return read_stored(file)


def fits(image: Placement, label: Placement) -> bool:
    """Whether the label map lies on the grid of the image, to half a voxel."""
    if image.shape != label.shape:
        return False
    one, other = (np.reshape(grid.affine, (4, 4)) for grid in (image, label))
    corner = np.array(image.shape, dtype=float) - 1
    ends = np.array([[0.0, 0.0, 0.0], corner])
    away = ends @ (one - other)[:3, :3].T + (one - other)[:3, 3]
    return bool(np.linalg.norm(away, axis=1).max() < 0.5 * min(image.spacing_mm))
