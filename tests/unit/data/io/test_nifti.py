"""Reading, writing and recognising NIfTI files, and what is said of broken ones.

Axes: I J K voxels.
"""

from __future__ import annotations

import gzip
import itertools
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from places import shared_data

from medtl.data.case import Case, ImageFile
from medtl.data.content_hash import fingerprint, image_fingerprint
from medtl.data.io.foreground import enclosed, foreground
from medtl.data.io.geometry import check_same_grid, from_canonical, to_canonical
from medtl.data.io.nifti import label_values, read_header, read_labels, read_volume, write_nifti
from medtl.data.modality import Modality
from medtl.errors import DataError, RunError
from medtl.runtime.cache import cache_dir

AFFINE = np.array([[1, 0, 0, -5], [0, 2, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]], dtype=float)
SHAPE = (8, 9, 10)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def volume_IJK() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 500, SHAPE).astype(np.int16)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> ImageFile:
    nib.save(nib.Nifti1Image(array, affine), path)
    return ImageFile(path)


# --- headers and volumes ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_header_agrees_with_what_was_written(tmp_path, volume_IJK, suffix):
    header = read_header(save(tmp_path / f"a{suffix}", volume_IJK))
    assert header.shape == SHAPE
    assert header.spacing_mm == (1.0, 2.0, 3.0)
    assert header.dtype == np.int16
    np.testing.assert_allclose(header.affine, AFFINE)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", ">i2"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volume_is_float32_as_stored(tmp_path, volume_IJK, suffix, dtype):
    stored = (volume_IJK % 200).astype(dtype)
    array_IJK, affine = read_volume(save(tmp_path / f"a{suffix}", stored))
    assert array_IJK.dtype == np.float32
    np.testing.assert_array_equal(array_IJK, stored.astype(np.float32))
    np.testing.assert_allclose(affine, AFFINE)


def test_scaling_in_the_header_is_applied(tmp_path, volume_IJK):
    image = nib.Nifti1Image(volume_IJK, AFFINE)
    image.header.set_slope_inter(0.5, 10)
    image.to_filename(tmp_path / "a.nii.gz")
    array_IJK, _ = read_volume(ImageFile(tmp_path / "a.nii.gz"))
    np.testing.assert_allclose(array_IJK, nib.load(tmp_path / "a.nii.gz").get_fdata(), rtol=1e-6)


def test_nifti2_and_misnamed_compression_are_read(tmp_path, volume_IJK):
    nib.save(nib.Nifti2Image(volume_IJK, AFFINE), tmp_path / "two.nii")
    save(tmp_path / "one.nii", volume_IJK)
    (tmp_path / "one.nii").rename(tmp_path / "one.nii.gz")
    for name in ("two.nii", "one.nii.gz"):
        array_IJK, _ = read_volume(ImageFile(tmp_path / name))
        np.testing.assert_array_equal(array_IJK, volume_IJK)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_channel_picks_one_volume_of_a_4d_file(tmp_path, volume_IJK, suffix):
    four = np.stack([volume_IJK + n for n in range(4)], axis=-1)
    file = save(tmp_path / f"a{suffix}", four)
    for channel in range(4):
        array_IJK, _ = read_volume(replace(file, channel=channel))
        np.testing.assert_array_equal(array_IJK, volume_IJK + channel)
    assert read_header(replace(file, channel=3)).shape == SHAPE
    with pytest.raises(DataError, match="holds 4 volumes"):
        read_header(file)
    with pytest.raises(DataError, match="no volume number 4"):
        read_volume(replace(file, channel=4))


def test_trailing_axes_of_length_one_are_dropped(tmp_path, volume_IJK):
    array_IJK, _ = read_volume(save(tmp_path / "a.nii.gz", volume_IJK[..., None, None]))
    np.testing.assert_array_equal(array_IJK, volume_IJK)


def test_missing_file_is_named(tmp_path):
    for read in (read_header, read_volume):
        with pytest.raises(DataError, match=r"gone\.nii\.gz: no such file"):
            read(ImageFile(tmp_path / "gone.nii.gz"))


@pytest.mark.parametrize("keep", [0, 3, 100, 0.5, -4, -9])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_truncated_file_is_named_by_header_and_volume(tmp_path, volume_IJK, suffix, keep):
    file = save(tmp_path / f"cut{suffix}", volume_IJK)
    content = file.path.read_bytes()
    length = int(len(content) * keep) if isinstance(keep, float) else keep
    file.path.write_bytes(content[:length])
    for read in (read_header, read_volume, lambda f: read_labels(f, tuple(range(500)))):
        with pytest.raises(DataError, match="cut") as caught:
            read(file)
        assert "\n" not in str(caught.value)


def test_damaged_gzip_is_noticed_by_its_checksum(tmp_path, volume_IJK):
    file = save(tmp_path / "bent.nii", volume_IJK)
    content = bytearray(gzip.compress(file.path.read_bytes()))
    content[-6] ^= 1
    bent = tmp_path / "bent.nii.gz"
    bent.write_bytes(content)
    with pytest.raises(DataError, match=r"bent\.nii\.gz: .*CRC"):
        read_volume(ImageFile(bent))


def test_gzip_of_several_members_is_whole(tmp_path, volume_IJK):
    content = save(tmp_path / "a.nii", volume_IJK).path.read_bytes()
    joined = tmp_path / "b.nii.gz"
    joined.write_bytes(gzip.compress(content[:900]) + gzip.compress(content[900:]))
    assert read_header(ImageFile(joined)).shape == SHAPE
    np.testing.assert_array_equal(read_volume(ImageFile(joined))[0], volume_IJK)


@pytest.mark.parametrize(
    "content",
    [b"", b"junk" * 300, gzip.compress(b"junk" * 300), b"\x1f\x8b"],
    ids=["empty", "junk", "packed junk", "the first bytes of gzip"],
)
def test_garbage_is_no_nifti_file(tmp_path, content):
    path = tmp_path / "garbage.nii.gz"
    path.write_bytes(content)
    for read in (read_header, read_volume):
        with pytest.raises(DataError, match=r"garbage\.nii\.gz"):
            read(ImageFile(path))


def test_empty_file_is_called_empty(tmp_path):
    for name in ("empty.nii", "empty.nii.gz"):
        (tmp_path / name).touch()
        with pytest.raises(DataError, match="the file is empty; fetch it again"):
            read_header(ImageFile(tmp_path / name))


def test_header_that_promises_too_much_is_refused(tmp_path, volume_IJK):
    file = save(tmp_path / "huge.nii", volume_IJK)
    content = bytearray(file.path.read_bytes())
    content[42:48] = np.array([32767] * 3, dtype="<i2").tobytes()
    for path, data in (
        (file.path, bytes(content)),
        (tmp_path / "huge.nii.gz", gzip.compress(content)),
    ):
        path.write_bytes(data)
        for read in (read_header, read_volume):
            with pytest.raises(DataError, match="huge"):
                read(ImageFile(path))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_named(tmp_path, volume_IJK, bad):
    array = volume_IJK.astype(np.float32)
    array[1, 2, 3] = bad
    with pytest.raises(DataError, match=r"nan\.nii\.gz: 1 voxels are NaN or infinite"):
        read_volume(save(tmp_path / "nan.nii.gz", array))


def test_constant_volume_is_refused_unless_allowed(tmp_path):
    zero = save(tmp_path / "zero.nii.gz", np.zeros(SHAPE, np.int16))
    with pytest.raises(DataError, match=r"zero\.nii\.gz: all-zero volume"):
        read_volume(zero)
    assert not read_volume(zero, allow_constant=True)[0].any()
    with pytest.raises(DataError, match="every voxel is 7"):
        read_volume(save(tmp_path / "seven.nii.gz", np.full(SHAPE, 7, np.int16)))


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([1.0, 1.0, 0.0, 1.0]), "inverted"),
        (np.diag([np.nan, 1.0, 1.0, 1.0]), "inverted"),
        (np.diag([1000.0, 1.0, 1.0, 1.0]), "not possible"),
    ],
)
def test_impossible_affine_is_refused(tmp_path, volume_IJK, affine, message):
    image = nib.Nifti1Image(volume_IJK, np.eye(4))
    image.header["sform_code"] = 1
    for row, name in zip(affine, ("srow_x", "srow_y", "srow_z"), strict=False):
        image.header[name] = row
    path = tmp_path / "bent.nii"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + volume_IJK.tobytes(order="F"))
    with pytest.raises(DataError, match=rf"bent\.nii: .*{message}"):
        read_header(ImageFile(path))


def test_colour_and_flat_images_are_refused(tmp_path):
    rgb = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(DataError, match="plain numbers"):
        read_header(save(tmp_path / "rgb.nii.gz", rgb))
    with pytest.raises(DataError, match="not a volume"):
        read_header(save(tmp_path / "flat.nii.gz", np.ones((4, 4), np.int16)))


# --- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_may_be_stored_as_whole_or_floating_numbers(tmp_path, volume_IJK, dtype):
    stored = (volume_IJK % 5).astype(dtype)
    file = save(tmp_path / "seg.nii.gz", stored)
    labels_IJK, affine = read_labels(file, (0, 1, 2, 3, 4))
    assert labels_IJK.dtype == np.int16
    np.testing.assert_array_equal(labels_IJK, volume_IJK % 5)
    np.testing.assert_allclose(affine, AFFINE)
    assert label_values(file) == (0, 1, 2, 3, 4)


def test_almost_whole_labels_are_rounded(tmp_path):
    stored = np.zeros(SHAPE, np.float32)
    stored[2:4] = 0.99999998
    stored[5] = 2.0004
    assert label_values(save(tmp_path / "seg.nii.gz", stored)) == (0, 1, 2)


@pytest.mark.parametrize("value", [0.5, np.nan, -1.0, 1e6])
def test_values_that_are_no_labels_are_refused(tmp_path, value):
    stored = np.zeros(SHAPE, np.float32)
    stored[0, 0, 0] = value
    file = save(tmp_path / "seg.nii.gz", stored)
    with pytest.raises(DataError, match=r"seg\.nii\.gz: label value"):
        read_labels(file, (0, 1))
    with pytest.raises(DataError, match=r"seg\.nii\.gz: label value"):
        label_values(file)


def test_unknown_labels_are_listed_with_the_option_that_helps(tmp_path, volume_IJK):
    file = save(tmp_path / "seg.nii.gz", (volume_IJK % 5).astype(np.uint8))
    with pytest.raises(DataError, match=r"seg\.nii\.gz: label values 3, 4 .* 0, 1, 2;.*--labels"):
        read_labels(file, (0, 1, 2))


# --- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_written_file_reads_back_the_same(tmp_path, volume_IJK, suffix):
    path = tmp_path / "new" / f"a{suffix}"
    write_nifti(path, volume_IJK, AFFINE)
    image = nib.load(path)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), volume_IJK)
    np.testing.assert_allclose(image.affine, AFFINE)
    np.testing.assert_allclose(image.get_qform(), AFFINE)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.get_data_dtype() == np.int16
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_same_input_gives_the_same_bytes(tmp_path, volume_IJK):
    write_nifti(tmp_path / "a.nii.gz", volume_IJK, AFFINE)
    write_nifti(tmp_path / "b.nii.gz", volume_IJK, AFFINE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_masks_and_wide_types_are_stored_as_readers_expect(tmp_path):
    for dtype, stored in ((bool, "u1"), (np.int64, "i4"), (np.float64, "f4")):
        write_nifti(tmp_path / "a.nii", np.ones(SHAPE, dtype), AFFINE)
        assert nib.load(tmp_path / "a.nii").get_data_dtype() == np.dtype(stored)


def test_free_text_of_the_model_is_not_copied(tmp_path, volume_IJK):
    model = nib.Nifti1Image(volume_IJK, AFFINE)
    model.header["descrip"] = b"Jane Doe"
    model.to_filename(tmp_path / "model.nii.gz")
    write_nifti(tmp_path / "a.nii.gz", volume_IJK, tmp_path / "model.nii.gz")
    assert b"Jane" not in gzip.decompress((tmp_path / "a.nii.gz").read_bytes())


def test_unwritable_output_is_one_line_and_leaves_nothing(tmp_path, volume_IJK):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"a\.nii\.gz: cannot be written") as caught:
        write_nifti(tmp_path / "file" / "a.nii.gz", volume_IJK, AFFINE)
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=r"a\.mha: .*\.nii"):
        write_nifti(tmp_path / "a.mha", volume_IJK, AFFINE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


# --- grids and orientation -------------------------------------------------------------------


def _headers(tmp_path, volume_IJK, **others):
    files = {"flair": save(tmp_path / "flair.nii.gz", volume_IJK)}
    for name, (array, affine) in others.items():
        files[name] = save(tmp_path / f"{name}.nii.gz", array, affine)
    case = Case("P7", "P7", {Modality(name): file for name, file in files.items()})
    return case, {name: read_header(file) for name, file in files.items()}


def test_images_on_one_grid_pass(tmp_path, volume_IJK):
    nearly = AFFINE.copy()
    nearly[0, 3] += 4e-4
    check_same_grid(*_headers(tmp_path, volume_IJK, t1=(volume_IJK, nearly)))


def test_other_shape_names_both_files(tmp_path, volume_IJK):
    case, headers = _headers(tmp_path, volume_IJK, t1=(volume_IJK[:-1], AFFINE))
    with pytest.raises(DataError) as caught:
        check_same_grid(case, headers)
    text = str(caught.value)
    assert text.startswith("P7: flair (") and "resample" in text and "\n" not in text
    assert all(word in text for word in ("flair.nii.gz", "t1.nii.gz", "8x9x10", "7x9x10"))


@pytest.mark.parametrize(
    ("matrix", "aspect"),
    [
        (np.diag([1.0, 2, 3.5, 1]), "spacing"),
        (np.diag([-1.0, 2, 3, 1]), "orientation"),
        (np.diag([1.0, 2, 3, 1]), "origin"),
        (AFFINE @ np.array([[1, 0.08, 0, 0], [-0.02, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), ""),
    ],
)
def test_other_affine_says_in_what_it_differs(tmp_path, volume_IJK, matrix, aspect):
    case, headers = _headers(tmp_path, volume_IJK, t1=(volume_IJK, matrix))
    with pytest.raises(DataError, match=rf"P7: flair .*flair\.nii\.gz\) has {aspect}.*t1\.nii\.gz"):
        check_same_grid(case, headers)


ORIENTATIONS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_all_48_orientations_have_one_canonical_form(volume_IJK, axes, flips):
    # Oracle: plain transposition and slicing; the affine follows from where voxels end up.
    turned_IJK = volume_IJK.transpose(axes)[tuple(slice(None, None, f) for f in flips)]
    to_ras = np.zeros((4, 4))
    to_ras[3, 3] = 1
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        to_ras[old, new] = flip
        to_ras[old, 3] = 0 if flip > 0 else SHAPE[old] - 1
    canonical_IJK, affine, orientation = to_canonical(turned_IJK, AFFINE @ to_ras)
    np.testing.assert_array_equal(canonical_IJK, volume_IJK)
    np.testing.assert_allclose(affine, AFFINE)
    np.testing.assert_array_equal(from_canonical(canonical_IJK, orientation), turned_IJK)


# --- foreground ------------------------------------------------------------------------------


def _ball(size: int = 24, radius: float = 8) -> np.ndarray:
    axis = np.arange(size) - (size - 1) / 2
    return sum(g**2 for g in np.meshgrid(axis, axis, axis)) < radius**2


@pytest.mark.parametrize("background", [0.0, -3.5526617, 40.0])
def test_constant_surroundings_are_background_whatever_their_value(background):
    brain_IJK = _ball()
    noise = np.random.default_rng(0).normal(size=brain_IJK.shape).astype(np.float32)
    array_IJK = np.where(brain_IJK, noise, np.float32(background))
    np.testing.assert_array_equal(foreground(array_IJK), brain_IJK)
    np.testing.assert_array_equal(foreground(np.asfortranarray(array_IJK)), brain_IJK)


ALL, ENDS, ONE_END = ((2, 1),) * 3, ((0, 0), (0, 0), (3, 3)), ((0, 0), (4, 0), (0, 0))


@pytest.mark.parametrize("padding", [(-5.0,), (-1000.0,), (5.0,), (3000.0,), (7.0, -5.0, 0.0, 2.0)])
@pytest.mark.parametrize("widths", [ALL, ((1, 1),) * 3, ((8, 8), (8, 8), (0, 0)), ENDS, ONE_END])
@pytest.mark.parametrize("touching", [False, True])
def test_padding_of_another_value_is_background_too(padding, widths, touching):
    """``touching``: the image is cropped to the head, so no face holds one value."""
    brain_IJK = _ball(radius=12.2 if touching else 8)
    array_IJK = np.where(brain_IJK, 100 + 10 * np.random.default_rng(0).random(brain_IJK.shape), 0)
    for value in padding:
        array_IJK = np.pad(array_IJK, widths, constant_values=value)
        brain_IJK = np.pad(brain_IJK, widths)
    for found_IJK in (foreground(array_IJK), foreground(np.asfortranarray(array_IJK))):
        np.testing.assert_array_equal(found_IJK, brain_IJK)


@pytest.mark.parametrize(
    "inside",
    [
        np.where(np.pad(np.ones((10, 10, 10), bool), 15), 2.0, 1.0),  # a small lesion in a phantom
        np.where(np.pad(np.ones((6, 6, 6), bool), 3), 0.0, 1.0),  # a hollow cube
        np.where(np.pad(np.ones((9, 9, 1), bool), ((6, 6), (6, 6), (0, 0))), 90.0, 255.0),
    ],
    ids=["box", "hollow", "saturated"],
)
def test_a_box_of_one_value_is_no_padding(inside):
    widths = ((12, 12), (12, 12), (12, 12) if inside.shape[2] > 1 else (0, 0))
    np.testing.assert_array_equal(foreground(np.pad(inside, widths)), np.pad(inside > 0, widths))


def test_an_image_without_background_is_all_of_what_lies_in_its_padding():
    inside_IJK = np.random.default_rng(3).random((20, 20, 20)) + 1
    found_IJK = foreground(np.pad(inside_IJK, 3))
    np.testing.assert_array_equal(found_IJK, np.pad(np.ones(inside_IJK.shape, bool), 3))


def test_brain_that_touches_the_border_is_kept():
    brain_IJK = _ball()[:, :, 4:-4][6:]
    np.testing.assert_array_equal(foreground(np.where(brain_IJK, 100.0, 0.0)), brain_IJK)


@pytest.mark.parametrize("blanked_corners", [False, True])
def test_raw_head_is_told_from_rician_noise(blanked_corners):
    rng = np.random.default_rng(1)
    head_IJK = _ball(32, 12)
    signal = np.where(head_IJK, rng.uniform(150, 400, head_IJK.shape), 0)
    array_IJK = np.hypot(signal + rng.normal(0, 8, signal.shape), rng.normal(0, 8, signal.shape))
    if blanked_corners:
        for i, j, k in itertools.product((slice(3), slice(-3, None)), repeat=3):
            array_IJK[i, j, k] = 0
    assert np.mean(foreground(array_IJK.astype(np.int16)) == head_IJK) > 0.99


def test_image_without_background_is_all_foreground():
    rng = np.random.default_rng(2)
    array_IJK = rng.normal(100, 5, SHAPE)
    array_IJK[3:5, 3:5, 3:5] = 0
    assert foreground(array_IJK).all()
    assert not foreground(np.full(SHAPE, 3.0)).any()


# --- fingerprints and the cache --------------------------------------------------------------


def test_holes_belong_to_the_mask_and_bays_do_not() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[1:8, 1:8, 1:8] = True
    mask[4, 4, 4] = False  # a hole
    mask[1:3, 4, 4] = False  # a bay
    expected = mask.copy()
    expected[4, 4, 4] = True
    np.testing.assert_array_equal(enclosed(mask), expected)
    assert enclosed(np.ones((3, 3, 3), bool)).all()


def test_fingerprint_survives_compression_type_and_orientation(tmp_path, volume_IJK):
    stored = [
        save(tmp_path / "a.nii", volume_IJK),
        save(tmp_path / "b.nii.gz", volume_IJK),
        save(tmp_path / "c.nii.gz", volume_IJK.astype(np.float64)),
        save(tmp_path / "d.nii.gz", volume_IJK[::-1, ::-1], AFFINE @ np.diag([-1, -1, 1, 1])),
        replace(save(tmp_path / "e.nii", np.stack([volume_IJK * 2, volume_IJK], -1)), channel=1),
    ]
    assert len({image_fingerprint(file) for file in stored}) == 1
    other = volume_IJK.copy()
    other[0, 0, 0] += 1
    assert image_fingerprint(save(tmp_path / "f.nii", other)) != image_fingerprint(stored[0])
    assert image_fingerprint(replace(stored[4], channel=0)) != image_fingerprint(stored[4])


def test_fingerprint_has_one_hash_per_image(tmp_path, volume_IJK):
    images = {
        Modality("flair"): save(tmp_path / "flair.nii", volume_IJK),
        Modality("t1"): save(tmp_path / "t1.nii", volume_IJK + 1),
    }
    hashes = fingerprint(Case("P7", "P7", images))
    assert hashes == tuple(image_fingerprint(file) for file in images.values())
    assert len(set(hashes)) == 2 and all(len(h) == 32 for h in hashes)


def test_remembered_hash_follows_the_content_of_the_file(tmp_path, volume_IJK):
    file = save(tmp_path / "a.nii", volume_IJK)
    first = image_fingerprint(file)
    assert image_fingerprint(file) == first
    save(file.path, volume_IJK + 1)
    os.utime(file.path, ns=(1, 1))
    assert image_fingerprint(file) != first


def test_index_remembers_and_never_holds_a_path(tmp_path, volume_IJK, monkeypatch):
    file = save(tmp_path / "Jane_Doe.nii", volume_IJK)
    image_fingerprint(file)
    index = cache_dir() / "files.sqlite"
    assert b"Jane" not in index.read_bytes()
    # Proof of use: what the index says is believed without decoding the file.
    monkeypatch.setattr("medtl.data.content_hash.read_volume", lambda *_, **__: pytest.fail())
    assert len(image_fingerprint(file)) == 32


def test_many_writers_share_the_index(tmp_path, volume_IJK):
    files = [save(tmp_path / f"{n}.nii", volume_IJK + n) for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(image_fingerprint, files))
    assert len(set(hashes)) == 24
    with sqlite3.connect(cache_dir() / "files.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM facts").fetchone() == (24,)
    connection.close()


def test_broken_cache_costs_no_result(tmp_path, volume_IJK, monkeypatch):
    file = save(tmp_path / "a.nii", volume_IJK)
    expected = image_fingerprint(file)
    (cache_dir() / "files.sqlite").write_bytes(b"not a database at all" * 100)
    assert image_fingerprint(file) == expected
    (tmp_path / "occupied").write_text("")
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path / "occupied" / "below"))
    assert image_fingerprint(file) == expected


def test_a_label_error_is_not_remembered_as_a_value(tmp_path):
    file = save(tmp_path / "seg.nii", np.full(SHAPE, 0.5, np.float32))
    for _ in range(2):
        with pytest.raises(DataError):
            label_values(file)


# --- real files ------------------------------------------------------------------------------


def test_real_volumes_read_as_nibabel_reads_them():
    path = shared_data("brats", "BraTS2021_00006", "BraTS2021_00006_flair.nii.gz")
    array_IJK, affine = read_volume(ImageFile(path))
    image = nib.load(path)
    np.testing.assert_array_equal(array_IJK, np.asanyarray(image.dataobj))
    np.testing.assert_array_equal(affine, image.affine)


def test_real_z_scored_file_has_the_brain_of_its_mask():
    folder = shared_data("brats2013", "brats_2013_pat0005_1")
    brain_IJK = nib.load(folder / "brainmask.nii.gz").get_fdata() > 0.5
    for name in ("Flair", "T1c"):
        image = ImageFile(folder / f"{name}_subtrMeanDivStd.nii.gz")
        assert np.mean(foreground(read_volume(image)[0]) == brain_IJK) > 0.99


def test_real_raw_head_fills_a_sensible_share():
    for name in ("fla", "t1", "t1c", "t2"):
        path = shared_data("brats_raw", "TCGA-FG-6692", f"raw_native_{name}.nii.gz")
        assert 0.2 < foreground(read_volume(ImageFile(path))[0]).mean() < 0.6
