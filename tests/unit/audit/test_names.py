"""What file names say where no task reads a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtl.audit.names import classes_of, numbered, read_name


@pytest.mark.parametrize(
    ("path", "id", "patient", "modality", "mask"),
    [
        ("BraTS2021_00006/BraTS2021_00006_t1ce.nii.gz", "BraTS2021_00006", None, "t1ce", False),
        ("BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz", "BraTS_GLI_00000_000", None,
         "flair", False),
        ("A/A_seg.nii.gz", "A", None, "image", True),
        ("02/Pre_Scan_T1.nii.gz", "02_Pre", "02", "t1", False),
        ("02/Pre_Mask.nii.gz", "02_Pre", "02", "image", True),
        ("TCGA-FG-6692/raw_native_fla.nii.gz", "TCGA-FG-6692", "TCGA_FG_6692", "flair", False),
        ("imagesTr/case_001_0000.nii.gz", "case_001", None, "image", False),
        ("sub_0012.nii.gz", "sub_0012", None, "image", False),
        ("benign/scan_0012.png", "scan_0012", None, "image", False),
        ("labelsTr/case_001.nii.gz", "case_001", None, "image", True),
        ("TCGA_CS_1/TCGA_CS_4942_19970222_3.tif", "TCGA_CS_4942_19970222_3", "TCGA_CS_4942",
         "image", False),
        ("TCGA_CS_1/TCGA_CS_4942_19970222_3_mask.tif", "TCGA_CS_4942_19970222_3", "TCGA_CS_4942",
         "image", True),
        ("glioma/image (3).jpg", "image (3)", None, "image", False),
    ],
)  # fmt: skip
def test_a_path_says_case_contrast_and_patient(
    path: str, id: str, patient: str | None, modality: str, mask: bool
) -> None:
    name = read_name(Path(path))
    assert (name.id, name.modality, name.mask) == (id, modality, mask)
    assert name.patient == (patient or id)


def test_images_and_labels_of_a_case_share_a_key() -> None:
    paths = ("imagesTr/c_1_0000.nii.gz", "imagesTr/c_1_0001.nii.gz", "labelsTr/c_1.nii.gz")
    assert len({read_name(Path(path)).key for path in paths}) == 1


def test_two_folders_of_pictures_are_classes_and_a_part_is_none() -> None:
    paths = [Path("a/1.png"), Path("b/2.png"), Path("Testing/3.png")]
    assert list(classes_of(paths).values()) == ["a", "b", ""]
    assert set(classes_of([Path("a/1.png"), Path("a/2.png")]).values()) == {""}


def test_the_last_number_tells_neighbours() -> None:
    assert numbered("p (130)") == ("p (", 130)
    assert numbered("TCGA_CS_4942_19970222_3") == ("TCGA_CS_4942_19970222_", 3)
    assert numbered("brain") is None
