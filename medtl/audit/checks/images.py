"""Intensities that cannot be right, and images unlike the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medtl.audit.checks.measured import (
    FEWEST,
    USUAL,
    Measured,
    by_modality,
    deviations,
    each_image,
    textures,
)
from medtl.audit.facts.model import ImageFacts
from medtl.audit.findings import Finding

#: Share of the foreground at the highest value that is cut off; pictures are often clipped.
CUT_OFF, CUT_OFF_PICTURE = 0.01, 0.1

#: Foreground beside blank slices at an end, relative to the largest: a volume that is cut off.
CUT_AREA = 0.3

#: A factor between the intensities of two groups that no scanner's gain explains.
OTHER_SCALE = 8.0

#: Marks in a row that are text: of 1,970 real pictures without any, none has more than two.
CHARACTERS = 4

#: Fewest images for outliers.
OUTLIERS_FROM = 10

#: Log of how much likelier two contrasts are the other way round; of one image, at most.
SWAPPED, LEAST_LOG = 4.5, -30.0

#: Most cases have at least this log the right way round, or the contrasts are not compared.
TOLD_APART = 6.0

#: Folds of the classifier of contrasts.
MOST_FOLDS = 10

#: Least spread of a feature that counts, and the most deviations that it counts for.
LEAST_DEVIATION, MOST_DEVIATION = 0.05, 50.0

#: Least mean deviation of an outlier; or, if that is more, TIMES the deviation that a share of MOST
#: images stay below.
DISTANT, TIMES, MOST = 3.0, 2.0, 0.8


def check_images(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """Constant, broken and odd intensities."""
    for one, name, facts in each_image(cohort):
        yield from _voxels(one, name, facts)
        same = [b for a, b in one.facts.equal if a == name]
        if same:
            seen = ", ".join(f"{name} and {other}" for other in same)
            yield one.found("identical-channels", seen, name, *same)
    yield from check_scales(cohort)
    for name, group in by_modality(cohort).items():
        yield from _outliers(name, [(one, facts) for one, facts in group if facts.content])
    yield from _swapped(cohort)


def check_scales(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """Images of another intensity scale than the rest, and with or without skull."""
    for name, group in by_modality(cohort).items():
        varied = [(one, facts) for one, facts in group if facts.content]
        yield from _scales(name, varied)
        yield from _skulls(name, varied)


def _voxels(one: Measured, name: str, facts: ImageFacts) -> Iterator[Finding]:
    if facts.not_finite:
        yield one.found(
            "not-finite", f"{name}: {facts.not_finite} voxels are NaN or infinite", name
        )
    if not facts.content:
        yield one.found("constant", f"{name}: every voxel is {facts.low:g}", name)
        return
    if facts.ground:
        yield one.found("background", f"{name}: the background is {facts.ground:.3g}", name)
    if facts.saturated > (CUT_OFF_PICTURE if facts.flat else CUT_OFF):
        seen = f"{name}: {facts.saturated:.1%} of the foreground is {facts.high:g}"
        yield one.found("saturated", seen, name, score=facts.saturated)
    start, inner, end = facts.blank
    if inner or ((start or end) and facts.area > CUT_AREA):
        places = ((start, "at the start"), (inner, "between others"), (end, "at the end"))
        listed = ", ".join(f"{count} {where}" for count, where in places if count)
        yield one.found(
            "blank-slices",
            f"{name}: blank slices, {listed}",
            name,
            score=float(start + inner + end),
        )
    if facts.marks[1] >= CHARACTERS:
        seen = f"{name}: {facts.marks[1]} marks like characters in a row, beside the patient"
        yield one.found("burnt-in-text", seen, name, score=float(facts.marks[1]))


#: Families of the features that tell one image's look from another's, whatever its scale and grid.
_APPEARANCE = ("contrast/", "noise/")

Group = Sequence[tuple[Measured, ImageFacts]]


def _scales(name: str, group: Group) -> Iterator[Finding]:
    """Groups of images whose intensities differ by a factor: all but the largest are reported.

    They are groups by their values, or two by the type that they are stored in.
    """
    if len(group) < FEWEST:
        return
    values = np.array([math.log10(_range(facts)) for _, facts in group])
    order = np.argsort(values, kind="stable")
    wide = np.flatnonzero(10 ** np.diff(values[order]) > OTHER_SCALE)
    apart = [own.tolist() for own in np.split(order, wide + 1)]
    most = max(apart, key=len)
    reported = [own for own in apart if own is not most]
    for own in reported:
        away = float(np.abs(np.subtract.outer(values[own], values[most])).min())
        yield _scale(name, group, own, 10**away, "")
    types = sorted({facts.placement.stored for _, facts in group})
    if len(types) == 2:
        sides = [[n for n, (_, f) in enumerate(group) if f.placement.stored == t] for t in types]
        factor = 10 ** abs(float(np.median(values[sides[0]]) - np.median(values[sides[1]])))
        few = _fewer(*sides)
        if factor > OTHER_SCALE / 2 and sorted(few) not in map(sorted, reported):
            stored = f", stored as {group[few[0]][1].placement.stored}"
            yield _scale(name, group, few, factor, stored)


def _range(facts: ImageFacts) -> float:
    return max(facts.levels[-1] - facts.levels[0], 1e-9)


def _fewer(one: list[int], other: list[int]) -> list[int]:
    return one if len(one) <= len(other) else other


def _scale(name: str, group: Group, few: Sequence[int], factor: float, stored: str) -> Finding:
    rest = sorted(set(range(len(group))) - set(few))
    seen = (
        f"{name}: {len(few)} of {len(group)} images reach {_reach(group, few)}{stored}, the "
        f"others {_reach(group, rest)}"
    )
    cases = tuple(group[n][0].case.id for n in few)
    files = tuple(group[n][0].path_of(name) for n in few)
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
    patients = {one.case.patient for one, _ in group}
    if len(group) < OUTLIERS_FROM or (group[0][1].flat and len(patients) < len(group) / 2):
        return  # of the slices of a patient the first and last ones are unlike the others
    columns, table = textures([facts for _, facts in group], _APPEARANCE)
    away = np.abs(np.column_stack([deviations(row, LEAST_DEVIATION) for row in table.T]))
    distance = np.sqrt(np.square(np.minimum(away, MOST_DEVIATION)).mean(axis=1))
    least = max(DISTANT, TIMES * float(np.quantile(distance, MOST)))
    for (one, _), own, row in zip(group, distance, away, strict=True):
        if own > least:
            worst = ", ".join(columns[n] for n in np.argsort(-row)[:3])
            seen = f"{name}: {own:.1f} robust deviations from the median, most by {worst}"
            yield one.found("outlier", seen, name, score=float(own))


def _swapped(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """Two contrasts of a case, each of which a classifier takes for the other one.

    The classifier, a linear discriminant with a shrunk covariance, learns from the other cases.
    """
    names = [name for name, group in by_modality(cohort).items() if len(group) >= FEWEST]
    whole = [one for one in cohort if all(_shown(one, name) for name in names)]
    if len(names) < 2 or len(whole) < FEWEST:
        return
    images = [one.facts.images[name] for one in whole for name in names]
    if images[0].flat:
        return
    rows = textures(images, _APPEARANCE).rows
    logs = _log_probabilities(rows.reshape(len(whole), len(names), -1))
    for a, b in combinations(range(len(names)), 2):
        gains = logs[:, a, b] + logs[:, b, a] - logs[:, a, a] - logs[:, b, b]
        if float(np.median(gains)) > -TOLD_APART:
            continue
        for one, gain in zip(whole, gains.tolist(), strict=True):
            if gain > SWAPPED:
                seen = f"{names[a]} and {names[b]} each look like the other one elsewhere"
                yield one.found("swapped-channels", seen, names[a], names[b], score=gain)


def _log_probabilities(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each case, image and contrast, learnt from the other cases (case, contrast, feature)."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import KFold

    cases, contrasts, features = table.shape
    logs = np.zeros((cases, contrasts, contrasts))
    truth = np.arange(contrasts)
    folds = KFold(min(cases, MOST_FOLDS), shuffle=True, random_state=0)
    for train, test in folds.split(table):
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        model.fit(table[train].reshape(-1, features), np.tile(truth, len(train)))
        found = model.predict_log_proba(table[test].reshape(-1, features))
        logs[test] = np.maximum(found, LEAST_LOG).reshape(len(test), contrasts, contrasts)
    return logs


def _shown(one: Measured, name: str) -> bool:
    facts = one.facts.images.get(name)
    return facts is not None and bool(facts.texture)
