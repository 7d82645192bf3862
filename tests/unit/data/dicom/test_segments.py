"""Label maps of DICOM segmentations: the same voxels as were drawn, whatever wrote the file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from dicom_files import OBLIQUE, Scan, write_scan
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from medtl.data.case import Cohort
from medtl.data.cohort import open_cohort
from medtl.data.dicom.files import looks_like_dicom
from medtl.data.dicom.seg import write_seg
from medtl.data.dicom.series import find_series
from medtl.data.dicom.stacks import Stack
from medtl.data.tasks.segmentation import Segmentation
from medtl.errors import ConfigError, DataError
from medtl.runtime.console import Recorder
from medtl_brats.task import Brats

SHAPE = (40, 48, 7)


def box(*corners: tuple[int, int]) -> np.ndarray:
    """A mask (IJK) between corners of each axis."""
    mask_IJK = np.zeros(SHAPE, bool)
    mask_IJK[tuple(slice(*corner) for corner in corners)] = True
    return mask_IJK


WT, TC, ET = (
    box((5, 25), (8, 36), (1, 6)),
    box((8, 20), (10, 30), (2, 5)),
    box((9, 12), (11, 15), (3, 4)),
)
APART = {"left": box((2, 9), (3, 20), (0, 4)), "right": box((20, 39), (3, 20), (2, 7))}
NESTED = {"WT": WT, "TC": TC, "ET": ET}


#: What highdicom takes over of a source.
_NEEDED = (
    *("PatientSex", "PatientBirthDate", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "PositionReferenceIndicator"),
)


def stack_of(folder: Path, words: str = "") -> Stack:
    for series in find_series(folder).series:
        if series.stacks and words in series.description:
            return series.stacks[0]
    raise AssertionError(words)


def draw(path: Path, masks: Mapping[str, np.ndarray], onto: Stack, kind: str = "BINARY") -> None:
    """A SEG file as highdicom writes it, each mask a segment."""
    sources = [pydicom.dcmread(frame.file.path) for frame in onto.frames]
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(masks, start=1)
    ]
    pixels = np.stack([mask.T for mask in masks.values()], axis=-1)
    if kind == "LABELMAP":
        pixels = (pixels * np.arange(1, len(masks) + 1)).max(axis=-1)
    for source in sources:
        for word in _NEEDED:
            if word not in source:
                setattr(source, word, "")
    seg = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels.astype(np.float32 if kind == "FRACTIONAL" else np.uint8),
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        series_description="drawn by hand",
    )
    seg.save_as(path)


def cohort_of(folder: Path, reporter: Recorder | None = None) -> Cohort:
    return open_cohort(Segmentation(), folder, reporter or Recorder(silent=True))


def masks_of(cohort: Cohort) -> dict[str, np.ndarray]:
    """The regions of the one case."""
    (case,) = cohort.cases
    assert case.target is not None
    label_IJK = np.asarray(nibabel.load(case.target.path).dataobj)
    return {name: np.isin(label_IJK, values) for name, values in case.regions.items()}


def check_same(found: Mapping[str, np.ndarray], drawn: Mapping[str, np.ndarray]) -> None:
    assert found.keys() == drawn.keys()
    for name, mask_IJK in drawn.items():
        assert_array_equal(found[name], mask_IJK, err_msg=name)


def scan(**header: str | float) -> Scan:
    return Scan().of(SeriesDescription="AX FLAIR", **header)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("turn", [np.eye(3), np.diag([1.0, -1, -1]), OBLIQUE])
def test_each_kind_of_segmentation(tmp_path: Path, kind: str, turn: np.ndarray) -> None:
    write_scan(tmp_path / "a", replace(scan(), turn=turn))
    draw(tmp_path / "seg.dcm", APART, stack_of(tmp_path), kind)
    cohort = cohort_of(tmp_path)
    check_same(masks_of(cohort), APART)
    (case,) = cohort.cases
    assert case.regions == {"left": (1,), "right": (2,)}
    image = nibabel.load(case.images["flair"].path)
    assert_allclose(nibabel.load(case.target.path).affine, image.affine)


def test_segments_that_overlap(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", scan())
    drawn = {**NESTED, "other": box((0, 40), (9, 12), (4, 7))}
    draw(tmp_path / "seg.dcm", drawn, stack_of(tmp_path))
    check_same(masks_of(cohort_of(tmp_path)), drawn)


def test_what_medtl_wrote(tmp_path: Path) -> None:
    """The SEG of a prediction, which holds nested regions."""
    write_scan(tmp_path / "a", scan())
    label_IJK = WT.astype(np.uint8) + TC + ET
    values = {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}
    assert write_seg(tmp_path / "seg.dcm", label_IJK, values, stack_of(tmp_path), "a model")
    cohort = cohort_of(tmp_path)
    check_same(masks_of(cohort), NESTED)
    assert cohort.cases[0].regions == values


def test_several_files_of_one_study(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", scan())
    stack = stack_of(tmp_path)
    for name in NESTED:
        draw(tmp_path / f"{name}.dcm", {name: NESTED[name]}, stack)
    found = masks_of(cohort_of(tmp_path))
    assert found.keys() == NESTED.keys()
    for name, mask_IJK in NESTED.items():
        assert_array_equal(found[name], mask_IJK)


def test_two_segmentations_of_one_region_are_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", scan())
    for name in ("one", "other"):
        draw(tmp_path / f"{name}.dcm", NESTED, stack_of(tmp_path, "FLAIR"))
    with pytest.raises(
        DataError, match=r"several of its segmentations have a segment (WT|TC|ET); keep one"
    ):
        cohort_of(tmp_path)


def test_a_copy_of_a_segmentation_is_read_once(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", scan())
    draw(tmp_path / "seg.dcm", NESTED, stack_of(tmp_path))
    shutil.copy(tmp_path / "seg.dcm", tmp_path / "copy.dcm")
    check_same(masks_of(cohort_of(tmp_path)), NESTED)


def test_parts_of_a_concatenation(tmp_path: Path) -> None:
    """Each names all segments; one segment goes on in the other part."""
    write_scan(tmp_path / "a", scan())
    stack, cut = stack_of(tmp_path), box((0, 40), (0, 48), (0, 3))
    whole = generate_uid()
    for part, mask in (("1", cut), ("2", ~cut)):
        path = tmp_path / f"{part}.dcm"
        draw(path, {"WT": WT & mask}, stack)
        seg = pydicom.dcmread(path)
        seg.ConcatenationUID = whole
        seg.save_as(path)
    check_same(masks_of(cohort_of(tmp_path)), {"WT": WT})


def test_a_header_that_has_the_gap_between_slices(tmp_path: Path) -> None:
    """Some scanners store it in place of the distance; highdicom takes it over."""
    write_scan(tmp_path / "a", scan(SpacingBetweenSlices=0.5))
    draw(tmp_path / "seg.dcm", NESTED, stack_of(tmp_path))
    check_same(masks_of(cohort_of(tmp_path)), NESTED)


def test_drawn_on_another_series_than_the_grid(tmp_path: Path) -> None:
    """Drawn on FLAIR, while T1 with contrast, in voxels half as large, is the grid of the study."""
    coarse = replace(scan(), turn=np.eye(3), spacing_mm=(2.0, 2.0, 4.0))
    half = replace(
        coarse.of(SeriesDescription="AX T1 POST"),
        values_IJK=np.ones((80, 96, 14), np.int16),
        spacing_mm=(1.0, 1.0, 2.0),
        origin=tuple(np.array(coarse.origin) - (0.5, 0.5, 1.0)),
    )
    write_scan(tmp_path / "a", coarse)
    write_scan(tmp_path / "b", half)
    draw(tmp_path / "seg.dcm", APART, stack_of(tmp_path, "FLAIR"))
    found = masks_of(cohort_of(tmp_path))
    check_same(
        found, {name: mask.repeat(2, 0).repeat(2, 1).repeat(2, 2) for name, mask in APART.items()}
    )


def test_on_no_grid_of_the_study(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", scan())
    draw(tmp_path / "seg.dcm", APART, stack_of(tmp_path))
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    for frame in seg.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[0] += 0.3
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(DataError, match="lies on the grid of no series of its study"):
        cohort_of(tmp_path)


def test_names_of_patients_are_no_names_of_regions(tmp_path: Path) -> None:
    """The code's words are taken, unless the code is somebody's own."""
    write_scan(tmp_path / "a", scan(PatientName="Planted^Name"))
    path = tmp_path / "seg.dcm"
    draw(path, {"Planted lesion": WT}, stack_of(tmp_path))
    (case,) = cohort_of(tmp_path).cases
    assert [*case.regions] == ["Tissue"]
    seg = pydicom.dcmread(path)
    seg.PatientName = ""
    code = seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    code.CodingSchemeDesignator, code.CodeMeaning = "99OWN", "Planted lesion"
    seg.save_as(path)
    with pytest.raises(DataError, match="segment 1 has words of the patient's name or number"):
        cohort_of(tmp_path)


def test_ignore_is_no_region(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", scan())
    draw(tmp_path / "seg.dcm", {"Ignore": WT}, stack_of(tmp_path))
    with pytest.raises(DataError, match="a segment is called ignore"):
        cohort_of(tmp_path)


def test_one_name_in_one_file_is_one_region(tmp_path: Path) -> None:
    """As where each lesion is a segment."""
    write_scan(tmp_path / "a", scan())
    draw(tmp_path / "seg.dcm", APART, stack_of(tmp_path))
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    for segment in seg.SegmentSequence:
        segment.SegmentLabel = "lesion"
    seg.save_as(tmp_path / "seg.dcm")
    check_same(masks_of(cohort_of(tmp_path)), {"lesion": APART["left"] | APART["right"]})


@pytest.mark.parametrize("said", ["ReferencedSeriesSequence", "SpacingBetweenSlices"])
def test_drawn_on_the_thick_one_of_two_series(tmp_path: Path, said: str) -> None:
    """Every slice of the thick series is a place of the thin one, on whose grid the study is."""
    thick = replace(scan(), turn=np.eye(3), spacing_mm=(1.0, 1.0, 4.0))
    values_IJK = np.ones((40, 48, 13), np.int16)
    thin = replace(thick.of(SeriesDescription="AX T1 POST"), values_IJK=values_IJK,
                   spacing_mm=(1.0, 1.0, 2.0))  # fmt: skip
    write_scan(tmp_path / "a", thick)
    write_scan(tmp_path / "b", thin)
    draw(tmp_path / "seg.dcm", {"left": APART["left"]}, stack_of(tmp_path, "FLAIR"))
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if said == "SpacingBetweenSlices":
        del seg.ReferencedSeriesSequence
        measures.SpacingBetweenSlices = 4.0
    elif "SpacingBetweenSlices" in measures:
        del measures.SpacingBetweenSlices
    seg.save_as(tmp_path / "seg.dcm")
    slices = masks_of(cohort_of(tmp_path))["left"].any(axis=(0, 1))
    assert np.flatnonzero(np.diff(slices.astype(int))).size == 1  # no stripes


def test_pixels_of_another_size(tmp_path: Path) -> None:
    """The first pixels lie at one place, the last ones 0.4 mm apart."""
    write_scan(tmp_path / "a", scan())
    draw(tmp_path / "seg.dcm", APART, stack_of(tmp_path))
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[1] *= 1.0125
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(DataError, match="lies on the grid of no series of its study"):
        cohort_of(tmp_path)


def _studies(folder: Path, drawn: Sequence[Mapping[str, np.ndarray]]) -> None:
    for n, masks in enumerate(drawn):
        write_scan(folder / f"{n}/a", replace(scan(), study=generate_uid()))
        if masks:
            draw(folder / f"{n}/seg.dcm", masks, stack_of(folder / f"{n}"))


def test_regions_of_several_studies(tmp_path: Path) -> None:
    """A segment that a study lacks is a region that is not there; spellings are one name."""
    _studies(tmp_path, [NESTED, {"wt": WT}, {}])
    cohort = cohort_of(tmp_path)
    assert len(cohort.cases) == 2
    notes = " ".join(cohort.notes)
    assert "1 unlabelled cases were left out" in notes
    assert "segments of 2 studies: " in notes
    assert "TC in 1" in notes or "tc in 1" in notes
    names = [name.casefold() for name in cohort.cases[0].regions]
    assert names == ["wt", "tc", "et"]
    sums = {
        tuple(
            int(np.isin(np.asarray(nibabel.load(case.target.path).dataobj), values).sum())
            for values in case.regions.values()
        )
        for case in cohort.cases
        if case.target
    }
    assert sums == {(int(WT.sum()), int(TC.sum()), int(ET.sum())), (int(WT.sum()), 0, 0)}


def test_regions_that_a_checkpoint_names(tmp_path: Path) -> None:
    _studies(tmp_path, [NESTED])
    regions = {"WT": [2, 1, 4], "TC": [1, 4], "ET": [4]}
    names = {"channels": ["flair"], "regions": regions, "labels": [0, 1, 2, 4]}
    cohort = open_cohort(Segmentation(), tmp_path, Recorder(silent=True), names=names)
    (case,) = cohort.cases
    assert [*case.regions] == ["WT", "TC", "ET"]
    check_same(masks_of(cohort), NESTED)


def test_regions_that_overlap_only_where_a_model_is_scored(tmp_path: Path) -> None:
    _studies(tmp_path, [{"a": WT, "b": TC}])
    names = {
        "channels": ["flair"],
        "regions": {"A": [1], "B": [2], "C": [3]},
        "labels": [0, 1, 2, 3],
    }
    cohort = open_cohort(Segmentation(), tmp_path, Recorder(silent=True), names=names)
    check_same(masks_of(cohort), {"A": WT, "B": TC, "C": np.zeros(SHAPE, bool)})


def test_brats(tmp_path: Path) -> None:
    _studies(tmp_path, [NESTED])
    cohort = open_cohort(Brats(), tmp_path, Recorder(silent=True), required=("flair",))
    check_same(masks_of(cohort), NESTED)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"WT": WT, "Blob": TC}, "has Blob, which is none of the regions WT, TC, ET"),
        ({"TC": TC}, "has voxels in TC and not in WT, ET, which no label value means"),
    ],
)
def test_segments_that_a_task_does_not_know(
    tmp_path: Path, masks: Mapping[str, np.ndarray], message: str
) -> None:
    _studies(tmp_path, [masks])
    with pytest.raises(DataError, match=message):
        open_cohort(Brats(), tmp_path, Recorder(silent=True), required=("flair",))


def test_a_study_whose_segmentation_cannot_be_used_is_left_out(tmp_path: Path) -> None:
    _studies(tmp_path, [NESTED, NESTED])
    path = tmp_path / "1/seg.dcm"
    seg = pydicom.dcmread(path)
    seg.PixelData = seg.PixelData[:100]
    seg.save_as(path)
    reporter = Recorder(silent=True)
    cohort = cohort_of(tmp_path, reporter)
    assert len(cohort.cases) == 1
    assert len(cohort.failed) == 1
    assert any("truncated" in line for line in reporter.lines)
    assert not any(str(tmp_path) in text for text in reporter.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda seg: delattr(seg, "SegmentSequence"), "names no segments"),
        (lambda seg: delattr(seg, "PixelData"), "holds no pixels"),
        (
            lambda seg: delattr(seg, "PerFrameFunctionalGroupsSequence"),
            "lies on the grid of no series",
        ),
        (
            lambda seg: [
                delattr(frame, "SegmentIdentificationSequence")
                for frame in seg.PerFrameFunctionalGroupsSequence
            ],
            "does not say its segment",
        ),
        (
            lambda seg: setattr(seg.SegmentSequence[0], "SegmentNumber", 77),
            "is of segment 1, which the file does not name",
        ),
    ],
)
def test_broken_segmentations(tmp_path: Path, change, message: str) -> None:
    _studies(tmp_path, [NESTED])
    path = tmp_path / "0/seg.dcm"
    seg = pydicom.dcmread(path)
    change(seg)
    seg.save_as(path)
    with pytest.raises(DataError, match=message):
        cohort_of(tmp_path)


def test_no_segmentation_at_all(tmp_path: Path) -> None:
    _studies(tmp_path, [{}])
    with pytest.raises(DataError, match="no study has a segmentation"):
        cohort_of(tmp_path)


def test_a_contrast_that_few_studies_show_is_not_needed(tmp_path: Path) -> None:
    """Two of three show T1 as well, one T2: T1 is a channel, and the study without is left out."""
    _studies(tmp_path, [NESTED, NESTED, NESTED])
    for n, words in ((0, "AX T1"), (1, "AX T1"), (1, "AX T2")):
        first = pydicom.dcmread(tmp_path / f"{n}/a/000.dcm")
        own = Scan(study=first.StudyInstanceUID, frame_of_reference=first.FrameOfReferenceUID)
        write_scan(tmp_path / f"{n}/{words}", own.of(SeriesDescription=words))
    cohort = cohort_of(tmp_path)
    assert [sorted(case.images) for case in cohort.cases] == [["flair", "t1"]] * 2
    assert len(cohort.failed) == 1
    assert "no series shows t1" in next(iter(cohort.failed.values()))


def test_patients_of_segmentations_without_one(tmp_path: Path) -> None:
    """A SEG that does not name the patient parts no studies of one patient."""
    for n in range(2):
        own = replace(scan(PatientID="P1"), study=generate_uid())
        write_scan(tmp_path / f"{n}/a", own)
        path = tmp_path / f"{n}/seg.dcm"
        draw(path, NESTED, stack_of(tmp_path / f"{n}"))
        seg = pydicom.dcmread(path)
        seg.PatientID = seg.PatientName = ""
        seg.save_as(path)
    assert len({case.patient for case in cohort_of(tmp_path).cases}) == 1


def test_studies_that_name_no_patient(tmp_path: Path) -> None:
    """Each may be of anybody, which is said as of other lists."""
    for n in range(2):
        write_scan(
            tmp_path / f"{n}/a", replace(scan(PatientID="", PatientName=""), study=generate_uid())
        )
        draw(tmp_path / f"{n}/seg.dcm", NESTED, stack_of(tmp_path / f"{n}"))
    assert cohort_of(tmp_path).counted == "cases"
    shutil.rmtree(tmp_path)
    write_scan(tmp_path / "a", scan(PatientID="P1"))
    draw(tmp_path / "seg.dcm", NESTED, stack_of(tmp_path))
    assert cohort_of(tmp_path).counted == "patients"


def test_label_schemes_are_of_files(tmp_path: Path) -> None:
    _studies(tmp_path, [NESTED])
    for task in (Brats(), Segmentation()):
        with pytest.raises(ConfigError, match="segments of DICOM have names of their own"):
            open_cohort(task, tmp_path, Recorder(silent=True), labels="2023", required=("flair",))


def test_what_is_predicted_needs_no_segmentation(tmp_path: Path) -> None:
    """Not even one that is broken."""
    _studies(tmp_path, [NESTED])
    (tmp_path / "0/seg.dcm").write_bytes((tmp_path / "0/seg.dcm").read_bytes()[:-200])
    for task in (Brats(), Segmentation().for_images()):
        found = open_cohort(task, tmp_path, Recorder(silent=True), need_target=False,
                            required=("flair",))  # fmt: skip
        assert found.cases[0].target is None


def test_no_known_contrast(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", Scan().of(SeriesDescription="Something"))
    draw(tmp_path / "seg.dcm", NESTED, stack_of(tmp_path))
    with pytest.raises(DataError, match=r"no series shows a known contrast .*--series MODALITY="):
        cohort_of(tmp_path)
    task = Segmentation().with_series({"image": "Some*"})
    (case,) = open_cohort(task, tmp_path, Recorder(silent=True)).cases
    assert [*case.images] == ["image"]


def test_nifti_whose_sources_are_dicom(tmp_path: Path) -> None:
    write_scan(tmp_path / "a", scan())
    assert looks_like_dicom(tmp_path)
    (tmp_path / "dataset.json").write_text("{}")
    assert not looks_like_dicom(tmp_path)
