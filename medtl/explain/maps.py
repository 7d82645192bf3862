"""Maps of whole cases on their native grids, of classifiers and of segmentation networks.

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

Chunk = list[tuple[Case, dict[str, Any]]]  #: cases with what the recipe made of them


@dataclass(frozen=True, slots=True)
class Explained:
    """The map of one case: 0 to 1, 0 throughout where nothing speaks for the output."""

    case: Case
    output: str  #: the class or region that is explained
    cam_IJK: NDArray[np.float32]
    predicted: str = ""  #: class, where whole images are classified
    probability: float | None = None  #: of ``output``


def explain_classes(
    classifier: Classifier, cases: Sequence[Case], layer: Layer, chosen: str | None
) -> Iterator[Explained]:
    """The map of the ``chosen`` class, else of the true one, else of the likeliest, per case."""
    network, classes = classifier.network, classifier.recipe.regions
    size = classifier.patch_size
    grid = cell_grid(network, layer, size)
    for chunk in _prepared(classifier, cases, classifier.batch_size):
        batch = torch.stack([view(one["image"], size) for _, one in chunk])
        batch = batch.to(classifier.fabric.device)
        names = [chosen or case.class_name for case, _ in chunk]
        told = list(classifier.probabilities(one["image"] for _, one in chunk))
        likeliest = [classes[int(np.argmax(row_L))] for row_L in told]
        names = [
            name if name in classes else said for name, said in zip(names, likeliest, strict=True)
        ]
        wanted = [classes.index(name) for name in names]
        cam, _ = grad_cam(network, batch, layer, of_class(wanted))
        for n, (case, one) in enumerate(chunk):
            full = enlarged(cam[n : n + 1], size, grid)[0].cpu()
            cam_IJK = unviewed(full, one["image"].shape[1:])
            native = _native(cam_IJK, one)
            yield Explained(case, names[n], native, likeliest[n], told[n][wanted[n]])


def explain_regions(
    predictor: Segmenter, cases: Sequence[Case], layer: Layer, region: str
) -> Iterator[Explained]:
    """The map of a region, per case, in the window of the training's size around what is predicted.

    2-D networks: in the slice where most is predicted.
    """
    index = predictor.recipe.regions.index(region)
    edges = (*predictor.patch_size, 1)[:3]
    flat = predictor.network.spatial_dims == 2
    size = edges[:2] if flat else edges
    grid = cell_grid(predictor.network, layer, size)
    for ((case, one),) in _prepared(predictor, cases, 1):
        image_CIJK: Tensor = one["image"]
        found_IJK = (predictor.prepared_logits(image_CIJK)[index] > 0).cpu()
        window = _window(found_IJK, edges)
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
        yield Explained(case, region, _native(cam_IJK, one))


def _prepared(
    predictor: Classifier | Segmenter, cases: Sequence[Case], size: int
) -> Iterator[Chunk]:
    recipe = partial(predictor.recipe, with_target=False)
    waiting = zip(cases, ahead(recipe, cases), strict=True)
    while chunk := list(islice(waiting, size)):
        yield chunk


def _native(cam_IJK: Tensor, prepared: dict[str, Any]) -> NDArray[np.float32]:
    native_1IJK = to_native(cam_IJK[None], prepared["placement"], 0.0)
    return np.asarray(native_1IJK[0].numpy(), dtype=np.float32)


def _window(found_IJK: Tensor, edges: Sequence[int]) -> tuple[slice, ...]:
    """A window of these edges, as far as the image has them, around what was found."""
    if not found_IJK.any():
        centre = [n // 2 for n in found_IJK.shape]
    else:
        centre = found_IJK.nonzero().float().mean(0).round().int().tolist()
    if edges[2] == 1:
        centre[2] = int(found_IJK.sum((0, 1)).argmax()) if found_IJK.any() else centre[2]
    starts = [
        min(max(0, c - edge // 2), max(0, n - edge))
        for c, edge, n in zip(centre, edges, found_IJK.shape, strict=True)
    ]
    return tuple(
        slice(start, min(start + edge, n))
        for start, edge, n in zip(starts, edges, found_IJK.shape, strict=True)
    )


def class_mask(case: Case) -> NDArray[np.bool_] | None:
    """Where a case shows its class; None where it does not say, or shows it nowhere.

    Raises:
        DataError: the mask is damaged, or not as large as the image.
    """
    if case.mask is None:
        return None
    mask_IJK = read_volume(case.mask, allow_constant=True)[0] != 0
    shape = read_header(next(iter(case.images.values()))).shape[:3]
    if mask_IJK.shape != shape:
        sizes = ("x".join(map(str, each)) for each in (mask_IJK.shape, shape))
        raise DataError(
            f"{case.mask.path}: the mask is {' but the image '.join(sizes)}; make them fit"
        )
    return mask_IJK if mask_IJK.any() else None


def region_mask(case: Case, region: str) -> NDArray[np.bool_] | None:
    """Where a labelled case has the region; None where it has no label or none of it."""
    if case.target is None or region not in case.regions:
        return None
    labels_IJK, _ = read_labels(case.target, case.labels)
    mask_IJK = region_masks(labels_IJK, case, (region,))[0]
    return mask_IJK if mask_IJK.any() else None


Mask = NDArray[np.bool_]


def has_mask(case: Case) -> bool:
    """Whether a file may show what is explained."""
    return case.mask is not None or case.target is not None


def truth(one: Explained) -> Mask | None:
    """Where the case shows what is explained; None where it does not say, or shows it nowhere.

    The mask of a classified image shows its own class: a map of another is not held against it.
    """
    if one.probability is None:
        return region_mask(one.case, one.output)
    return class_mask(one.case) if one.case.class_name in ("", one.output) else None


def _truth_file(one: Explained) -> ImageFile | None:
    return one.case.target if one.probability is None else one.case.mask


def no_outline(one: Explained) -> str:
    """Why a picture shows no truth, in a few words."""
    if _truth_file(one) is None:
        return "no mask"
    if one.probability is None:
        return f"no {one.output} in its mask"
    return "its mask is empty" if class_mask(one.case) is None else "its mask is of another class"


def why_not(one: Explained, new: bool) -> str:
    """Why a map is not scored, as :func:`medtl.explain.localisation.left_out` says it."""
    if not new:
        return "seen in training"
    if _truth_file(one) is None:
        return "without a mask"
    return "whose mask shows nothing of what is explained"
