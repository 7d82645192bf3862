"""Strides and kernels per axis, against the published plans of nnU-Net and by hand."""

from __future__ import annotations

import pytest

from medtl.networks.topology import fit_patch, plan_topology


@pytest.mark.parametrize(
    ("spacing_mm", "patch", "multiples", "levels"),
    [
        ((1.0, 1.0, 1.0), (40, 56, 40), (8, 8, 8), 4),  # MSD Hippocampus
        ((1.0, 1.0, 1.0), (128, 128, 128), (32, 32, 32), 6),  # BraTS
        ((0.625, 0.625, 3.6), (320, 256, 20), (32, 32, 4), 6),  # MSD Prostate: 20 slices
        ((0.79, 0.79, 1.24), (192, 192, 80), (32, 32, 16), 6),  # MSD Lung, thinner patch
    ],
)
def test_levels_are_those_of_nnunet(
    spacing_mm: tuple[float, ...],
    patch: tuple[int, ...],
    multiples: tuple[int, ...],
    levels: int,
) -> None:
    topology = plan_topology(spacing_mm, patch)
    assert topology.multiples == multiples
    assert len(topology.strides) == len(topology.kernels) == levels


def test_thick_slices_are_pooled_late_and_convolved_within() -> None:
    """0.625 mm doubles to 1.25, 2.5: within a factor of 2 of 3.6 after two levels."""
    topology = plan_topology((0.625, 0.625, 3.6), (320, 256, 20))
    assert topology.strides[:4] == ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert topology.kernels[:3] == ((3, 3, 1), (3, 3, 1), (3, 3, 3))
    assert "3x3x1 kernels in 2 of them" in topology.describe()


@pytest.mark.parametrize("slices", [1, 3])
def test_few_slices_are_never_convolved_over(slices: int) -> None:
    topology = plan_topology((1.0, 1.0, 2.5), (128, 128, slices))
    assert topology.kernels == ((3, 3, 1),) * 6
    assert topology.multiples == (32, 32, 1)
    assert topology.describe().endswith("2-D, as patches have under 4 slices")
    assert plan_topology((1.0, 1.0, 2.5), (128, 128, 4)).kernels[-1] == (3, 3, 3)


def test_two_axes_are_planned_too() -> None:
    assert plan_topology((1.0, 1.0), (128, 32)).strides == ((1, 1), (2, 2), (2, 2), (2, 2), (2, 1))


def test_a_small_patch_still_has_two_levels() -> None:
    assert plan_topology((1.0, 1.0, 1.0), (7, 6, 7)).strides == ((1, 1, 1), (2, 1, 1))


def test_patches_are_rounded_up_per_axis() -> None:
    assert fit_patch((36, 50, 9), (8, 8, 2)) == (40, 56, 10)
