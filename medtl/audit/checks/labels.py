"""Label maps that cannot be right, alone, with their image, or beside those of other cases."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from medtl.audit.checks.measured import FAR, FEWEST, USUAL, Measured, deviations
from medtl.audit.checks.places import AXES, WAYS, check_places
from medtl.audit.facts.labels import LARGEST, MOST_VALUES
from medtl.audit.facts.model import LABEL, LabelFacts, Structure
from medtl.audit.findings import Finding, once

#: A part of at most this many voxels is a speck, beside one of many more.
SPECK, MUCH_LARGER = 5, 20

#: Cases with specks, holes or further parts: more than this share is the annotators' way ...
OFTEN = 0.1

#: ... which fewer cases do not tell.
FEWEST_FOR_WAY = 10

#: Empty label maps of more than this share are common.
COMMON = 0.5

#: So many specks, and enclosed voxels, more than usual say nothing.
SPECKS, HOLE = 3, 5

#: A second part of this share of a structure's first.
SECOND = 0.25

#: A structure's share outside of what the image shows.
OUTSIDE = 0.1

#: Gain of the correlation ratio by movement or mirroring, and how many times what most gain.
GAIN, TIMES = 0.05, 5.0

#: Labels of fewer voxels fit anywhere.
FEWEST_VOXELS = 200

#: The gain, relative to what the labels explain where they are.
ADDS = 0.6

#: Labels whose borders the images do not show cannot be told to lie wrong.
FITS = 0.12

#: What most cases stay below, as a quantile.
MOST = 0.8

Labelled = tuple[Measured, LabelFacts]


def check_labels(cohort: Sequence[Measured]) -> Iterator[Finding]:
    """All that is odd about the label maps."""
    group = [(one, one.facts.label) for one in cohort if one.facts.label is not None]
    for one, facts in group:
        yield from _values(one, facts)
    yield from _unknown(group)
    yield from _empty(group)
    yield from _parts(group)
    yield from _outside(group)
    volumes = [(one, facts) for one, facts in group if facts.placement.shape[2] > 1]
    yield from once([*_fit(group), *check_places(volumes)])
    yield from _copied(group)


def _values(one: Measured, facts: LabelFacts) -> Iterator[Finding]:
    if facts.fractional:
        seen = f"{facts.fractional:.2%} of the voxels are no whole numbers"
        yield one.found("fractional-label", seen, LABEL, score=facts.fractional)
    if len(facts.structures) == MOST_VALUES:
        seen = f"{MOST_VALUES} values or more; is it an image?"
        yield one.found("label-values", seen, LABEL)
    if any(structure.value == LARGEST for structure in facts.structures):
        yield one.found("label-values", f"values of {LARGEST} or more", LABEL)
    if facts.negative:
        yield one.found("label-values", f"{facts.negative} voxels are negative", LABEL)


def _unknown(group: Sequence[Labelled]) -> Iterator[Finding]:
    """Values that the task does not know, or that one case alone has among many."""
    held = Counter(structure.value for _, facts in group for structure in facts.structures)
    for one, facts in group:
        if facts.fractional:
            continue
        values, known = [structure.value for structure in facts.structures], one.case.labels
        if known:
            odd, why = [value for value in values if value not in known], "the task does not know"
        elif len(group) >= FEWEST:
            odd, why = [value for value in values if held[value] == 1], "no other case has"
        else:
            continue
        if odd:
            listed = ", ".join(map(str, odd))
            yield one.found("label-values", f"value {listed}, which {why}", LABEL)


def _empty(group: Sequence[Labelled]) -> Iterator[Finding]:
    empty = [one for one, facts in group if not facts.structures]
    if len(empty) <= COMMON * len(group):
        for one in empty:
            yield one.found("empty-label", "no voxel has a label", LABEL)
    owned = [_structures(one, facts) for one, facts in group]
    held = Counter(name for own in owned for name in own)
    expected = [name for name, count in held.items() if count >= USUAL * len(group)]
    for (one, _), own in zip(group, owned, strict=True) if len(group) >= FEWEST else ():
        lacking = [name for name in expected if name not in own]
        if own and lacking:
            yield one.found("missing-structure", f"no voxel of {', '.join(lacking)}", LABEL)


def _structures(one: Measured, facts: LabelFacts) -> list[str]:
    """The regions that a case has, by their names, else its values."""
    values = {structure.value for structure in facts.structures}
    if one.case.regions:
        return [name for name, own in one.case.regions.items() if values & set(own)]
    return [f"value {value}" for value in sorted(values)]


def _parts(group: Sequence[Labelled]) -> Iterator[Finding]:
    """Specks, holes and further parts, where they are not the annotators' way."""
    if len(group) < FEWEST_FOR_WAY:
        return
    specks = [sum(map(_specks, facts.structures)) for _, facts in group]
    holes = [facts.holes for _, facts in group]
    apart = [max(map(_second, facts.structures), default=0.0) for _, facts in group]
    for (one, _), count in _unusual(group, specks, SPECKS):
        seen = f"{count:.0f} parts of at most {SPECK} voxels"
        yield one.found("specks", seen, LABEL, score=count)
    for (one, _), count in _unusual(group, holes, HOLE):
        seen = f"labels enclose {count:.0f} voxels without one"
        yield one.found("holes", seen, LABEL, score=count)
    several = [(one, share) for (one, _), share in zip(group, apart, strict=True) if share > SECOND]
    if len(several) <= OFTEN * len(group):
        for one, share in several:
            seen = f"a second part of {share:.0%} of the largest one"
            yield one.found("disconnected", seen, LABEL, score=share)


def _unusual(
    group: Sequence[Labelled], counts: Sequence[int], least: float
) -> list[tuple[Labelled, float]]:
    """The cases with many more than the others; ``least``: so many more say nothing."""
    far = deviations(counts, least / FAR)
    return [
        (one, float(count))
        for one, count, away in zip(group, counts, far, strict=True)
        if away > FAR
    ]


def _second(structure: Structure) -> float:
    """The size of the second part, relative to the largest."""
    return structure.parts[1] / structure.parts[0] if len(structure.parts) > 1 else 0.0


def _specks(structure: Structure) -> int:
    if not structure.parts or structure.parts[0] < MUCH_LARGER * SPECK:
        return 0
    return sum(size <= SPECK for size in structure.parts[1:])


def _outside(group: Sequence[Labelled]) -> Iterator[Finding]:
    """Structures outside of what the image shows, where the others' lie within."""
    found = [
        one.found(
            "label-outside",
            f"value {structure.value}: {structure.outside:.0%} lies outside",
            LABEL,
            score=structure.outside,
        )
        for one, facts in group
        for structure in facts.structures
        if structure.outside > OUTSIDE
    ]
    few = len({one.cases for one in found}) <= max(1, OFTEN * len(group))
    if len(group) >= FEWEST and few:
        yield from found


def _fit(group: Sequence[Labelled]) -> Iterator[Finding]:
    """Labels that explain the intensities better elsewhere, where the others' do not."""
    fits = [facts.fit for _, facts in group if facts.structures]
    if not fits or float(np.median(fits)) < FITS:
        return
    moved = _least([facts.moved_gain for _, facts in group])
    mirrored = _least([facts.mirrored_gain for _, facts in group])
    for one, facts in group:
        if sum(structure.voxels for structure in facts.structures) < FEWEST_VOXELS:
            continue
        if facts.mirrored_gain > max(mirrored, facts.moved_gain, ADDS * facts.fit):
            axis = AXES[facts.mirrored]
            seen = f"with {axis} exchanged they explain {facts.mirrored_gain:.2f} more"
            yield one.found("label-mirrored", seen, LABEL, score=facts.mirrored_gain)
        elif facts.moved_gain > max(moved, ADDS * facts.fit):
            step = max(facts.moved, key=abs)
            axis = WAYS[facts.moved.index(step)]
            seen = f"moved by {step} voxels ({axis}) they explain {facts.moved_gain:.2f} more"
            yield one.found("label-shifted", seen, LABEL, score=facts.moved_gain)


def _least(gains: Sequence[float]) -> float:
    """A gain that says more than those of most cases."""
    return max(GAIN, TIMES * float(np.quantile(gains, MOST)))


def _copied(group: Sequence[Labelled]) -> Iterator[Finding]:
    by_content: dict[str, list[Measured]] = defaultdict(list)
    for one, facts in group:
        if facts.structures and facts.content:
            by_content[facts.content].append(one)
    for same in by_content.values():
        images = [{facts.content for facts in one.facts.images.values()} for one in same]
        if len(same) > 1 and not set.intersection(*images):
            cases = tuple(one.case.id for one in same)
            files = tuple(one.path_of(LABEL) for one in same)
            yield Finding("label-copied", cases, "the same label map, other images", files)
