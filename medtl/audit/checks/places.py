"""Structures that lie where no other case has them, and what would explain it.

Places are shares of the way through what the image shows, to the right, to the front and up. A
case that is far from the usual places is explained by a mirrored label map, by two structures
with each other's value, or by a label map that has been moved, if one of these brings all its
structures to where the others' lie.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medtl.audit.checks.measured import FEWEST, Measured, middle_and_spread
from medtl.audit.facts.model import LABEL, LabelFacts
from medtl.audit.findings import Finding

#: Fewest cases that tell where a structure usually lies.
FEWEST_PLACED = 2 * FEWEST

#: Robust deviations from which a structure lies elsewhere. Structures of one anatomy reach 4.9
#: among 130 cases of hippocampus.
FAR_PLACED = 5.5

#: Least spread of a place that counts, and the most of a structure of the anatomy; tumours lie
#: anywhere.
LEAST_SPREAD, MOST_SPREAD = 0.02, 0.06

#: An explanation leaves at most this share of the distance.
EXPLAINS = 0.35

WAYS = ("right", "front", "up")

AXES = ("right and left", "front and back", "up and down")

Places = Mapping[int, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class _Usual:
    """Where the structures lie in most cases, and how much that varies."""

    middle: Places
    spread: Places

    def distance(self, places: Places) -> float:
        """The root mean square of the deviations of all structures."""
        return float(np.sqrt(np.mean([np.square(away) for away in self.deviations(places)])))

    def deviations(self, places: Places) -> list[NDArray[np.float64]]:
        return [(own - self.middle[value]) / self.spread[value] for value, own in places.items()]


def check_places(group: Sequence[tuple[Measured, LabelFacts]]) -> Iterator[Finding]:
    """Cases whose structures lie elsewhere, by the kind that explains it best."""
    placed = [(one, _places(facts)) for one, facts in group]
    usual = _usual([places for _, places in placed])
    for one, places in placed:
        known = {value: own for value, own in places.items() if value in usual.middle}
        if known and np.max(np.abs(usual.deviations(known))) > FAR_PLACED:
            yield _explained(one, known, usual)


def _places(facts: LabelFacts) -> dict[int, NDArray[np.float64]]:
    return {one.value: np.array(one.place) for one in facts.structures}


def _usual(every: Sequence[Places]) -> _Usual:
    held: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for places in every:
        for value, own in places.items():
            held[value].append(own)
    middle, spread = {}, {}
    for value, rows in held.items():
        centre, own = middle_and_spread(np.stack(rows))
        if len(rows) >= FEWEST_PLACED and own.max() <= MOST_SPREAD:
            middle[value], spread[value] = centre, np.maximum(own, LEAST_SPREAD)
    return _Usual(middle, spread)


def _explained(one: Measured, places: Places, usual: _Usual) -> Finding:
    """The finding of the best explanation, or that it lies elsewhere."""
    now = usual.distance(places)
    options = [
        *((usual.distance(_mirrored(places, axis)), "label-mirrored", axis) for axis in range(3)),
        *(
            (usual.distance(_exchanged(places, *pair)), "label-swapped", pair)
            for pair in combinations(sorted(places), 2)
        ),
    ]
    left, kind, what = min(options, key=lambda option: option[0])
    if left <= EXPLAINS * now and kind == "label-mirrored" and isinstance(what, int):
        seen = f"with {AXES[what]} exchanged, its structures lie as in the others"
        return one.found(kind, seen, LABEL, score=now)
    if left <= EXPLAINS * now and isinstance(what, tuple):
        seen = f"values {what[0]} and {what[1]} lie in each other's place"
        return one.found("label-swapped", seen, LABEL, score=now)
    moved = np.mean([usual.middle[value] - own for value, own in places.items()], axis=0)
    shifted = {value: own + moved for value, own in places.items()}
    axis = int(np.argmax(np.abs(moved)))
    wrong = "too far" if moved[axis] < 0 else "not far enough"
    if len(places) > 1 and usual.distance(shifted) <= EXPLAINS * now:
        seen = f"all structures lie {abs(moved[axis]):.0%} of the image {wrong} {_to(axis)}"
        return one.found("label-shifted", seen, LABEL, score=now)
    return _elsewhere(one, places, usual)


def _elsewhere(one: Measured, places: Places, usual: _Usual) -> Finding:
    deviations = dict(zip(places, usual.deviations(places), strict=True))
    worst = max(deviations, key=lambda value: float(np.abs(deviations[value]).max()))
    axis = int(np.abs(deviations[worst]).argmax())
    seen = (
        f"value {worst}: at {places[worst][axis]:.2f} of the way {_to(axis)}, the others at "
        f"{usual.middle[worst][axis]:.2f}"
    )
    return one.found("label-place", seen, LABEL, score=float(abs(deviations[worst][axis])))


def _to(axis: int) -> str:
    return "up" if axis == 2 else f"to the {WAYS[axis]}"


def _mirrored(places: Places, axis: int) -> dict[int, NDArray[np.float64]]:
    turned = {}
    for value, own in places.items():
        turned[value] = own.copy()
        turned[value][axis] = 1 - own[axis]
    return turned


def _exchanged(places: Places, a: int, b: int) -> dict[int, NDArray[np.float64]]:
    return {**places, a: places[b], b: places[a]}
