"""Copies of pictures and volumes, however they were changed."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from heads import draw_heads
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from medtl.audit.search.copies import copies_of_pictures, copies_of_volumes
from medtl.audit.search.thumbnails import thumbnail_of, unpacked

COUNT, EDGE = 40, 200


def compressed(image: NDArray) -> NDArray:
    content = BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(content, "JPEG", quality=50)
    return np.asarray(Image.open(content), dtype=np.float32)


CHANGES: dict[str, tuple[Callable[[NDArray], NDArray], str]] = {
    "mirrored": (np.fliplr, "mirrored"),
    "turned by 90 degrees": (np.rot90, "turned"),
    "turned by 180 degrees": (lambda image: np.rot90(image, 2), "turned"),
    "half the size": (lambda image: zoom(image, 0.5, order=1), ""),
    "JPEG of quality 50": (compressed, ""),
    "cropped by 5% at each side": (lambda image: image[10:-10, 10:-10], "cropped"),
    "cropped at a corner": (lambda image: image[10:, 10:], "cropped"),
    "cropped and mirrored": (lambda image: np.fliplr(image[10:, :-10]), "mirrored and cropped"),
    "brighter": (lambda image: np.clip(1.3 * image + 10, 0, 255), ""),
}


def small(image: NDArray) -> NDArray:
    return unpacked(thumbnail_of(image[..., None].astype(np.float32), None), flat=True)


@pytest.fixture(scope="module")
def distinct() -> list[NDArray]:
    return draw_heads(COUNT, EDGE)


@pytest.mark.parametrize("name", CHANGES)
def test_every_copy_is_found_and_nothing_else(name: str, distinct: list[NDArray]) -> None:
    change, way = CHANGES[name]
    both = [small(image) for image in (*distinct, *map(change, distinct))]
    found = copies_of_pictures(np.stack(both))
    assert [(one.first, one.second) for one in found] == [(n, n + COUNT) for n in range(COUNT)]
    if "crop" not in name:  # a fitted box may leave out a row of a whole picture
        assert {one.way for one in found} == {way}
    assert all(way.split(" and ")[0] in one.way for one in found)


def test_volumes_are_found_mirrored_turned_and_on_another_grid() -> None:
    random = np.random.default_rng(1)
    shape = (40, 44, 36)
    made = [gaussian_filter(random.normal(size=shape), 3) for _ in range(12)]
    changed = [
        np.flip(made[0], 0),
        made[1].transpose(1, 0, 2),
        zoom(made[2], 0.7, order=1),
        2.5 * made[3] + 1,
    ]
    both = [unpacked(thumbnail_of(one.astype(np.float32), None), False) for one in made + changed]
    found = copies_of_volumes(np.stack(both))
    assert [(one.first, one.second) for one in found] == [(n, 12 + n) for n in range(4)]
    assert [one.way for one in found] == ["mirrored", "mirrored and turned", "", ""]
