"""`medtl predict` on DICOM, on cases of which some are broken, and in parts."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_files import Scan, write_scan
from places import shared_data
from pydicom.uid import generate_uid
from terminal import Terminal

from medtl import api
from medtl.runtime.cache import cache_dir

EXACT = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def run(
    tiny_run: Callable[..., Path],
    small_phantom: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Segments FLAIR and T1 after contrast."""
    data = small_phantom(cases=5, size=24, sites=1, seed=0)
    out = tmp_path_factory.mktemp("run") / "run"
    return tiny_run(out, data, "--strategy", "scratch", "--dst", "flair,t1ce")


@pytest.fixture
def scan() -> Scan:
    """A bright ball in a dark box."""
    index = np.stack(np.meshgrid(*map(np.arange, (24, 26, 20)), indexing="ij"), axis=-1)
    away = np.linalg.norm(index - (12, 13, 10), axis=-1)
    values = np.where(away < 9, 800 - 40 * away, 0).astype(np.int16)
    return Scan(values_IJK=values, spacing_mm=(7.0, 7.0, 8.0))


def _study(folder: Path, scan: Scan) -> None:
    write_scan(folder / "a", scan.of(SeriesDescription="AX FLAIR"))
    brighter = replace(scan, values_IJK=(scan.values_IJK * 1.5).astype(np.int16))
    write_scan(folder / "b", brighter.of(SeriesDescription="AX T1 POST"))


def _study_without_frame(folder: Path, scan: Scan) -> None:
    """Its headers allow no SEG."""
    _study(folder, scan)
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        del dataset.FrameOfReferenceUID
        dataset.save_as(path)


def test_label_map_and_segmentation_lie_on_the_series(
    run: Path, scan: Scan, medtl: Terminal, tmp_path: Path
) -> None:
    _study(tmp_path / "in", scan)
    out, err = medtl("predict", run, "-i", tmp_path / "in", "-o", tmp_path / "out", *EXACT)
    assert out == ""
    (path,) = (tmp_path / "out").glob("*.nii.gz")
    image = nibabel.load(path)
    assert image.shape == scan.values_IJK.shape
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
    assert "flair AX FLAIR, t1ce AX T1 POST" in err
    labels = np.asanyarray(image.dataobj)
    with (tmp_path / "out" / "volumes.csv").open(newline="") as file:
        volumes = {row["region"]: float(row["ml"]) for row in csv.DictReader(file)}
    voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert volumes["WT"] == pytest.approx((labels > 0).sum() * voxel_ml, abs=1e-3)
    segmentation = path.with_name(path.name.replace(".nii.gz", ".dcm"))
    assert segmentation.is_file() == bool(labels.any())
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (case,) = manifest["cases"].values()
    assert path.name in case
    if segmentation.is_file():
        seg = pydicom.dcmread(segmentation)
        assert seg.StudyInstanceUID == scan.study
        assert segmentation.name in case


def test_nothing_written_tells_whose_study_it_is(
    run: Path, scan: Scan, medtl: Terminal, tmp_path: Path
) -> None:
    folder = tmp_path / "Surname^Given"
    _study(folder, scan)
    _, err = medtl("predict", run, "-i", folder, "-o", tmp_path / "out", *EXACT)
    written = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert written
    for text in (b"Surname", b"Given", b"ID-4711", b"19700102", b"Somewhere"):
        assert not [path for path, content in written.items() if text in content]
        assert text.decode() not in err
    for path, content in written.items():  # a SEG must name the study and the images it is of
        if path.suffix != ".dcm":
            assert scan.study.encode() not in content


def test_a_broken_slice_tells_nobody_either(
    run: Path, scan: Scan, medtl: Terminal, tmp_path: Path
) -> None:
    good, bad = tmp_path / "in" / "good", tmp_path / "in" / "Surname^Given"
    _study(good, scan)
    _study(bad, replace(scan, study=generate_uid()))
    victim = bad / "a" / "003.dcm"
    victim.write_bytes(victim.read_bytes()[:-50])
    (bad / "broken.dcm").write_bytes(b"no DICOM")
    _, err = medtl("predict", run, "-i", tmp_path / "in", "-o", tmp_path / "out", *EXACT, code=3)
    assert "003.dcm: truncated" in err  # on the terminal, not in what is kept
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 1
    kept = [*(tmp_path / "out").rglob("*"), *cache_dir().rglob("*")]
    for path in kept:
        assert "Surname" not in str(path.relative_to(path.parents[1]))
        assert not path.is_file() or b"Surname" not in path.read_bytes()
    line = medtl.refused("predict", run, "-i", bad, "-o", tmp_path / "none", *EXACT)
    assert "003.dcm: truncated" in line


def test_without_a_frame_of_reference_there_is_no_segmentation(
    run: Path, scan: Scan, medtl: Terminal, tmp_path: Path
) -> None:
    _study_without_frame(tmp_path / "in", scan)
    _, err = medtl("predict", run, "-i", tmp_path / "in", "-o", tmp_path / "out", *EXACT)
    (path,) = (tmp_path / "out").glob("*.nii.gz")
    shown = np.asanyarray(nibabel.load(path).dataobj).any()
    assert ("no DICOM SEG: its header does not allow a SEG" in err) == shown
    assert not list((tmp_path / "out").glob("*.dcm"))
    assert (tmp_path / "out" / "volumes.csv").is_file()


def test_no_segmentation_of_an_earlier_prediction_stays(
    run: Path, scan: Scan, medtl: Terminal, tmp_path: Path
) -> None:
    """As where nothing is found any more, or the header allows no SEG."""
    _study_without_frame(tmp_path / "in", scan)
    medtl("predict", run, "-i", tmp_path / "in", "-o", tmp_path / "out", *EXACT)
    (path,) = (tmp_path / "out").glob("*.nii.gz")
    left = path.with_name(path.name.replace(".nii.gz", ".dcm"))
    left.write_bytes(b"of another model")
    medtl("predict", run, "-i", tmp_path / "in", "-o", tmp_path / "out", *EXACT)
    assert not left.exists()


def test_a_broken_case_is_reported_and_the_others_go_on(
    run: Path, small_phantom: Callable[..., Path], medtl: Terminal, tmp_path: Path
) -> None:
    data = tmp_path / "in"
    shutil.copytree(small_phantom(cases=5, size=24, sites=1, seed=0), data)
    broken, *others = sorted(path.name for path in data.iterdir() if path.is_dir())
    (image,) = (data / broken).glob("*flair*")
    image.write_bytes(image.read_bytes()[:2000])
    _, err = medtl("predict", run, "-i", data, "-o", tmp_path / "out", *EXACT, code=3)
    assert len([line for line in err.splitlines() if line.startswith("warning: left out: ")]) == 1
    assert image.name in err
    assert {p.name for p in (tmp_path / "out").glob("*.nii.gz")} == {f"{n}.nii.gz" for n in others}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["failed"] == [broken]
    assert sorted(manifest["cases"]) == others
    again = ("predict", run, "-i", data, "-o", tmp_path / "out", "--skip-existing", *EXACT)
    medtl(*again, code=3)  # the only one that is left fails once more
    assert sorted(json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]) == others
    found = api.predict(run, data, tmp_path / "api", device="cpu", precision="fp32")
    assert list(found.failed) == [broken]


def test_parts_together_are_the_whole_and_none_is_done_twice(
    run: Path, small_phantom: Callable[..., Path], medtl: Terminal, tmp_path: Path
) -> None:
    data, out = small_phantom(cases=5, size=24, sites=1, seed=0), tmp_path / "out"
    for part in ("1/2", "2/2"):
        medtl("predict", run, "-i", data, "-o", out, "--shard", part, "-q", *EXACT)
    maps = {path: path.read_bytes() for path in out.glob("*.nii.gz")}
    assert len(maps) == 5
    tables = [out / f"volumes-{n}-of-2.csv" for n in (1, 2)]
    assert sum(len(table.read_text().splitlines()) - 1 for table in tables) == 15
    whole = tmp_path / "whole"
    medtl("predict", run, "-i", data, "-o", whole, "-q", *EXACT)
    for path, content in maps.items():
        assert (whole / path.name).read_bytes() == content
    gone = sorted(maps)[0]
    gone.unlink()
    times = {path: path.stat().st_mtime_ns for path in maps if path != gone}
    assert not (out / "volumes.csv").exists()  # those of the parts bear their numbers
    _, err = medtl("predict", run, "-i", data, "-o", out, "--skip-existing", *EXACT)
    assert "4 of 5 are there already" in err
    assert gone.read_bytes() == maps[gone]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert (out / "volumes.csv").read_bytes() == (whole / "volumes.csv").read_bytes()
    line = medtl.refused("predict", run, "-i", data, "-o", out, "--shard", "3/2")
    assert "write NUMBER/OF" in line


def test_a_glioblastoma_study(run: Path, medtl: Terminal, tmp_path: Path) -> None:
    study = shared_data("dicom", "glioblastoma_study")
    _, err = medtl("predict", run, "-i", study, "-o", tmp_path / "out", *EXACT)
    assert "flair FLAIR_reg, t1ce T1post" in err
    assert "HippoCrop: says neither" in err
    assert "differs from the training images" in err
    (path,) = (tmp_path / "out").glob("*.nii.gz")
    assert nibabel.load(path).shape == (280, 320, 22)
