"""Dice with missing modalities: every subset of the modalities, the others set to 0.

A missing modality is 0 everywhere, as in training (:mod:`medtl.transforms.augment`). The windows do
not depend on the subset, so that rows differ by the modalities only.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.label_scheme import LabelScheme
from medtl.data.modality import Modality
from medtl.evaluation.intervals import interval
from medtl.evaluation.metrics import BOUNDS, Row, mask_dice, region_names, scores_by_patient
from medtl.inference.segmentation import Segmenter
from medtl.inference.windows import shown

#: Key of a row: Dice by the remaining modalities, e.g. ``flair+t1``, except all of them.
SUBSETS = "dice_by_modalities"


def subsets(modalities: Sequence[Modality]) -> list[tuple[Modality, ...]]:
    """All non-empty subsets, the largest first, each in the given order."""
    counts = range(len(modalities), 0, -1)
    return [kept for count in counts for kept in combinations(modalities, count)]


def subset_dice(
    predictor: Segmenter,
    prepared: Mapping[str, Any],
    truth_LIJK: NDArray[np.bool_],
    scheme: LabelScheme,
    ignored_IJK: NDArray[np.bool_] | None = None,
) -> list[dict[str, dict[str, float]]]:
    """``{SUBSETS: {"flair": Dice}}`` of one case for each region, all modalities left out."""
    modalities, image_CIJK = predictor.preprocessor.modalities, prepared["image"]
    found: list[dict[str, float]] = [{} for _ in predictor.preprocessor.regions]
    for kept in subsets(modalities)[1:]:
        blanked_CIJK = image_CIJK.clone()
        for channel, name in enumerate(modalities):
            if name not in kept:
                blanked_CIJK[channel] = 0.0
        blanked = {**prepared, "image": blanked_CIJK, "shown": shown(image_CIJK)}
        masks_LIJK = predictor.masks(blanked, scheme).masks_LIJK
        if ignored_IJK is not None:
            masks_LIJK = masks_LIJK & ~ignored_IJK
        for scores, mask_IJK, truth_IJK in zip(found, masks_LIJK, truth_LIJK, strict=True):
            scores["+".join(kept)] = mask_dice(mask_IJK, truth_IJK)
    return [{SUBSETS: scores} for scores in found]


def summarise_subsets(
    rows: Sequence[Row], modalities: Sequence[Modality]
) -> dict[str, dict[str, dict[str, Any]]]:
    """``{"flair+t1": {region: {"mean", "n", "low", "high", "method"}}}``; all modalities first."""
    whole = "+".join(modalities)
    scored = [{**row, "metrics": {whole: row["metrics"]["dice"], **row[SUBSETS]}} for row in rows]
    return {
        name: {
            region: interval(
                scores_by_patient(scored, region, name), bounds=BOUNDS["dice"]
            ).to_json()
            for region in region_names(rows)
        }
        for name in scored[0]["metrics"]
    }
