"""How large a predicted component must be to count, chosen on validation patients.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from torch import Tensor

from medtl.evaluation import Segmenter, dice, small_components

#: Candidates, as shares of the smallest training lesion's volume.
SHARES = (0.0, 0.1, 0.2, 0.3)
#: Mean Dice that dropping specks may cost: patients without a lesion, whose Dice one speck takes
#: from 1 to 0, are rare, and validation patients may show none.
TOLERANCE = 0.01

PreparedCase = Mapping[str, Tensor]


def least_component_ml(
    predictor: Segmenter, train: Iterable[PreparedCase], validation: Iterable[PreparedCase]
) -> float:
    """The volume below which components of the first region are to be dropped.

    The largest candidate whose mean Dice over the validation patients is within ``TOLERANCE`` of
    the best. 0 without validation patients or lesions, or where the regions do not lie within each
    other. ``predictor`` itself drops none yet.
    """
    volumes = [float(case["target"][0].sum()) * predictor.voxel_ml for case in train]
    smallest_ml = min((volume for volume in volumes if volume > 0), default=0.0)
    if not smallest_ml or not predictor.nested:
        return 0.0
    scores: dict[float, list[float]] = {share: [] for share in SHARES}
    for case in validation:
        predicted_IJK = (predictor.prepared_logits(case["image"])[0] > 0).cpu()
        truth_1IJK = case["target"][:1] > 0
        for share in SHARES:
            least_voxels = share * smallest_ml / predictor.voxel_ml
            kept_IJK = predicted_IJK & ~small_components(predicted_IJK, least_voxels)
            scores[share].append(float(dice(kept_IJK[None], truth_1IJK)))
    if not scores[0.0]:
        return 0.0
    means = {share: fmean(scores[share]) for share in SHARES}
    near = [share for share in SHARES if means[share] >= max(means.values()) - TOLERANCE]
    return smallest_ml * max(near)
