"""Images without their labels.

Axes: C modality, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from medtl.augment import Augmentation
from medtl.case import Case
from medtl.classification.views import view
from medtl.data import seed_of, shuffled


def blind(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The same images; what is known of their truth is gone."""
    return tuple(
        replace(case, target=None, mask=None, regions={}, labels=(), class_name="", stratum="")
        for case in cases
    )


class Images(Dataset[Tensor]):
    """Augmented images or patches of :func:`blind` cases, addressed by the number of the sample.

    As with :class:`medtl.data.Patches`, all randomness of sample n depends on (``key``, n) alone;
    patches are cut anywhere, as nothing tells where something is to be found.
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
        return view(
            self.cached[shuffled(self.key, sample, self.count)]["image"],
            self.patch,
            self.augmentation,
            seed_of(self.key, "sample", sample),
            whole=self.whole,
        )
