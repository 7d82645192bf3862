"""Contrasts are told by the words of headers, checked by the times; studies get made-up names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import Scan, datasets, pattern, save, write_scan

from medtl.data.dicom.contrasts import contrast_of
from medtl.data.dicom.frames import Acquisition
from medtl.data.dicom.series import find_series
from medtl.data.dicom.study import made_up, read_studies


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
        ("SWI_Images", ""), ("localizer", ""), ("BRAIN", ""), ("AX T1+C", "t1ce"), ("T1+", "t1ce"),
        ("AX T1 NO CONTRAST", "t1"), ("AX T1 C-", "t1"), ("AX T1 POST W/O FS", "t1ce"),
        ("T1 post without fatsat", "t1ce"), ("T1 post op", "t1"), ("T1 post-op", "t1"),
        ("t2_fl2d_tra_hemo", ""), ("gre_field_mapping", ""), ("relCBV", ""),
        ("T1 pre post subtraction", ""), ("AX CISS", ""), ("AX FIESTA", ""), ("3D COW", ""),
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
        ("", {"echo": 3.0, "repetition": 25.0, "sequence": ("GR",)}),  # time of flight
        ("", {"echo": 80.0, "repetition": 8000.0, "sequence": ("EP", "SE")}),  # diffusion
        ("", {}),
    ],
)
def test_times_alone(contrast: str, facts: dict[str, object]) -> None:
    assert contrast_of(acquisition("AX BRAIN", **facts))[0] == contrast  # type: ignore[arg-type]


def test_words_that_the_times_contradict() -> None:
    contrast, why = contrast_of(acquisition("AX T1", echo=92.0, repetition=4000.0))
    assert (contrast, why) == (
        "",
        "is called t1, but its times are those of t2",
    )


@pytest.mark.parametrize(
    ("description", "echo", "repetition", "inversion"),
    [
        ("t2_tirm_cor", 60.0, 4000.0, 160.0),  # takes the signal of fat away
        ("FLAIR", 90.0, 9000.0, 150.0),
        ("AX T2", 90.0, 9000.0, 2500.0),  # flair by its times
        ("AX T2 GRE", 20.0, 620.0, None),
    ],
)
def test_contradictions(
    description: str, echo: float, repetition: float, inversion: float | None
) -> None:
    found = acquisition(description, echo=echo, repetition=repetition, inversion=inversion)
    assert contrast_of(found)[0] == ""


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
    _study(tmp_path, a="FLAIR of Surname, GIVENs (ID-4711)")
    (study,), _ = read_studies(find_series(tmp_path), ("flair",))
    text = study.images["flair"].series.description
    for word in ("surname", "given", "4711"):
        assert word not in text.lower()


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


def test_series_of_one_description_have_their_numbers(tmp_path: Path) -> None:
    scan = Scan()
    for number in (4, 7):
        write_scan(tmp_path / str(number), scan.of(SeriesDescription="FLAIR", SeriesNumber=number))
    found = find_series(tmp_path)
    (why,) = read_studies(found, ("flair",))[1].values()
    assert "FLAIR #4, FLAIR #7 all show flair" in why
    (study,), _ = read_studies(found, ("flair",), {"flair": "FLAIR #7"})
    assert study.images["flair"].series.origin.number == "7"


def test_brackets_in_a_description_mean_themselves(tmp_path: Path) -> None:
    _study(tmp_path, a="AX FLAIR [C]", b="AX FLAIR [D]")
    (study,), _ = read_studies(find_series(tmp_path), ("flair",), {"flair": "*[c]"})
    assert study.images["flair"].series.description == "AX FLAIR [C]"


def test_a_series_without_the_patients_number_is_of_its_study(tmp_path: Path) -> None:
    scan = _study(tmp_path, a="AX FLAIR")
    write_scan(
        tmp_path / "b", scan.of(SeriesDescription="AX T1 POST", PatientID="", PatientName="")
    )
    (study,), failed = read_studies(find_series(tmp_path), ("flair", "t1ce"))
    assert sorted(study.images) == ["flair", "t1ce"]
    assert not failed


def test_two_patients_in_a_study_are_refused(tmp_path: Path) -> None:
    scan = _study(tmp_path, a="AX FLAIR")
    write_scan(tmp_path / "b", scan.of(SeriesDescription="AX T1 POST", PatientID="ID-2"))
    studies, failed = read_studies(find_series(tmp_path), ("flair", "t1ce"))
    assert not studies
    assert "holds series of several patients" in next(iter(failed.values()))


def test_two_patients_in_a_series_are_refused(tmp_path: Path) -> None:
    scan = Scan()
    for n, dataset in enumerate(datasets(scan)):
        dataset.PatientID = "ID-1" if n < 3 else "ID-2"
        save(dataset, tmp_path / f"{n}.dcm")
    (series,) = find_series(tmp_path).series
    assert series.problem == "holds slices of several patients"


def test_names_of_patients_cannot_be_guessed_from_their_numbers(tmp_path: Path) -> None:
    _study(tmp_path, a="AX FLAIR")
    (study,), _ = read_studies(find_series(tmp_path), ("flair",))
    for guess in ("ID-4711", "Surname^Given", "ID-4711 Surname^Given"):
        assert made_up("patient", guess) != study.patient
