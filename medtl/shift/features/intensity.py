"""Location and scale of an image's intensities, and the shape of their histogram.

Axes: N value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.shift.features.region import Foreground
from medtl.transforms.histogram import CLIP_PERCENTILES, quantiles

PERCENTILES = (1, 5, 25, 75, 95, 99)

BINS = 64


def scale_columns(part: Foreground) -> dict[str, float]:
    """asinh of the median, interquartile range and outer percentiles of the stored intensities.

    For the large numbers that scanners store, asinh is log(2 x), so a factor is a constant
    difference; it is also defined for 0 and below.
    """
    low, first, median, third, high = quantiles(part.values_N, (1, 25, 50, 75, 99))
    columns = {"median": median, "iqr": third - first, "p01": low, "p99": high}
    return {f"scale/{name}": float(np.arcsinh(value)) for name, value in columns.items()}


def contrast_columns(part: Foreground) -> dict[str, float]:
    """The shape of the histogram, equal for a x + b and x if a > 0.

    Percentiles from the median in units of the spread, skewness, log kurtosis, entropy (0 to 1) and
    the position of the peak. All are 0 if nearly all values are equal.
    """
    names = [*(f"p{p:02}" for p in PERCENTILES), "skewness", "kurtosis", "entropy", "peak"]
    if part.spread == 0:
        return {f"contrast/{name}": 0.0 for name in names}
    scaled = part.scaled(quantiles(part.values_N, PERCENTILES))
    # One implant among thousands of voxels must not set the scale for all images.
    numbers = [*np.arcsinh(scaled), *_moments(part), *_histogram(part)]
    return {f"contrast/{name}": float(value) for name, value in zip(names, numbers, strict=True)}


def _moments(part: Foreground) -> tuple[float, float]:
    scaled_N = _clipped(part)
    scaled_N -= scaled_N.mean()
    square_N = scaled_N * scaled_N
    variance = float(square_N.mean())
    skewness = float((square_N * scaled_N).mean()) / variance**1.5
    return skewness, float(np.log((square_N * square_N).mean() / variance**2))


def _histogram(part: Foreground) -> tuple[float, float]:
    """Entropy over its maximum, and the position of the peak in units of the spread."""
    clipped_N = _clipped(part)
    low, high = clipped_N[0], clipped_N[-1]
    counts, edges = np.histogram(clipped_N, BINS, (low, high))
    share = counts[counts > 0] / counts.sum()
    entropy = float(-(share * np.log(share)).sum() / np.log(BINS))
    # Clipped values are in the outermost bins, which are no peak.
    smooth = np.convolve(counts[1:-1], np.ones(5), mode="same")
    peak = edges[1 + int(smooth.argmax())] + (edges[1] - edges[0]) / 2
    return entropy, float(peak)


def _clipped(part: Foreground) -> NDArray[np.float64]:
    low, high = quantiles(part.values_N, CLIP_PERCENTILES)
    return part.scaled(np.clip(part.values_N.astype(np.float64), low, high))
