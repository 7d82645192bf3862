"""Measure the features of all images, several images in parallel."""

from __future__ import annotations

from collections.abc import Sequence

from medtl.errors import DataError
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads
from medtl.shift.contract import FeatureExtractor, FeatureRows, View
from medtl.shift.images.domains import Image
from medtl.shift.images.pool import sample_rows
from medtl.shift.images.read import read_view
from medtl.shift.request import ShiftRequest

#: Default number of rows of all images together; kernels compare every pair of rows.
MOST_ROWS = 20_000


FEWEST_ROWS = 10


THREADS = 4


def measure_images(
    images: Sequence[Image], features: FeatureExtractor, request: ShiftRequest, reporter: Reporter
) -> list[FeatureRows]:
    """The feature rows of every image, in the order of ``images``."""
    most = request.rows_per_image or max(FEWEST_ROWS, MOST_ROWS // len(images))

    def rows(index: int) -> FeatureRows:
        view = view_of(images[index], request.settings.regions, features)
        return sample_rows(features.rows(view), most, request.seed + index)

    with reporter.progress(f"measuring {features.name}", len(images)) as advance:
        return in_threads(rows, range(len(images)), advance, threads=THREADS)


def view_of(image: Image, regions: tuple[str, ...], features: FeatureExtractor) -> View:
    """Read an image, with its target if ``features`` needs it.

    Raises:
        DataError: the target is needed and is not there, or is known only in part.
    """
    case = image.case
    if features.target and case.target is None and not case.class_name:
        raise DataError(
            f"features {features.name}: case {case.id} has no label; choose other --features"
        )
    if features.target and case.partial:
        raise DataError(
            f"features {features.name}: the labels of case {case.id} are known only in part; "
            "choose other --features, or leave out the case"
        )
    return read_view(case, image.modalities, regions, with_target=features.target)
