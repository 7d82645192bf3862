"""Copies of images: mirrored, turned, resized, compressed again, brightened, or cropped a little.

Candidates come from an exact search over all orientations and some crops. Each is then laid onto
the other as well as can be, and the details of both must agree.

Axes: N image, I J (K) pixels of a thumbnail.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from medtl.audit.search.alike import Alike, alike_pairs
from medtl.audit.search.thumbnails import as_rows

#: Edges of the images that are searched, and of those that decide.
EDGE, FINE_EDGE = 32, 64

#: Details between these widths (standard deviations, in pixels of that edge) are searched, and
#: finer ones decide.
SEARCHED, DECIDING = (0.7, 2.0), (0.5, 1.5)

#: Correlations of a candidate and of a copy.
CANDIDATE, COPY = 0.75, 0.95

#: Views that stand for crops: the share of each edge that is seen, and places along each.
VIEW, PLACES = 0.93, 3

#: Of the finer search: views, how far their edges may lie from those of the coarse one, and the
#: least correlation of finer details.
FINER_VIEWS, NEAR, LIKELY = (0.95, 0.9), 0.0501, 0.8

#: What few pixels may take from the correlation of a copy, and the most that smaller steps add to
#: it, by the length of the step before.
COARSE_LOSS, GAIN = 0.03, 3.0

#: Images, and candidates, that are looked at together.
CHUNK = 1024

#: Steps by which the edges of a crop are moved, as shares of the image.
STEPS = (0.02, 0.01, 0.005, 0.0025)

#: The most that a crop leaves out.
MOST_CROPPED = 0.2

#: Correlation of copies of volumes, whose orientations alone are searched.
VOLUME_COPY = 0.92

#: Pictures of which crops are compared in all orientations; of more, only as they lie.
MOST_TURNED = 5000

Box = tuple[tuple[float, float], tuple[float, float]]

Level = TypeVar("Level", np.uint8, np.float32)

WHOLE: Box = ((0.0, 1.0), (0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Copy:
    """Two images, by their places, that show the same.

    Args:
        way: how the second one lies to the first: "", "mirrored", "turned" or "cropped", or
            several of them.
    """

    first: int
    second: int
    correlation: float
    way: str


def copies_of_pictures(thumbnails_N: NDArray[np.uint8]) -> list[Copy]:
    """Pairs of pictures that are copies of each other, by their first image."""
    whole, *crops = _views(VIEW)
    candidates = alike_pairs(
        _searched(thumbnails_N, whole),
        CANDIDATE,
        (_searched(thumbnails_N, crop) for crop in crops),
        turned_views=len(thumbnails_N) <= MOST_TURNED,
    )
    by_view: dict[int, list[Alike]] = defaultdict(list)
    for pair in candidates:
        by_view[pair.view].append(pair)
    finer_N = _of_all(thumbnails_N, lambda roots: _details(_halved(roots), whole, EDGE, DECIDING))
    found = []
    for view, own in by_view.items():
        near = _near((whole, *crops)[view])
        own.sort(key=lambda pair: pair.first)  # so that the details of each are made once
        for start in range(0, len(own), CHUNK):
            for pair, box in _likely(thumbnails_N, finer_N, own[start : start + CHUNK], near):
                second = _laid_alike(thumbnails_N, pair)
                fitted = _fitted(_roots(thumbnails_N[pair.first]), _roots(second), box)
                if fitted.correlation >= COPY:
                    a, b = sorted((pair.first, pair.second))
                    found.append(Copy(a, b, fitted.correlation, _way(pair, fitted.box)))
    return sorted(found, key=lambda one: (one.first, one.second))


def _searched(thumbnails_N: NDArray[np.uint8], box: Box) -> NDArray[np.float32]:
    """What is searched, of a part of every image."""
    return _of_all(thumbnails_N, lambda roots: _details(roots, box, EDGE, SEARCHED))


def _of_all(
    thumbnails_N: NDArray[np.uint8],
    function: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """A function of the roots of all images, by and by."""
    blocks = range(0, len(thumbnails_N), CHUNK)
    return np.concatenate([function(_roots(thumbnails_N[n : n + CHUNK])) for n in blocks])


def _near(box: Box) -> list[Box]:
    """Crops near one, of other sizes, and the whole image."""
    finer = [one for seen in FINER_VIEWS for one in _views(seen)[1:]]
    return [WHOLE, *(one for one in finer if _apart(one, box) <= NEAR)]


def _apart(one: Box, other: Box) -> float:
    """The largest distance of two edges."""
    return float(np.abs(np.subtract(one, other)).max())


def _likely(
    thumbnails_N: NDArray[np.uint8],
    finer_N: NDArray[np.float32],
    candidates: Sequence[Alike],
    boxes: Sequence[Box],
) -> Iterator[tuple[Alike, Box]]:
    """The candidates whose finer details agree in one of the boxes, and the best one.

    ``finer_N``: the finer details of every whole image.
    """
    firsts, place = np.unique([pair.first for pair in candidates], return_inverse=True)
    roots_N = _halved(_roots(thumbnails_N[firsts]))
    wanted = as_rows(np.stack([_laid_alike(finer_N, pair) for pair in candidates]))
    scores = np.stack(
        [
            np.einsum("nf,nf->n", as_rows(_details(roots_N, box, EDGE, DECIDING))[place], wanted)
            for box in boxes
        ]
    )
    for pair, best, score in zip(
        candidates, scores.argmax(axis=0), scores.max(axis=0), strict=True
    ):
        if score >= LIKELY:
            yield pair, boxes[int(best)]


def copies_of_volumes(thumbnails_N: NDArray[np.uint8]) -> list[Copy]:
    """Pairs of volumes that are copies of each other, also mirrored and turned."""
    roots_N = _roots(thumbnails_N)
    fine, coarse = (
        gaussian_filter(roots_N, (0, width, width, width), mode="nearest") for width in DECIDING
    )
    return [
        Copy(pair.first, pair.second, pair.correlation, _way(pair, WHOLE))
        for pair in alike_pairs(fine - coarse, VOLUME_COPY)
    ]


def _roots(thumbnails_N: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Roots of the levels, which make details of dark and of bright parts count alike."""
    return np.sqrt(np.asarray(thumbnails_N, dtype=np.float32))


def _views(seen: float) -> list[Box]:
    """The whole image, and crops of which this share of each edge is seen."""
    starts = np.linspace(0.0, 1.0 - seen, PLACES)
    sides = [(float(start), float(start) + seen) for start in starts]
    return [WHOLE, *product(sides, sides)]


def _laid_alike(images_N: NDArray[Level], pair: Alike) -> NDArray[Level]:
    """The second image of a pair, lying as the first one."""
    moved = images_N[pair.second].transpose(pair.axes)
    return np.flip(moved, pair.mirrored) if pair.mirrored else moved


@dataclass(frozen=True, slots=True)
class _Fitted:
    box: Box
    correlation: float


def _fitted(first_IJ: NDArray[np.float32], second_IJ: NDArray[np.float32], box: Box) -> _Fitted:
    """The box of the first image that the second one shows, and how well their details agree.

    It is looked for on few pixels, and then on more.

    Args:
        box: where to start.
    """
    coarse = _climbed(_halved(first_IJ), _halved(second_IJ), box, EDGE, STEPS)
    if coarse.correlation < COPY - COARSE_LOSS:
        return coarse
    return _climbed(first_IJ, second_IJ, coarse.box, FINE_EDGE, STEPS[2:])


def _halved(image_IJ: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half the pixels along each edge, of an image or of several."""
    quarters = [image_IJ[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return np.asarray(sum(quarters[1:], quarters[0]) / 4, dtype=np.float32)


def _climbed(
    first_IJ: NDArray[np.float32],
    second_IJ: NDArray[np.float32],
    box: Box,
    edge: int,
    steps: Sequence[float],
) -> _Fitted:
    """The best box that single steps reach, on images of an edge; gives up where it is far."""
    (wanted,) = as_rows(_details(second_IJ, WHOLE, edge, DECIDING)[None])

    def agreement(box: Box) -> _Fitted:
        (own,) = as_rows(_details(first_IJ, box, edge, DECIDING)[None])
        return _Fitted(box, float(own @ wanted))

    best = agreement(box)
    for step in steps:
        while True:
            better = max(map(agreement, _beside(best.box, step)), key=lambda one: one.correlation)
            if better.correlation <= best.correlation:
                break
            best = better
        if best.correlation < COPY - COARSE_LOSS - GAIN * step:
            break
    return best


def _beside(box: Box, step: float) -> Iterator[Box]:
    """The box with one edge, or two opposite ones, moved by a step."""
    for axis, moves in product((0, 1), ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1))):
        low, high = box[axis]
        side = (max(0.0, low + moves[0] * step), min(1.0, high + moves[1] * step))
        if side != box[axis] and side[1] - side[0] >= 1 - MOST_CROPPED:
            yield (side, box[1]) if axis == 0 else (box[0], side)


def _details(
    roots: NDArray[np.float32], box: Box, edge: int, widths: tuple[float, float]
) -> NDArray[np.float32]:
    """What lies between two widths of blur, of the part of each image in a box.

    Args:
        roots: an image, or several.
        box: the start and the end along each axis, as shares of the image.
        edge: of the result; ``widths`` are in its pixels.
    """
    (rows, columns), (old, other) = box, roots.shape[-2:]
    fine, coarse = (
        _seen(old, rows, edge, width) @ roots @ _seen(other, columns, edge, width).T
        for width in widths
    )
    return np.asarray(fine - coarse, dtype=np.float32)


@lru_cache(4096)
def _seen(old: int, side: tuple[float, float], new: int, width: float) -> NDArray[np.float32]:
    """The weight of each old pixel in each new one (rows), which is blurred by ``width``."""
    edges = np.linspace(side[0] * old, side[1] * old, new + 1)
    starts = np.arange(old)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    overlap = np.clip(overlap, 0, None)
    cover = overlap / overlap.sum(axis=1, keepdims=True)
    return np.asarray(gaussian_filter1d(cover, width, axis=0, mode="nearest"), dtype=np.float32)


def _way(pair: Alike, box: Box) -> str:
    dimensions = len(pair.axes)
    order = np.array([[float(axis == n) for axis in pair.axes] for n in range(dimensions)])
    reflects = np.linalg.det(order) * (-1) ** len(pair.mirrored) < 0
    turned = pair.is_turned and (pair.axes != tuple(range(dimensions)) or len(pair.mirrored) > 1)
    words = ["mirrored"] * bool(reflects) + ["turned"] * turned
    cropped = any(side[1] - side[0] < 0.99 for side in box)
    return " and ".join(words + ["cropped"] * cropped)
