"""One case through a network: all its logits, or a few planes after the other.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medtl.inference.planes import sliding_planes
from medtl.inference.sliding_window import (
    Forward,
    slice_window,
    slice_wise,
    sliding_window,
    within_slices,
)
from medtl.inference.window_size import WindowSize
from medtl.networks.blocks import Network

#: Largest volume, padding included, that runs in one pass, in voxels of a window. In larger ones
#: the statistics of norms would differ too much from those of the training patches.
WHOLE_LIMIT = 2.5


@dataclass(frozen=True, slots=True)
class Pass:
    """A network, and the image that it runs on."""

    network: Network
    forward: Forward  #: the network, or with what is done around it
    image_CIJK: Tensor
    shown_IJK: Tensor | None  #: where to compute; None: where the image is not 0
    autocast: torch.dtype | None
    nnunet: bool  #: as nnU-Net does it

    def logits(self, cut: WindowSize) -> Tensor:
        """logits_LIJK of the whole image."""
        settings: dict[str, Any] = {**self._settings(cut), "multiple": self.network.multiples}
        if self.flat:
            return slice_wise(self.forward, self.image_CIJK, roi=_in_slice(cut), **settings)
        i, j, k = cut.roi
        limit = round(WHOLE_LIMIT * i * j * k) if cut.whole and not self.nnunet else 0
        return sliding_window(
            self.forward,
            self.image_CIJK,
            (i, j, k),
            crop=not self.nnunet,
            nnunet=self.nnunet,
            shown_IJK=self.shown_IJK,
            pass_voxels=limit,
            **settings,
        )

    @property
    def flat(self) -> bool:
        """Whether the network takes slices."""
        return self.network.spatial_dims == 2

    @property
    def axis(self) -> int:
        """The axis along which :meth:`planes` go: that of the slices, or the longest one, whose
        planes are the smallest."""
        if self.flat:
            return 2
        sizes = self.image_CIJK.shape[1:]
        return max(range(3), key=lambda axis: sizes[axis])

    def planes(self, cut: WindowSize) -> Iterator[Tensor]:
        """logits_LIJK, a few planes along :attr:`axis` after the other."""
        if self.flat:
            return sliding_planes(
                within_slices(self.forward),
                self.image_CIJK,
                slice_window(self.image_CIJK, _in_slice(cut), self.network.multiples),
                self.axis,
                **self._settings(cut),
            )
        i, j, k = cut.roi
        return sliding_planes(
            self.forward,
            self.image_CIJK,
            (i, j, k),
            self.axis,
            crop=not self.nnunet,
            nnunet=self.nnunet,
            shown_IJK=self.shown_IJK,
            **self._settings(cut),
        )

    def _settings(self, cut: WindowSize) -> dict[str, Any]:
        return {
            "out_channels": self.network.out_channels,
            "autocast": self.autocast,
            "batch_size": cut.batch_size,
        }


def _in_slice(cut: WindowSize) -> tuple[int, int] | None:
    return None if cut.whole else (cut.roi[0], cut.roi[1])
