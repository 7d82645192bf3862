"""Harmonisers: fitted on a set of images and applied to others to make them similar.

Axes: C modality, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from statistics import median, median_low

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.grids import resample_array
from medtl.errors import DataError
from medtl.shift.contract import Fitted, Harmoniser, View
from medtl.transforms.histogram import HISTOGRAM, NYUL, Landmarks, Standard
from medtl.transforms.intensity import zscore_in_brain

#: What resampling fits: mm per axis of volumes, and the longest edge of pictures in pixels.
SPACING, EDGE = "spacing_mm", "edge_px"


def zscore() -> Harmoniser:
    """Clip to percentiles .5 and 99.5 of the foreground, then scale it to mean 0 and deviation 1.

    All presets do the same. The background becomes 0. Nothing is fitted.
    """

    def apply(view: View, _fitted: Fitted) -> View:
        pairs = zip(view.image_CIJK, view.foreground_CIJK, strict=True)
        return replace(view, image_CIJK=np.stack([_zscored(*pair) for pair in pairs]))

    return Harmoniser("zscore", lambda views: {}, apply)


def histogram_matching() -> Harmoniser:
    """Map intensities to the mean quantile function of the fitted images, by modality."""
    return _by_landmarks("histogram-matching", HISTOGRAM)


def nyul() -> Harmoniser:
    """Map deciles to their mean over the fitted images, by modality (Nyul and Udupa 1999).

    Percentiles 1 and 99 of each image are mapped to 0 and 100 first.
    """
    return _by_landmarks("nyul", NYUL)


def resampling() -> Harmoniser:
    """Resample volumes to the median spacing per axis of the fitted images.

    Pictures are resampled to the median of the longest edges, with the same aspect. Finer grids are
    averaged, coarser ones interpolated.
    """

    def apply(view: View, fitted: Fitted) -> View:
        shape, spacing_mm = _grid(view, fitted)
        target_LIJK = view.target_LIJK
        return replace(
            view,
            image_CIJK=np.stack([resample_array(one, shape) for one in view.image_CIJK]),
            foreground_CIJK=_masks(view.foreground_CIJK, shape),
            target_LIJK=None if target_LIJK is None else _masks(target_LIJK, shape),
            spacing_mm=spacing_mm,
        )

    return Harmoniser("resampling", _fit_grid, apply)


def _zscored(
    image_IJK: NDArray[np.float32], foreground_IJK: NDArray[np.bool_]
) -> NDArray[np.float32]:
    if foreground_IJK.any():
        return zscore_in_brain(image_IJK, foreground_IJK)
    return np.zeros(image_IJK.shape, dtype=np.float32)


def _by_landmarks(name: str, landmarks: Landmarks) -> Harmoniser:
    def fit(views: Iterable[View]) -> Fitted:
        measured: dict[str, list[list[float]]] = {}
        for view in views:
            channels = zip(view.modalities, view.image_CIJK, view.foreground_CIJK, strict=True)
            for modality, image_IJK, foreground_IJK in channels:
                row = landmarks.measure(image_IJK, foreground_IJK)
                measured.setdefault(modality, []).append(row)
        return {name: landmarks.standard(rows, name) for name, rows in measured.items()}

    def apply(view: View, fitted: Fitted) -> View:
        standard = Standard(name, landmarks.percentiles, tuple(fitted.items()))
        channels = zip(view.modalities, view.image_CIJK, view.foreground_CIJK, strict=True)
        moved = [standard.apply(*channel) for channel in channels]
        return replace(view, image_CIJK=np.stack(moved))

    return Harmoniser(name, fit, apply, landmarks)


def _fit_grid(views: Iterable[View]) -> Fitted:
    spacings: list[tuple[float, ...]] = []
    edges: list[int] = []
    for view in views:
        if view.is_2d:
            edges.append(max(view.image_CIJK.shape[1:]))
        else:
            spacings.append(view.spacing_mm)
    fitted = {SPACING: tuple(map(median, zip(*spacings, strict=True)))} if spacings else {}
    return fitted | ({EDGE: (float(median_low(edges)),)} if edges else {})


def _grid(view: View, fitted: Fitted) -> tuple[tuple[int, ...], tuple[float, float, float]]:
    """The new shape and the nominal spacing: equal grids stay equal.

    The ends of the grid may move by half a voxel.
    """
    i, j, k = view.image_CIJK.shape[1:]
    if (EDGE if view.is_2d else SPACING) not in fitted:
        wanted, other = ("pictures", "volumes") if view.is_2d else ("volumes", "pictures")
        raise DataError(f"{view.case}: resampling was fitted on {other}, not on {wanted}")
    if view.is_2d:
        factor = fitted[EDGE][0] / max(i, j)
        return (max(1, round(i * factor)), max(1, round(j * factor)), k), view.spacing_mm
    x, y, z = fitted[SPACING]
    shape = tuple(
        max(1, round(n * mm / new))
        for n, mm, new in zip((i, j, k), view.spacing_mm, (x, y, z), strict=True)
    )
    return shape, (x, y, z)


def _masks(masks_CIJK: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.stack([resample_array(mask, shape) >= 0.5 for mask in masks_CIJK])
