"""Images without their labels: as training samples, to select weights and to set norms.

Axes: C modality, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from medtl.data.domain import Domain
from medtl.evaluation.label_free import select_score
from medtl.inference.task_types import AnyPredictor
from medtl.networks.blocks import Network
from medtl.networks.norms import estimate_norms, in_batches
from medtl.training.plan import Plan
from medtl.training.samples.augmented import Images
from medtl.transfer.strategies.base import Stage
from medtl.transforms.augment import NONE, Augmentation

#: At most this number of cases is used to score weights without labels.
SELECTION_CASES = 64


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """The training images of a stage's unlabelled ``domain``: ``count`` prepared, blind cases."""

    plan: Plan
    domain: Domain
    cached: Dataset[Any]
    count: int

    def samples(self, augmentation: Augmentation | None = None) -> Images:
        """Training samples; without ``augmentation`` the domain's own is used."""
        plan = self.plan
        if augmentation is None:
            augmentation = plan.preprocessor(self.domain).preset.augmentation
        key, whole = f"{plan.config.seed}/{self.domain}/unlabelled", not plan.task_type.dense
        return Images(self.cached, self.count, augmentation, plan.patch_size, key, whole=whole)

    def score(self, stage: Stage, predictor: AnyPredictor) -> dict[str, float]:
        """The stage's label-free selector on some of the images, at equal steps."""
        some = range(0, self.count, max(1, -(-self.count // SELECTION_CASES)))
        shown: Dataset[Any] = Subset(self.cached, some)
        return select_score(stage.select_by, predictor.case_probabilities(shown, len(some)))

    def set_norms(self, network: Network, batch_size: int, device: torch.device) -> None:
        """Set the network's running statistics to those of all images, without augmentation.

        For segmentation one patch of each image is used.
        """
        images = self.samples(NONE)

        def batches() -> Iterator[Tensor]:
            for batch in in_batches((images[n] for n in range(self.count)), batch_size):
                yield batch.to(device)

        estimate_norms(network, batches)
