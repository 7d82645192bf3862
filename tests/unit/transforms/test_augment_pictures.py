"""Pictures augmented a batch at once: as scipy would, and each as if it were alone.

Axes: B picture, C channel, I rows, J columns, K the one slice.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from medtl.data.case import Case
from medtl.training.samples.augmented import Views
from medtl.training.samples.loader import build_loader
from medtl.transforms.augment import FULL, NONE, PICTURE, ChannelDraw, Draw
from medtl.transforms.augment_pictures import augmented, framed
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import picture
from medtl.transforms.views import views

STILL = ChannelDraw(0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, False)


def pictures(count: int = 5) -> list[torch.Tensor]:
    """Two channels, of odd and even sizes."""
    random = np.random.default_rng(0)
    sizes = [(19 + n % 3, 23 - n % 4) for n in range(count)]
    smooth = [ndimage.gaussian_filter(random.normal(size=(2, *s, 1)), (0, 1, 1, 0)) for s in sizes]
    return [torch.from_numpy(image_CIJK).float() for image_CIJK in smooth]


@pytest.mark.parametrize("settings", [PICTURE, FULL, replace(PICTURE, modality_dropout=0.5)])
def test_a_picture_is_the_same_to_the_bit_whatever_lies_beside_it(settings) -> None:
    images, seeds = pictures(7), list(range(7))
    together = views(images, (21, 23), settings, seeds)
    alone = [views(images[n : n + 1], (21, 23), settings, [n])[0] for n in range(7)]
    assert torch.equal(together, torch.stack(alone))
    reverse = views(images[::-1], (21, 23), settings, seeds[::-1])
    assert torch.equal(together, reverse.flip(0))
    assert not torch.equal(together[0], views(images[:1], (21, 23), settings, [1])[0])


def test_rotation_and_zoom_are_scipys() -> None:
    angle = np.deg2rad(25)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * 1.2
    matrix[:, 1] *= -1  # mirrored
    middle = np.array([9.5, 10.25])
    image_CIJK = pictures(1)[0]
    framed_CIJ = framed(image_CIJK, (20, 23))
    whole = np.eye(3)
    whole[:2, :2] = matrix
    drawn = Draw(
        torch.tensor([*middle, 0.0]).float(), torch.from_numpy(whole).float(), (STILL,) * 2, 0
    )
    found_CIJ = augmented([drawn], framed_CIJ[None])[0]
    half = (np.array(framed_CIJ.shape[1:]) - 1) / 2
    for shown_IJ, given_IJ in zip(found_CIJ.numpy(), framed_CIJ.numpy(), strict=True):
        lowest = given_IJ.min()
        expected_IJ = ndimage.affine_transform(
            np.pad(given_IJ, 4, constant_values=lowest),
            matrix,
            middle + 4 - matrix @ half,
            output_shape=given_IJ.shape,
            order=1,
            cval=lowest,
        )
        np.testing.assert_allclose(shown_IJ, expected_IJ, atol=1e-4)


def test_around_a_picture_it_is_as_dark_as_the_picture_gets() -> None:
    image_CIJK = pictures(1)[0]
    shown_CIJ = framed(image_CIJK, (29, 30))
    assert torch.equal(shown_CIJ[:, 5:24, 3:26], image_CIJK[..., 0])
    for shown_IJ, given_IJK in zip(shown_CIJ, image_CIJK, strict=True):
        shown_IJ[5:24, 3:26] = given_IJK.min()
        assert (shown_IJ == given_IJK.min()).all()
    middle_CIJ = framed(image_CIJK, (17, 8))
    assert torch.equal(middle_CIJ, image_CIJK[:, 1:18, 8:16, 0])


def test_nothing_drawn_changes_nothing() -> None:
    images = pictures()
    framed_BCIJ = torch.stack([framed(image, (24, 24)) for image in images])
    assert torch.equal(views(images, (24, 24), NONE, range(5)), framed_BCIJ)
    still = replace(NONE, overhang=0.0, noise_p=0.0, spatial_p=1.0, scale=(1.0, 1.0))
    found_BCIJ = views(images, (24, 24), replace(still, rotation_deg=0.0), range(5))
    torch.testing.assert_close(found_BCIJ, framed_BCIJ, atol=1e-4, rtol=0)


def test_inputs_stay_as_they_were() -> None:
    images = pictures()
    copies = [image.clone() for image in images]
    views(images, (20, 23), FULL, range(5))
    assert all(map(torch.equal, images, copies))


@pytest.mark.parametrize(("batch", "workers"), [(3, 0), (6, 0), (2, 1)])
def test_samples_are_the_same_whatever_the_batch_and_workers(batch: int, workers: int) -> None:
    images = [{"image": image[:1]} for image in pictures()]
    cases = [Case(str(n), str(n), {}, class_name="ab"[n % 2]) for n in range(5)]
    samples = Views(
        images,
        cases,
        Preprocessor(("image",), ("a", "b"), picture().with_size((21, 23))),
        (21, 23),
        "0/x",
    )
    loader = build_loader(samples, 4, 6 // batch, batch, workers, pin_memory=False)
    batches = list(loader)
    for name in ("image", "target"):
        found = torch.cat([each[name] for each in batches])
        assert torch.equal(found, torch.stack([samples[n][name] for n in range(4, 10)]))
