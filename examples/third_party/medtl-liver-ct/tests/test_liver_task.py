"""The task liver-ct: the files of LiTS, sites, and what is wrong with a folder in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medtl.data.case import ImageFile
from medtl.data.io.nifti import read_labels, read_volume
from medtl.errors import ConfigError, DataError
from medtl.transforms.preprocessor import Preprocessor
from medtl_liver_ct.lits import CT, LIVER, SITES, TUMOUR
from medtl_liver_ct.phantom import SCANNERS
from medtl_liver_ct.preset import abdomen_ct
from medtl_liver_ct.task import LiverCt

CASES = 6


@pytest.fixture
def data(tmp_path: Path) -> Path:
    LiverCt().write_phantom(tmp_path, CASES, seed=0)
    return tmp_path


def test_volumes_are_found_in_any_folder_and_ordered_by_number(data: Path) -> None:
    batch = data / "Training Batch 2"
    batch.mkdir()
    for name in ("volume-3.nii.gz", "segmentation-3.nii.gz"):
        (data / name).rename(batch / name)
    cases = LiverCt().cases(data).cases
    assert [case.id for case in cases] == [f"volume-{n}" for n in range(CASES)]
    assert cases[3].images[CT].path.parent == batch
    assert cases[3].target == ImageFile(batch / "segmentation-3.nii.gz")


def test_sites_are_those_of_the_table_where_there_is_one(data: Path) -> None:
    assert [case.site for case in LiverCt().cases(data).cases[:3]] == [
        "portal",
        "arterial",
        "portal",
    ]
    (data / SITES).unlink()
    assert {case.site for case in LiverCt().cases(data).cases} == {""}


def test_tumours_are_part_of_the_liver() -> None:
    task = LiverCt()
    assert task.nested and task.regions == ("liver", "tumour")


def test_volumes_without_segmentation_are_for_prediction_alone(data: Path) -> None:
    (data / "segmentation-0.nii.gz").unlink()
    cohort = LiverCt().cases(data)
    assert len(cohort.cases) == CASES - 1
    assert cohort.notes == ("1 volumes without a segmentation were left out",)
    assert len(LiverCt().cases(data, need_target=False).cases) == CASES


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda data: [path.unlink() for path in data.glob("volume-*")], "no CT volumes found"),
        (lambda data: [path.unlink() for path in data.glob("seg*")], "none of its 6 volumes has"),
        (lambda data: (data / "volume-2.nii.gz").unlink(), r"segmentation-2.nii.gz: its volume-2"),
        (lambda data: (data / "volume-2.nii").touch(), r"is there twice \(also .*volume-2.nii\)"),
        (lambda data: (data / SITES).write_text("volume;site\n0;a\n"), "needs the columns volume"),
        (lambda data: (data / SITES).write_text("volume,site\nzero,a\n"), "needs the columns"),
    ],
    ids=["no volumes", "no segmentations", "volume missing", "twice", "no columns", "no number"],
)
def test_a_bad_folder_is_one_line_that_names_the_file(data: Path, spoil: object, told: str) -> None:
    assert callable(spoil)
    spoil(data)
    with pytest.raises(DataError, match=told) as raised:
        LiverCt().cases(data)
    assert "\n" not in str(raised.value)


def test_missing_folder_and_label_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        LiverCt().cases(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="drop it"):
        LiverCt().cases(tmp_path, labels="2017")


def test_phantom_is_in_hounsfield_units_with_the_liver_on_the_right(data: Path) -> None:
    for case, scanner in zip(LiverCt().cases(data).cases, SCANNERS * 3, strict=True):
        image_IJK, affine = read_volume(case.images[CT])
        assert case.target is not None
        labels_IJK, _ = read_labels(case.target, case.labels)
        assert case.site == scanner.site
        assert abs(np.median(image_IJK[labels_IJK == LIVER]) - scanner.liver_hu) < 20
        assert np.median(image_IJK[0, 0]) < -900  # air in the corner
        rightwards_mm = affine[0, 0] * (np.argwhere(labels_IJK > 0)[:, 0].mean() - 23.5)
        assert rightwards_mm > 30


def test_most_phantoms_have_tumours_and_not_all(data: Path, tmp_path: Path) -> None:
    LiverCt().write_phantom(tmp_path, 12, seed=1)
    with_tumour = 0
    for case in LiverCt().cases(tmp_path).cases:
        assert case.target is not None
        with_tumour += bool((read_labels(case.target, case.labels)[0] == TUMOUR).any())
    assert 6 <= with_tumour < 12


def test_hounsfield_units_mean_the_same_in_every_case(data: Path) -> None:
    """-150 HU and less become -2, 250 HU and more 2, 50 HU 0, whatever else a case shows."""
    for case in LiverCt().cases(data).cases[:2]:
        image_IJK, _ = read_volume(case.images[CT])
        prepared = Preprocessor((CT,), ("liver",), abdomen_ct().with_spacing(7.5))(case)["image"][
            0
        ].numpy()
        wanted_IJK = (np.clip(image_IJK, -150, 250) - 50) / 100
        assert prepared.shape == image_IJK.shape
        assert np.allclose(prepared, wanted_IJK, atol=1e-5)
