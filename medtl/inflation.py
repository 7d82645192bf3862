"""2-D convolutions into 3-D networks (Carreira and Zisserman 2017, I3D).

Axes: O outputs, I input channels, h w the kernel's rows and columns, d its slices.
"""

from __future__ import annotations

from torch import Tensor, nn

from medtl.networks import Network


def inflated(network: Network, name: str, source: Tensor, target: Tensor) -> Tensor | None:
    """``source`` repeated over the slices that ``target`` (the network's ``name``) has.

    None unless the one is of a 2-D and the other of a 3-D convolution whose kernels agree in the
    slice. Transposed convolutions are none: how many of their taps meet in a voxel varies.
    """
    if (source.ndim, target.ndim) != (4, 5) or source.shape[2:] != target.shape[2:4]:
        return None
    if not isinstance(network.module.get_submodule(name.rpartition(".")[0]), nn.Conv3d):
        return None
    return inflate(source, target.shape[4])


def inflate(weight_OIhw: Tensor, slices: int) -> Tensor:
    """weight_OIhwd that answers a volume of equal slices as ``weight_OIhw`` answers each of them.

    Slices are the last axis, as pictures are volumes of one slice (:mod:`medtl.io.pictures`).
    """
    return weight_OIhw.unsqueeze(-1).repeat(1, 1, 1, 1, slices) / slices
