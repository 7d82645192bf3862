"""Rows of features of every image, several images at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from medtl.errors import DataError
from medtl.runtime.console import Reporter
from medtl.shift.contract import FeatureExtractor, FeatureRows, View
from medtl.shift.images.domains import Image
from medtl.shift.images.pool import thinned
from medtl.shift.images.read import read_view
from medtl.shift.request import ShiftRequest

#: Rows of all images together, unless the user says otherwise: kernels compare each with each.
MOST_ROWS = 20_000


FEWEST_ROWS = 10


THREADS = 4


T = TypeVar("T")


def measure_images(
    images: Sequence[Image], features: FeatureExtractor, request: ShiftRequest, reporter: Reporter
) -> list[FeatureRows]:
    """Rows of every image, in the order of ``images``."""
    most = request.rows_per_image or max(FEWEST_ROWS, MOST_ROWS // len(images))

    def rows(index: int) -> FeatureRows:
        view = view_of(images[index], request.settings.regions, features)
        return thinned(features.rows(view), most, request.seed + index)

    return in_parallel(rows, len(images), f"measuring {features.name}", reporter)


def view_of(image: Image, regions: tuple[str, ...], features: FeatureExtractor) -> View:
    """Read an image with all that ``features`` need."""
    case = image.case
    if features.target and case.target is None and not case.class_name:
        raise DataError(
            f"features {features.name}: case {case.id} is not labelled; leave these features out"
        )
    return read_view(case, image.modalities, regions, with_target=features.target)


def in_parallel(work: Callable[[int], T], count: int, label: str, reporter: Reporter) -> list[T]:
    """``work`` of 0 to ``count`` - 1 in threads, in order; the first error stops the rest."""
    found = []
    with (
        reporter.progress(label, count) as advance,
        ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads,
    ):
        try:
            for done, result in enumerate(threads.map(work, range(count))):
                found.append(result)
                advance(done + 1)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return found
