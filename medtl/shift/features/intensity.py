"""Where an image's intensities lie, and what shape their histogram has.

Axes: N value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.shift.features.region import Foreground
from medtl.transforms.histogram import CLIP_PERCENTILES, quantiles

PERCENTILES = (1, 5, 25, 75, 95, 99)


BINS = 64


def scale_columns(shown: Foreground) -> dict[str, float]:
    """Median, interquartile range and outer percentiles of the stored intensities.

    Each through asinh: log(2x) for the large numbers that scanners store, so that a factor is a
    step, but defined for 0 and below.
    """
    low, first, median, third, high = quantiles(shown.values_N, (1, 25, 50, 75, 99))
    found = {"median": median, "iqr": third - first, "p01": low, "p99": high}
    return {f"scale/{name}": float(np.arcsinh(value)) for name, value in found.items()}


def contrast_columns(shown: Foreground) -> dict[str, float]:
    """The histogram's shape: the same for a x + b as for x, if a > 0.

    Percentiles from the median in units of the spread, skewness and log kurtosis, how evenly the
    values fill their range (entropy, 0 to 1) and where the fullest part of it lies. All 0 where
    nearly all values are equal.
    """
    names = [*(f"p{p:02}" for p in PERCENTILES), "skewness", "kurtosis", "entropy", "peak"]
    if shown.spread == 0:
        return {f"contrast/{name}": 0.0 for name in names}
    places = shown.scaled(quantiles(shown.values_N, PERCENTILES))
    # One implant among thousands of voxels must not set the scale for all images.
    numbers = [*np.arcsinh(places), *_moments(shown), *_histogram(shown)]
    return {f"contrast/{name}": float(value) for name, value in zip(names, numbers, strict=True)}


def _moments(shown: Foreground) -> tuple[float, float]:
    scaled_N = _clipped(shown)
    scaled_N -= scaled_N.mean()
    square_N = scaled_N * scaled_N
    variance = float(square_N.mean())
    skewness = float((square_N * scaled_N).mean()) / variance**1.5
    return skewness, float(np.log((square_N * square_N).mean() / variance**2))


def _histogram(shown: Foreground) -> tuple[float, float]:
    """Entropy over its maximum, and the place of the peak in units of the spread."""
    clipped_N = _clipped(shown)
    low, high = clipped_N[0], clipped_N[-1]
    counts, edges = np.histogram(clipped_N, BINS, (low, high))
    share = counts[counts > 0] / counts.sum()
    entropy = float(-(share * np.log(share)).sum() / np.log(BINS))
    # What was clipped stands in the outermost bins and is no peak.
    smooth = np.convolve(counts[1:-1], np.ones(5), mode="same")
    peak = edges[1 + int(smooth.argmax())] + (edges[1] - edges[0]) / 2
    return entropy, float(peak)


def _clipped(shown: Foreground) -> NDArray[np.float64]:
    low, high = quantiles(shown.values_N, CLIP_PERCENTILES)
    return shown.scaled(np.clip(shown.values_N.astype(np.float64), low, high))
