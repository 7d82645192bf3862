"""Headers, grids, and slices that cannot be right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from medtl.audit.checks.measured import FEWEST, Measured, each_image, usual
from medtl.audit.facts.headers import one_grid
from medtl.audit.facts.model import LABEL, ImageFacts, Placement
from medtl.audit.findings import Finding

#: Voxels of shorter or longer edges (mm), and images of longer ones, show no patient.
SPACING_MM, MOST_MM = (0.05, 20.0), 900.0

#: Corners that sform and qform give, in voxels.
APART = 0.5

#: Voxels that are said to be cubes: the most that their edges differ.
CUBE = 1.2

#: Change from slice to slice, relative to that within slices, that cubes do not have; and that
#: they do not have where there are so few slices, relative to the other edges.
MOST_CHANGE, MOST_OF_FEW, FEW = 1.7, 1.4, 0.25

#: Edges, in voxels, that tell how an image changes.
FEWEST_VOXELS = 8

#: A spacing that differs by this factor from the usual one.
OTHER_SPACING = 1.25

#: Largest change between neighbouring slices, relative to the second largest of those around, as a
#: mean over the images of a case: the least that counts, and that of few cases; or, if that is
#: more, TIMES the change that a share of MOST cases stay below.
LEAST_JUMP, JUMP_OF_FEW, TIMES, MOST = 1.5, 2.25, 1.4, 0.8

#: Slices that repeat the first or the last one.
REPEATED = 2


def check_geometry(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """Placement of images and labels, and their slices."""
    codes = usual([facts.placement.codes for _, _, facts in each_image(cohort) if not facts.flat])
    spacing = usual(
        [_rounded(facts.placement) for _, _, facts in each_image(cohort) if not facts.flat]
    )
    for one, name, facts in each_image(cohort):
        if not facts.flat:
            yield from _header(one, name, facts.placement)
            yield from _against_usual(one, name, facts.placement, codes, spacing)
            yield from _slices(one, name, facts)
    for one in cohort:
        yield from _grids(one)
    yield from _jumps(cohort)


def _header(one: Measured, name: str, grid: Placement) -> Iterator[Finding]:
    if grid.apart > APART:
        seen = f"{name}: their corners lie up to {grid.apart:.3g} voxels apart"
        yield one.found("sform-qform", seen, name, score=grid.apart)
    if not grid.placed:
        yield one.found("lost-geometry", f"{name}: neither sform nor qform is set", name)
    if grid.unit not in ("", "mm"):
        yield one.found("units", f"{name}: lengths in {grid.unit}", name)
    extent = max(n * mm for n, mm in zip(grid.shape, grid.spacing_mm, strict=True))
    low, high = SPACING_MM
    if min(grid.spacing_mm) < low or max(grid.spacing_mm) > high or extent > MOST_MM:
        edges = " x ".join(f"{mm:g}" for mm in grid.spacing_mm)
        seen = f"{name}: voxels of {edges} mm, {extent:.0f} mm along the longest edge"
        yield one.found("spacing", seen, name)


def _against_usual(
    one: Measured, name: str, grid: Placement, codes: str | None, spacing: str | None
) -> Iterator[Finding]:
    if codes and grid.codes != codes:
        seen = f"{name}: stored as {grid.codes}, most as {codes}"
        yield one.found("odd-orientation", seen, name)
    if spacing and _rounded(grid) != spacing:
        mine, theirs = sorted(grid.spacing_mm), sorted(map(float, spacing.split(" x ")))
        factor = max(max(a / b, b / a) for a, b in zip(mine, theirs, strict=True))
        if factor > OTHER_SPACING:
            seen = f"{name}: voxels of {_rounded(grid)} mm, most of {spacing} mm"
            yield one.found("odd-grid", seen, name, score=factor)


def _rounded(grid: Placement) -> str:
    return " x ".join(f"{mm:.2f}" for mm in grid.spacing_mm)


def _slices(one: Measured, name: str, facts: ImageFacts) -> Iterator[Finding]:
    grid = facts.placement
    cube = max(grid.spacing_mm) <= CUBE * min(grid.spacing_mm)
    most = MOST_OF_FEW if facts.slices < FEW * max(grid.shape) else MOST_CHANGE
    if cube and min(grid.shape) >= FEWEST_VOXELS and facts.thick > most:
        seen = (
            f"{name}: voxels are said to be cubes, but change {facts.thick:.1f} times as much from "
            "slice to slice as within slices"
        )
        yield one.found("spacing", seen, name, score=facts.thick)
    inner = [n for n in facts.doubled if _is_inner(n, facts)]
    if inner:
        listed = ", ".join(map(str, inner[:5]))
        yield one.found("doubled-slices", f"{name}: equal to the one before: {listed}", name)
    if max(facts.repeated) >= REPEATED:
        count = max(facts.repeated)
        seen = f"{name}: {count} slices repeat the outermost one"
        yield one.found("extrapolated-border", seen, name, score=float(count))


def _jumps(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """Cases with a jump at one place in all images, which is larger than in the others."""
    largest = [_largest_jump(one) for one in cohort]
    known = [size for size, _ in largest if size]
    if not known:
        return
    least = JUMP_OF_FEW
    if len(known) >= FEWEST:
        least = max(LEAST_JUMP, TIMES * float(np.quantile(known, MOST)))
    for one, (size, place) in zip(cohort, largest, strict=True):
        if size > least:
            seen = f"slices {place} and {place + 1} differ {size:.1f} times as much as those around"
            yield one.found("slice-gap", seen, *one.facts.images, score=size)


def _largest_jump(one: Measured) -> tuple[float, int]:
    """The largest mean over the images, and the first of the two slices."""
    every = [facts.jumps for facts in one.facts.images.values() if facts.jumps]
    if not every or len({len(own) for own in every}) > 1:
        return 0.0, 0
    means = np.mean(every, axis=0)
    place = int(means.argmax())
    return float(means[place]), place


def _is_inner(number: int, facts: ImageFacts) -> bool:
    """Whether a doubled slice is none of those that repeat the first or the last one."""
    count = facts.slices
    first, last = facts.repeated
    return first < number < count - last


def _grids(one: Measured) -> Iterator[Finding]:
    grids = {name: facts.placement for name, facts in one.facts.images.items()}
    if not grids:
        return
    name, first = next(iter(grids.items()))
    odd = [other for other, grid in grids.items() if not one_grid(first, grid)]
    if odd:
        seen = "; ".join(f"{_grid(grids[each])} for {each}" for each in (name, *odd))
        yield one.found("mixed-grids", seen, name, *odd)
    label = one.facts.label
    if label and not any(one_grid(grid, label.placement) for grid in grids.values()):
        seen = f"{_grid(label.placement)}; the image {_grid(first)}{_away(first, label.placement)}"
        yield one.found("label-grid", seen, LABEL, name)


def _grid(grid: Placement) -> str:
    return f"{'x'.join(map(str, grid.shape))} of {_rounded(grid)} mm"


def _away(one: Placement, other: Placement) -> str:
    if one.shape != other.shape or one.spacing_mm != other.spacing_mm:
        return ""
    a, b = (np.reshape(grid.affine, (4, 4))[:3, 3] for grid in (one, other))
    return f", {float(np.linalg.norm(a - b)):.3g} mm away"
