"""Whole images as a network sees them: in the middle, unclipped, reproducible.

Axes: C modality, I J K voxels, L class.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from medtl.data.case import Case
from medtl.training.losses import cross_entropy
from medtl.training.samples.augmented import Views
from medtl.transforms.augment import FULL, NONE, PICTURE
from medtl.transforms.preprocess import prepare
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import picture, picture_plain
from medtl.transforms.views import view


def prepared(rows: int, columns: int, size: tuple[int, int]) -> torch.Tensor:
    image_CIJK = np.random.default_rng(0).normal(size=(1, rows, columns, 1)).astype(np.float32)
    covered_CIJK = np.ones(image_CIJK.shape, dtype=bool)
    found = prepare(image_CIJK, covered_CIJK, None, np.eye(4), picture_plain().with_size(size))
    return found["image"]


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [(100, 50, (64, 32)), (30, 60, (32, 64)), (64, 64, (64, 64)), (1000, 10, (64, 1))],
)
def test_pictures_are_scaled_to_fit_with_their_aspect(
    rows: int, columns: int, expected: tuple[int, int]
) -> None:
    image = prepared(rows, columns, (64, 64))
    assert image.shape == (1, *expected, 1)


def test_pictures_are_z_scored() -> None:
    image = prepared(64, 64, (64, 64))
    assert float(image.mean()) == pytest.approx(0, abs=1e-5)
    assert float(image.std()) == pytest.approx(1, abs=1e-3)


def test_shrinking_averages_what_falls_together() -> None:
    image_CIJK = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    covered_CIJK = np.ones(image_CIJK.shape, dtype=bool)
    whole, half = (
        prepare(image_CIJK, covered_CIJK, None, np.eye(4), picture_plain().with_size((n, n)))[
            "image"
        ]
        for n in (4, 2)
    )
    assert torch.allclose(half[..., 0], functional.avg_pool2d(whole[..., 0], 2), atol=1e-6)


def test_unaugmented_view_holds_the_whole_image_in_its_middle() -> None:
    image_CIJK = torch.randn(2, 5, 8, 1)
    shown_CIJ = view(image_CIJK, (9, 8))
    assert torch.equal(shown_CIJ[:, 2:7], image_CIJK[..., 0])
    dark_C11 = image_CIJK.amin((1, 2))[..., None]
    assert (shown_CIJ[:, :2] == dark_C11).all() and (shown_CIJ[:, 7:] == dark_C11).all()
    volume_CIJK = torch.randn(1, 4, 6, 10)
    assert torch.equal(view(volume_CIJK, (4, 8, 6))[:, :, 1:7], volume_CIJK[..., 2:8])


def test_augmented_views_hold_most_of_the_image() -> None:
    """However it is moved, turned and scaled, the middle of the image stays in view."""
    image_CIJK = torch.zeros(1, 64, 64, 1)
    image_CIJK[:, 28:36, 28:36] = 5
    for seed in range(40):
        shown_CIJ = view(image_CIJK, (64, 64), PICTURE, seed)
        assert float((shown_CIJ != 0).float().sum()) > 30


def test_a_view_depends_on_its_number_alone() -> None:
    images = [{"image": torch.randn(1, 20, 20, 1)} for _ in range(5)]
    cases = [Case(str(n), str(n), {}, class_name="ab"[n % 2]) for n in range(5)]
    preprocessor = Preprocessor(("image",), ("a", "b"), picture().with_size((16, 16)))
    views = Views(images, cases, preprocessor, (16, 16), "0/x")
    again = Views(images, cases, preprocessor, (16, 16), "0/x")
    for number in (7, 3, 12):
        one, two = views[number], again[number]
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["target"], two["target"])
    assert not torch.equal(views[3]["image"], views[4]["image"])
    targets = torch.stack([views[n]["target"] for n in range(5)])  # one pass over the cases
    assert targets.sum(0).tolist() == [3, 2]


def test_no_augmentation_is_none_and_full_takes_images_without_regions() -> None:
    image_CIJK = torch.randn(1, 16, 16, 16)
    assert torch.equal(view(image_CIJK, (16, 16, 16), NONE, 3), image_CIJK)
    assert view(image_CIJK, (16, 16, 16), FULL, 3).shape == image_CIJK.shape


def test_cross_entropy_is_that_of_the_true_class() -> None:
    logits_BL = torch.randn(6, 4)
    classes_B = torch.tensor([0, 1, 2, 3, 1, 0])
    target_BL = functional.one_hot(classes_B, 4).float()
    expected = -logits_BL.log_softmax(1)[torch.arange(6), classes_B].mean()
    assert torch.allclose(cross_entropy()(logits_BL, target_BL), expected)
