"""Axes: B window, C modality, L output channel, I J K voxels."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference
from scipy.ndimage import gaussian_filter
from torch import nn

from medtl.data.io.grids import bounding_box
from medtl.inference.sliding_window import OUTSIDE, slice_wise, sliding_window
from medtl.inference.windows import shown

SIZE = (31, 40, 26)
ROI = (16, 20, 12)


def convolutions(dims: int = 3) -> nn.Module:
    """Sees beyond the edge of a window, so that every placement and weight matters."""
    conv = nn.Conv3d if dims == 3 else nn.Conv2d
    torch.manual_seed(0)
    return nn.Sequential(conv(2, 4, 5, padding=2), nn.Tanh(), conv(4, 3, 5, padding=2)).eval()


def image(size: tuple[int, ...] = SIZE) -> torch.Tensor:
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(1))


def by_monai(network, image_CIJK, roi, overlap=0.5):
    with torch.no_grad():
        return sliding_window_inference(
            image_CIJK[None], roi, 1, network, overlap=overlap, mode="gaussian"
        )[0]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_equals_monai(overlap, batch_size):
    network = convolutions()
    found_LIJK = sliding_window(
        network, image(), ROI, out_channels=3, overlap=overlap, batch_size=batch_size
    )
    assert found_LIJK.shape == (3, *SIZE)
    torch.testing.assert_close(
        found_LIJK, by_monai(network, image(), ROI, overlap), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("size", [(9, 40, 26), (15, 7, 5), (16, 20, 12), (17, 21, 13)])
def test_equals_monai_on_volumes_smaller_than_or_like_a_window(size):
    network = convolutions()
    found_LIJK = sliding_window(network, image(size), ROI, out_channels=3, batch_size=2)
    torch.testing.assert_close(found_LIJK, by_monai(network, image(size), ROI), rtol=0, atol=1e-5)


@pytest.mark.parametrize("roi", [(16, 20, 12), (5, 64, 1)])
def test_weights_are_monais_gaussian(roi):
    """One window that shouts at one voxel shows the weight of that voxel among its neighbours."""
    from medtl.inference.windows import importance

    expected = compute_importance_map(roi, mode="gaussian", sigma_scale=0.125)
    torch.testing.assert_close(importance(roi, torch.device("cpu")), expected)


def test_a_voxelwise_network_gives_the_same_logits_as_without_windows():
    def forward(batch_BCIJK):
        return batch_BCIJK.sum(1, keepdim=True) * 3 + 1

    found_LIJK = sliding_window(forward, image(), ROI, out_channels=1, overlap=0.3)
    torch.testing.assert_close(found_LIJK, forward(image()[None])[0])


def test_windows_come_in_batches_of_at_most_the_given_size():
    seen = []

    def forward(batch_BCIJK):
        seen.append(tuple(batch_BCIJK.shape))
        return batch_BCIJK[:, :1]

    sliding_window(forward, image(), ROI, out_channels=1, batch_size=4)
    assert {shape[1:] for shape in seen} == {(2, *ROI)}
    assert [shape[0] for shape in seen[:-1]] == [4] * (len(seen) - 1)
    assert sum(shape[0] for shape in seen) == 3 * 3 * 4  # steps of 8, 10 and 6


def test_autocast_runs_the_network_low_and_sums_in_float32():
    network, seen = convolutions(), []

    def forward(batch_BCIJK):
        logits = network(batch_BCIJK)
        seen.append(logits.dtype)
        return logits

    found_LIJK = sliding_window(forward, image(), ROI, out_channels=3, autocast=torch.bfloat16)
    assert set(seen) == {torch.bfloat16}
    assert found_LIJK.dtype == torch.float32
    torch.testing.assert_close(found_LIJK, by_monai(network, image(), ROI), rtol=0, atol=0.02)


def test_no_gradient_is_recorded():
    network = convolutions()
    assert not sliding_window(network, image(), ROI, out_channels=3).requires_grad


@pytest.mark.parametrize(("size", "passes"), [((18, 20, 13), 1), ((18, 22, 14), 8)])
def test_a_volume_within_the_limit_runs_in_one_pass(size, passes):
    network, seen = convolutions(), []

    def forward(batch_BCIJK):
        seen.append(tuple(batch_BCIJK.shape[2:]))
        return network(batch_BCIJK)

    limit = 20 * 20 * 16
    found_LIJK = sliding_window(
        forward, image(size), ROI, out_channels=3, pass_voxels=limit, multiple=4
    )
    assert len(seen) == passes
    if passes == 1:
        assert seen == [(20, 20, 16)]
        padded = torch.nn.functional.pad(image(size), (1, 2, 0, 0, 1, 1))
        with torch.no_grad():
            expected = network(padded[None])[0, :, 1:19, :, 1:14]
        torch.testing.assert_close(found_LIJK, expected)
    else:
        torch.testing.assert_close(
            found_LIJK, by_monai(network, image(size), ROI), rtol=0, atol=1e-5
        )


def head_in_air(size: tuple[int, ...] = SIZE) -> torch.Tensor:
    """An image that shows something only in a box off the centre."""
    shown = torch.zeros(2, *size)
    shown[:, 4:25, 9:38, 3:20] = image((21, 29, 17))
    shown[0, :5] = 0
    return shown


def test_cropping_computes_the_windows_of_the_box_alone():
    network, seen = convolutions(), []

    def forward(batch_BCIJK):
        seen.append(len(batch_BCIJK))
        return network(batch_BCIJK)

    found_LIJK = sliding_window(forward, head_in_air(), ROI, out_channels=3, crop=True)
    inside = (slice(None), slice(4, 25), slice(9, 38), slice(3, 20))
    expected = by_monai(network, head_in_air()[inside], ROI)
    torch.testing.assert_close(found_LIJK[inside], expected, rtol=0, atol=1e-5)
    outside = torch.ones(SIZE, dtype=torch.bool)
    outside[inside[1:]] = False
    assert (found_LIJK[:, outside] == OUTSIDE).all()
    assert sum(seen) == 2 * 2 * 2  # of 3 * 3 * 4 over the whole volume


def test_windows_that_show_nothing_are_skipped_when_cropping():
    shown = torch.zeros(1, 40, 8, 8)
    shown[:, :8], shown[:, -8:] = 1.0, 2.0
    seen = []

    def forward(batch_BCIJK):
        seen.append(batch_BCIJK.amax().item())
        return batch_BCIJK

    found = sliding_window(forward, shown, (8, 8, 8), out_channels=1, overlap=0.0, crop=True)
    assert sorted(seen) == [1.0, 2.0]
    assert (found[:, :8] == 1).all() and (found[:, -8:] == 2).all()
    assert (found[:, 8:-8] == OUTSIDE).all()


def test_volume_that_shows_nothing_is_outside_throughout():
    found = sliding_window(
        convolutions(), torch.zeros(2, *SIZE), ROI, out_channels=3, crop=True, pass_voxels=10**9
    )
    assert found.shape == (3, *SIZE) and (found == OUTSIDE).all()


def test_box_holds_every_voxel_that_is_not_background():
    assert bounding_box(shown(head_in_air())) == (slice(4, 25), slice(9, 38), slice(3, 20))
    single = torch.zeros(2, *SIZE)
    single[1, 30, 0, 25] = -1
    assert bounding_box(shown(single)) == (slice(30, 31), slice(0, 1), slice(25, 26))


def test_slices_of_a_2d_network_match_running_them_one_by_one():
    network = convolutions(2)
    found_LIJK = slice_wise(network, image(), out_channels=3, batch_size=7)
    with torch.no_grad():
        expected = torch.stack([network(image()[None, ..., k])[0] for k in range(26)], dim=-1)
    torch.testing.assert_close(found_LIJK, expected)


def test_slices_are_padded_to_a_multiple_and_cropped_back():
    network, seen = convolutions(2), set()

    def forward(batch_BCIJ):
        seen.add(tuple(batch_BCIJ.shape[2:]))
        return network(batch_BCIJ)

    assert slice_wise(forward, image(), out_channels=3, multiple=16).shape == (3, *SIZE)
    assert seen == {(32, 48)}


def test_windows_within_slices_equal_monai_in_2d():
    network = convolutions(2)
    found_LIJK = slice_wise(network, image(), out_channels=3, roi=(16, 20), batch_size=5)
    expected = torch.stack([by_monai(network, image()[..., k], (16, 20)) for k in range(26)], -1)
    torch.testing.assert_close(found_LIJK, expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu():
    network = convolutions()
    expected = sliding_window(network, image(), ROI, out_channels=3)
    found_LIJK = sliding_window(network.cuda(), image().cuda(), ROI, out_channels=3, batch_size=4)
    assert found_LIJK.is_cuda
    torch.testing.assert_close(found_LIJK.cpu(), expected, rtol=0, atol=1e-2)  # TF32 convolutions


@pytest.mark.parametrize("size", [(31, 40, 26), (16, 47, 33)])
def test_nnunets_windows_are_at_equal_steps_and_weighted_on_a_voxel(size):
    """Against a sum over windows whose places and scipy's Gaussian are written out here."""
    network, whole = convolutions(), image(size)
    spike = np.zeros(ROI)
    spike[tuple(edge // 2 for edge in ROI)] = 1
    weights = gaussian_filter(spike, [edge / 8 for edge in ROI], 0, mode="constant", cval=0)
    weight = torch.from_numpy(weights / weights.max()).float().clamp_min(6e-9)
    places = []
    for length, edge in zip(size, ROI, strict=True):
        count = math.ceil((length - edge) / (edge / 2)) + 1
        places.append([round(n * (length - edge) / max(1, count - 1)) for n in range(count)])
    total, norm = torch.zeros(3, *size), torch.zeros(size)
    with torch.no_grad():
        for corner in product(*places):
            at = tuple(slice(a, a + edge) for a, edge in zip(corner, ROI, strict=True))
            total[(slice(None), *at)] += weight * network(whole[(slice(None), *at)][None])[0]
            norm[at] += weight
    found = sliding_window(network, whole, ROI, out_channels=3, nnunet=True)
    torch.testing.assert_close(found, total / norm, rtol=0, atol=1e-5)
