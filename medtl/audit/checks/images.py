"""Intensities that cannot be right, and images unlike the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from medtl.audit.checks.measured import (
    FAR,
    FEWEST,
    USUAL,
    Measured,
    by_modality,
    deviations,
    each_image,
)
from medtl.audit.facts.model import ImageFacts
from medtl.audit.findings import Finding

#: Share of the foreground at the highest value that is cut off; pictures are often clipped.
CUT_OFF, CUT_OFF_PICTURE = 0.01, 0.1

#: Foreground beside blank slices at an end, relative to the largest: a volume that is cut off.
CUT_AREA = 0.3

#: A factor between the intensities of two groups that no scanner's gain explains.
OTHER_SCALE = 8.0

#: Fewest images for outliers.
OUTLIERS_FROM = 10

#: Least robust deviation of a feature of the texture that counts.
LEAST_DEVIATION = 0.05


def check_images(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """Constant, broken and odd intensities."""
    for one, name, facts in each_image(cohort):
        yield from _voxels(one, name, facts)
        pairs = [f"{a} and {b}" for a, b in one.facts.equal if a == name]
        if pairs:
            yield one.found("identical-channels", ", ".join(pairs), *one.facts.equal[0])
    for name, group in by_modality(cohort).items():
        varied = [(one, facts) for one, facts in group if facts.content]
        yield from _scales(name, varied)
        yield from _skulls(name, varied)
        yield from _outliers(name, varied)
    yield from _swapped(cohort)


def _voxels(one: Measured, name: str, facts: ImageFacts) -> Iterator[Finding]:
    if facts.not_finite:
        yield one.found("not-finite", f"{name}: {facts.not_finite} voxels", name)
    if not facts.content:
        yield one.found("constant", f"{name}: every voxel is {facts.low:g}", name)
        return
    if facts.saturated > (CUT_OFF_PICTURE if facts.flat else CUT_OFF):
        seen = f"{name}: {facts.saturated:.1%} of the foreground is {facts.high:g}"
        yield one.found("saturated", seen, name, score=facts.saturated)
    start, inner, end = facts.blank
    if inner or ((start or end) and facts.area > CUT_AREA):
        places = ((start, "at the start"), (inner, "between others"), (end, "at the end"))
        listed = ", ".join(f"{count} {where}" for count, where in places if count)
        yield one.found("blank-slices", f"{name}: {listed}", name, score=float(start + inner + end))


Group = Sequence[tuple[Measured, ImageFacts]]


def _scales(name: str, group: Group) -> Iterator[Finding]:
    """Two groups of images whose intensities differ by a factor: the smaller one is told.

    They are groups by their values, or by the type that they are stored in.
    """
    if len(group) < FEWEST:
        return
    values = np.array([math.log10(_range(facts)) for _, facts in group])
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])
    widest = int(gaps.argmax())
    told: list[int] = []
    if 10 ** float(gaps[widest]) > OTHER_SCALE:
        told = _fewer(order[: widest + 1].tolist(), order[widest + 1 :].tolist())
        yield _scale(name, group, told, 10 ** float(gaps[widest]), "")
    types = sorted({facts.placement.stored for _, facts in group})
    if len(types) == 2:
        sides = [[n for n, (_, f) in enumerate(group) if f.placement.stored == t] for t in types]
        factor = 10 ** abs(float(np.median(values[sides[0]]) - np.median(values[sides[1]])))
        few = _fewer(*sides)
        if factor > OTHER_SCALE / 2 and sorted(few) != sorted(told):
            stored = f", stored as {group[few[0]][1].placement.stored}"
            yield _scale(name, group, few, factor, stored)


def _range(facts: ImageFacts) -> float:
    return max(facts.levels[-1] - facts.levels[0], 1e-9)


def _fewer(one: list[int], other: list[int]) -> list[int]:
    return one if len(one) <= len(other) else other


def _scale(name: str, group: Group, told: Sequence[int], factor: float, stored: str) -> Finding:
    rest = sorted(set(range(len(group))) - set(told))
    seen = (
        f"{name}: {len(told)} of {len(group)} images reach {_reach(group, told)}{stored}, the "
        f"others {_reach(group, rest)}"
    )
    cases = tuple(group[n][0].case.id for n in told)
    files = tuple(group[n][0].path_of(name) for n in told)
    return Finding("intensity-scale", cases, seen, files, factor)


def _reach(group: Group, numbers: Sequence[int]) -> str:
    tops = sorted(group[n][1].levels[-1] for n in numbers)
    return f"{tops[0]:.3g}" if len(tops) == 1 else f"{tops[0]:.3g} to {tops[-1]:.3g}"


def _skulls(name: str, group: Group) -> Iterator[Finding]:
    stripped = [facts.stripped for _, facts in group]
    share = float(np.mean(stripped)) if stripped else 0.0
    if len(group) < FEWEST or 1 - USUAL < share < USUAL or any(f.flat for _, f in group):
        return
    for (one, _), own in zip(group, stripped, strict=True):
        if own != (share >= USUAL):
            what = "a background of one value" if own else "no background of one value"
            yield one.found("skull", f"{name}: has {what}, unlike the other images", name)


def _outliers(name: str, group: Group) -> Iterator[Finding]:
    """Images whose texture and contrast lie far from the others', whatever their scale."""
    if len(group) < OUTLIERS_FROM:
        return
    columns = [key for key in group[0][1].texture if not key.startswith("scale/")]
    table = np.array([[facts.texture.get(key, 0.0) for key in columns] for _, facts in group])
    away = np.abs(np.column_stack([deviations(row, LEAST_DEVIATION) for row in table.T]))
    distance = np.log1p(np.sqrt(np.square(np.minimum(away, 50.0)).mean(axis=1)))
    far = deviations(distance.tolist(), LEAST_DEVIATION)
    for (one, _), own, row in zip(group, far, away, strict=True):
        if own > FAR:
            worst = ", ".join(columns[n] for n in np.argsort(-row)[:3])
            seen = f"{name}: {own:.0f} robust deviations away, most by {worst}"
            yield one.found("outlier", seen, name, score=float(own))


def _swapped(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """Two contrasts of a case that each look like the other one does elsewhere."""
    names = [name for name, group in by_modality(cohort).items() if len(group) >= FEWEST]
    if len(names) < 2:
        return
    whole = [one for one in cohort if all(_shown(one, name) for name in names)]
    if len(whole) < FEWEST:
        return
    columns = [key for key in whole[0].facts.images[names[0]].texture if "scale/" not in key]
    table = np.array(
        [
            [[one.facts.images[name].texture.get(key, 0.0) for key in columns] for name in names]
            for one in whole
        ]
    )  # N modality F
    scaled = (table - table.mean(axis=(0, 1))) / np.maximum(table.std(axis=(0, 1)), 1e-9)
    for number, one in enumerate(whole):
        others = np.delete(scaled, number, axis=0)
        middle = np.median(others, axis=0)
        spread = np.maximum(np.median(np.abs(others - middle), axis=0) * 1.4826, 0.1)
        away = np.sqrt(
            np.square((scaled[number][:, None] - middle[None]) / spread[None]).mean(axis=2)
        )
        nearest = away.argmin(axis=1)
        for a in range(len(names)):
            b = int(nearest[a])
            if b > a and nearest[b] == a:
                gain = float(min(away[a, a] / away[a, b], away[b, b] / away[b, a]))
                seen = f"{names[a]} and {names[b]} each look like the other one elsewhere"
                yield one.found("swapped-channels", seen, names[a], names[b], score=gain)


def _shown(one: Measured, name: str) -> bool:
    facts = one.facts.images.get(name)
    return facts is not None and bool(facts.texture)
