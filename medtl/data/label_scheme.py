"""Which regions each label value stands for, and the label map of predicted regions.

Axes: L region, P pattern, N voxel in a region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Voxels whose nearest pattern is found at once.
_CHUNK = 100_000


#: Most regions for which a table has the value of every combination.
_TABLED = 16


#: Regions whose membership is packed into one integer before the patterns are counted anew.
_BITS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """Masks that a label map can hold: what is written, and so what is scored.

    ``moved``: per region, the voxels that were predicted in it and are not, or the reverse.
    """

    masks_LIJK: NDArray[np.bool_]
    moved: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LabelScheme:
    """The patterns of regions that label values stand for, background (no region) first.

    A pattern says for each region whether a voxel is in it. Values of one pattern are equal to a
    network; ``values`` holds the one that is written.
    """

    regions: tuple[str, ...]
    values: tuple[int, ...]
    patterns_PL: NDArray[np.bool_]

    @classmethod
    def of(cls, values_of: Mapping[str, Sequence[int]], regions: Sequence[str]) -> LabelScheme:
        """The scheme of a case (``Case.regions``) for a network's regions.

        Of several values of one pattern, the first of its last region's is written.
        """
        every = {value for name in regions for value in values_of[name]} - {0}
        written: dict[tuple[bool, ...], int] = {(False,) * len(regions): 0}
        for last in reversed(regions):
            for value in values_of[last]:
                if value in every:
                    pattern = tuple(value in values_of[name] for name in regions)
                    written.setdefault(pattern, value)
        # A voxel as near to several patterns gets the one of fewest regions, then of the first.
        order = sorted(written, key=lambda pattern: (sum(pattern), [not own for own in pattern]))
        return cls(tuple(regions), tuple(written[p] for p in order), np.array(order, dtype=bool))

    @property
    def dtype(self) -> type[np.generic]:
        """The type of a label map: uint8 if the values fit, else int16."""
        return np.uint8 if max(self.values) < 256 else np.int16

    def tells(self, *, nested: bool, exclusive: bool) -> bool:
        """Whether there is a label value for whatever a network can predict.

        Args:
            nested, exclusive: constraints of the prediction, see
                ``medtl.inference.segmentation.decide``.
        """
        count = len(self.regions)
        if nested:
            possible = [tuple(n < depth for n in range(count)) for depth in range(count + 1)]
        elif exclusive:
            possible = [tuple(n == own for n in range(count)) for own in range(-1, count)]
        else:
            return len(self.values) == 1 << count
        known = set(map(tuple, self.patterns_PL.tolist()))
        return set(possible) <= known

    def settle(self, masks_LIJK: NDArray[np.bool_], logits_LIJK: NDArray[Any]) -> Settled:
        """The masks, but for voxels in regions that no value stands for together.

        These get the likeliest pattern, by the probabilities of all regions: that with the largest
        sum of its regions' logits.
        """
        if len(self.regions) <= _TABLED and self._held[_codes(masks_LIJK)].all():
            return Settled(masks_LIJK, (0,) * len(self.regions))
        inside_IJK = masks_LIJK.any(axis=0)
        masks_NL = masks_LIJK[:, inside_IJK].T
        known = set(map(tuple, self.patterns_PL.tolist()))
        first, pattern_N = _distinct(masks_NL)
        untold = [tuple(masks_NL[n].tolist()) not in known for n in first]
        if not any(untold):
            return Settled(masks_LIJK, (0,) * len(self.regions))
        odd_N = np.array(untold)[pattern_N]
        logits_NL = logits_LIJK[:, inside_IJK].T[odd_N]
        settled_NL = masks_NL.copy()
        settled_NL[odd_N] = self.patterns_PL[self._likeliest(logits_NL)]
        settled_LIJK = masks_LIJK.copy()
        settled_LIJK[:, inside_IJK] = settled_NL.T
        moved = (settled_NL != masks_NL).sum(axis=0)
        return Settled(settled_LIJK, tuple(map(int, moved)))

    def _likeliest(self, logits_NL: NDArray[Any]) -> NDArray[np.intp]:
        """The pattern of each voxel; a sum of infinite logits would be undefined."""
        weights_LP = self.patterns_PL.T.astype(np.float64)
        parts = [
            (np.clip(logits_NL[at : at + _CHUNK].astype(np.float64), -1e6, 1e6) @ weights_LP)
            for at in range(0, len(logits_NL), _CHUNK)
        ]
        return np.concatenate([scores_NP.argmax(axis=1) for scores_NP in parts])

    def paint(self, masks_LIJK: NDArray[np.bool_]) -> NDArray[Any]:
        """The label map of settled masks."""
        if len(self.regions) <= _TABLED:
            found: NDArray[Any] = self._values_of_codes[_codes(masks_LIJK)]
            return found
        label_IJK = np.zeros(masks_LIJK.shape[1:], dtype=self.dtype)
        inside_IJK = masks_LIJK.any(axis=0)
        masks_NL = masks_LIJK[:, inside_IJK].T
        value_of = dict(zip(map(tuple, self.patterns_PL.tolist()), self.values, strict=True))
        first, pattern_N = _distinct(masks_NL)
        values = [value_of[tuple(masks_NL[n].tolist())] for n in first]
        label_IJK[inside_IJK] = np.array(values, dtype=label_IJK.dtype)[pattern_N]
        return label_IJK

    @property
    def _held(self) -> NDArray[np.bool_]:
        """Whether a value stands for each combination, by its code."""
        held = np.zeros(1 << len(self.regions), dtype=bool)
        held[_codes(self.patterns_PL.T)] = True
        return held

    @property
    def _values_of_codes(self) -> NDArray[Any]:
        values = np.zeros(1 << len(self.regions), dtype=self.dtype)
        values[_codes(self.patterns_PL.T)] = self.values
        return values

    def values_alone(self) -> NDArray[Any]:
        """The value of each region without any other (L), where the scheme has one."""
        alone = {tuple(p): v for p, v in zip(self.patterns_PL.tolist(), self.values, strict=True)}
        every = np.eye(len(self.regions), dtype=bool).tolist()
        return np.array([alone[tuple(own)] for own in every], dtype=self.dtype)

    def describe(self) -> str:
        """The combinations that the values stand for, and what becomes of the others."""
        told = [
            "+".join(name for name, own in zip(self.regions, pattern, strict=True) if own)
            for pattern in self.patterns_PL[1:]
        ]
        return (
            f"the label values hold {len(told)} of the {2 ** len(self.regions) - 1} combinations "
            f"of {', '.join(self.regions)}: {', '.join(told)}; a voxel predicted as another one "
            "gets the likeliest of these, in what is scored as in what is written"
        )


def first_patterns(
    values_of: Mapping[str, Sequence[int]], regions: Sequence[str]
) -> NDArray[np.bool_]:
    """The pattern (L) of each region's first value (L)."""
    rows = [[values_of[own][0] in values_of[name] for name in regions] for own in regions]
    return np.array(rows, dtype=bool)


def painted_over(
    masks_LIJK: NDArray[np.bool_], patterns_LL: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Masks as nnU-Net paints one region over the other: a voxel has the pattern of its last
    region, whatever else it is in."""
    last_IJK = np.zeros(masks_LIJK.shape[1:], np.int16)
    for number, mask_IJK in enumerate(masks_LIJK, start=1):
        last_IJK[mask_IJK] = number
    none_1L = np.zeros((1, len(patterns_LL)), bool)
    with_none_LL = np.concatenate((none_1L, patterns_LL))
    return np.stack([own_L[last_IJK] for own_L in with_none_LL.T])


def _codes(masks_Lx: NDArray[np.bool_]) -> NDArray[np.unsignedinteger[Any]]:
    """The combination of regions at each place: bit n for region n, of at most 16."""
    kind = np.uint8 if len(masks_Lx) <= 8 else np.uint16
    code: NDArray[np.unsignedinteger[Any]] = masks_Lx[0].astype(kind)
    for number, mask in enumerate(masks_Lx[1:], start=1):
        code |= mask.astype(kind) << kind(number)
    return code


def _distinct(masks_NL: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first voxel of each pattern that occurs, and the number of each voxel's pattern."""
    code_N = np.zeros(len(masks_NL), dtype=np.int64)
    for region in range(masks_NL.shape[1]):
        code_N = 2 * code_N + masks_NL[:, region]
        if region % _BITS == _BITS - 1:
            code_N = np.unique(code_N, return_inverse=True)[1]
    _, first, number_N = np.unique(code_N, return_index=True, return_inverse=True)
    return first, number_N
