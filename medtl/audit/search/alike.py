"""All pairs of images whose correlation reaches a limit in any orientation of their axes.

The search is exact. Images are compared by their cosine transforms, in which a mirrored axis
changes the sign of every odd coefficient along it, and exchanged axes exchange coefficients. So
one product per class of parities gives the correlations of all mirrored versions at once: with D
axes, D! products in place of 2^D D!. Most of the energy lies in few coefficients. What the others
can add to a correlation is at most the product of their norms (Cauchy and Schwarz), so that only
pairs that may still reach the limit are compared in full.

Axes: N image, F coefficient, K class of parities, S set of mirrored axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

#: Share of the energy that is compared first.
FIRST = 0.97

#: Images compared with as many others at once.
BLOCK = 1024

#: What rounding may take from a correlation.
ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Alike:
    """Two images, by their places, in the orientation in which they are most alike.

    The second image becomes like the first one when its axes are ordered as in ``axes`` and then
    those in ``mirrored`` are mirrored.

    Args:
        view: of the first image: 0 for the whole of it, else that of ``views``, from 1 on.
    """

    first: int
    second: int
    correlation: float
    axes: tuple[int, ...]
    mirrored: tuple[int, ...]
    view: int = 0

    @property
    def is_turned(self) -> bool:
        """Whether the second image lies otherwise than the first."""
        return bool(self.mirrored) or self.axes != tuple(sorted(self.axes))


def alike_pairs(
    images_N: NDArray[np.float32], least: float, views: Sequence[NDArray[np.float32]] = ()
) -> list[Alike]:
    """Every pair of which some orientation has a correlation of ``least`` or more, in order.

    Args:
        images_N: images of equal edges, such as 1000 x 32 x 32 or 50 x 24 x 24 x 24; all their
            orientations are compared. A constant image is like no other.
        least: above 0.
        views: the same images, each cropped in the same way. Every view is compared with every
            whole image, and a pair bears the best of its views.
    """
    whole = _spectra(images_N)
    best: dict[tuple[int, int], Alike] = {}
    for number, view in enumerate((whole, *map(_spectra, views))):
        for pair in whole.pairs(view, least):
            key = (min(pair.first, pair.second), max(pair.first, pair.second))
            if key not in best or pair.correlation > best[key].correlation:
                best[key] = replace(pair, view=number)
    return [best[key] for key in sorted(best)]


@dataclass(frozen=True, slots=True)
class _Spectra:
    """Cosine coefficients of images of mean 0 and norm 1; zeros for constant ones."""

    full_NF: NDArray[np.float32]
    edge: int
    dimensions: int

    def pairs(self, view: _Spectra, least: float) -> Iterator[Alike]:
        """Images of ``view`` with those of this one, each with all others.

        Where they are the same, a pair is found once, its first image before its second.
        """
        first_F = self._strongest()
        parity_F = self._parity(first_F)
        own_K = [first_F[parity_F == k] for k in range(2**self.dimensions)]
        left_K = [np.ascontiguousarray(view.full_NF[:, own]) for own in own_K]
        rights = [
            [np.ascontiguousarray(self.full_NF[:, self._moved(own, axes)]) for own in own_K]
            for axes in permutations(range(self.dimensions))
        ]
        rest_N, rest_of_view_N = self._rest(first_F), view._rest(first_F)
        count, once = len(self.full_NF), view is self
        for low in range(0, count, BLOCK):
            for high in range(low if once else 0, count, BLOCK):
                rows, columns = slice(low, low + BLOCK), slice(high, high + BLOCK)
                best = None
                for right_K in rights:
                    parts = [a[rows] @ b[columns].T for a, b in zip(left_K, right_K, strict=True)]
                    found = _best_mirrored(parts)
                    best = found if best is None else np.maximum(best, found, out=best)
                assert best is not None
                best += np.multiply.outer(rest_of_view_N[rows], rest_N[columns])
                near = np.argwhere(best >= least - ROUNDING)
                a, b = near[:, 0] + low, near[:, 1] + high
                kept = a < b if once else a != b
                yield from self._exact(view, a[kept], b[kept], least)

    def _rest(self, first_F: NDArray[np.int64]) -> NDArray[np.float32]:
        """The norm of each image's other coefficients."""
        rest_N = np.sqrt(np.clip(1 - np.square(self.full_NF[:, first_F]).sum(1), 0, None))
        rest_N[~self.full_NF.any(axis=1)] = 0
        return np.asarray(rest_N)

    def _exact(
        self, view: _Spectra, a: NDArray[np.int64], b: NDArray[np.int64], least: float
    ) -> Iterator[Alike]:
        every = np.arange(self.full_NF.shape[1])
        signs_SF = _signs(self._parity(every), self.dimensions)
        orders = list(permutations(range(self.dimensions)))
        moved = [self._moved(every, axes) for axes in orders]
        mirrors = list(product((0, 1), repeat=self.dimensions))
        for start in range(0, len(a), BLOCK):
            some_a, some_b = a[start : start + BLOCK], b[start : start + BLOCK]
            tables = [
                (view.full_NF[some_a] * self.full_NF[some_b][:, places]) @ signs_SF.T
                for places in moved
            ]
            scores = np.stack(tables, axis=1).reshape(len(some_a), -1)
            for one, other, best, score in zip(
                some_a, some_b, scores.argmax(1), scores.max(1), strict=True
            ):
                if score >= least:
                    order, mirror = divmod(int(best), len(mirrors))
                    flipped = tuple(n for n, flag in enumerate(mirrors[mirror]) if flag)
                    yield Alike(int(one), int(other), float(score), orders[order], flipped)

    def _strongest(self) -> NDArray[np.int64]:
        """Coefficients that hold ``FIRST`` of the energy, with all that exchanged axes make of
        them."""
        energy = np.square(self.full_NF).mean(0).reshape((self.edge,) * self.dimensions)
        orders = list(permutations(range(self.dimensions)))
        shared = sum((energy.transpose(axes) for axes in orders), np.zeros_like(energy)).ravel()
        ranked = np.argsort(-shared, kind="stable")
        total = np.cumsum(shared[ranked])
        enough = int(np.searchsorted(total, FIRST * total[-1])) + 1
        least = shared[ranked[min(enough, len(ranked)) - 1]]
        return np.flatnonzero(shared >= least * (1 - 1e-6))

    def _parity(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number per coefficient whose bits tell along which axes it is odd."""
        indices = np.unravel_index(places, (self.edge,) * self.dimensions)
        return sum(
            ((index % 2) << (self.dimensions - 1 - axis) for axis, index in enumerate(indices)),
            np.zeros(len(places), np.int64),
        )

    def _moved(self, places: NDArray[np.int64], axes: Sequence[int]) -> NDArray[np.int64]:
        """Where the coefficients at ``places`` of an image with exchanged axes come from."""
        shape = (self.edge,) * self.dimensions
        indices = np.unravel_index(places, shape)
        back = [0] * self.dimensions
        for new, old in enumerate(axes):
            back[old] = new
        return np.asarray(np.ravel_multi_index([indices[n] for n in back], shape))


def _spectra(images_N: NDArray[np.float32]) -> _Spectra:
    count, edge, dimensions = len(images_N), images_N.shape[1], images_N.ndim - 1
    if set(images_N.shape[1:]) != {edge}:
        raise ValueError(f"images must have equal edges, not {images_N.shape[1:]}")
    full = dctn(images_N, axes=range(1, dimensions + 1), norm="ortho").reshape(count, -1)
    full[:, 0] = 0  # the mean
    norms = np.linalg.norm(full, axis=1, keepdims=True)
    full = np.where(norms > 1e-6 * math.sqrt(full.shape[1]), full / np.maximum(norms, 1e-30), 0)
    return _Spectra(np.ascontiguousarray(full, dtype=np.float32), edge, dimensions)


def _best_mirrored(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The largest sum over all signs that mirrored axes give to the parts, by halves.

    ``parts``: of each class of parities, the last axis first. For one axis, even plus and minus
    odd.
    """
    if len(parts) == 1:
        return parts[0]
    pairs = list(zip(parts[::2], parts[1::2], strict=True))
    plain = _best_mirrored([even + odd for even, odd in pairs])
    return np.maximum(plain, _best_mirrored([even - odd for even, odd in pairs]))


def _signs(parity_F: NDArray[np.int64], dimensions: int) -> NDArray[np.float32]:
    """What each set of mirrored axes does to the signs of coefficients (SF)."""
    bits = [(parity_F >> (dimensions - 1 - axis)) & 1 for axis in range(dimensions)]
    rows = [
        np.prod([1 - 2 * flag * bit for flag, bit in zip(flags, bits, strict=True)], axis=0)
        for flags in product((0, 1), repeat=dimensions)
    ]
    return np.array(rows, dtype=np.float32)
