"""Images that are the same, or nearly. Axes: I J K voxels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageOps
from scipy.ndimage import gaussian_filter

from medtl.data.case import Case, ImageFile
from medtl.data.duplicates import Group, groups_of, joined, thumbnails_of
from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.runtime.console import Reporter
from medtl.shift.images.domains import Image
from medtl.shift.images.duplicates import merged_patients, overlap, screen_images
from medtl_brats.task import Brats

QUIET = Reporter(quiet=True)


def groups(*paths: Path) -> list[Group]:
    return groups_of(thumbnails_of([ImageFile(path) for path in paths], QUIET))


def head(seed: int) -> Picture.Image:
    """A bright ellipse with structure in it on black."""
    i, j = np.mgrid[-1:1:200j, -1:1:160j]
    inside = (i / 0.8) ** 2 + (j / 0.7) ** 2 < 1
    structure = gaussian_filter(np.random.default_rng(seed).normal(size=i.shape), 3)
    values = np.clip(130 + 50 * structure / structure.std(), 40, 255)
    return Picture.fromarray(np.where(inside, values, 0).astype(np.uint8))


COPIES: dict[str, Callable[[Picture.Image], Picture.Image]] = {
    "smaller": lambda image: image.resize((120, 150), Picture.Resampling.BILINEAR),
    "larger": lambda image: image.resize((256, 320), Picture.Resampling.BICUBIC),
    "brighter": lambda image: image.point(lambda value: int(255 * (value / 255) ** 0.8)),
    "margins": lambda image: ImageOps.expand(image, 30, 0),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_changed_copy_is_found_and_another_head_is_not(copy: str, tmp_path: Path) -> None:
    head(0).save(tmp_path / "a.png")
    head(1).save(tmp_path / "b.png")
    COPIES[copy](head(0)).save(tmp_path / "c.png")
    assert groups(*(tmp_path / f"{name}.png" for name in "abc")) == [Group((0, 2), False)]


def test_the_same_pixels_are_identical_and_recompressed_ones_nearly(tmp_path: Path) -> None:
    head(0).save(tmp_path / "a.png")
    head(0).save(tmp_path / "b.bmp")
    assert groups(tmp_path / "a.png", tmp_path / "b.bmp") == [Group((0, 1), True)]
    head(0).save(tmp_path / "c.jpg", quality=50)
    paths = [tmp_path / name for name in ("a.png", "b.bmp", "c.jpg")]
    assert groups(*paths) == [Group((0, 1, 2), False)]


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> tuple[Case, ...]:
    return Brats().cases(small_phantom(cases=6, size=32, sites=1, seed=3)).cases


def test_modalities_and_patients_are_not_taken_for_copies(phantom) -> None:
    files = [file for case in phantom for file in case.images.values()]
    assert groups_of(thumbnails_of(files, QUIET)) == []


def test_a_turned_rescaled_and_padded_volume_is_a_copy(phantom, tmp_path: Path) -> None:
    source = nib.load(phantom[0].images[Modality("t1")].path)
    array = np.asarray(source.dataobj, dtype=np.float32)
    padded = np.pad(2.5 * array, 5)[::-1]
    affine = source.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    nib.save(nib.Nifti1Image(padded, affine), tmp_path / "copy.nii.gz")
    others = [case.images[Modality("t1")].path for case in phantom]
    assert groups(tmp_path / "copy.nii.gz", *others) == [Group((0, 1), False)]


def test_constant_images_are_nobodys_copies(tmp_path: Path) -> None:
    for name in "ab":
        Picture.new("L", (20, 20), 7).save(tmp_path / f"{name}.png")
    assert groups(tmp_path / "a.png", tmp_path / "b.png") == []


@pytest.mark.parametrize("size", [(3, 2000), (2000, 3), (1, 5000)])
def test_narrow_pictures_are_compared(tmp_path: Path, size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    for name in "ab":
        values = random.integers(0, 256, size[::-1], dtype=np.uint8)
        Picture.fromarray(values).save(tmp_path / f"{name}.png")
    Picture.fromarray(values).save(tmp_path / "c.bmp")
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.bmp")]
    assert groups(*paths) == [Group((1, 2), True)]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DataError, match=r"a\.png"):
        groups(tmp_path / "a.png")


def test_chains_are_one_group() -> None:
    assert joined(6, [(4, 5), (1, 3), (3, 4)]) == [0, 1, 2, 1, 1, 1]


def image(path: Path, patient: str, *, source: bool, target: bool) -> Image:
    modality = Modality("grey")
    case = Case(path.stem, patient, {modality: ImageFile(path)})
    return Image(case, patient, path.stem, (modality,), source, target)


def test_groups_that_span_the_domains_are_told_from_those_within(tmp_path: Path) -> None:
    seeds = {"a": 0, "b": 1, "c": 1, "d": 2, "e": 0, "f": 3}
    for name, seed in seeds.items():
        head(seed).save(tmp_path / f"{name}.png")
    sides = {"a": (1, 0), "b": (1, 0), "c": (1, 0), "d": (0, 1), "e": (0, 1), "f": (1, 1)}
    images = [
        image(tmp_path / f"{name}.png", name.upper(), source=bool(s), target=bool(t))
        for name, (s, t) in sides.items()
    ]
    found = overlap(images, QUIET)
    assert found.spanning == (Group((0, 4), True),) and found.shared == {0, 4}
    assert found.within == (Group((1, 2), True),)
    assert merged_patients(images, found.within) == dict(zip("ABCDEF", "ABBDEF", strict=True))


def test_what_spans_both_domains_or_is_blank_is_left_out_and_counted(tmp_path: Path) -> None:
    for name, seed in {"a": 0, "b": 1, "c": 0, "d": 2}.items():
        head(seed).save(tmp_path / f"{name}.png")
    Picture.new("L", (40, 40), 7).save(tmp_path / "e.png")
    images = [
        image(tmp_path / f"{name}.png", name, source=name in "ab", target=name in "cde")
        for name in "abcde"
    ]
    found = screen_images(images, QUIET)
    assert [left.key for left in found.kept(images)] == ["b", "d"]
    assert "both domains: 1 (1 identical" in found.notes[0] and "2 images" in found.notes[0]
    assert "blank 2-D images, left out: 1" in found.notes[1]


def test_an_image_that_is_in_both_domains_is_no_copy_of_itself(tmp_path: Path) -> None:
    head(0).save(tmp_path / "a.png")
    assert overlap([image(tmp_path / "a.png", "A", source=True, target=True)], QUIET).spanning == ()


def test_one_shared_modality_makes_joint_images_the_same(tmp_path: Path) -> None:
    for name, seed in {"a": 0, "b": 1, "c": 0, "d": 2}.items():
        head(seed).save(tmp_path / f"{name}.png")
    names = Modality("one"), Modality("two")
    images = []
    for number, files in enumerate(("ab", "cd")):
        paths = (ImageFile(tmp_path / f"{name}.png") for name in files)
        case = Case(files, files, dict(zip(names, paths, strict=True)))
        images.append(Image(case, files, files, names, number == 0, number == 1))
    assert overlap(images, QUIET).spanning == (Group((0, 1), True),)
