"""From cases and their maps to what the figures show.

Axes: C channel, O output channel, I J K voxels; planes as shown have rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray
from torch import Tensor

from medtl.activations import block_features
from medtl.case import Case
from medtl.io.images import read_header, read_volume
from medtl.io.pictures import is_picture
from medtl.modality import Modality
from medtl.networks import Network, tensors
from medtl.report.montage import lps_order, to_lps
from medtl.report.saliency import Shown
from medtl.saliency.maps import Explained


def shown(
    one: Explained, modalities: Sequence[Modality], mask_IJK: NDArray[np.bool_] | None
) -> Shown:
    """The slice with most of the mask, else of the map, all modalities in one grey image."""
    grey_IJK = grey(one.case, modalities)
    masked_IJK = np.zeros(grey_IJK.shape, dtype=bool) if mask_IJK is None else mask_IJK
    stack = np.stack([grey_IJK, one.cam_IJK, masked_IJK.astype(np.float32)])
    first = one.case.images[modalities[0]]
    aspect = 1.0
    if not is_picture(first.path):
        header = read_header(first)
        axes = "".join(aff2axcodes(header.affine))  # type: ignore[no-untyped-call]
        spacing_mm = lps_order(header.spacing_mm, axes)
        stack, aspect = to_lps(stack, axes).swapaxes(1, 2), spacing_mm[1] / spacing_mm[0]
    sums = stack[1:].sum((1, 2))  # map and mask by slice
    k = int((sums[1] if sums[1].any() else sums[0]).argmax())
    grey_IJ, cam_IJ, mask_IJ = stack[..., k]
    truth = None if mask_IJK is None else mask_IJ > 0
    return Shown(_title(one), grey_IJ, cam_IJ, truth, aspect)


def _title(one: Explained) -> str:
    name = one.case.id if len(one.case.id) <= 28 else f"{one.case.id[:12]}...{one.case.id[-13:]}"
    if one.probability is None:
        return f"{name}\n{one.output}"
    wrong = [] if one.predicted == one.output else [f"predicted {one.predicted}"]
    empty = [] if one.cam_IJK.any() else ["no map"]
    return "\n".join([name, f"{one.output}, p {one.probability:.2f}", ", ".join(wrong + empty)])


def grey(case: Case, modalities: Sequence[Modality]) -> NDArray[np.float32]:
    """The mean over modalities, each black to white over what is not its background."""
    windowed = []
    for name in modalities:
        image_IJK, _ = read_volume(case.images[name])
        head = image_IJK[image_IJK != image_IJK.flat[0]]
        low, high = np.percentile(head if head.size else image_IJK, [1, 99.5])
        windowed.append(np.clip((image_IJK - low) / max(float(high - low), 1e-12), 0, 1))
    return np.asarray(np.mean(windowed, axis=0), dtype=np.float32)


def block_maps(network: Network, image_BCIJK: Tensor) -> dict[str, NDArray[np.float32]]:
    """Block -> its output for one image where that is a map (C, I, J): of volumes the middle slice,
    turned as the figures show it."""
    network.module.eval()
    with torch.no_grad():
        found = block_features(network, image_BCIJK, [block.name for block in network.blocks])
    maps = {name: map_BCIJK[0].float().cpu() for name, map_BCIJK in found.items()}
    return {
        block.name: middle(maps[block.name])
        for block in network.blocks
        if block.name in maps
        and maps[block.name].ndim == network.spatial_dims + 1
        and maps[block.name][0].numel() > 1
    }


def first_filters(network: Network) -> NDArray[np.float32] | None:
    """The weights of the first layer (O, C, I, J), in 3-D its middle slice; None for a layer that
    does not look at neighbours."""
    weights = tensors(network)[network.input_tensors[0]].detach().float().cpu()
    if weights.ndim != network.spatial_dims + 2 or weights[0, 0].numel() == 1:
        return None
    return middle(weights.flatten(0, 1)).reshape(*weights.shape[:2], *_edges(weights))


def middle(stack_CIJK: Tensor) -> NDArray[np.float32]:
    """Planes (C, I, J) as they are; of prepared volumes the middle slice, seen from the feet."""
    array = stack_CIJK.numpy()
    if array.ndim == 3:
        return array
    return np.asarray(array[..., array.shape[-1] // 2].swapaxes(1, 2)[:, ::-1, ::-1])


def _edges(weights_OCIJK: Tensor) -> tuple[int, int]:
    i, j, *depth = weights_OCIJK.shape[2:]
    return (j, i) if depth else (i, j)
