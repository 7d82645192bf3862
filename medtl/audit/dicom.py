"""Studies in DICOM: their images as cases, and what their headers tell.

Findings name studies and series by made-up names and descriptions, never a patient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from medtl.audit.findings import Finding
from medtl.data.case import Cohort
from medtl.data.convert import studies_as_cases
from medtl.data.dicom.series import Series, find_series
from medtl.data.dicom.stacks import Stack
from medtl.data.dicom.study import made_up, uid_of
from medtl.errors import DataError

#: A gap between slices, as a share of their thickness.
GAP = 0.05

#: Cosine between an axis of the grid and the nearest axis of the body, below which it is oblique.
STRAIGHT = 0.9999

#: Slopes and intercepts of series that are equal.
SAME = 1e-6


def read_dicom(root: Path) -> tuple[Cohort | None, list[Finding]]:
    """The studies below a folder as cases, each image on its own grid, and findings of headers.

    Raises:
        DataError: the folder holds no DICOM.
    """
    found = find_series(root)
    findings = [Finding("unreadable", (), text) for text in found.unread]
    studies: dict[str, list[Series]] = defaultdict(list)
    for series in found.series:
        name = made_up("study", uid_of(series))
        studies[name].append(series)
        findings += _of_series(name, series)
    for name, own in studies.items():
        findings += _of_study(name, own)
    try:
        done, cohort = studies_as_cases(root, own_grids=True)
    except DataError as error:
        return None, [*findings, Finding("layout", (), str(error))]
    findings += [Finding("layout", (name,), why) for name, why in done.failed.items()]
    return done.placed(cohort), findings


def _of_series(study: str, series: Series) -> Iterator[Finding]:
    if series.is_segmentation:
        return
    said = series.description
    if series.problem:
        yield Finding("set-aside", (study,), f"{said}: {series.problem}")
    for stack in series.stacks:
        yield from _of_stack(study, said, stack)


def _of_stack(study: str, said: str, stack: Stack) -> Iterator[Finding]:
    thickness_mm, apart_mm = stack.frames[0].thickness_mm, stack.spacing_mm[2]
    if thickness_mm and apart_mm > (1 + GAP) * thickness_mm:
        seen = f"{said}: slices of {thickness_mm:g} mm every {apart_mm:g} mm"
        yield Finding("gap-between-slices", (study,), seen, (), apart_mm / thickness_mm)
    directions = stack.affine[:3, :3] / np.linalg.norm(stack.affine[:3, :3], axis=0)
    cosine = float(np.abs(directions).max(axis=0).min())
    if cosine < STRAIGHT:
        angle = float(np.degrees(np.arccos(min(cosine, 1.0))))
        seen = f"{said}: turned by {angle:.2g} degrees against the axes of the body"
        yield Finding("oblique", (study,), seen, (), angle)
    if stack.doubled:
        yield Finding("doubled-slices", (study,), f"{said}: {stack.doubled} lie there twice")


def _of_study(study: str, own: Sequence[Series]) -> Iterator[Finding]:
    shown = [series for series in own if series.stacks]
    scales = {
        (round(frame.slope / SAME), round(frame.intercept / SAME))
        for series in shown
        for frame in series.frames
    }
    if len(scales) > 1:
        seen = f"{len(scales)} scales (slope and intercept) in {len(shown)} series"
        yield Finding("rescaled", (study,), seen)
    stated = [series for series in shown if any(frame.scaled for frame in series.frames)]
    if stated and len(stated) < len(shown):
        seen = f"{len(stated)} of {len(shown)} series state slope and intercept, the others none"
        yield Finding("rescaled", (study,), seen)
    shapes: dict[tuple[int, int], list[Series]] = defaultdict(list)
    for series in shown:
        for stack in series.stacks:
            shapes[stack.shape[0], stack.shape[1]].append(series)
    if len(shapes) > 1:
        usual = max(shapes, key=lambda shape: len(shapes[shape]))
        for shape, cropped in shapes.items():
            if shape != usual:
                listed = ", ".join(series.description for series in cropped)
                files = tuple(series.frames[0].file.path for series in cropped)
                a, b = ("x".join(map(str, one)) for one in (shape, usual))
                yield Finding(
                    "cropped-series", (study,), f"{listed}: {a} pixels, others {b}", files
                )
