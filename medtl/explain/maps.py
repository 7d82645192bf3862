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
from medtl.transforms.preprocess import to_native
from medtl.transforms.views import unviewed, view

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
        names = [chosen or case.class_name for case, _ in chunk]
        rows_L = list(classifier.probabilities(one["image"] for _, one in chunk))
        likeliest = [classes[int(np.argmax(row_L))] for row_L in rows_L]
        names = [
            name if name in classes else other for name, other in zip(names, likeliest, strict=True)
        ]
        explained = [classes.index(name) for name in names]
        cam, _ = grad_cam(network, batch, layer, of_class(explained))
        for n, (case, one) in enumerate(chunk):
            full = enlarged(cam[n : n + 1], size, grid)[0].cpu()
            cam_IJK = unviewed(full, one["image"].shape[1:])
            native = _native(cam_IJK, one)
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
    if not predicted_IJK.any():
        centre = [n // 2 for n in predicted_IJK.shape]
    else:
        centre = predicted_IJK.nonzero().float().mean(0).round().int().tolist()
    if edges[2] == 1:
        centre[2] = int(predicted_IJK.sum((0, 1)).argmax()) if predicted_IJK.any() else centre[2]
    starts = [
        min(max(0, c - edge // 2), max(0, n - edge))
        for c, edge, n in zip(centre, edges, predicted_IJK.shape, strict=True)
    ]
    return tuple(
        slice(start, min(start + edge, n))
        for start, edge, n in zip(starts, edges, predicted_IJK.shape, strict=True)
    )


def class_mask(case: Case) -> NDArray[np.bool_] | None:
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


def region_mask(case: Case, region: str) -> NDArray[np.bool_] | None:
    """The mask of a region; None without a label or if it is empty."""
    if case.target is None or region not in case.regions:
        return None
    labels_IJK, _ = read_labels(case.target, case.labels)
    mask_IJK = region_masks(labels_IJK, case, (region,))[0]
    return mask_IJK if mask_IJK.any() else None


Mask = NDArray[np.bool_]


def has_mask(case: Case) -> bool:
    """Whether the case has a file that can hold the true mask."""
    return case.mask is not None or case.target is not None


def true_mask(one: CaseMap) -> Mask | None:
    """The mask of the explained output; None if the case has none or it is empty.

    A classified image's mask shows its own class, so a map of another class has no true mask.
    """
    if one.probability is None:
        return region_mask(one.case, one.output)
    return class_mask(one.case) if one.case.class_name in ("", one.output) else None


def _truth_file(one: CaseMap) -> ImageFile | None:
    return one.case.target if one.probability is None else one.case.mask


def no_mask_reason(one: CaseMap) -> str:
    """Why a panel shows no true mask."""
    if _truth_file(one) is None:
        return "no mask"
    if one.probability is None:
        return f"no {one.output} in its mask"
    return "its mask is empty" if class_mask(one.case) is None else "its mask is of another class"


def unscored_reason(one: CaseMap, new: bool) -> str:
    """Why a map is not scored, as :func:`medtl.explain.localisation.count_reasons` counts it."""
    if not new:
        return "seen in training"
    if _truth_file(one) is None:
        return "without a mask"
    return "whose mask shows nothing of what is explained"
