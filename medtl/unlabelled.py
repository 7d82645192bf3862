"""Images without their labels, and what a stage makes of those of its target.

Axes: C modality, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from medtl.augment import NONE, Augmentation, apply_to_image, draw
from medtl.case import Case
from medtl.classification.views import views
from medtl.domain import Domain
from medtl.kinds import AnyPredictor
from medtl.loading import seed_of, shuffled
from medtl.networks import Network
from medtl.norms import estimate_norms, in_batches
from medtl.planning import Plan
from medtl.selection import select_score
from medtl.strategies import Stage

#: So many cases tell without labels how good weights are.
SELECTION_CASES = 64


def blind(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The same images; what is known of their truth is gone."""
    return tuple(
        replace(case, target=None, mask=None, regions={}, labels=(), class_name="", stratum="")
        for case in cases
    )


class Images(Dataset[Tensor]):
    """Augmented images or patches of :func:`blind` cases, addressed by the number of the sample.

    As with :class:`medtl.loading.Patches`, all randomness of sample n depends on (``key``, n)
    alone; patches are cut anywhere, as nothing tells where something is to be found.
    """

    def __init__(
        self,
        cached: Dataset[Any],
        count: int,
        augmentation: Augmentation,
        patch: tuple[int, ...],
        key: str,
        *,
        whole: bool,
    ) -> None:
        self.cached = cached
        self.count = count
        self.augmentation = augmentation
        self.patch = patch
        self.key = key
        self.whole = whole

    def __getitem__(self, sample: int) -> Tensor:
        return self.__getitems__([sample])[0]

    def __getitems__(self, samples: Sequence[int]) -> list[Tensor]:
        """Several samples, which a DataLoader asks for in this way."""
        images = [self.cached[shuffled(self.key, n, self.count)]["image"] for n in samples]
        seeds = [seed_of(self.key, "sample", n) for n in samples]
        if self.whole:
            return list(views(images, self.patch, self.augmentation, seeds))
        return [self._patch(image, seed) for image, seed in zip(images, seeds, strict=True)]

    def _patch(self, image_CIJK: Tensor, seed: int) -> Tensor:
        i, j, k = (*self.patch, 1) if len(self.patch) == 2 else self.patch
        channels, *shape = image_CIJK.shape
        drawn = draw(
            self.augmentation, {}, (shape[0], shape[1], shape[2]), (i, j, k), channels, seed
        )
        shown = apply_to_image(drawn, image_CIJK, (i, j, k))
        return shown[..., 0] if len(self.patch) == 2 else shown


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """The training images of a stage's unlabelled ``domain``: ``count`` prepared, blind cases."""

    plan: Plan
    domain: Domain
    cached: Dataset[Any]
    count: int

    def samples(self, augmentation: Augmentation | None = None) -> Images:
        """To train beside; ``augmentation`` None: the domain's own."""
        own = self.plan.recipe(self.domain).preset.augmentation
        return Images(
            self.cached,
            self.count,
            own if augmentation is None else augmentation,
            self.plan.patch_size,
            f"{self.plan.config.seed}/{self.domain}/unlabelled",
            whole=not self.plan.kind.dense,
        )

    def score(self, stage: Stage, predictor: AnyPredictor) -> dict[str, float]:
        """The stage's label-free selector on some of the images, at equal steps."""
        some = range(0, self.count, max(1, -(-self.count // SELECTION_CASES)))
        shown: Dataset[Any] = Subset(self.cached, some)
        return select_score(stage.select_by, self.plan.kind.beliefs(predictor, shown, len(some)))

    def set_norms(self, network: Network, batch_size: int, device: torch.device) -> None:
        """Take the network's running statistics from all the images without augmentation; where
        patches are trained on, from one patch of each."""
        images = self.samples(NONE)

        def batches() -> Iterator[Tensor]:
            for batch in in_batches((images[n] for n in range(self.count)), batch_size):
                yield batch.to(device)

        estimate_norms(network, batches)
