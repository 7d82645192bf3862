"""Whole cases through a trained network, back to the native grid, and their scores.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from scipy.ndimage import label
from torch import Tensor
from torch.utils.data import Dataset

from medtl.data.case import Case
from medtl.data.formats.label_names import recorded_regions
from medtl.data.label_scheme import LabelScheme, Settled, first_patterns, painted_over
from medtl.data.subset import stride
from medtl.data.voxel_size import axes_mm
from medtl.inference.flips import flipped
from medtl.inference.label_map import LabelMap, Slab, Watch, paint
from medtl.inference.passes import Pass
from medtl.inference.probability import probabilities
from medtl.inference.sliding_window import OUTSIDE
from medtl.inference.window_size import Shrinking, Tell, WindowSize
from medtl.networks.blocks import Network
from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.runtime.device import autocast_dtype
from medtl.runtime.distributed import gather, share
from medtl.runtime.memory import give_back_freed_memory
from medtl.transfer.checkpoint_metadata import CheckpointMetadata
from medtl.transforms.native import to_native
from medtl.transforms.preprocessor import Preprocessor

#: Logits of a volume that are held at once, 4 bytes each; beyond, they come plane by plane.
MOST_LOGITS = 1 << 28


#: Small windows are computed together, up to this many voxels and windows, as this is faster.
BATCH_VOXELS = 96**3


MOST_WINDOWS = 8


#: Slices per batch of a 2-D network.
SLICES = 16


#: Most voxels per case whose probabilities are used to select weights without labels.
MOST_VOXELS = 1024


PreparedCase = Mapping[str, Any]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A network that segments whole cases."""

    network: Network
    preprocessor: Preprocessor
    patch_size: tuple[int, ...]
    fabric: Fabric
    nested: bool  #: whether each region lies within the one before it (WT, TC, ET)
    min_component_ml: float = 0.0  #: smaller components of the first region are dropped
    exclusive: bool = False  #: whether no voxel is in two regions
    softmax: bool = False  #: the logits are those of a softmax with a background of 0
    flips: bool = False  #: average over all mirrorings of each window
    windows: Shrinking = field(default_factory=Shrinking, compare=False)
    #: of nnU-Net's models with overlapping regions, which it paints over one another: the regions
    #: that each one's label value stands for
    over_LL: NDArray[np.bool_] | None = field(default=None, compare=False)

    def prepared_logits(self, image_CIJK: Tensor, shown_IJK: Tensor | None = None) -> Tensor:
        """logits_LIJK on the prepared grid, without small components.

        Args:
            shown_IJK: where to compute; None: where the image is not 0.
        """
        logits_LIJK = self._logits(image_CIJK, shown_IJK)
        if self.nested and self.min_component_ml > 0:
            small_IJK = small_components(logits_LIJK[0] > 0, self.min_component_ml / self.voxel_ml)
            logits_LIJK = logits_LIJK.masked_fill(small_IJK, OUTSIDE)
        return logits_LIJK

    @property
    def mirrored(self) -> tuple[int, ...]:
        """The axes that test-time flips mirror."""
        preset, axes = self.preprocessor.preset, range(self.network.spatial_dims)
        if preset.nnunet:
            return preset.nnunet.mirror
        flips = preset.augmentation.flips
        return tuple(axis for axis in axes if flips[axis] or not any(flips))

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel of the prepared grid."""
        return math.prod(axes_mm(self.preprocessor.preset.spacing_mm)) / 1000

    def _logits(self, image_CIJK: Tensor, shown_IJK: Tensor | None) -> Tensor:
        with suited_to_cpu(self.network.module.eval()):
            own = self._pass(image_CIJK, shown_IJK)
            return self._windowed(own.logits)

    def _pass(self, image_CIJK: Tensor, shown_IJK: Tensor | None) -> Pass:
        module, device = self.network.module, self.fabric.device
        return Pass(
            self.network,
            flipped(module, self.mirrored) if self.flips else module,
            image_CIJK.to(device),
            None if shown_IJK is None else shown_IJK.to(device),
            autocast_dtype(self.fabric),
            nnunet=self.preprocessor.preset.nnunet is not None,
        )

    def _windowed(self, compute: Callable[[WindowSize], Result], *, whole: bool = True) -> Result:
        """``compute`` with the largest windows that fit the memory; ``whole``: small volumes in one
        pass."""
        fixed = self.network.patch_size  # a network built for patches of one size takes no other
        if self.network.spatial_dims == 2:
            wanted = WindowSize((fixed or self.patch_size)[:2], SLICES, whole=not fixed)
        else:
            wanted = WindowSize(
                self.patch_size, at_once(self.patch_size), whole=whole and not fixed
            )
        return self.windows.run(compute, wanted, self.network.multiples, fixed=bool(fixed))

    def native_logits(self, prepared: Mapping[str, Any]) -> Tensor:
        """logits_LIJK on the native grid of a preprocessed case.

        Its ``shown`` is optional, see :meth:`prepared_logits`.
        """
        logits_LIJK = self.prepared_logits(prepared["image"], prepared.get("shown")).cpu()
        return to_native(logits_LIJK, prepared["placement"], OUTSIDE)

    def label_map(
        self, prepared: Mapping[str, Any], scheme: LabelScheme, watch: Watch | None = None
    ) -> LabelMap:
        """What :meth:`masks` gives, as a label map; large volumes are never held with all regions.

        Args:
            watch: called with each slab of logits on the native grid; with the same slabs again if
                the memory runs out and all are computed anew.
        """
        placement, size = prepared["placement"], prepared["image"].shape[1:]
        if not self._too_large(size):
            logits_LIJK = self.prepared_logits(prepared["image"], prepared.get("shown")).cpu()
            return paint([logits_LIJK], size[0], 0, placement, scheme, self.paint_slab, watch)
        give_back_freed_memory()  # what preparing a large image has left
        with suited_to_cpu(self.network.module.eval()):
            own = self._pass(prepared["image"], prepared.get("shown"))

            def painted(cut: WindowSize) -> LabelMap:
                chunks, axis = (planes_LIJK.cpu() for planes_LIJK in own.planes(cut)), own.axis
                return paint(chunks, size[axis], axis, placement, scheme, self.paint_slab, watch)

            return self._windowed(painted, whole=False)

    def _too_large(self, size: Sequence[int]) -> bool:
        """Whether the logits of all regions are not to be held at once.

        Small components can only be found in the whole mask.
        """
        held = self.nested and self.min_component_ml > 0
        return not held and self.network.out_channels * math.prod(size) > MOST_LOGITS

    def masks(self, prepared: Mapping[str, Any], scheme: LabelScheme) -> Settled:
        """One mask per region on the native grid, as a label map of the scheme holds them."""
        return self.settle(self.native_logits(prepared), scheme)

    def settle(self, logits_LIJK: Tensor, scheme: LabelScheme) -> Settled:
        """:func:`decide` by this predictor's constraints, then what the scheme can hold."""
        masks_LIJK = decide(logits_LIJK, nested=self.nested, exclusive=self.exclusive)
        if self.over_LL is not None:
            masks_LIJK = painted_over(masks_LIJK, self.over_LL)
        return scheme.settle(masks_LIJK, logits_LIJK.numpy())

    def paint_slab(self, logits_LIJK: Tensor, scheme: LabelScheme) -> Slab:
        """What :meth:`settle` gives, as label values."""
        if self.exclusive and not self.nested and scheme.tells(nested=False, exclusive=True):
            highest_IJK, region_IJK = logits_LIJK.max(0)
            number_IJK = torch.where(highest_IJK > 0, region_IJK + 1, 0)
            counts = torch.bincount(number_IJK.flatten(), minlength=len(logits_LIJK) + 1)
            values = np.concatenate((np.zeros(1, scheme.dtype), scheme.values_alone()))
            moved_L = np.zeros(len(logits_LIJK), np.int64)
            return Slab(values[number_IJK.numpy()], counts[1:].numpy(), moved_L)
        settled = self.settle(logits_LIJK, scheme)
        voxels = [np.count_nonzero(mask_IJK) for mask_IJK in settled.masks_LIJK]
        return Slab(scheme.paint(settled.masks_LIJK), np.array(voxels), np.array(settled.moved))

    @classmethod
    def from_metadata(
        cls,
        network: Network,
        preprocessor: Preprocessor,
        patch_size: tuple[int, ...],
        fabric: Fabric,
        metadata: CheckpointMetadata,
        tell: Tell,
    ) -> Segmenter:
        """``tell`` is called with a sentence if the memory holds only smaller windows."""
        nested, least_ml = metadata.nested, metadata.min_component_ml
        windows, exclusive, over_LL = Shrinking(tell), metadata.exclusive, None
        if preprocessor.preset.nnunet and metadata.names and not (nested or exclusive):
            values_of = recorded_regions(metadata.names).values
            over_LL = first_patterns(values_of, preprocessor.regions)
        return cls(
            *(network, preprocessor, patch_size, fabric, nested, least_ml, exclusive),
            softmax=metadata.softmax,
            windows=windows,
            over_LL=over_LL,
        )

    def calibrate(
        self, train: Iterable[PreparedCase], validation: Iterable[PreparedCase]
    ) -> Segmenter:
        """Choose the size of the components to drop by the validation cases."""
        return replace(self, min_component_ml=least_component_ml(self, train, validation))

    def record(self) -> dict[str, Any]:
        """The calibration, as the checkpoint's metadata store it."""
        return {"min_component_ml": self.min_component_ml}

    def describe(self) -> str:
        """The calibration in a sentence; empty: nothing to report."""
        return ""

    def validate(self, cached: Dataset[Any], cases: Sequence[Case]) -> dict[str, float]:
        """Mean Dice per region over cached validation cases, on the prepared grid.

        Regions that none of them annotates are left out.
        """
        count = len(cases)
        scores = []
        for index in share(self.fabric, range(count)):
            case = cached[index]
            logits_LIJK = self.prepared_logits(case["image"]).cpu()
            scheme = LabelScheme.of(cases[index].regions, self.preprocessor.regions)
            masks_LIJK = self.settle(logits_LIJK, scheme).masks_LIJK
            scores.append(prepared_dice(torch.from_numpy(masks_LIJK), case))
        means = torch.stack(gather(self.fabric, scores, count)).nanmean(0).tolist()
        named = zip(self.preprocessor.regions, means, strict=True)
        return {region: mean for region, mean in named if not math.isnan(mean)}

    def case_probabilities(self, cached: Dataset[Any], count: int) -> list[Tensor]:
        """Probabilities of each region at evenly spaced voxels of the first ``count`` cases.

        Returns:
            a table (N, 2) per region: the probability of the region, and of its absence.
        """
        shares = []
        for index in share(self.fabric, range(count)):
            logits_LIJK = self.prepared_logits(cached[index]["image"]).cpu()
            shares_LN = probabilities(logits_LIJK.flatten(1), softmax=self.softmax)
            shares.append(shares_LN[:, :: stride(shares_LN.shape[1], MOST_VOXELS)])
        shares_LN = torch.cat(gather(self.fabric, shares, count), dim=1)
        return [torch.stack((shares_N, 1 - shares_N), dim=1) for shares_N in shares_LN]


def at_once(roi: Sequence[int]) -> int:
    """The number of windows of this size that are computed together."""
    return min(MOST_WINDOWS, max(1, BATCH_VOXELS // math.prod(roi)))


def decide(logits_LIJK: Tensor, *, nested: bool, exclusive: bool) -> NDArray[np.bool_]:
    """Masks of positive logits that satisfy the constraints of the regions.

    Args:
        nested: each region is restricted to the one before it.
        exclusive: a voxel is assigned to the region with the highest logit.
    """
    masks_LIJK = logits_LIJK.numpy() > 0
    if nested:
        for outer_IJK, inner_IJK in pairwise(masks_LIJK):
            inner_IJK &= outer_IJK
        return masks_LIJK
    if exclusive:
        highest_1IJK = logits_LIJK.argmax(0, keepdim=True).numpy()
        masks_LIJK &= np.arange(len(masks_LIJK))[:, None, None, None] == highest_1IJK
    return masks_LIJK


def small_components(mask_IJK: Tensor, min_voxels: float) -> Tensor:
    """The voxels of components (6-neighbourhood) with fewer than ``min_voxels``."""
    labels_IJK, _ = label(mask_IJK.cpu().numpy())
    small = np.bincount(labels_IJK.ravel()) < min_voxels
    small[0] = False
    return torch.from_numpy(small[labels_IJK]).to(mask_IJK.device)


def dice(predicted_LIJK: Tensor, truth_LIJK: Tensor, lost_L: Tensor | None = None) -> Tensor:
    """Dice per region; 1 where neither has a voxel, but 0 where preparation has lost the truth.

    Args:
        lost_L: regions whose truth the prepared grid does not show; None: it shows all.
    """
    overlap = (predicted_LIJK & truth_LIJK).flatten(1).sum(1)
    total = predicted_LIJK.flatten(1).sum(1) + truth_LIJK.flatten(1).sum(1)
    counts = total > 0 if lost_L is None else (total > 0) | lost_L
    return torch.where(counts, 2 * overlap / total.clamp_min(1), torch.ones(()))


def prepared_dice(predicted_LIJK: Tensor, case: PreparedCase) -> Tensor:
    """:func:`dice` on the grid of a prepared case, of its first regions; NaN for a region that the
    case does not annotate. What it does not know is left out."""
    count = len(predicted_LIJK)
    truth_LIJK = case["target"][:count] > 0
    lost_L = case["lost"][:count] if "lost" in case else None
    if "unknown" not in case:
        return dice(predicted_LIJK, truth_LIJK, lost_L)
    known_LIJK = case["unknown"][:count] == 0
    found_L = dice(predicted_LIJK & known_LIJK, truth_LIJK & known_LIJK, lost_L)
    return found_L.masked_fill(~known_LIJK.flatten(1).any(1), torch.nan)


#: Candidates, as shares of the smallest training lesion's volume.
SHARES = (0.0, 0.1, 0.2, 0.3)


#: Mean Dice that dropping small components may cost. In a patient without a lesion, one false voxel
#: lowers Dice from 1 to 0; such patients are rare and may be missing from the validation set.
TOLERANCE = 0.01


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
        for portion in SHARES:
            least_voxels = portion * smallest_ml / predictor.voxel_ml
            kept_IJK = predicted_IJK & ~small_components(predicted_IJK, least_voxels)
            score = float(prepared_dice(kept_IJK[None], case))
            if not math.isnan(score):  # else nobody looked for the region in this case
                scores[portion].append(score)
    if not scores[0.0]:
        return 0.0
    means = {share: fmean(scores[share]) for share in SHARES}
    near = [share for share in SHARES if means[share] >= max(means.values()) - TOLERANCE]
    return smallest_ml * max(near)
