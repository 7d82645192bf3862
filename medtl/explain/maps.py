"""Grad-CAM maps of whole cases on their native grids, for classifiers and segmenters.

Axes: B batch, C modality, L class or region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medtl.data.case import Case, ImageFile
from medtl.data.cohort import region_masks
from medtl.data.io.images import read_header, read_labels, read_volume
from medtl.errors import DataError
from medtl.explain.feature_grid import cell_grid, enlarged
from medtl.explain.gradcam import Layer, grad_cam, of_class, of_region
from medtl.inference.classification import Classifier
from medtl.inference.segmentation import Segmenter
from medtl.runtime.parallel import ahead
from medtl.transforms.native import to_native
from medtl.transforms.views import unviewed, view

Mask = NDArray[np.bool_]

Chunk = list[tuple[Case, dict[str, Any]]]  #: cases with their prepared images


@dataclass(frozen=True, slots=True)
class CaseMap:
    """The map of one case, 0 to 1; all 0 if nothing supports the output."""

    case: Case
    output: str  #: the class or region that is explained
    cam_IJK: NDArray[np.float32]
    predicted: str = ""  #: class, for classifiers
    probability: float | None = None  #: of ``output``


def explain_classes(
    classifier: Classifier, cases: Sequence[Case], layer: Layer, chosen: str | None
) -> Iterator[CaseMap]:
    """Map the ``chosen`` class of each case, or the true class, or the most probable one."""
    network, classes = classifier.network, classifier.preprocessor.regions
    size = classifier.patch_size
    grid = cell_grid(network, layer, size)
    for chunk in _prepared(classifier, cases, classifier.batch_size):
        batch = torch.stack([view(one["image"], size) for _, one in chunk])
        batch = batch.to(classifier.fabric.device)
        rows_L = list(classifier.probabilities(one["image"] for _, one in chunk))
        likeliest = [classes[int(np.argmax(row_L))] for row_L in rows_L]
        wanted = [chosen or case.class_name for case, _ in chunk]
        names = [a if a in classes else b for a, b in zip(wanted, likeliest, strict=True)]
        explained = [classes.index(name) for name in names]
        cam, _ = grad_cam(network, batch, layer, of_class(explained))
        for n, (case, one) in enumerate(chunk):
            full = enlarged(cam[n : n + 1], size, grid)[0].cpu()
            native = _native(unviewed(full, one["image"].shape[1:]), one)
            yield CaseMap(case, names[n], native, likeliest[n], rows_L[n][explained[n]])


def explain_regions(
    predictor: Segmenter, cases: Sequence[Case], layer: Layer, region: str
) -> Iterator[CaseMap]:
    """Map a region of each case in a window of the training size around the prediction.

    2-D networks: in the slice with the largest prediction.
    """
    index = predictor.preprocessor.regions.index(region)
    edges = (*predictor.patch_size, 1)[:3]
    flat = predictor.network.spatial_dims == 2
    size = edges[:2] if flat else edges
    grid = cell_grid(predictor.network, layer, size)
    for ((case, one),) in _prepared(predictor, cases, 1):
        image_CIJK: Tensor = one["image"]
        predicted_IJK = (predictor.prepared_logits(image_CIJK)[index] > 0).cpu()
        window = _window(predicted_IJK, edges)
        cut_CIJK = image_CIJK[(slice(None), *window)]
        margins = [edge - n for edge, n in zip(edges, cut_CIJK.shape[1:], strict=True)]
        padded = functional.pad(cut_CIJK, [n for margin in margins[::-1] for n in (0, margin)])
        batch = padded[None].to(predictor.fabric.device)
        cam, _ = grad_cam(
            predictor.network, batch[..., 0] if flat else batch, layer, of_region(index)
        )
        full = enlarged(cam, size, grid)[0].cpu()
        full = full[..., None] if flat else full
        cam_IJK = torch.zeros(image_CIJK.shape[1:])
        cam_IJK[window] = full[tuple(slice(0, n) for n in cut_CIJK.shape[1:])]
        yield CaseMap(case, region, _native(cam_IJK, one))


def _prepared(
    predictor: Classifier | Segmenter, cases: Sequence[Case], size: int
) -> Iterator[Chunk]:
    preprocessor = partial(predictor.preprocessor, with_target=False)
    waiting = zip(cases, ahead(preprocessor, cases), strict=True)
    while chunk := list(islice(waiting, size)):
        yield chunk


def _native(cam_IJK: Tensor, prepared: dict[str, Any]) -> NDArray[np.float32]:
    native_1IJK = to_native(cam_IJK[None], prepared["placement"], 0.0)
    return np.asarray(native_1IJK[0].numpy(), dtype=np.float32)


def _window(predicted_IJK: Tensor, edges: Sequence[int]) -> tuple[slice, ...]:
    """A window of these edges, within the image, around the prediction."""
    centre = [n // 2 for n in predicted_IJK.shape]
    if predicted_IJK.any():
        centre = predicted_IJK.nonzero().float().mean(0).round().int().tolist()
        if edges[2] == 1:
            centre[2] = int(predicted_IJK.sum((0, 1)).argmax())
    window = []
    for middle, edge, n in zip(centre, edges, predicted_IJK.shape, strict=True):
        start = min(max(0, middle - edge // 2), max(0, n - edge))
        window.append(slice(start, min(start + edge, n)))
    return tuple(window)


def class_mask(case: Case) -> Mask | None:
    """The mask of a case's class; None without a mask file or if it is empty.

    Raises:
        DataError: the mask is damaged or has another size than the image.
    """
    if case.mask is None:
        return None
    mask_IJK = read_volume(case.mask, allow_constant=True)[0] != 0
    shape = read_header(next(iter(case.images.values()))).shape[:3]
    if mask_IJK.shape != shape:
        sizes = ("x".join(map(str, size)) for size in (mask_IJK.shape, shape))
        raise DataError(
            f"{case.mask.path}: the mask is {' but the image '.join(sizes)}; make the sizes equal"
        )
    return mask_IJK if mask_IJK.any() else None


def true_mask(one: CaseMap) -> Mask | None:
    """The mask of the explained output. None where there is none, it is known only in part, or it
    is empty.

    The mask of a classified image is that of its own class; a map of another class has none.
    """
    case = one.case
    if one.probability is not None:
        return class_mask(case) if case.class_name in ("", one.output) else None
    if case.target is None or one.output not in case.regions or _partly_known(one):
        return None
    mask_IJK = region_masks(read_labels(case.target, case.labels)[0], case, (one.output,))[0]
    return mask_IJK if mask_IJK.any() else None


def _partly_known(one: CaseMap) -> bool:
    return bool(one.case.ignored) or one.output in one.case.unannotated


def _truth_file(one: CaseMap) -> ImageFile | None:
    return one.case.target if one.probability is None else one.case.mask


def no_mask_reason(one: CaseMap) -> str:
    """The reason why a panel has no true mask."""
    if _truth_file(one) is None:
        return "no mask"
    if _partly_known(one):
        return f"{one.output} is annotated in part or not at all"
    if one.probability is None:
        return f"no {one.output} in its mask"
    return "its mask is empty" if class_mask(one.case) is None else "its mask is of another class"


def unscored_reason(one: CaseMap, new: bool) -> str:
    """The reason why a map is not scored; ``new``: the case was not seen in training."""
    if not new:
        return "seen in training"
    if _truth_file(one) is None:
        return "without a mask"
    if _partly_known(one):
        return "whose mask is known only in part"
    return "whose mask shows nothing of what is explained"
