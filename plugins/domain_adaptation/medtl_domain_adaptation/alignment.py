"""Distances between the features of two domains, to be made small.

Axes: B batch, F feature, M image of either domain.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medtl.errors import ConfigError
from medtl.training.losses import FeatureLoss

#: Factors on the median distance squared, one Gaussian kernel each.
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


class CORAL(FeatureLoss):
    """``|C_s - C_t|^2 / (4 F^2)``: C the features' covariances, in Frobenius' norm.

    Sun and Saenko 2016 (Deep CORAL), eq. 1 to 3.
    """

    def forward(self, source_BF: Tensor, target_BF: Tensor, progress: float) -> Tensor:
        _check_batch(source_BF, target_BF)
        gap_FF = _covariance(source_BF) - _covariance(target_BF)
        return gap_FF.square().sum() / (4 * source_BF.shape[1] ** 2)


class MMD(FeatureLoss):
    """MMD-squared with the mean of five Gaussian kernels, whose bandwidths are 1/4 to 4 times the
    median squared distance in the batch.

    Long et al. 2015 (DAN), who weigh their kernels and estimate in linear time; here the weights
    are equal, and the unbiased estimate is over all pairs (Gretton et al. 2012, eq. 3). It can be
    negative.
    """

    def forward(self, source_BF: Tensor, target_BF: Tensor, progress: float) -> Tensor:
        _check_batch(source_BF, target_BF)
        count = len(source_BF)
        both_MF = torch.cat((source_BF, target_BF))
        squares_MM = _squared_distances(both_MF)
        away_MM = ~torch.eye(len(both_MF), dtype=torch.bool, device=both_MF.device)
        median = squares_MM.detach()[away_MM].median().clamp_min(1e-12)
        kernel_MM = torch.stack(
            [torch.exp(-squares_MM / (factor * median)) for factor in BANDWIDTHS]
        ).mean(0)
        within = [
            (part.sum() - part.diagonal().sum()) / (len(part) * (len(part) - 1))
            for part in (kernel_MM[:count, :count], kernel_MM[count:, count:])
        ]
        return within[0] + within[1] - 2 * kernel_MM[:count, count:].mean()


def _check_batch(source_BF: Tensor, target_BF: Tensor) -> None:
    """ConfigError for a batch of one image, which has no covariance and no distances."""
    if min(len(source_BF), len(target_BF)) < 2:
        raise ConfigError(
            "aligning features takes batches of 2 images or more; choose a --batch-size"
        )


def _covariance(rows_BF: Tensor) -> Tensor:
    centred_BF = rows_BF - rows_BF.mean(0)
    return centred_BF.T @ centred_BF / (len(rows_BF) - 1)


def _squared_distances(rows_MF: Tensor) -> Tensor:
    """Of all pairs; rows are centred, as large products would lose small differences."""
    centred_MF = rows_MF - rows_MF.detach().mean(0)
    sizes_M = centred_MF.square().sum(1)
    squares_MM = sizes_M[:, None] + sizes_M[None] - 2 * centred_MF @ centred_MF.T
    return squares_MM.clamp_min(0)


def coral() -> nn.Module:
    """Build :class:`CORAL`."""
    return CORAL()


def mmd() -> nn.Module:
    """Build :class:`MMD`."""
    return MMD()
