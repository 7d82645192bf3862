"""Augmented patches: one draw holds all that is random, applying it adds nothing.

Axes: C modality, L region, I J K voxels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from medtl.transforms.augment import (
    AIR,
    FULL,
    LIGHT,
    NONE,
    Augmentation,
    ChannelDraw,
    Draw,
    apply,
    draw,
)

PATCH = (8, 10, 12)
SHAPE = (16, 18, 20)
STILL = ChannelDraw(
    fade=0.0,
    noise=0.0,
    blur_voxels=0.0,
    bias=0.0,
    contrast=1.0,
    shift=0.0,
    gamma=1.0,
    gamma_inverted=False,
)


def head(channels: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """image_CIJK, 0 around a box of smooth values above 1, and target_LIJK: two boxes."""
    random = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(random.normal(size=(channels, *SHAPE)), (0, 2, 2, 2))
    image = np.zeros_like(values)
    image[:, 2:14, 2:16, 2:18] = values[:, 2:14, 2:16, 2:18] + 2
    target = np.zeros((2, *SHAPE), np.uint8)
    target[0, 4:10, 5:12, 6:14] = 1
    target[1, 6:8, 7:9, 8:10] = 1
    return torch.from_numpy(image).float(), torch.from_numpy(target)


def centres(target_LIJK: torch.Tensor) -> dict[str, torch.Tensor]:
    return {str(i): mask.flatten().nonzero().flatten() for i, mask in enumerate(target_LIJK)}


def drawing(
    centre: tuple[float, float, float], matrix: torch.Tensor | None = None, **settings: float
) -> Draw:
    channel = replace(STILL, **settings)
    matrix = torch.eye(3) if matrix is None else matrix
    return Draw(torch.tensor(centre), matrix, (channel, channel), noise_seed=1)


@pytest.mark.parametrize("centre", [(7.5, 8.5, 9.5), (3.5, 14.5, 2.5), (-20.5, 8.5, 9.5)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_patch_on_the_images_voxels_is_what_interpolation_gives(centre, signs) -> None:
    image, target = head()
    matrix = torch.diag(torch.tensor(signs, dtype=torch.float32))
    cut = apply(drawing(centre, matrix), image, target, PATCH)
    almost = matrix @ torch.diag(torch.tensor([1 + 1e-6, 1.0, 1.0]))
    interpolated = apply(drawing(centre, almost), image, target, PATCH)
    torch.testing.assert_close(cut[0], interpolated[0], atol=1e-4, rtol=0)
    assert torch.equal(cut[1], interpolated[1])


def test_draw_without_rotation_and_zoom_lies_on_the_images_voxels() -> None:
    _, target = head()
    still = replace(FULL, spatial_p=0.0)
    for seed in range(50):
        centre = draw(still, centres(target), SHAPE, PATCH, 2, seed).centre
        corner = centre - (torch.tensor(PATCH) - 1) / 2
        assert torch.equal(corner, corner.round())


def test_same_seed_gives_the_same_patch_and_another_seed_another() -> None:
    image, target = head()
    patches = [
        apply(draw(FULL, centres(target), SHAPE, PATCH, 2, seed), image, target, PATCH)
        for seed in (5, 5, 6)
    ]
    assert torch.equal(patches[0][0], patches[1][0])
    assert torch.equal(patches[0][1], patches[1][1])
    assert not torch.equal(patches[0][0], patches[2][0])


def test_global_random_state_is_neither_read_nor_moved() -> None:
    image, target = head()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = apply(draw(FULL, centres(target), SHAPE, PATCH, 2, 3), image, target, PATCH)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    two = apply(draw(FULL, centres(target), SHAPE, PATCH, 2, 3), image, target, PATCH)
    assert torch.equal(one[0], two[0])


@pytest.mark.parametrize("settings", [FULL, LIGHT, replace(FULL, spatial_p=0.0, flip=False)])
def test_applying_leaves_its_inputs_unchanged(settings: Augmentation) -> None:
    image, target = head()
    copies = image.clone(), target.clone()
    for seed in range(5):
        apply(draw(settings, centres(target), SHAPE, PATCH, 2, seed), image, target, PATCH)
    assert torch.equal(image, copies[0]) and torch.equal(target, copies[1])


def test_without_augmentation_a_patch_is_a_crop() -> None:
    image, target = head()
    drawn = drawing((7.5, 8.5, 9.5))
    patch, labels = apply(drawn, image, target, PATCH)
    crop = (slice(None), slice(4, 12), slice(4, 14), slice(4, 16))
    torch.testing.assert_close(patch, image[crop], rtol=0, atol=1e-5)
    assert torch.equal(labels, target[crop].float())


def test_crop_reaches_beyond_the_image_with_zeros() -> None:
    image, target = head()
    patch, labels = apply(drawing((0.5, 8.5, 9.5)), image, target, PATCH)
    assert not patch[:, :3].any() and not labels[:, :3].any()
    torch.testing.assert_close(patch[:, 3:], image[:, 0:5, 4:14, 4:16], rtol=0, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flip_mirrors_image_and_target_alike(axis: int) -> None:
    image, target = head()
    signs = torch.ones(3)
    signs[axis] = -1
    centre = (7.5, 8.5, 9.5)
    plain = apply(drawing(centre), image, target, PATCH)
    mirrored = apply(drawing(centre, torch.diag(signs)), image, target, PATCH)
    torch.testing.assert_close(mirrored[0], plain[0].flip(1 + axis), rtol=0, atol=1e-5)
    assert torch.equal(mirrored[1], plain[1].flip(1 + axis))


def test_spatial_part_agrees_with_scipys_affine_transform() -> None:
    image, target = head()
    drawn = draw(replace(FULL, spatial_p=1.0), centres(target), SHAPE, PATCH, 2, seed=4)
    still = replace(drawn, channels=(STILL, STILL))
    patch, _ = apply(still, image, target, PATCH)
    matrix = still.matrix.numpy().astype(float)
    middle = (np.array(PATCH) - 1) / 2
    expected = ndimage.affine_transform(
        image[0].numpy().astype(float),
        matrix,
        offset=still.centre.numpy() - matrix @ middle,
        output_shape=PATCH,
        order=1,
        mode="grid-constant",
    )
    brain = patch[0].numpy() != 0
    assert np.abs(patch[0].numpy() - expected)[brain].max() < 1e-3


def test_drawn_matrix_is_a_rotation_times_a_zoom_within_range() -> None:
    _, target = head()
    for seed in range(30):
        drawn = draw(FULL, centres(target), SHAPE, PATCH, 2, seed)
        gram = drawn.matrix.T @ drawn.matrix
        zoom = float(gram[0, 0].sqrt())
        torch.testing.assert_close(gram, torch.eye(3) * zoom**2, rtol=0, atol=1e-5)
        assert FULL.scale[0] - 1e-5 <= zoom <= FULL.scale[1] + 1e-5


def test_patches_are_drawn_towards_the_target() -> None:
    target = torch.zeros(1, 64, 64, 64, dtype=torch.uint8)
    target[0, 50:53, 50:53, 50:53] = 1
    image = target.float()
    voxels = centres(target)
    hits = sum(
        bool(apply(draw(NONE, voxels, (64,) * 3, (8,) * 3, 1, n), image, target, (8,) * 3)[1].any())
        for n in range(100)
    )
    assert hits >= 25  # by chance hardly ever: the tumour is 1 of 10,000 voxels


def test_case_without_any_target_gives_patches_anywhere() -> None:
    image, target = head()
    nothing = {"0": torch.empty(0, dtype=torch.long)}
    patch, labels = apply(draw(FULL, nothing, SHAPE, PATCH, 2, 0), image, target * 0, PATCH)
    assert patch.shape == (2, *PATCH) and not labels.any()


def test_background_stays_zero_and_values_stay_finite() -> None:
    image, target = head()
    always = Augmentation(
        spatial_p=0.0, flip=False, noise_p=1, fade_p=1, blur_p=1, intensity_p=1, gamma_p=1
    )
    for seed in range(20):
        drawn = draw(always, centres(target), SHAPE, PATCH, 2, seed)
        patch, _ = apply(drawn, image, target, PATCH)
        plain, _ = apply(replace(drawn, channels=(STILL, STILL)), image, target, PATCH)
        assert torch.isfinite(patch).all()
        assert not patch[plain == 0].any()


def test_a_lesion_fades_into_the_brain_around_it_and_keeps_its_texture() -> None:
    image, target = head()
    lesion = target[0].bool()
    image = image + 3 * (lesion & (image[0] != 0))
    centre = tuple((n - 1) / 2 for n in SHAPE)
    plain, labels = apply(drawing(centre), image, target, SHAPE)
    faded, same = apply(drawing(centre, fade=0.7), image, target, SHAPE)
    gone, _ = apply(drawing(centre, fade=1.0), image, target, SHAPE)
    inside, around = labels[0] == 1, (labels[0] == 0) & (plain[0] != 0)
    assert torch.equal(labels, same)
    torch.testing.assert_close(faded[:, ~inside], plain[:, ~inside])
    for before, after, without in zip(plain, faded, gone, strict=True):
        contrast = before[inside].mean() - before[around].mean()
        assert contrast > 2
        torch.testing.assert_close(after[inside], before[inside] - 0.7 * contrast)
        torch.testing.assert_close(without[inside].mean(), before[around].mean())
    healthy, _ = apply(drawing(centre, fade=0.7), image, target * 0, SHAPE)
    torch.testing.assert_close(healthy, plain)


def test_dropout_of_nothing_draws_as_if_there_were_none() -> None:
    _, target = head()
    for seed in range(20):
        drawn = draw(FULL, centres(target), SHAPE, PATCH, 4, seed)
        single = draw(replace(FULL, modality_dropout=1.0), centres(target), SHAPE, PATCH, 1, seed)
        assert drawn.missing == single.missing == ()


def test_dropout_blanks_modalities_and_changes_nothing_else() -> None:
    image, target = head(3)
    for seed in range(30):
        plain = draw(FULL, centres(target), SHAPE, PATCH, 3, seed)
        dropped = draw(replace(FULL, modality_dropout=1.0), centres(target), SHAPE, PATCH, 3, seed)
        assert 1 <= len(dropped.missing) <= 2
        before, truth = apply(plain, image, target, PATCH)
        after, same = apply(dropped, image, target, PATCH)
        assert torch.equal(truth, same)
        for channel in range(3):
            expected = before[channel] * (channel not in dropped.missing)
            assert torch.equal(after[channel], expected)


def test_every_set_of_missing_modalities_is_as_likely_and_one_always_stays() -> None:
    counts: Counter[tuple[int, ...]] = Counter()
    some = replace(NONE, modality_dropout=0.5)
    for seed in range(3000):
        counts[draw(some, {}, SHAPE, PATCH, 3, seed).missing] += 1
    assert set(counts) == {(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)}
    assert 1350 < counts.pop(()) < 1650
    assert all(190 < count < 310 for count in counts.values())  # 250 each, within 4 deviations


def test_contrast_and_shift_are_linear_in_the_brain() -> None:
    image, target = head()
    patch, _ = apply(drawing((7.5, 8.5, 9.5)), image, target, PATCH)
    changed, _ = apply(drawing((7.5, 8.5, 9.5), contrast=1.2, shift=-0.3), image, target, PATCH)
    brain = patch != 0
    torch.testing.assert_close(changed[brain], 1.2 * patch[brain] - 0.3)


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_keeps_range_and_order(inverted: bool) -> None:
    image, target = head()
    centre = (7.5, 8.5, 9.5)
    patch, _ = apply(drawing(centre), image, target, PATCH)
    bent, _ = apply(drawing(centre, gamma=1.5, gamma_inverted=inverted), image, target, PATCH)
    order = patch[0].flatten().argsort()
    assert (bent[0].flatten()[order].diff() >= -1e-5).all()
    torch.testing.assert_close(bent[0].max(), patch[0].max())
    assert (bent > patch + 1e-4).any() == inverted


def test_blur_agrees_with_scipys_gaussian() -> None:
    image, target = head()
    inside = (8, 8, 8)  # wholly in the brain, so that no edge is masked
    centre = (7.5, 8.5, 9.5)
    patch, _ = apply(drawing(centre), image, target, inside)
    blurred, _ = apply(drawing(centre, blur_voxels=0.8), image, target, inside)
    expected = ndimage.gaussian_filter(patch[0].numpy(), 0.8, mode="constant", radius=2)
    np.testing.assert_allclose(blurred[0].numpy(), expected, atol=1e-5)


def test_bias_field_is_that_of_the_patch_wherever_the_image_ends() -> None:
    image, target = torch.ones(1, *SHAPE), torch.zeros(1, *SHAPE)
    drawn = drawing((7.5, 8.5, 9.5), bias=0.3)
    patch = (24, 26, 28)
    found, _ = apply(replace(drawn, channels=drawn.channels[:1]), image, target, patch)
    noise = torch.Generator().manual_seed(drawn.noise_seed)
    points = 0.3 * torch.randn((1, 1, 3, 3, 3), generator=noise)
    field = functional.interpolate(points, size=patch, mode="trilinear", align_corners=True)
    expected = (1 + AIR) * field[0, 0].exp() - AIR
    torch.testing.assert_close(found[0][4:20, 4:22, 4:24], expected[4:20, 4:22, 4:24])
    assert int(torch.count_nonzero(found)) == image.numel()


def test_low_resolution_is_nearest_voxels_interpolated() -> None:
    image, target = head()
    inside = (8, 8, 8)  # wholly in the brain
    patch, _ = apply(drawing((7.5, 8.5, 9.5)), image, target, inside)
    coarse, _ = apply(drawing((7.5, 8.5, 9.5), coarse=0.5), image, target, inside)
    fewer = patch[0, ::2, ::2, ::2].numpy()
    places = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3)
    grid = np.stack(np.meshgrid(places, places, places, indexing="ij"))
    expected = ndimage.map_coordinates(fewer, grid, order=1)
    np.testing.assert_allclose(coarse[0].numpy(), expected, atol=1e-5)


def test_low_resolution_comes_as_often_as_said() -> None:
    often = replace(NONE, coarse_p=0.3)
    drawn = [draw(often, {}, SHAPE, PATCH, 1, seed).channels[0].coarse for seed in range(1000)]
    assert 240 < sum(one < 1 for one in drawn) < 360
    assert min(drawn) >= 0.5


def test_strength_is_a_factor_on_how_often_patches_change() -> None:
    half, double, none = FULL.scaled(0.5), FULL.scaled(2.0), FULL.scaled(0.0)
    assert (half.spatial_p, half.noise_p, half.gamma_p) == (0.3, 0.15, 0.2)
    assert (double.spatial_p, double.noise_p) == (1.0, 0.6)
    assert half.scale == FULL.scale and half.flip
    assert none == NONE


def test_flat_patch_stays_in_its_slice() -> None:
    image, target = head()
    for seed in range(10):
        drawn = draw(FULL, centres(target), SHAPE, (8, 8, 1), 2, seed)
        assert float(drawn.centre[2]).is_integer()
        torch.testing.assert_close(drawn.matrix[2, :2], torch.zeros(2), rtol=0, atol=1e-6)
        patch, labels = apply(drawn, image, target, (8, 8, 1))
        assert patch.shape == (2, 8, 8, 1) and labels.shape == (2, 8, 8, 1)


def test_flips_of_an_axis_alone_can_be_off() -> None:
    settings = replace(FULL, spatial_p=0.0, flip=(True, False, True))
    signs = [
        draw(settings, {}, (9, 9, 9), (5, 5, 5), 1, seed).matrix.diagonal().sign().tolist()
        for seed in range(40)
    ]
    assert {sign[1] for sign in signs} == {1.0}
    assert {sign[0] for sign in signs} == {sign[2] for sign in signs} == {1.0, -1.0}
