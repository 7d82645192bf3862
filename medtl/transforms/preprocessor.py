"""Cases on disk -> preprocessed arrays.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from medtl.data.case import Case
from medtl.data.cohort import check_case, region_masks, unknown_masks
from medtl.data.io.foreground import enclosed, foreground, head_box, within_uniform
from medtl.data.io.images import read_labels, read_volume
from medtl.data.modality import Modality, are_colours
from medtl.data.voxel_size import as_spacing, axes_mm, in_mm, is_odd
from medtl.errors import DataError
from medtl.runtime.parallel import in_threads
from medtl.transforms.augment import NONE
from medtl.transforms.image_record import (
    ImageRecord,
    Mask,
    Shown,
    off_window,
    shown_as_recorded,
    within_window,
)
from medtl.transforms.preprocess import prepare, prepare_as_nnunet, stacked
from medtl.transforms.presets import Preset


def ignore(text: str) -> None:
    """Take no notice of a warning."""


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """How cases become arrays: which channels in which order, which regions, which preset."""

    modalities: tuple[Modality, ...]
    regions: tuple[str, ...]
    preset: Preset
    #: called with how the image of a case differs from those of the training
    warn: Callable[[str], None] = field(default=ignore, compare=False, repr=False)

    def __call__(self, case: Case, *, with_target: bool = True) -> dict[str, Any]:
        """Read and preprocess one case and its target, if it has one; errors name the case."""
        headers = check_case(case, self.modalities)
        stored = [headers[name].dtype for name in self.modalities]
        volumes = in_threads(lambda name: read_volume(case.images[name]), self.modalities)
        affine = volumes[0][1]
        image_CIJK = stacked([volume for volume, _ in volumes])
        del volumes  # a large image is not to be held twice
        target_LIJK = unknown_LIJK = None
        if with_target and case.target is not None:
            labels_IJK, _ = read_labels(case.target, case.labels)
            target_LIJK = region_masks(labels_IJK, case, self.regions)
            unknown_LIJK = unknown_masks(labels_IJK, case, self.regions)
        paths = [case.images[name].path for name in self.modalities]
        warn = replace(self, warn=lambda text: self.warn(f"{case.id}: {text}"))
        for one, other in self._same_channels(image_CIJK):
            warn.warn(f"{one} and {other} are the same image; check the files")
        if not self.preset.fits:  # else no mm are known
            self._check_edges(affine, warn.warn)
        try:
            prepared = warn.prepare(image_CIJK, affine, target_LIJK, stored, unknown_LIJK)
        except DataError as problem:
            raise DataError(f"{case.id}: {problem}") from problem
        for path, channel_IJK in zip(paths, prepared["image"], strict=True):
            if not channel_IJK.isfinite().all():
                raise DataError(
                    f"{path}: its values cannot be normalised, the result is not finite; repair "
                    "the case or leave it out"
                )
        return prepared

    def without_target(self, case: Case) -> dict[str, Any]:
        """Prepare one case without its target; missing modalities become 0, as in training."""
        present = [name for name in self.modalities if name in case.images]
        prepared = replace(self, modalities=tuple(present))(case, with_target=False)
        if len(present) < len(self.modalities):
            image_CIJK = prepared["image"]
            every_CIJK = image_CIJK.new_zeros((len(self.modalities), *image_CIJK.shape[1:]))
            every_CIJK[[self.modalities.index(name) for name in present]] = image_CIJK
            prepared["image"] = every_CIJK
        return prepared

    def prepare(
        self,
        image_CIJK: np.ndarray[Any, Any],
        affine: np.ndarray[Any, Any],
        target_LIJK: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
        stored: Sequence[np.dtype[Any]] = (),
        unknown_LIJK: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
    ) -> dict[str, Any]:
        """Preprocess arrays as stored, one channel per modality.

        See :func:`medtl.transforms.preprocess.prepare`.
        """
        names, preset = self.modalities, self.preset
        if preset.nnunet:
            recipe = preset.nnunet
            return prepare_as_nnunet(image_CIJK, affine, target_LIJK, preset, recipe, unknown_LIJK)
        shown = self._each_shown(image_CIJK)
        for name, each in zip(names, shown, strict=False):
            if each.differs:
                self.warn(f"{name} differs from the training images: {each.differs}")
        covered_CIJK = _filled([each.mask_IJK for each in shown])
        if any(each.differs for each in shown):
            image_CIJK = stacked([each.image_IJK for each in shown])
        settings = preset, names, stored, unknown_LIJK
        return prepare(image_CIJK, covered_CIJK, target_LIJK, affine, *settings)

    def _same_channels(self, image_CIJK: np.ndarray[Any, Any]) -> Iterator[tuple[str, str]]:
        """Pairs of modalities with the same values."""
        if are_colours(self.modalities):
            return
        named = zip(self.modalities, image_CIJK, strict=True)
        for (one, first_IJK), (other, second_IJK) in combinations(named, 2):
            if np.array_equal(first_IJK, second_IJK):
                yield one, other

    def _check_edges(self, affine: np.ndarray[Any, Any], warn: Callable[[str], None]) -> None:
        """Warn of voxels so small or large that the unit in the header may be wrong."""
        edges_mm = np.linalg.norm(affine[:3, :3], axis=0).tolist()
        usual_mm = axes_mm(self.preset.spacing_mm)
        if is_odd(edges_mm, usual_mm):
            own, usual = (in_mm(as_spacing(edges)) for edges in (edges_mm, usual_mm))
            warn(
                f"its voxels are {own}, those of the training grid {usual}; check the unit in its "
                "header"
            )

    def covered(self, image_CIJK: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Where each channel of a native image shows the patient (CIJK)."""
        return _filled([each.mask_IJK for each in self._each_shown(image_CIJK)])

    def _each_shown(self, image_CIJK: np.ndarray[Any, Any]) -> list[Shown]:
        if self.preset.head:
            box_IJK = head_box(image_CIJK)
            return [Shown(channel_IJK, box_IJK) for channel_IJK in image_CIJK]
        names = self.modalities or [""] * len(image_CIJK)
        channels = list(zip(image_CIJK, names, strict=False))
        return in_threads(lambda channel: self.shown(*channel), channels)

    @property
    def plain(self) -> Preprocessor:
        """Without augmentation: equal plain preprocessors give equal arrays."""
        return replace(self, preset=replace(self.preset, augmentation=NONE))

    def shown(self, array_IJK: np.ndarray[Any, Any], modality: str = "") -> Shown:
        """Which voxels show the patient: as recorded of the training images of this modality."""
        preset = self.preset
        if preset.fits:
            return Shown(array_IJK, np.ones(array_IJK.shape, dtype=bool))
        record: ImageRecord | None = dict(preset.images).get(modality)
        window = dict(preset.windows).get(modality)
        if record is not None and window is not None:
            return within_window(array_IJK, record, window)
        if record is not None:
            return shown_as_recorded(array_IJK, record, whole=preset.whole)
        off = off_window(array_IJK, window) if window is not None else ""
        if not preset.whole:
            return Shown(array_IJK, foreground(array_IJK), off)
        shown_IJK = within_uniform(array_IJK)
        every_IJK = np.ones(array_IJK.shape, dtype=bool)
        return Shown(array_IJK, every_IJK if shown_IJK is None else shown_IJK, off)


def _filled(masks: Sequence[Mask]) -> Mask:
    """Each channel's mask without holes, within what any channel shows."""
    brain_IJK = np.any(masks, axis=0)
    return np.stack(in_threads(lambda mask_IJK: brain_IJK & enclosed(mask_IJK), masks))
