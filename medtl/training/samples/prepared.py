"""Cases -> prepared, cached arrays -> patches whose randomness depends on the sample alone.

Axes: B batch, C modality, L region, I J K voxels.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from monai.transforms.transform import Transform
from torch import Tensor
from torch.utils.data import Dataset

from medtl.data.case import Case
from medtl.data.content_hash import check_unchanged, contents_of, files_of
from medtl.data.io.geometry import Header
from medtl.data.subset import stride
from medtl.errors import MedtlError
from medtl.runtime.cache import cache_dir
from medtl.runtime.console import Advance, Reporter
from medtl.runtime.leftovers import sweep
from medtl.runtime.memory import free_memory_bytes
from medtl.training.samples.disk_cache import Stored
from medtl.training.samples.keys import Item, case_key, recipe_key
from medtl.transforms.preprocess import prepared_shape
from medtl.transforms.preprocessor import Preprocessor

#: Voxels kept per region as possible patch centres.
MAX_CENTRES = 20_000


#: Share of the free memory that cached cases may take before they go to disk.
MEMORY_SHARE = 0.6


MOST_WORKERS = 8


#: Progress that is not shown.
UNSEEN = partial(Reporter(quiet=True).progress, "")


def prepared_bytes(header: Header, preprocessor: Preprocessor, *, partial: bool = False) -> int:
    """Upper bound of a prepared case in memory, from its header: the brain box is not known yet.

    ``partial``: whether its truth is known only in part.
    """
    shape = prepared_shape(header.shape[:3], header.spacing_mm, preprocessor.preset)
    voxels = math.prod(shape)
    masks = (1 + partial) * len(preprocessor.regions)
    return voxels * (4 * len(preprocessor.modalities) + masks)


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
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return min(MOST_WORKERS, max(1, (cores or 1) // processes - 1))


def cached_cases(
    cases: Sequence[Case],
    preprocessor: Preprocessor,
    cache: str,
    workers: int,
    contents: Mapping[Path, str] | None = None,
    progress: Callable[[int], AbstractContextManager[Advance]] = UNSEEN,
) -> Dataset[Any]:
    """Prepared cases (plain tensors): kept by MONAI's CacheDataset, in files, or not at all.

    MONAI's are prepared here and now, with the ``progress`` of as many as there are.

    ``contents``: hashes of their files when the run began, else those of now; a case whose file is
    another when it is read raises DataError.
    """
    from monai.data.dataset import CacheDataset
    from monai.data.dataset import Dataset as PlainDataset

    known = contents_of(cases) if contents is None else contents
    items = [Item(case, tuple(known[file.path] for file in files_of(case))) for case in cases]
    steps = _Prepare(preprocessor)
    if cache == "disk":
        folder = cache_dir() / "prepared" / recipe_key(preprocessor)
        sweep(folder)
        return Stored(items, steps, folder, partial(case_key, modalities=preprocessor.modalities))
    if cache == "none":
        return _Cached(PlainDataset(items, steps))
    threads = max(1, workers)
    with _own_errors(), progress(len(items)) as advance:
        counted = _Counting(preprocessor, advance)
        kept = CacheDataset(items, counted, num_workers=threads, progress=False, copy_cache=False)
    counted.advance = None  # it cannot be sent to data workers
    return _Cached(kept)


@dataclass(eq=False)
class _Cached(Dataset[Any]):
    """One of MONAI's datasets, which raises the errors of a case unwrapped."""

    dataset: Dataset[Any]

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


@dataclass(eq=False)
class _Prepare(Transform):
    """A case -> tensors. MONAI's CacheDataset keeps the results of its own Transforms alone."""

    preprocessor: Preprocessor

    def __call__(self, item: Item) -> dict[str, Any]:
        prepared = self.preprocessor(item.case)
        paths = [file.path for file in files_of(item.case)]
        check_unchanged([item.case], dict(zip(paths, item.contents, strict=True)))
        image, target = prepared["image"], prepared.get("target")
        if target is None:  # the case itself names its class
            return {"image": image}
        masks = zip(self.preprocessor.regions, target, strict=True)
        centres = {name: _centres(mask) for name, mask in masks}
        names: tuple[str, ...] = "lost", "unknown"
        others = {name: prepared[name] for name in names if name in prepared}
        return {"image": image, "target": target, "centres": centres, **others}


class _Counting(_Prepare):
    """:class:`_Prepare` that tells how many cases are done; threads may share it."""

    def __init__(self, preprocessor: Preprocessor, advance: Advance) -> None:
        super().__init__(preprocessor)
        self.advance: Advance | None = advance
        self.done = count(1)

    def __call__(self, item: Item) -> dict[str, Any]:
        prepared = super().__call__(item)
        if self.advance is not None:
            self.advance(next(self.done))
        return prepared


def _centres(mask_IJK: Tensor) -> Tensor:
    """Up to ``MAX_CENTRES`` flat indices of a region's voxels, evenly spaced."""
    voxels = mask_IJK.flatten().nonzero().flatten()
    return voxels[:: stride(len(voxels), MAX_CENTRES)].clone()
