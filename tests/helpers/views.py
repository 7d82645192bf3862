"""Features of an image that noise makes. Axes: C modality, I J K voxels."""

from __future__ import annotations

import numpy as np

from medtl.data.modality import Modality
from medtl.plugins.catalog import load_catalog
from medtl.shift.contract import FeatureExtractor, FeatureSettings, View


def features(name: str, **settings: object) -> FeatureExtractor:
    found: FeatureExtractor = load_catalog().features[name].load()(FeatureSettings(**settings))
    return found


def view(shape: tuple[int, int, int] = (20, 24, 28), channels: int = 1) -> View:
    """A box of patient in air; the spacing is finest in the plane of slices."""
    random = np.random.default_rng(0)
    shown = np.zeros((channels, *shape), dtype=bool)
    shown[:, 4:16, 3:20, 2:26] = True
    image = np.where(shown, random.normal(100, 20, shown.shape), 0).astype(np.float32)
    names = tuple(Modality(name) for name in ("flair", "t1", "t1ce", "t2")[:channels])
    return View("one", names, image, shown, (1.0, 1.0, 1.0), "RAS", is_2d=False)
