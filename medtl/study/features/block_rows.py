"""Features that the blocks of a network compute of a case, as rows that other networks have, too.

Of segmentation, a network sees a window of the size of a training patch, and a row is a cell of a
block's map. Of classification it sees the whole image, and the row is the mean over the map.

Axes: B batch, C modality, F feature, I J K voxels or cells, N row, x the axes of a map.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medtl.errors import DataError
from medtl.inference.load import LoadedStage
from medtl.networks.blocks import Network
from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.networks.hooks import block_features
from medtl.transforms.views import view

#: Slices of a case that a 2-D network sees.
SLICES = 8

#: Voxels of two prepared grids whose edges differ by a larger share are of other sizes.
SAME_SIZE = 0.1


@dataclass(frozen=True, slots=True)
class Window:
    """What networks see of a case, on the native grid (axes as prepared).

    ``first``: the native voxel at its corner. ``step``: native voxels from one of its voxels to the
    next. ``shown_IJK``: where the prepared image is not 0.
    """

    first: tuple[float, ...]
    step: tuple[float, ...]
    shown_IJK: Tensor


def choose_window(
    trained: LoadedStage, prepared: Mapping[str, Any], centre: Sequence[int] | None = None
) -> Window:
    """A window around a voxel of the prepared image, or around its middle."""
    image_CIJK, placement = prepared["image"], prepared["placement"]
    sizes = tuple(image_CIJK.shape[1:])
    edges = _edges(trained, sizes)
    middles = centre or [size // 2 for size in sizes]
    corner = [
        min(max(0, middle - edge // 2), size - edge) if size > edge else (size - edge) // 2
        for middle, edge, size in zip(middles, edges, sizes, strict=True)
    ]
    step = _step(prepared)
    first = tuple(a + n * mm for a, n, mm in zip(placement.start, corner, step, strict=True))
    return Window(first, step, (_cut(image_CIJK, corner, edges) != 0).any(0))


def _edges(trained: LoadedStage, sizes: Sequence[int]) -> tuple[int, ...]:
    predictor = trained.predictor
    patch = predictor.network.patch_size or predictor.patch_size
    if predictor.network.spatial_dims == 2:
        return (*patch[:2], min(SLICES, sizes[2]))
    return tuple(patch)


def _step(prepared: Mapping[str, Any]) -> tuple[float, ...]:
    sizes = prepared["image"].shape[1:]
    return tuple(old / new for old, new in zip(prepared["placement"].size, sizes, strict=True))


def _cut(values_xIJK: Tensor, corner: Sequence[int], edges: Sequence[int]) -> Tensor:
    """A window that may reach beyond the image, where it is 0."""
    found = values_xIJK.new_zeros((len(values_xIJK), *edges))
    inner, outer = [slice(None)], [slice(None)]
    for start, edge, size in zip(corner, edges, values_xIJK.shape[1:], strict=True):
        low, high = max(0, start), max(0, min(size, start + edge))
        inner.append(slice(low - start, max(low, high) - start))
        outer.append(slice(low, max(low, high)))
    found[tuple(inner)] = values_xIJK[tuple(outer)]
    return found


def within(window: Window, prepared: Mapping[str, Any], values_xIJK: Tensor) -> Tensor:
    """The part of arrays on the prepared grid that lies in a window, to the nearest voxel.

    Raises:
        DataError: the voxels of this grid are of another size than the window's.
    """
    step, start = _step(prepared), prepared["placement"].start
    if not np.allclose(step, window.step, rtol=SAME_SIZE):
        raise DataError("its voxels are of another size than those of the target's networks")
    corner = [
        round((first - a) / mm) for first, a, mm in zip(window.first, start, step, strict=True)
    ]
    return _cut(values_xIJK, corner, window.shown_IJK.shape)


def window_maps(
    trained: LoadedStage, prepared: Mapping[str, Any], window: Window, blocks: Collection[str]
) -> dict[str, Tensor]:
    """Block -> its map of a window (F, I, J, K); tokens have a single axis of cells."""
    cut_CIJK = within(window, prepared, prepared["image"])
    if trained.predictor.network.spatial_dims == 2:
        outputs = _outputs(trained, cut_CIJK.movedim(-1, 0), blocks)
        return {name: output.movedim(0, -1) for name, output in outputs.items()}
    outputs = _outputs(trained, cut_CIJK[None], blocks)
    return {name: output[0] for name, output in outputs.items()}


def image_rows(
    trained: LoadedStage, prepared: Mapping[str, Any], blocks: Collection[str]
) -> dict[str, NDArray[np.float32]]:
    """Block -> the mean over its map of an image, as one row (1, F)."""
    batch = view(prepared["image"], trained.predictor.patch_size)[None]
    outputs = _outputs(trained, batch, blocks)
    return {name: x.flatten(2).mean(2).numpy() for name, x in outputs.items()}


def _outputs(trained: LoadedStage, batch: Tensor, blocks: Collection[str]) -> dict[str, Tensor]:
    """Block -> its output (B, F, x) in single precision, at least one cell."""
    predictor = trained.predictor
    module = predictor.network.module.eval()
    with torch.inference_mode(), suited_to_cpu(module):
        found = block_features(predictor.network, batch.to(predictor.fabric.device), blocks)
    return {name: _cells_last(found[name].float().cpu()) for name in blocks if name in found}


def _cells_last(output: Tensor) -> Tensor:
    """Of maps (B, F, x), of tokens (B, token, F) or of vectors (B, F)."""
    if output.ndim == 2:
        return output[..., None]
    return output.transpose(1, 2) if output.ndim == 3 else output


def block_names(network: Network) -> list[str]:
    """In the order of execution."""
    return [block.name for block in network.blocks]


def block_before_head(network: Network) -> str:
    """The last block that is not the head; of a network without one, the last."""
    before = [block.name for block in network.blocks if block.role != "head"]
    return (before or block_names(network))[-1]


def at_cells(voxels_IJK: Tensor, shape: Sequence[int]) -> Tensor:
    """The voxels of a window in which the cells of a map are centred."""
    i, j, k = (
        ((torch.arange(cells) + 0.5) * (edge / cells)).long()
        for cells, edge in zip(shape, voxels_IJK.shape, strict=True)
    )
    return voxels_IJK[i][:, j][:, :, k]


def draw_cells(shown_IJK: Tensor, shape: Sequence[int], key: str, most: int) -> NDArray[np.intp]:
    """Numbers of at most ``most`` cells of a map that lie in the image, sorted.

    They depend on the window, the map's shape and ``key`` alone: networks share them.
    """
    every = np.arange(int(np.prod(shape)))
    if len(shape) == shown_IJK.ndim:
        inside = every[at_cells(shown_IJK, shape).flatten().numpy()]
        every = inside if len(inside) else every
    return draw(every, f"{key}/{tuple(shape)}", most)


def draw(every_N: NDArray[np.intp], key: str, most: int) -> NDArray[np.intp]:
    """At most ``most`` of these numbers, sorted; which ones ``key`` says."""
    random = np.random.default_rng(crc32(key.encode()))
    return np.sort(random.choice(every_N, min(most, len(every_N)), replace=False))


def rows_at(map_Fx: Tensor, cells_N: NDArray[np.intp]) -> NDArray[np.float32]:
    """The features of these cells, as rows (N, F)."""
    return map_Fx.flatten(1)[:, torch.from_numpy(cells_N)].T.contiguous().numpy()
