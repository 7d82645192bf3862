"""Rows of features of every image, several images at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from medtl.console import Reporter
from medtl.errors import DataError
from medtl.shift.contract import Features, Measured
from medtl.shift.pooling import thinned
from medtl.shift.reading import read_view
from medtl.shift.request import Request
from medtl.shift.sides import Image

#: Rows of all images together, unless the user says otherwise: kernels compare each with each.
MOST_ROWS = 20_000
FEWEST_ROWS = 10
THREADS = 4


def measure_images(
    images: Sequence[Image],
    features: Features,
    request: Request,
    regions: tuple[str, ...],
    reporter: Reporter,
) -> list[Measured]:
    """Rows of every image, in the order of ``images``."""
    most = request.rows_per_image or max(FEWEST_ROWS, MOST_ROWS // len(images))

    def rows(index: int) -> Measured:
        image = images[index]
        if features.target and image.case.target is None and not image.case.class_name:
            raise DataError(f"features {features.name}: case {image.case.id} is not labelled")
        view = read_view(image.case, image.modalities, regions, with_target=features.target)
        return thinned(features.rows(view), most, request.seed + index)

    found = []
    with (
        reporter.progress(f"measuring {features.name}", len(images)) as advance,
        ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads,
    ):
        try:
            for done, measured in enumerate(threads.map(rows, range(len(images)))):
                found.append(measured)
                advance(done + 1)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return found
