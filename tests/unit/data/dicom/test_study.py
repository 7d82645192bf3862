"""Contrasts are told by the words of headers, checked by the times; studies get made-up names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import Scan, pattern, write_scan

from medtl.data.dicom.contrasts import contrast_of
from medtl.data.dicom.frames import Acquisition
from medtl.data.dicom.series import find_series
from medtl.data.dicom.study import read_studies


def acquisition(
    description: str = "",
    *,
    echo: float | None = None,
    repetition: float | None = None,
    inversion: float | None = None,
    agent: str = "",
    sequence: tuple[str, ...] = (),
    protocol: str = "",
) -> Acquisition:
    """Of an MR series."""
    return Acquisition(
        "MR", description, protocol, (), sequence, echo, repetition, inversion, None, None, agent
    )


@pytest.mark.parametrize(
    ("description", "contrast"),
    [
        ("AX T1 POST", "t1ce"), ("AX T1 +C", "t1ce"), ("t1_se_tra KM", "t1ce"), ("T1GD", "t1ce"),
        ("AX T1 FSE C+", "t1ce"), ("BRAVO GAD", "t1ce"), ("t1_vibe_fs_gd", "t1ce"),
        ("T1post", "t1ce"), ("t1ce", "t1ce"), ("T1pre_reg", "t1"), ("T1 W/O", "t1"),
        ("t1_mprage_sag_p2_iso", "t1"), ("Sag T1", "t1"), ("3D_SPGR", "t1"), ("AX T1 FLAIR", "t1"),
        ("AX T2 FLAIR", "flair"), ("t2_tirm_tra_dark-fluid", "flair"), ("FLAIR_reg", "flair"),
        ("T2 TSE TRA", "t2"), ("tse_t2_cor", "t2"), ("T2_reg", "t2"),
        ("Ax T2* GRE", ""), ("ADC", ""), ("ep2d_diff_3scan", ""), ("AXIAL PD", ""),
        ("SWI_Images", ""), ("localizer", ""), ("BRAIN", ""),
    ],
)  # fmt: skip
def test_words(description: str, contrast: str) -> None:
    assert contrast_of(acquisition(description))[0] == contrast


@pytest.mark.parametrize(
    ("contrast", "facts"),
    [
        ("t1", {"echo": 9.0, "repetition": 500.0}),
        ("t1ce", {"echo": 9.0, "repetition": 500.0, "agent": "10ml Gadovist"}),
        ("t1", {"echo": 9.0, "repetition": 500.0, "agent": "none"}),
        ("t1", {"echo": 2.9, "repetition": 2300.0, "inversion": 900.0}),  # MPRAGE
        ("t2", {"echo": 92.0, "repetition": 4000.0}),
        ("flair", {"echo": 90.0, "repetition": 10000.0, "inversion": 2600.0}),
        ("", {"echo": 15.0, "repetition": 3000.0}),  # proton density
        ("", {"echo": 20.0, "repetition": 600.0, "sequence": ("GR",)}),  # T2*
        ("", {}),
    ],
)
def test_times_alone(contrast: str, facts: dict[str, object]) -> None:
    assert contrast_of(acquisition("AX BRAIN", **facts))[0] == contrast  # type: ignore[arg-type]


def test_words_that_the_times_contradict() -> None:
    contrast, why = contrast_of(acquisition("AX T1", echo=92.0, repetition=4000.0))
    assert (contrast, why) == (
        "",
        "is called t1, but its echo and repetition times are those of t2",
    )


def test_flair_without_its_inversion_time() -> None:
    assert contrast_of(acquisition("FLAIR", echo=90.0, repetition=9000.0))[0] == "flair"


def test_own_words_before_those_of_the_protocol() -> None:
    found = contrast_of(acquisition("T1pre_reg", protocol="AX T1 +C", agent="10ml Multihance"))
    assert found[0] == "t1"


def _study(folder: Path, **descriptions: str) -> Scan:
    scan = Scan()
    for n, (name, description) in enumerate(descriptions.items()):
        series = replace(scan, values_IJK=pattern(seed=n)).of(SeriesDescription=description)
        write_scan(folder / name, series)
    return scan


def test_series_are_found_without_help(tmp_path: Path) -> None:
    _study(tmp_path, a="AX T1 POST", b="AX FLAIR", c="AX T1", d="ADC")
    (study,), _ = read_studies(find_series(tmp_path), ("flair", "t1ce"))
    shown = {name: chosen.series.description for name, chosen in study.images.items()}
    assert shown == {"flair": "AX FLAIR", "t1ce": "AX T1 POST"}
    assert sorted(study.set_aside) == [
        "ADC: shows another contrast by its description",
        "AX T1: shows t1, which is not needed",
    ]


def test_two_series_of_one_contrast_are_refused_until_one_is_named(tmp_path: Path) -> None:
    _study(tmp_path, a="AX FLAIR", b="SAG FLAIR")
    found = find_series(tmp_path)
    studies, failed = read_studies(found, ("flair",))
    assert not studies
    (why,) = failed.values()
    assert re.search(r"FLAIR, .* FLAIR all show flair; name one by --series", why)
    (study,) = read_studies(found, ("flair",), {"flair": "sag*"})[0]
    assert study.images["flair"].series.description == "SAG FLAIR"
    (why,) = read_studies(found, ("flair",), {"flair": "COR*"})[1].values()
    assert "no series fits --series flair=COR*" in why


def test_originals_come_before_what_was_derived(tmp_path: Path) -> None:
    scan = Scan()
    write_scan(tmp_path / "a", scan.of(SeriesDescription="AX FLAIR"))
    derived = {"SeriesDescription": "AX FLAIR MPR", "ImageType": ["DERIVED", "SECONDARY"]}
    write_scan(tmp_path / "b", scan.of(**derived))
    (study,), _ = read_studies(find_series(tmp_path), ("flair",))
    assert study.images["flair"].series.description == "AX FLAIR"


def test_names_are_made_up_and_stay_the_same(tmp_path: Path) -> None:
    scan = _study(tmp_path, a="AX FLAIR")
    write_scan(tmp_path / "other", Scan().of(SeriesDescription="AX FLAIR"))
    studies, _ = read_studies(find_series(tmp_path), ("flair",))
    assert len({study.id for study in studies}) == 2
    assert len({study.patient for study in studies}) == 1  # one PatientID
    again, _ = read_studies(find_series(tmp_path), ("flair",))
    assert [study.id for study in again] == [study.id for study in studies]
    for study in studies:
        assert scan.study not in study.id
        assert "4711" not in study.patient


def test_names_of_patients_are_taken_out_of_descriptions(tmp_path: Path) -> None:
    _study(tmp_path, a="FLAIR of Surname, Given (ID-4711)")
    (study,), _ = read_studies(find_series(tmp_path), ("flair",))
    assert study.images["flair"].series.description == "FLAIR of ***, *** (***)"


def test_one_series_needs_no_contrast(tmp_path: Path) -> None:
    _study(tmp_path, a="anything")
    (study,), _ = read_studies(find_series(tmp_path), ("image",))
    assert study.images["image"].series.description == "anything"


def test_ct_is_told_by_its_modality(tmp_path: Path) -> None:
    scan = Scan()
    write_scan(tmp_path / "a", scan.of(SeriesDescription="Thorax", Modality="CT"))
    write_scan(tmp_path / "b", scan.of(SeriesDescription="PET", Modality="PT"))
    (study,), _ = read_studies(find_series(tmp_path), ("ct",))
    assert study.images["ct"].series.description == "Thorax"
    assert np.all(np.array(study.images["ct"].stack.shape) > 1)
