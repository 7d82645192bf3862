"""Cases on disk -> preprocessed arrays.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medtl.data.case import Case
from medtl.data.cohort import check_case, region_masks
from medtl.data.io.foreground import enclosed, foreground, head_box, within_uniform
from medtl.data.io.images import read_labels, read_volume
from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.transforms.augment import NONE
from medtl.transforms.preprocess import prepare
from medtl.transforms.presets import Preset


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """How cases become arrays: which channels in which order, which regions, which preset."""

    modalities: tuple[Modality, ...]
    regions: tuple[str, ...]
    preset: Preset

    def __call__(self, case: Case, *, with_target: bool = True) -> dict[str, Any]:
        """Read and preprocess one case and its target, if it has one; errors name the case."""
        headers = check_case(case, self.modalities)
        stored = [headers[name].dtype for name in self.modalities]
        volumes = [read_volume(case.images[name]) for name in self.modalities]
        affine = volumes[0][1]
        image_CIJK = np.stack([volume for volume, _ in volumes])
        target_LIJK = None
        if with_target and case.target is not None:
            labels_IJK, _ = read_labels(case.target, case.labels)
            target_LIJK = region_masks(labels_IJK, case, self.regions)
        try:
            return self.prepare(image_CIJK, affine, target_LIJK, stored)
        except DataError as problem:
            raise DataError(f"{case.id}: {problem}") from problem

    def prepare(
        self,
        image_CIJK: np.ndarray[Any, Any],
        affine: np.ndarray[Any, Any],
        target_LIJK: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
        stored: Sequence[np.dtype[Any]] = (),
    ) -> dict[str, Any]:
        """Preprocess arrays as stored, one channel per modality.

        See :func:`medtl.transforms.preprocess.prepare`.
        """
        if self.preset.head:
            box_IJK = head_box(image_CIJK)
            masks = [box_IJK] * len(image_CIJK)
        else:
            masks = [self.shown(volume) for volume in image_CIJK]
        brain_IJK = np.any(masks, axis=0)
        covered_CIJK = np.stack([brain_IJK & enclosed(mask) for mask in masks])
        names, preset = self.modalities, self.preset
        return prepare(image_CIJK, covered_CIJK, target_LIJK, affine, preset, names, stored)

    @property
    def plain(self) -> Preprocessor:
        """Without augmentation: equal plain preprocessors give equal arrays."""
        return replace(self, preset=replace(self.preset, augmentation=NONE))

    def shown(self, array_IJK: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which voxels show the patient."""
        if self.preset.fits:
            return np.ones(array_IJK.shape, dtype=bool)
        if not self.preset.whole:
            return foreground(array_IJK)
        shown_IJK = within_uniform(array_IJK)
        return np.ones(array_IJK.shape, dtype=bool) if shown_IJK is None else shown_IJK
