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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

#: Share of the energy that is compared first.
FIRST = 0.93

#: Images compared with as many others at once.
BLOCK = 512

#: Pairs of a block that are compared one by one; more are found faster all together.
FEW = 400

Order = tuple[int, ...]

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
    images_N: NDArray[np.float32],
    least: float,
    views: Iterable[NDArray[np.float32]] = (),
    *,
    turned_views: bool = True,
) -> list[Alike]:
    """Every pair of which some orientation has a correlation of ``least`` or more, in order.

    Args:
        images_N: images of equal edges, such as 1000 x 32 x 32 or 50 x 24 x 24 x 24; all their
            orientations are compared. A constant image is like no other.
        least: above 0.
        views: the same images, each cropped in the same way. Every view is compared with every
            whole image, and a pair bears the best of its views.
        turned_views: whether views are compared in all orientations, or only as they are.
    """
    whole = _spectra(images_N)
    best: dict[tuple[int, int], Alike] = {}
    for number, view in enumerate(chain([whole], map(_spectra, views))):
        for pair in whole.pairs(view, least, number, turned=turned_views or number == 0):
            key = (min(pair.first, pair.second), max(pair.first, pair.second))
            if key not in best or pair.correlation > best[key].correlation:
                best[key] = pair
    return [best[key] for key in sorted(best)]


@dataclass(frozen=True, slots=True)
class _Spectra:
    """Cosine coefficients of images of mean 0 and norm 1; zeros for constant ones."""

    full_NF: NDArray[np.float32]
    edge: int
    dimensions: int

    def pairs(self, view: _Spectra, least: float, number: int, *, turned: bool) -> Iterator[Alike]:
        """Images of ``view``, which has the ``number``, with those of this one, each with all.

        Where they are the same, a pair is found once, its first image before its second.
        """
        axes = range(self.dimensions)
        orders = list(permutations(axes)) if turned else [tuple(axes)]
        mirrors = list(product((0, 1), repeat=self.dimensions)) if turned else [(0,) * len(axes)]
        first_F = self._strongest()
        rest_F = np.setdiff1d(np.arange(self.full_NF.shape[1]), first_F)
        first, rest = (self._sides(view, own, orders, turned) for own in (first_F, rest_F))
        signs_SK = _signs(len(axes), mirrors)[:, : len(first[0].left_K)]
        rest_N, rest_of_view_N = self._rest(first_F), view._rest(first_F)
        count, once = len(self.full_NF), view is self
        for low in range(0, count, BLOCK):
            for high in range(low if once else 0, count, BLOCK):
                rows, columns = slice(low, low + BLOCK), slice(high, high + BLOCK)
                parts = [side.product(rows, columns) for side in first]
                best = _best_mirrored(parts[0])
                for own in parts[1:]:
                    np.maximum(best, _best_mirrored(own), out=best)
                best = best + np.multiply.outer(rest_of_view_N[rows], rest_N[columns])
                a, b = np.nonzero(best >= least - ROUNDING)
                kept = a + low < b + high if once else a + low != b + high
                a, b = a[kept], b[kept]
                if len(a) == 0:
                    continue
                scores = np.concatenate(
                    [
                        (np.stack([part[a, b] for part in own], 1) + side.of(rows, columns, a, b))
                        @ signs_SK.T
                        for own, side in zip(parts, rest, strict=True)
                    ],
                    axis=1,
                )
                tops = scores.max(1)
                for k in np.flatnonzero(tops >= least):
                    order, mirror = divmod(int(scores[k].argmax()), len(mirrors))
                    flipped = tuple(n for n, flag in enumerate(mirrors[mirror]) if flag)
                    pair = int(a[k]) + low, int(b[k]) + high
                    yield Alike(*pair, float(tops[k]), orders[order], flipped, number)

    def _sides(
        self, view: _Spectra, own_F: NDArray[np.int64], orders: Sequence[Order], turned: bool
    ) -> list[_Side]:
        """Coefficients of both, by their classes of parities, for every order of the axes."""
        parity_F = self._parity(own_F) if turned else np.zeros(len(own_F), np.int64)
        own_K = [own_F[parity_F == k] for k in range(2**self.dimensions if turned else 1)]
        left_K = [np.ascontiguousarray(view.full_NF[:, own]) for own in own_K]
        return [
            _Side(
                left_K,
                [np.ascontiguousarray(self.full_NF[:, self._moved(own, axes)]) for own in own_K],
            )
            for axes in orders
        ]

    def _rest(self, first_F: NDArray[np.int64]) -> NDArray[np.float32]:
        """The norm of each image's other coefficients."""
        rest_N = np.sqrt(np.clip(1 - np.square(self.full_NF[:, first_F]).sum(1), 0, None))
        rest_N[~self.full_NF.any(axis=1)] = 0
        return np.asarray(rest_N)

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


def _signs(dimensions: int, mirrors: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
    """What each set of mirrored axes does to the signs of each class of parities (SK)."""
    parity_K = np.arange(2**dimensions)
    bits = [(parity_K >> (dimensions - 1 - axis)) & 1 for axis in range(dimensions)]
    rows = [
        np.prod([1 - 2 * flag * bit for flag, bit in zip(flags, bits, strict=True)], axis=0)
        for flags in mirrors
    ]
    return np.array(rows, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Side:
    """Coefficients of a view, and those of the images that they meet in one order of the axes."""

    left_K: list[NDArray[np.float32]]
    right_K: list[NDArray[np.float32]]

    def product(self, rows: slice, columns: slice) -> list[NDArray[np.float32]]:
        """What each class of parities adds to the correlation of every two images of a block."""
        pairs = zip(self.left_K, self.right_K, strict=True)
        return [left[rows] @ right[columns].T for left, right in pairs]

    def of(
        self, rows: slice, columns: slice, a: NDArray[np.int64], b: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The same for the pairs ``a``, ``b`` of a block alone (NK)."""
        if len(a) > FEW:
            return np.stack([part[a, b] for part in self.product(rows, columns)], 1)
        pairs = zip(self.left_K, self.right_K, strict=True)
        own = [np.einsum("nf,nf->n", left[rows][a], right[columns][b]) for left, right in pairs]
        return np.stack(own, 1)
