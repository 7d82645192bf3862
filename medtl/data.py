"""Cases -> prepared, cached arrays -> patches whose randomness depends on the sample alone.

Axes: B batch, C modality, L region, I J K voxels.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from monai.transforms.transform import Transform
from torch import Tensor
from torch.utils.data import Dataset

from medtl.augment import NONE
from medtl.cache import cache_dir
from medtl.case import Case
from medtl.errors import DataError, MedtlError
from medtl.io.foreground import enclosed, foreground, head_box, within_uniform
from medtl.io.geometry import Header, check_same_grid
from medtl.io.images import read_header, read_labels, read_volume
from medtl.memory import free_memory_bytes
from medtl.modality import Modality
from medtl.stored import Stored
from medtl.transforms import Preset, prepare, prepared_shape

#: Voxels kept per region as possible patch centres.
MAX_CENTRES = 20_000
#: Share of the free memory that cached cases may take before they go to disk.
MEMORY_SHARE = 0.6
MOST_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """How cases become arrays: which channels in which order, which regions, which preset."""

    modalities: tuple[Modality, ...]
    regions: tuple[str, ...]
    preset: Preset

    def __call__(self, case: Case, *, with_target: bool = True) -> dict[str, Any]:
        """Read and prepare one case, its target too where it has one; errors name the case."""
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
        """Arrays as stored, a channel per modality; see :func:`medtl.transforms.prepare`."""
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
        """Without augmentation, which comes after: recipes alike in the rest prepare alike."""
        return replace(self, preset=replace(self.preset, augmentation=NONE))

    def shown(self, array_IJK: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which voxels show the patient."""
        if self.preset.fits:
            return np.ones(array_IJK.shape, dtype=bool)
        if not self.preset.whole:
            return foreground(array_IJK)
        shown_IJK = within_uniform(array_IJK)
        return np.ones(array_IJK.shape, dtype=bool) if shown_IJK is None else shown_IJK


def region_masks(
    labels_IJK: np.ndarray[Any, Any], case: Case, regions: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Label values -> one mask per region (LIJK), by the case's own label scheme."""
    return np.stack([np.isin(labels_IJK, case.regions[name]) for name in regions])


def check_case(case: Case, modalities: Sequence[Modality]) -> dict[str, Header]:
    """Read the headers a case needs and refuse missing modalities and mixed grids."""
    missing = [name for name in modalities if name not in case.images]
    if missing:
        raise DataError(
            f"{case.id}: no {', '.join(missing)} image; it has {', '.join(case.images)}"
        )
    headers: dict[str, Header] = {name: read_header(case.images[name]) for name in modalities}
    if case.target is not None:
        headers["segmentation"] = read_header(case.target)
    check_same_grid(case, headers)
    return headers


def prepared_bytes(header: Header, recipe: Preprocessor) -> int:
    """Upper bound of a prepared case in memory, from its header: the brain box is not known yet."""
    shape = prepared_shape(header.shape[:3], header.spacing_mm, recipe.preset)
    voxels = math.prod(shape)
    return voxels * (4 * len(recipe.modalities) + len(recipe.regions))


def choose_cache(needed_bytes: int, wanted: str, processes: int = 1) -> str:
    """ "memory" where the prepared cases fit, else "disk"; an explicit wish is kept.

    Several processes prepare each its share and find the others' on disk.
    """
    if wanted != "auto":
        return wanted
    if processes > 1:
        return "disk"
    return "memory" if needed_bytes < MEMORY_SHARE * free_memory_bytes() else "disk"


def choose_workers(device: str, processes: int) -> int:
    """Processes that make patches for each of the ``processes`` on this node.

    On the CPU the cores are busy with the network, and a thread beside it is enough.
    """
    if device == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MOST_WORKERS, max(1, (cores or 1) // processes - 1))


def cached_cases(
    cases: Sequence[Case], recipe: Preprocessor, cache: str, workers: int
) -> Dataset[Any]:
    """Prepared cases (plain tensors): kept by MONAI's CacheDataset, in files, or not at all."""
    from monai.data.dataset import CacheDataset
    from monai.data.dataset import Dataset as PlainDataset

    items = [_Item(case) for case in cases]
    steps = _Prepare(recipe)
    if cache == "disk":
        folder = cache_dir() / "prepared" / _digest(repr((recipe.preset.version, recipe.plain)))
        return Stored(items, steps, folder, _item_hash)
    if cache == "none":
        return _Cached(PlainDataset(items, steps))
    with _own_errors():
        return _Cached(
            CacheDataset(
                items, steps, num_workers=max(1, workers), progress=False, copy_cache=False
            )
        )


class _Cached(Dataset[Any]):
    """One of MONAI's datasets; what is wrong with a case is told as it was raised."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        with _own_errors():
            return self.dataset[index]


@contextmanager
def _own_errors() -> Iterator[None]:
    """MONAI wraps what a transform raises in a RuntimeError: take it out again."""
    try:
        yield
    except RuntimeError as problem:
        if isinstance(problem.__cause__, MedtlError):
            raise problem.__cause__ from None
        raise


@dataclass(frozen=True, slots=True)
class _Item:
    case: Case


def _item_hash(item: _Item) -> str:
    """Changes with the case's files. Raises DataError if one of them is gone."""
    files = [*item.case.images.values(), *([item.case.target] if item.case.target else [])]
    try:
        states = [(str(f.path), f.channel, f.path.stat()) for f in files]
    except OSError as problem:
        raise DataError(
            f"{item.case.id}: {problem.filename} cannot be read: {problem.strerror}"
        ) from problem
    stamps = [(path, channel, s.st_mtime_ns, s.st_size) for path, channel, s in states]
    return _digest(repr((item.case.regions, stamps)))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class _Prepare(Transform):
    """A case -> tensors. MONAI's CacheDataset keeps the results of its own Transforms alone."""

    def __init__(self, recipe: Preprocessor) -> None:
        self.recipe = recipe

    def __call__(self, item: _Item) -> dict[str, Any]:
        prepared = self.recipe(item.case)
        if "target" not in prepared:  # the case itself names its class
            return {"image": prepared["image"]}
        return {
            "image": prepared["image"],
            "target": prepared["target"],
            "centres": {
                name: _centres(mask)
                for name, mask in zip(self.recipe.regions, prepared["target"], strict=True)
            },
        }


def _centres(mask_IJK: Tensor) -> Tensor:
    """Up to ``MAX_CENTRES`` flat indices of a region's voxels, evenly spaced."""
    voxels = mask_IJK.flatten().nonzero().flatten()
    return voxels[:: max(1, -(-len(voxels) // MAX_CENTRES))].clone()
