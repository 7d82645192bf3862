"""A penalty on how far the weights move away from where they started."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from medtl.networks import Network, tensors


class L2SP(nn.Module):
    """``alpha/2 |w - w0|^2`` over what was transferred, ``beta/2 |w|^2`` over what starts anew.

    Li, Grandvalet and Davoine 2018 (L2-SP). It takes the place of weight decay: its
    stage has none.
    """

    sees = "weights"

    def __init__(self, alpha: float = 0.1, beta: float = 0.01) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._new: list[Tensor] = []

    def bind(self, network: Network, new: Collection[str]) -> None:
        """Start here; ``new`` names the tensors that were not transferred. Frozen ones are left
        out: they cannot move."""
        trained = {
            name: tensor
            for name, tensor in tensors(network).items()
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad
        }
        self._new = [tensor for name, tensor in trained.items() if name in new]
        # Not buffers: they are known anew whenever a stage starts, and need not be kept with it.
        self._kept = [
            (tensor, tensor.detach().clone()) for name, tensor in trained.items() if name not in new
        ]

    def forward(self) -> Tensor:
        # A trial of a plan binds on the CPU, and moves the network afterwards.
        starts = [(tensor, start.to(tensor.device)) for tensor, start in self._kept]
        moved = [(tensor.float() - start).square().sum() for tensor, start in starts]
        sizes = [tensor.float().square().sum() for tensor in self._new]
        total = torch.zeros((), device=(moved or sizes)[0].device)
        return total + self.alpha / 2 * sum(moved) + self.beta / 2 * sum(sizes)


def l2_sp(alpha: float = 0.1, beta: float = 0.01) -> nn.Module:
    """Build :class:`L2SP`."""
    return L2SP(alpha, beta)
