"""Turn cases and their maps into slices for the figures.

Axes: C channel, O output channel, I J K voxels; planes have rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medtl.data.case import Case
from medtl.data.io.geometry import axis_codes
from medtl.data.io.images import read_header, read_volume
from medtl.data.io.pictures import is_picture
from medtl.data.modality import Modality
from medtl.evaluation.montage import lps_order, native_slice, to_lps
from medtl.explain.figures import CasePanel
from medtl.explain.maps import CaseMap, no_mask_reason
from medtl.networks.blocks import Network, tensors
from medtl.networks.hooks import block_features
from medtl.transforms.views import view


def case_panel(
    one: CaseMap, modalities: Sequence[Modality], mask_IJK: NDArray[np.bool_] | None
) -> CasePanel:
    """The slice with most of the mask, or of the map; grey is the mean over modalities."""
    grey_IJK = grey(one.case, modalities)
    masked_IJK = np.zeros(grey_IJK.shape, dtype=bool) if mask_IJK is None else mask_IJK
    stack = np.stack([grey_IJK, one.cam_IJK, masked_IJK.astype(np.float32)])
    first = one.case.images[modalities[0]]
    aspect = 1.0
    if not is_picture(first.path):
        header = read_header(first)
        axes = axis_codes(header.affine)
        spacing_mm = lps_order(header.spacing_mm, axes)
        stack, aspect = to_lps(stack, axes).swapaxes(1, 2), spacing_mm[1] / spacing_mm[0]
    sums = stack[1:].sum((1, 2))  # map and mask by slice
    k = int((sums[1] if sums[1].any() else sums[0]).argmax())
    grey_IJ, cam_IJ, mask_IJ = stack[..., k]
    truth = None if mask_IJK is None else mask_IJ > 0
    title = _title(one, slice_number(one.case, modalities[0], k))
    note = no_mask_reason(one) if mask_IJK is None else ""
    return CasePanel(title, grey_IJ, cam_IJ, truth, aspect, note, k)


def slice_number(case: Case, modality: Modality, height: int) -> int | None:
    """The stored number of the slice at a height counted from the feet; None for a single slice."""
    file = case.images[modality]
    if is_picture(file.path):
        return None
    header = read_header(file)
    axes = axis_codes(header.affine)
    depth = header.shape[next(n for n, letter in enumerate(axes) if letter in "SI")]
    return None if depth == 1 else native_slice(height, depth, axes)


def _title(one: CaseMap, number: int | None) -> str:
    name = one.case.id if len(one.case.id) <= 28 else f"{one.case.id[:12]}...{one.case.id[-13:]}"
    more = [] if number is None else [f"slice {number}"]
    if one.probability is None:
        return "\n".join([name, ", ".join([one.output, *more])])
    more += [] if one.predicted == one.output else [f"predicted {one.predicted}"]
    more += [] if one.cam_IJK.any() else ["no map"]
    return "\n".join([name, f"{one.output}, p {one.probability:.2f}", ", ".join(more)])


def grey(case: Case, modalities: Sequence[Modality]) -> NDArray[np.float32]:
    """The mean over modalities, each windowed to percentiles 1 and 99.5 of its foreground."""
    windowed = []
    for name in modalities:
        image_IJK, _ = read_volume(case.images[name])
        head = image_IJK[image_IJK != image_IJK.flat[0]]
        low, high = np.percentile(head if head.size else image_IJK, [1, 99.5])
        windowed.append(np.clip((image_IJK - low) / max(float(high - low), 1e-12), 0, 1))
    return np.asarray(np.mean(windowed, axis=0), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class SliceCut:
    """A prepared image as network input (C, then its axes), with one of its slices.

    ``share``: the slice's place, as a share of the depth. ``height``: its number in the case,
    counted from the feet.
    """

    patch: Tensor
    share: float
    height: int


def cut_at(prepared: Mapping[str, Any], patch: Sequence[int], height: int) -> SliceCut:
    """The middle of a prepared image and its slice nearest to ``height``; 2-D: that slice."""
    image_CIJK, placement = prepared["image"], prepared["placement"]
    depth, flat = image_CIJK.shape[-1], len(patch) == 2
    edge = depth if flat else patch[2]
    start = (depth - edge + 1) // 2  # of the patch, in the image
    first, thickness = placement.start[2], placement.size[2] / depth  # in slices of the case
    k = int((height + 0.5 - first) // thickness)
    k = min(max(k, start, 0), start + edge - 1, depth - 1)
    slab_CIJK = image_CIJK[..., k : k + 1] if flat else image_CIJK
    height = int(first + (k + 0.5) * thickness)
    return SliceCut(view(slab_CIJK, patch), (k - start + 0.5) / edge, height)


def block_maps(
    network: Network, image_BCIJK: Tensor, share: float
) -> dict[str, NDArray[np.float32]]:
    """Block -> its output map for one image (C, I, J); of volumes the slice at ``share``."""
    network.module.eval()
    with torch.no_grad():
        outputs = block_features(network, image_BCIJK, [block.name for block in network.blocks])
    maps = {name: map_BCIJK[0].float().cpu() for name, map_BCIJK in outputs.items()}
    return {
        block.name: plane(maps[block.name], share)
        for block in network.blocks
        if block.name in maps
        and maps[block.name].ndim == network.spatial_dims + 1
        and maps[block.name][0].numel() > 1
    }


def first_filters(network: Network) -> NDArray[np.float32] | None:
    """The first layer's weights (O, C, I, J), in 3-D the middle slice; None for 1x1 kernels."""
    weights = tensors(network)[network.input_tensors[0]].detach().float().cpu()
    if weights.ndim != network.spatial_dims + 2 or weights[0, 0].numel() == 1:
        return None
    planes_NIJ = plane(weights.flatten(0, 1), 0.5)
    return planes_NIJ.reshape(*weights.shape[:2], *planes_NIJ.shape[1:])


def filters_shown(network: Network) -> str:
    """A caption for :func:`first_filters`."""
    edges = tensors(network)[network.input_tensors[0]].shape[2:]
    size = f"{'x'.join(map(str, edges))} filters"
    if len(edges) < 3 or edges[2] == 1:
        return size
    return f"axial slice {edges[2] // 2 + 1} of {edges[2]} of its {size}"


def plane(stack_CIJK: Tensor, share: float) -> NDArray[np.float32]:
    """Planes (C, I, J) unchanged; of volumes the slice at ``share`` of the depth, from below."""
    array = stack_CIJK.numpy()
    if array.ndim == 3:
        return array
    return np.asarray(array[..., int(share * array.shape[-1])].swapaxes(1, 2)[:, ::-1, ::-1])
