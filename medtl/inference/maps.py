"""Probabilities and uncertainty of a case as images on its native grid.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medtl.data.io.geometry import Header
from medtl.data.io.images import label_path, write_map
from medtl.errors import RunError
from medtl.inference.label_map import Place
from medtl.inference.probability import probabilities
from medtl.runtime.files import file_name
from medtl.transforms.native import in_box
from medtl.transforms.preprocess import Placement

#: Folders beside the label maps: one per region, and one.
PROBABILITIES, UNCERTAINTY = "probabilities", "uncertainty"

#: Values are kept and written in steps of 1 / STEPS.
STEPS = 1000


@dataclass(frozen=True, slots=True)
class Maps:
    """Collects the slabs of a case; on disk, as those of all regions may fit no memory."""

    folder: Path  #: with room for them
    placement: Placement
    regions: Sequence[str]
    softmax: bool
    probabilities: bool
    uncertainty: bool
    _held: dict[str, NDArray[np.uint16]] = field(default_factory=dict)

    def add(self, place: Place, logits_LIJK: Tensor) -> None:
        """Keep the values of a slab. Raises RunError if the folder has no room."""
        shares_LIJK = probabilities(logits_LIJK, softmax=self.softmax)
        if self.probabilities:
            for region, share_IJK in zip(self.regions, shares_LIJK, strict=True):
                self._keep(str(Path(PROBABILITIES, file_name(region))), place, share_IJK)
        if self.uncertainty:
            self._keep(UNCERTAINTY, place, uncertainty(shares_LIJK, softmax=self.softmax))

    def _keep(self, name: str, place: Place, values_IJK: Tensor) -> None:
        if name not in self._held:
            shape = self.placement.shape
            try:
                with TemporaryFile(dir=self.folder) as file:  # the array keeps what it maps
                    if hasattr(os, "posix_fallocate"):  # a full disk is found here, not later
                        os.posix_fallocate(file.fileno(), 0, 2 * math.prod(shape))
                    self._held[name] = np.memmap(file, np.uint16, mode="w+", shape=shape)
            except OSError as error:
                reason = error.strerror or error
                raise RunError(f"{self.folder}: cannot be written ({reason})") from error
        in_box(self._held[name], self.placement)[place] = (values_IJK * STEPS).round().numpy()

    def write(self, out: Path, case: str, like: Header) -> Iterator[Path]:
        """Write the images below ``out``; yields their paths. Raises RunError."""
        for name in sorted(self._held):
            path = label_path(out / name, case, like.path)
            values_IJK = self._held[name].astype(np.float32)
            values_IJK /= STEPS
            write_map(path, values_IJK, like)
            yield path


def uncertainty(shares_LIJK: Tensor, *, softmax: bool) -> Tensor:
    """How undecided a prediction is (IJK), from 0 to 1.

    With ``softmax``: the entropy of the probabilities of all regions and the background, as a share
    of the largest possible. Else: the largest entropy, in bits, of a region's probability and that
    of its absence.

    Args:
        shares_LIJK: the probability of each region.
    """
    if softmax:
        background_1IJK = (1 - shares_LIJK.sum(0, keepdim=True)).clamp_min(0)
        every = torch.cat((background_1IJK, shares_LIJK))
        entropy_IJK: Tensor = torch.special.entr(every).sum(0)
        return entropy_IJK / math.log(len(every))
    absent_LIJK = 1 - shares_LIJK
    entropy_LIJK: Tensor = torch.special.entr(shares_LIJK) + torch.special.entr(absent_LIJK)
    return entropy_LIJK.amax(0) / math.log(2)
