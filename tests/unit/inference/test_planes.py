"""Logits plane by plane are those of all at once.

Axes: C modality, L output channel, I J K voxels.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medtl.inference import planes
from medtl.inference.planes import sliding_planes
from medtl.inference.sliding_window import OUTSIDE, sliding_window

SIZE, ROI = (31, 40, 26), (16, 20, 12)

#: Of sums in half precision.
CLOSE = {"rtol": 2e-3, "atol": 2e-3}


def convolutions() -> nn.Module:
    """Sees beyond the edge of a window, so that every placement and weight matters."""
    torch.manual_seed(0)
    layers = (nn.Conv3d(2, 4, 5, padding=2), nn.Tanh(), nn.Conv3d(4, 3, 5, padding=2))
    return nn.Sequential(*layers).eval()


def image(size: tuple[int, ...] = SIZE) -> torch.Tensor:
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [SIZE, (9, 40, 26), (15, 7, 5), ROI, (50, 21, 13)])
@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_equal_the_whole(axis: int, size: tuple[int, ...], batch_size: int) -> None:
    network, settings = convolutions(), {"out_channels": 3, "overlap": 0.5}
    expected = sliding_window(network, image(size), ROI, **settings)
    parts = list(sliding_planes(network, image(size), ROI, axis, batch_size=batch_size, **settings))
    found = torch.cat(parts, 1 + axis)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("chunk", [1, 10_000])
def test_chunks_are_as_small_as_asked_for(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(planes, "CHUNK", chunk)
    network = convolutions()
    expected = sliding_window(network, image(), ROI, out_channels=3)
    parts = list(sliding_planes(network, image(), ROI, 1, out_channels=3))
    plane = 3 * SIZE[0] * SIZE[2]
    assert all(part.numel() <= max(chunk, plane) for part in parts)
    torch.testing.assert_close(torch.cat(parts, 2), expected, **CLOSE)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_shows_nothing_is_outside(axis: int) -> None:
    """Two things far apart: no window lies between them."""
    size, network = (80, 40, 70), convolutions()
    shown = torch.zeros(2, *size)
    shown[:, 3:9, 5:11, 4:9] = image((6, 6, 5))
    shown[:, 70:76, 30:36, 60:66] = image((6, 6, 6))
    expected = sliding_window(network, shown, ROI, out_channels=3, crop=True)
    found = torch.cat(
        list(sliding_planes(network, shown, ROI, axis, out_channels=3, crop=True)), 1 + axis
    )
    assert torch.equal(found == OUTSIDE, expected == OUTSIDE) and (found == OUTSIDE).any()
    torch.testing.assert_close(found, expected, **CLOSE)


def test_nothing_shown_is_all_outside() -> None:
    dark = torch.zeros(2, *SIZE)
    parts = list(sliding_planes(convolutions(), dark, ROI, 0, out_channels=3, crop=True))
    assert torch.equal(torch.cat(parts, 1), torch.full((3, *SIZE), OUTSIDE))


def test_windows_of_nnunet() -> None:
    """Its smallest weights would vanish in half precision."""
    network = convolutions()
    expected = sliding_window(network, image(), ROI, out_channels=3, nnunet=True)
    found = torch.cat(
        list(sliding_planes(network, image(), ROI, 2, out_channels=3, nnunet=True)), 3
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
