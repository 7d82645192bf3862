"""Logits of regions as probabilities, and back.

Axes: L region, then any others.
"""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor, *, softmax: bool) -> Tensor:
    """The probability of each region (L, ...), in double precision.

    Single precision rounds probabilities near 1 of several regions to 1.

    Args:
        softmax: the regions exclude each other, and the logit of the background is 0.
    """
    logits = logits.double()
    if not softmax:
        return logits.sigmoid()
    return torch.cat((torch.zeros_like(logits[:1]), logits)).softmax(0)[1:]


def logits_of(probability: Tensor, *, softmax: bool) -> Tensor:
    """The logits (L, ...) of these probabilities: the inverse of :func:`probabilities`."""
    if not softmax:
        return torch.logit(probability)
    background = (1 - probability.sum(0, keepdim=True)).clamp_min(torch.finfo(torch.double).tiny)
    return probability.log() - background.log()
