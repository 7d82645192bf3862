"""A segmenter whose masks are known: where the first channel is above a threshold.

Axes: B batch, C modality, L region, I J K voxels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medtl.data.label_scheme import LabelScheme
from medtl.inference.segmentation import Segmenter
from medtl.networks.blocks import Block, Network
from medtl.runtime.device import build_fabric
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import brain_mr_plain

REGIONS = ("WT", "TC", "ET")


class Bright(nn.Module):
    """Every region is where the first channel is above its threshold."""

    def __init__(self, thresholds: tuple[float, ...] = (0.5, 0.0, 1.0)) -> None:
        super().__init__()
        self.thresholds = nn.Parameter(torch.tensor(thresholds))

    def forward(self, batch_BCIJK: Tensor) -> Tensor:
        return batch_BCIJK[:, :1] - self.thresholds.view(1, -1, 1, 1, 1)


def predictor(*, nested: bool = True, thresholds: tuple[float, ...] = (0.5, 0.0, 1.0)) -> Segmenter:
    blocks = (Block("head", "head", ("*",)),)
    network = Network("bright", Bright(thresholds), blocks, 2, 3, 3, 1, (), ("thresholds",))
    preprocessor = Preprocessor(("flair", "t1ce"), REGIONS, brain_mr_plain().with_spacing(7.5))
    return Segmenter(network, preprocessor, (32, 32, 32), build_fabric("cpu", "fp32"), nested)


#: A value for every combination of the regions.
FREE = LabelScheme.of({"WT": (1, 3, 5, 7), "TC": (2, 3, 6, 7), "ET": (4, 5, 6, 7)}, REGIONS)
