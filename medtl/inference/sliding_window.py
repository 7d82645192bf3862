"""Running a network over whole volumes in overlapping windows.

Axes: B window of a batch, C modality, L output channel, I J K voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from medtl.inference.windows import Layout, Window, box_of, shown, single_window
from medtl.networks.blocks import per_axis, rounded_up
from medtl.networks.cpu.channels_last import ChannelsLast

Forward = Callable[[Tensor], Tensor]


#: Logit where nothing was computed, as the image shows nothing there: certainly background.
OUTSIDE = -20.0


@torch.inference_mode()
def sliding_window(
    forward: Forward,
    image_CIJK: Tensor,
    roi: tuple[int, int, int],
    *,
    out_channels: int,
    overlap: float = 0.5,
    batch_size: int = 1,
    autocast: torch.dtype | None = None,
    crop: bool = False,
    shown_IJK: Tensor | None = None,
    pass_voxels: int = 0,
    multiple: int | Sequence[int] = 1,
    nnunet: bool = False,
) -> Tensor:
    """Average the logits of overlapping windows, weighted by a Gaussian around each one's centre.

    Placement, weights and zero padding of small volumes equal MONAI's
    ``sliding_window_inference(mode="gaussian")`` as long as ``crop`` and ``pass_voxels`` are off.

    Args:
        forward: ``batch_BCIJK`` to ``logits_BLIJK`` of the same grid; the network is in eval mode.
        image_CIJK: on the device to compute on; background is 0, and so is the padding.
        roi: size of a window in voxels.
        overlap: share of a window that the next one covers again, 0 <= overlap < 1.
        batch_size: windows per call of ``forward``.
        autocast: run ``forward`` in this precision; the sum over windows is float32 in any case.
        crop: compute only in the box around what is not background, and in it only windows that
            hold some; elsewhere the logits are :data:`OUTSIDE`.
        shown_IJK: foreground for cropping; default: where the image is not 0.
        pass_voxels: a volume of at most this many voxels, padding included, runs in one pass. It
            is padded to ``multiple`` (one number, or one per axis), and to the window.
        nnunet: windows at equal steps, their weights centred on a voxel, as nnU-Net has them.

    Returns:
        logits_LIJK, float32, on the device of the image.
    """
    whole = image_CIJK.shape[1:]
    if crop and shown_IJK is None:
        shown_IJK = shown(image_CIJK)
    box = box_of(image_CIJK, shown_IJK)
    if box is None:
        return image_CIJK.new_full((out_channels, *whole), OUTSIDE)
    single = single_window(box, roi, multiple)
    if math.prod(single) <= pass_voxels:
        roi = single
    layout = Layout.of(image_CIJK, shown_IJK, box, roi, overlap, nnunet=nnunet)
    padded_LIJK = _average(Runner.of(forward, layout, autocast), layout, out_channels, batch_size)
    found_LIJK = padded_LIJK[(slice(None), *layout.inner)]
    if all(side.stop - side.start == edge for side, edge in zip(box, whole, strict=True)):
        return found_LIJK.contiguous()
    logits_LIJK = image_CIJK.new_full((out_channels, *whole), OUTSIDE)
    logits_LIJK[(slice(None), *box)] = found_LIJK
    return logits_LIJK


@dataclass(frozen=True, slots=True)
class Runner:
    """A network that is run on windows of an image, in some precision."""

    forward: Forward
    image_1CIJK: Tensor
    autocast: torch.dtype | None
    channels_last: bool

    @classmethod
    def of(cls, forward: Forward, layout: Layout, autocast: torch.dtype | None) -> Runner:
        image_1CIJK, flat = layout.image_CIJK[None], layout.weight_IJK.shape[-1] == 1
        last = autocast is torch.bfloat16 and image_1CIJK.device.type == "cpu" and not flat
        if autocast is not None:  # once, not for each window and layer that reads it
            order = torch.channels_last_3d if last else torch.contiguous_format
            image_1CIJK = image_1CIJK.to(autocast, memory_format=order)
        return cls(forward, image_1CIJK, autocast, last)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Set up for many windows, as the weights are then converted once."""
        device = self.image_1CIJK.device.type
        with ExitStack() as settings:
            settings.enter_context(
                torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None)
            )
            if self.channels_last:
                settings.enter_context(ChannelsLast())
            yield

    def logits(self, batch: Sequence[Window]) -> Tensor:
        parts = [self.image_1CIJK[(slice(None), slice(None), *window)] for window in batch]
        return self.forward(torch.cat(parts))


def _average(runner: Runner, layout: Layout, out_channels: int, batch_size: int) -> Tensor:
    """The weighted average of the windows' logits (LIJK); OUTSIDE where there is no window."""
    weight_IJK, windows = layout.weight_IJK, layout.windows
    size = layout.image_CIJK.shape[1:]
    with runner.ready():
        if len(windows) == 1 and weight_IJK.shape == size:
            return runner.logits(windows)[0].float()
        logits_LIJK = weight_IJK.new_zeros((out_channels, *size))
        total_IJK = weight_IJK.new_zeros(size)
        for first in range(0, len(windows), batch_size):
            batch = windows[first : first + batch_size]
            for window, output_LIJK in zip(batch, runner.logits(batch), strict=True):
                for sum_IJK, output_IJK in zip(logits_LIJK, output_LIJK, strict=True):
                    sum_IJK[window].addcmul_(output_IJK.float(), weight_IJK)
                total_IJK[window] += weight_IJK
    logits_LIJK /= total_IJK
    missed_IJK = total_IJK == 0
    return logits_LIJK.masked_fill_(missed_IJK, OUTSIDE) if missed_IJK.any() else logits_LIJK


def slice_wise(
    forward: Forward,
    image_CIJK: Tensor,
    *,
    out_channels: int,
    roi: tuple[int, int] | None = None,
    overlap: float = 0.5,
    batch_size: int = 16,
    autocast: torch.dtype | None = None,
    multiple: int | Sequence[int] = 1,
) -> Tensor:
    """Run a 2-D network over the slices along the last axis; see :func:`sliding_window`.

    Without ``roi`` each slice runs whole, padded to ``multiple``. ``forward`` takes
    ``batch_BCIJ`` and returns ``logits_BLIJ``; ``batch_size`` counts slices.
    """
    return sliding_window(
        within_slices(forward),
        image_CIJK,
        slice_window(image_CIJK, roi, multiple),
        out_channels=out_channels,
        overlap=overlap,
        batch_size=batch_size,
        autocast=autocast,
    )


def within_slices(forward: Forward) -> Forward:
    """A 2-D network as one that takes windows of one slice."""
    return lambda batch_BCIJK: forward(batch_BCIJK[..., 0])[..., None]


def slice_window(
    image_CIJK: Tensor, roi: tuple[int, int] | None, multiple: int | Sequence[int]
) -> tuple[int, int, int]:
    """The window of :func:`slice_wise`."""
    _, *size, _ = image_CIJK.shape
    steps = per_axis(multiple, 2)
    i, j = roi or [rounded_up(n, step) for n, step in zip(size, steps, strict=True)]
    return i, j, 1
