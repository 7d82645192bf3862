"""Where images and masks lie, by the fields of their headers, in nibabel, ITK and medtl.

Axes: I J K voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl.data.case import Case, ImageFile
from medtl.data.io.geometry import Header, check_same_grid
from medtl.data.io.images import label_path, read_header, read_volume, write_labels
from medtl.data.modality import Modality
from medtl.errors import DataError

#: mm in the units that a header can name; 0 names none.
MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


def rotation(a: float, b: float, c: float, d: float) -> np.ndarray:
    """The matrix of a quaternion of any length but 0."""
    a, b, c, d = np.array([a, b, c, d]) / np.linalg.norm([a, b, c, d])
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


@dataclass(frozen=True)
class Fields:
    """The fields that place an image, lengths in the header's own unit."""

    shape: tuple[int, ...]
    kind: type
    order: str
    codes: tuple[int, int]  # qform, sform
    edges: tuple[float, ...]
    sign: int  # of the qform's third axis
    quaternion: tuple[float, ...]  # b, c, d
    offset: tuple[float, ...]
    srow: np.ndarray
    unit: int

    def header(self) -> Any:
        header = self.kind.header_class().as_byteswapped(self.order)
        header.set_data_shape(self.shape)
        header.set_data_dtype(np.int16)
        header["pixdim"][:4] = (self.sign, *self.edges)
        header["qform_code"], header["sform_code"] = self.codes
        for name, value in zip("bcd", self.quaternion, strict=True):
            header[f"quatern_{name}"] = value
        for name, value, row in zip("xyz", self.offset, self.srow, strict=True):
            header[f"qoffset_{name}"], header[f"srow_{name}"] = value, row
        header["xyzt_units"] = self.unit | 8  # and seconds
        return header

    def affine(self) -> np.ndarray:
        """By the NIfTI-1 standard; without a code as nibabel has it: centred, right to left."""
        affine = np.eye(4)
        if self.codes[1]:
            affine[:3] = self.srow
        elif self.codes[0]:
            b, c, d = self.quaternion
            a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
            edges = np.array(self.edges) * (1, 1, self.sign)
            affine[:3, :3] = rotation(a, b, c, d) * edges
            affine[:3, 3] = self.offset
        else:
            affine[:3, :3] = np.diag(np.array(self.edges) * (-1, 1, 1))
            affine[:3, 3] = -affine[:3, :3] @ (np.array(self.shape[:3]) - 1) / 2
        affine[:3] *= MM[self.unit]
        return affine


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


def triples(low: float, high: float) -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(*[numbers(low, high)] * 3)


@st.composite
def fields(draw: st.DrawFn) -> Fields:
    """Legal headers: forms that agree or not, flipped, permuted, oblique or sheared."""
    unit = draw(st.sampled_from(sorted(MM)))
    scale = 1 / MM[unit]
    edges = tuple(scale * mm for mm in draw(triples(0.25, 8)))
    turn = draw(st.sampled_from([(1, 0, 0, 0), (0, 0, 0, 1), (0.5, 0.5, 0.5, 0.5), None]))
    turn = turn or draw(st.tuples(*[numbers(0.125, 1)] * 4))
    turn = np.array(turn) / np.linalg.norm(turn)
    sign = draw(st.sampled_from([1, -1]))
    offset = tuple(scale * mm for mm in draw(triples(-200, 200)))
    srow = np.column_stack((rotation(*turn) * edges * (1, 1, sign), offset))
    other = draw(st.sampled_from(["same", "moved", "sheared", "turned"]))
    if other == "moved":
        srow[:, 3] += np.multiply(scale, draw(triples(-30, 30)))
    elif other == "sheared":
        srow[:, 1] += draw(numbers(0.125, 0.5)) * srow[:, 0]
    elif other == "turned":
        srow = srow[[1, 2, 0]]
    return Fields(
        shape=draw(st.sampled_from([(5, 4, 3), (3, 6, 2), (4, 3, 2, 1), (3, 3, 3, 1, 1)])),
        kind=draw(st.sampled_from([nib.Nifti1Image, nib.Nifti1Image, nib.Nifti2Image])),
        order=draw(st.sampled_from("<>")),
        codes=draw(st.tuples(st.integers(0, 4), st.integers(0, 4))),
        edges=edges,
        sign=sign,
        quaternion=tuple(turn[1:]),
        offset=offset,
        srow=srow,
        unit=unit,
    )


def save(path: Path, given: Fields) -> ImageFile:
    """The bytes as they are, past nibabel's repairs."""
    header = given.header()
    voxels = np.arange(np.prod(given.shape), dtype=np.dtype(np.int16).newbyteorder(given.order))
    header["vox_offset"] = start = header.template_dtype.itemsize + 4
    if isinstance(header, nib.Nifti1Header):
        header["magic"] = b"n+2" if given.kind is nib.Nifti2Image else b"n+1"
    content = header.binaryblock.ljust(start, b"\0") + voxels.tobytes()
    path.write_bytes(content)
    return ImageFile(path)


def in_itk(path: Path) -> list[np.ndarray] | str:
    """Origin, spacing and direction; what ITK says where it cannot read the header."""
    reader = itk.NiftiImageIO.New(FileName=str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        return str(error).splitlines()[-1]
    read = (reader.GetOrigin, reader.GetSpacing, reader.GetDirection)
    return [np.array([get(axis) for axis in range(3)])[..., :3] for get in read]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(fields())
def test_a_mask_lies_on_its_image_in_every_reader(given: Fields) -> None:
    with TemporaryDirectory() as folder:
        image = save(Path(folder) / "image.nii", given)
        header = read_header(image)
        np.testing.assert_allclose(header.affine, given.affine(), rtol=1e-4, atol=2e-3)
        np.testing.assert_array_equal(read_volume(image)[1], header.affine)
        path = label_path(Path(folder), "mask", header.path)
        write_labels(path, np.ones(header.shape, np.uint8), header)
        mask = read_header(ImageFile(path))
        assert mask.shape == header.shape and mask.placed == header.placed
        np.testing.assert_allclose(mask.affine, header.affine, rtol=1e-6, atol=1e-4)
        one, other = nib.load(image.path), nib.load(path)
        np.testing.assert_allclose(one.affine, other.affine, rtol=1e-6, atol=1e-6)
        for form in ("get_qform", "get_sform"):
            a, b = (getattr(each, form)(coded=True) for each in (one, other))
            assert a[1] == b[1]
            if a[1]:
                np.testing.assert_allclose(a[0], b[0], rtol=1e-6, atol=1e-6)
        assert one.header.get_xyzt_units()[0] == other.header.get_xyzt_units()[0]
        if given.kind is nib.Nifti1Image:  # ITK reads no NIfTI-2
            a, b = in_itk(image.path), in_itk(path)
            if isinstance(a, str):
                assert a == b and "orthonormal" in a  # sheared: for the image as for the mask
            else:
                np.testing.assert_array_equal(np.vstack(a), np.vstack(b))


def test_itk_reads_what_it_is_asked_to_compare(tmp_path: Path) -> None:
    srow = np.column_stack((np.diag([2.0, 3, 4]), (5, 6, 7)))
    given = Fields(
        (5, 4, 3), nib.Nifti1Image, "<", (1, 1), (2, 3, 4), 1, (0, 0, 0), (5, 6, 7), srow, 2
    )
    found = in_itk(save(tmp_path / "a.nii", given).path)
    np.testing.assert_allclose(found[0], (-5, -6, 7))
    np.testing.assert_allclose(found[1], (2, 3, 4))


# --- equal grids ---------------------------------------------------------------------------------


def case_of(**files: ImageFile) -> tuple[Case, dict[str, Header]]:
    images = {Modality(name): file for name, file in files.items()}
    return Case("P1", "P1", images), {name: read_header(file) for name, file in files.items()}


def write(path: Path, affine: np.ndarray | None, shape=(8, 9, 10), **codes: int) -> ImageFile:
    image = nib.Nifti1Image(np.zeros(shape, np.uint8), None)
    image.set_sform(affine, codes.get("sform", 1))
    image.set_qform(affine, codes.get("qform", 0))
    nib.save(image, path)
    return ImageFile(path)


@pytest.mark.parametrize("edge_mm", [0.4, 1.0, 4.0])
def test_a_qform_that_rounds_a_large_grid_is_the_same_grid(tmp_path: Path, edge_mm: float) -> None:
    worst = 0.0
    for n in range(8):  # nearly half a turn, where three float32 hold a rotation worst
        tilt = np.random.default_rng(n).normal(0, 0.01, 3)
        affine = np.eye(4)
        affine[:3, :3] = rotation(*tilt[:1] / 100, *tilt[1:], 1) * edge_mm
        a = write(tmp_path / "a.nii.gz", affine, (512, 400, 2))
        b = write(tmp_path / "b.nii.gz", affine, (512, 400, 2), sform=0, qform=1)
        case, headers = case_of(flair=a, t1=b)
        check_same_grid(case, headers)
        gap = headers["flair"].affine - headers["t1"].affine
        worst = max(worst, np.linalg.norm(gap @ (511, 399, 1, 1)) / edge_mm)
    assert worst > 0.01  # of a voxel: more than what float32 does to an sform


@pytest.mark.parametrize(("share", "equal"), [(0.05, True), (0.2, False), (0.5, False)])
def test_a_shift_is_told_by_the_share_of_a_voxel(tmp_path: Path, share: float, equal: bool) -> None:
    affine = np.diag([1.0, 2, 6, 1])
    affine[:3, 3] = 3, 4, 5
    moved = affine.copy()
    moved[2, 3] += 6 * share
    case, headers = case_of(
        flair=write(tmp_path / "a.nii.gz", affine), t1=write(tmp_path / "b.nii.gz", moved)
    )
    if equal:
        check_same_grid(case, headers)
    else:
        with pytest.raises(DataError, match=rf"up to {6 * share:.3g} mm apart; resample"):
            check_same_grid(case, headers)


@pytest.mark.parametrize("lost", ["identity", "itk", "no codes"])
def test_a_lost_header_has_its_own_advice(tmp_path: Path, lost: str) -> None:
    affine = np.diag([-1.0, -1, 1, 1])
    affine[:3, 3] = 90, 126, -72
    without = {"identity": np.eye(4), "itk": np.diag([-1.0, -1, 1, 1]), "no codes": None}[lost]
    codes = {"sform": 0} if lost == "no codes" else {}
    case, headers = case_of(
        flair=write(tmp_path / "a.nii.gz", affine),
        t1=write(tmp_path / "b.nii.gz", without, **codes),
    )
    with pytest.raises(DataError, match=r"; b\.nii\.gz has lost its header .* of a\.nii\.gz$"):
        check_same_grid(case, headers)


def test_another_unit_has_its_own_advice(tmp_path: Path) -> None:
    affine = np.diag([0.05, 0.05, 0.05, 1])
    affine[:3, 3] = 1, 2, 3
    a, b = write(tmp_path / "a.nii.gz", affine), write(tmp_path / "b.nii.gz", affine * 1000)
    with pytest.raises(DataError, match="names another unit of length"):
        check_same_grid(*case_of(flair=a, t1=b))
    microns = nib.load(b.path)
    microns.header.set_xyzt_units("micron")
    nib.save(microns, tmp_path / "c.nii.gz")
    check_same_grid(*case_of(flair=a, t1=ImageFile(tmp_path / "c.nii.gz")))
