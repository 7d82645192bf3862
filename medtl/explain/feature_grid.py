"""The centres of a feature map's cells in the image.

With the usual padding, a 3x3 convolution of stride 2 is centred on every second pixel, starting
with the first. The cells of a deep map are then up to half a cell further up and left than those of
a map stretched over the image: 15 pixels for the last map of a ResNet, more than many lesions.

Axes: I J K voxel axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import conv, pooling

from medtl.explain.gradcam import Layer, layer_calls
from medtl.networks.blocks import Network


@dataclass(frozen=True, slots=True)
class Axis:
    """Cell n of a map is centred on pixel ``start + n * step`` of the image."""

    start: float
    step: float
    cells: int

    def within(self, edge: int) -> bool:
        """Whether every cell is centred within an image of this edge."""
        return self.start > -1 and self.start + (self.cells - 1) * self.step < edge


def cell_grid(network: Network, layer: Layer, patch: Sequence[int]) -> tuple[Axis, ...]:
    """The cells of a layer's map along each axis, for images of the size ``patch``.

    Follows convolutions and poolings in the order of their execution; branches that join again at
    the same size change nothing. If they lead to another size or out of the image (padding outside
    the layers), the map is assumed to be stretched over the image.
    """
    axes = [Axis(0.0, 1.0, edge) for edge in patch]
    for call in layer_calls(network, patch):
        if isinstance(call.output, Tensor) and call.inputs:
            axes = _after(call.module, axes, call.inputs[0], call.output)
        if (call.name, call.number) == (layer.name, layer.call):
            break
    sizes = layer.shape[1:]
    inside = all(axis.within(edge) for axis, edge in zip(axes, patch, strict=True))
    if inside and tuple(axis.cells for axis in axes) == sizes:
        return tuple(axes)
    steps = [edge / size for edge, size in zip(patch, sizes, strict=True)]
    return tuple(Axis((step - 1) / 2, step, n) for step, n in zip(steps, sizes, strict=True))


def _after(part: nn.Module, axes: list[Axis], image: Any, output: Tensor) -> list[Axis]:
    known = (conv._ConvNd, pooling._MaxPoolNd, pooling._AvgPoolNd, nn.Upsample)
    if not isinstance(part, known) or not isinstance(image, Tensor):
        return axes
    if tuple(image.shape[2:]) != tuple(axis.cells for axis in axes):
        return axes  # a branch: the path it joins has been followed
    after = []
    for number, (axis, cells) in enumerate(zip(axes, output.shape[2:], strict=True)):
        if isinstance(part, nn.Upsample):
            step = axis.step * axis.cells / cells
            after.append(Axis(axis.start + (step - axis.step) / 2, step, cells))
            continue
        kernel, stride, padding, dilation = (
            _along(getattr(part, name, 1), number)
            for name in ("kernel_size", "stride", "padding", "dilation")
        )
        reach = dilation * (kernel - 1) / 2
        offset = (reach - (reach if padding is None else padding)) * axis.step
        if isinstance(part, conv._ConvTransposeNd):
            after.append(Axis(axis.start - offset / stride, axis.step / stride, cells))
        else:
            after.append(Axis(axis.start + offset, axis.step * stride, cells))
    return after


def _along(value: Any, axis: int) -> Any:
    """One axis of a number or sequence; None for the padding "same"."""
    if isinstance(value, str):
        return None if value == "same" else 0
    return value[axis] if isinstance(value, Sequence) else value


def enlarged(cam_BIJK: Tensor, size: Sequence[int], grid: Sequence[Axis]) -> Tensor:
    """Interpolate a map linearly between the centres of its cells, and scale its maximum to 1.

    Beyond the outermost cells their values are repeated. A map of zeros stays 0.
    """
    places = []
    for edge, axis in zip(size, grid, strict=True):
        cell = (torch.arange(edge) - axis.start) / axis.step
        places.append(cell * (2 / max(axis.cells - 1, 1)) - 1)
    lattice = torch.stack(torch.meshgrid(*places, indexing="ij")[::-1], dim=-1)
    lattice = lattice.to(cam_BIJK)[None].expand(len(cam_BIJK), *lattice.shape)
    full_BIJK = functional.grid_sample(
        cam_BIJK[:, None], lattice, padding_mode="border", align_corners=True
    )[:, 0]
    highest_B = full_BIJK.flatten(1).amax(1)
    shape = (-1, *([1] * len(size)))
    return full_BIJK / torch.where(highest_B > 0, highest_B, 1.0).view(shape)
