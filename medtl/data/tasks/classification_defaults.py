"""The fingerprint of images with classes, and the settings chosen from it, each with its reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from medtl.data.case import Case
from medtl.data.io.images import read_header
from medtl.data.io.pictures import picture_facts
from medtl.data.modality import Modality
from medtl.data.task import Advice, Defaults
from medtl.data.tasks.fingerprint import measure_fingerprint
from medtl.data.tasks.segmentation_defaults import (
    VOXELS,
    choose_patch,
    choose_preset,
    choose_spacing,
    describe,
)
from medtl.data.voxel_size import Spacing
from medtl.errors import DataError
from medtl.runtime.cache import remembered

#: Longest edge of the pictures a network sees, unless the user says otherwise.
EDGE = 128


MULTIPLE = 32  #: of the edges


#: Pixels of a training step.
PIXELS = 32 * EDGE * EDGE


MOST_IMAGES = 32


FEWEST_IMAGES = 4


#: A step shows at most this share of the training cases.
STEP_SHARE = 1 / 8


_NETWORK = "residual network for whole images; see `medtl list networks`"


_LOSS = "every image is of one class"


def class_defaults(domain: str, transforms: str = "picture") -> Defaults:
    """Settings for pictures of one class each."""
    return Defaults(
        src=domain,
        dst=domain,
        network="resnet18",
        transforms=transforms,
        patch_size=(EDGE, EDGE),
        batch_size=MOST_IMAGES,
        rate=1e-3,
        steps=2000,
        passes=40,
        strategy="scratch",
        loss="cross-entropy",
    )


def picture_advice(
    cases: Sequence[Case],
    modalities: Sequence[Modality],
    defaults: Defaults,
    _spacing_mm: Spacing | None = None,
    given_size: Sequence[int] | None = None,
    counted: str = "patients",
) -> Advice:
    """Size, batch and preset for pictures, from the headers of all training ``cases``.

    ``counted``: what the cases' patients are.
    """
    shapes = [read_header(case.images[modalities[0]]).shape for case in cases]
    rows, columns = (median(shape[axis] for shape in shapes) for axis in (0, 1))
    size, why_size = choose_size(rows, columns)
    batch, why_batch = choose_batch(len(cases), math.prod(given_size or size), PIXELS)
    modes = Counter(str(facts_of(case.images[modalities[0]].path)["mode"]) for case in cases)
    return Advice(
        replace(defaults, patch_size=size, batch_size=batch),
        tuple(
            [
                *class_facts(cases, counted),
                ("median size", f"{rows:g}x{columns:g} pixels (rows x columns)"),
                ("smallest, largest", f"{_shown(min(shapes))}, {_shown(max(shapes))}"),
                ("stored as", ", ".join(f"{mode} ({n})" for mode, n in modes.most_common())),
                ("channels", ", ".join(modalities)),
            ]
        ),
        {
            "patch_size": why_size,
            "batch_size": why_batch,
            "network": _NETWORK,
            "transforms": "pictures whole, z-scored one by one; no millimetres are known",
            "loss": _LOSS,
            "steps": f"at most {defaults.passes} passes over the training cases",
        },
        {},
    )


def check_every_class(cases: Sequence[Case], classes: Sequence[str], source: Path) -> None:
    """Raises DataError where a class has no training case."""
    present = {case.class_name for case in cases}
    for name in classes:
        if name not in present:
            raise DataError(
                f"{source}: no training case is of class {name}; add cases, drop the class, or "
                "choose other --test-cases or --seed"
            )


def _shown(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape[:2]))


def choose_size(rows: float, columns: float) -> tuple[tuple[int, int], str]:
    """The shape of the median picture, its longest edge ``EDGE`` or less, and why."""
    scale = min(1.0, EDGE / max(rows, columns))
    scaled = rows * scale, columns * scale
    size = _edge(scaled[0]), _edge(scaled[1])
    why = "the median picture's" + ("" if scale == 1 else f", {EDGE} along its longest edge")
    rounded = "" if size == scaled else f", rounded to multiples of {MULTIPLE}"
    others = "others are" if size == (rows, columns) else "each is"
    return size, f"{why}{rounded}; {others} scaled to fit, aspect kept"


def _edge(pixels: float) -> int:
    return MULTIPLE * max(2, math.ceil(pixels / MULTIPLE - 0.1))


def choose_batch(cases: int, voxels: int, affordable: int) -> tuple[int, str]:
    """As many images as a step can afford, and few enough for many steps per pass."""
    batch = min(MOST_IMAGES, affordable // voxels, math.ceil(cases * STEP_SHARE))
    if batch <= FEWEST_IMAGES:
        return FEWEST_IMAGES, "the fewest that batch norm can do with"
    if batch == math.ceil(cases * STEP_SHARE):
        return batch, f"an eighth of the {cases} training cases"
    return (
        batch,
        f"as many as fit into {affordable / 1e6:.1f} million voxels, {MOST_IMAGES} at most",
    )


def volume_advice(
    cases: Sequence[Case],
    modalities: Sequence[Modality],
    defaults: Defaults,
    given_mm: Spacing | None = None,
    given_patch: Sequence[int] | None = None,
) -> Advice:
    """Spacing, size, batch and preset for volumes: as for segmentation, but for several
    whole images in a step."""
    fingerprint = measure_fingerprint(cases, modalities, ())
    affordable = VOXELS // FEWEST_IMAGES
    spacing_mm, why_spacing = choose_spacing(fingerprint, affordable)
    patch, why_patch = choose_patch(fingerprint, given_mm or spacing_mm, affordable)
    batch, why_batch = choose_batch(len(cases), math.prod(given_patch or patch), VOXELS)
    preset, why_preset = choose_preset(fingerprint, modalities, ())
    return Advice(
        replace(
            defaults, transforms=preset, spacing_mm=spacing_mm, patch_size=patch, batch_size=batch
        ),
        (*class_facts(cases), *describe(fingerprint)),
        {
            "spacing_mm": why_spacing,
            "patch_size": why_patch,
            "batch_size": why_batch,
            "network": _NETWORK,
            "transforms": why_preset,
            "loss": _LOSS,
            "steps": f"at most {defaults.passes} passes over the training cases",
        },
        {},
    )


def facts_of(path: Path) -> dict[str, Any]:
    """What ``picture_facts`` says, remembered between runs."""
    return dict(remembered("picture facts 2", path, None, lambda: picture_facts(path)))


def class_facts(cases: Sequence[Case], counted: str = "patients") -> Iterator[tuple[str, str]]:
    """Rows of the printed fingerprint: training cases, and patients (or what is ``counted`` for
    them), of each class."""
    counts = Counter(case.class_name for case in cases)
    for name in sorted(counts):
        patients = {case.patient for case in cases if case.class_name == name}
        of = "" if len(patients) == counts[name] else f" of {len(patients)} {counted}"
        share = f"{counts[name] / len(cases):.0%}"
        yield f"class {name}", f"{counts[name]} training cases{of} ({share})"
