"""Volumes read from DICOM against dcm2niix: real scans, and the test files in pydicom's wheel."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pydicom.data
import pytest
from numpy.testing import assert_allclose
from places import shared_data

from medtl.data.dicom.pixels import read_stack
from medtl.data.dicom.series import find_series
from medtl.data.io.geometry import to_canonical

_STUDY = "dicom/glioblastoma_study"
_SCANS = (
    "dicom/mri_brain",
    *(f"{_STUDY}/{name}" for name in ("11-T1post-18670", "26401-T1prereg-52906")),
    *(f"{_STUDY}/{name}" for name in ("36468-FLAIRreg-58706", "37830-T2reg-78532")),
    f"{_STUDY}/11_HCropVolume",
)
_TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
#: Files that dcm2niix reads as volumes: of other syntaxes, of one slice, CT and MR.
_FILES = (
    *("CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"),
    *("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    *("MR_small_padded.dcm", "693_J2KI.dcm"),
)


def compare(source: Path, work: Path) -> None:
    """Corners within .01 mm, and intensities within .001, up to the order of the axes."""
    program = Path(sys.executable).with_name("dcm2niix")
    command = [program, "-b", "n", "-z", "n", "-f", "out", "-o", work, source]
    subprocess.run(command, check=True, capture_output=True)
    (written,) = work.glob("*.nii")
    theirs = nibabel.load(written)
    (series,) = find_series(source).series
    (stack,) = series.stacks
    found_IJK, affine, _ = to_canonical(read_stack(stack.frames), stack.affine)
    true_IJK, true_affine, _ = to_canonical(
        np.asarray(theirs.dataobj, dtype=np.float32), np.asarray(theirs.affine)
    )
    assert found_IJK.shape == true_IJK.shape
    corners = np.array(list(product(*((0, edge - 1) for edge in found_IJK.shape))))
    assert_allclose(
        corners @ affine[:3, :3].T + affine[:3, 3],
        corners @ true_affine[:3, :3].T + true_affine[:3, 3],
        atol=0.01,
    )
    assert_allclose(found_IJK, true_IJK, atol=1e-3)


@pytest.mark.parametrize("scan", _SCANS)
def test_real_scans(scan: str, tmp_path: Path) -> None:
    compare(shared_data(scan), tmp_path)


@pytest.mark.parametrize("name", _FILES)
def test_files_of_pydicom(name: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / name).symlink_to(_TEST_FILES / name)
    compare(source, tmp_path)
