"""What a plan says of regions that the training grid loses or that lie outside of the image.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from rich.console import Console

from medtl.config import TrainConfig
from medtl.data.case import Case, ImageFile
from medtl.data.domain import Domain
from medtl.data.io.images import read_header
from medtl.data.modality import Modality
from medtl.errors import ConfigError
from medtl.inference.segmentation import dice
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Recorder, Reporter
from medtl.training.checks import check_spacing, warn_of_edges
from medtl.training.kept_regions import kept_regions, report_kept
from medtl.training.plan import make_plan
from medtl.transforms.fit_records import record_images
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import mr, picture

SHAPE, MM = (48, 48, 10), (0.8, 0.8, 5.0)
DOMAIN = Domain(modalities=(Modality("mr"),))
REGIONS = {"ball": (1,), "sheet": (2,), "half": (3,)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path / "cache"))


def phantom(folder: Path, number: int) -> Case:
    """A round head with a ball, a sheet of one voxel, and a block half of which is outside."""
    folder.mkdir(exist_ok=True)
    i, j, k = np.indices(SHAPE)
    inside = (i - 24) ** 2 + (j - 24) ** 2 < 20**2
    inside &= (k > 0) & (k < 9)
    labels = np.zeros(SHAPE, np.uint8)
    labels[(i - 24) ** 2 + (j - 24) ** 2 + (6 * (k - 5)) ** 2 < 8**2] = 1
    labels[12 + number % 2, 16:32, 3:7] = 2
    labels[40:48, 22:26, 3:7] = 3  # i < 44 is inside
    random = np.random.default_rng(number)
    image = np.where(inside, 100 + random.normal(0, 4, SHAPE), 0).astype(np.float32)
    affine = np.diag([*MM, 1.0])
    paths = folder / f"c{number}.nii", folder / f"l{number}.nii"
    for path, array in zip(paths, (image, labels), strict=True):
        nib.save(nib.Nifti1Image(array, affine), path)
    images = {Modality("mr"): ImageFile(paths[0])}
    return Case(f"c{number}", f"c{number}", images, ImageFile(paths[1]), REGIONS, (0, 1, 2, 3))


def preprocessor(cases: list[Case], spacing_mm: float) -> Preprocessor:
    records = record_images({DOMAIN: cases}, Reporter(quiet=True))
    preset = mr().with_spacing(spacing_mm).with_images(records)
    return Preprocessor((Modality("mr"),), tuple(REGIONS), preset)


def test_shares_are_those_that_preparation_keeps(tmp_path: Path) -> None:
    cases = [phantom(tmp_path, n) for n in range(3)]
    prepare = preprocessor(cases, 2.0)
    kept = {one.region: one for one in kept_regions(cases, prepare, MM[0])}
    native_mm3 = np.prod(MM)
    for n, region in enumerate(REGIONS):
        expected = []
        for case in cases:
            found = prepare(case)
            labels = np.asarray(nib.load(case.target.path).dataobj)
            held = (labels == REGIONS[region][0]).sum() * native_mm3
            box_mm3 = np.prod(found["placement"].size) * native_mm3
            voxel_mm3 = box_mm3 / found["target"][n].numel()
            expected.append(min(1.0, float(found["target"][n].sum()) * voxel_mm3 / held))
        np.testing.assert_allclose(kept[region].shares, sorted(expected), atol=1e-9)
    assert kept["ball"].lost == 0 and kept["ball"].finer_mm is None
    assert (kept["sheet"].lost, kept["sheet"].poor) == (3, 3)
    # Columns 40 to 47 of the block; those of the disk are counted by hand.
    outside = np.mean(
        [(i - 24) ** 2 + (j - 24) ** 2 >= 400 for i in range(40, 48) for j in range(22, 26)]
    )
    assert kept["half"].outside == pytest.approx([outside] * 3)
    assert kept["ball"].outside == (0.0, 0.0, 0.0)


def test_the_spacing_that_is_named_keeps_the_region(tmp_path: Path) -> None:
    cases = [phantom(tmp_path, n) for n in range(4)]
    (sheet,) = [
        one for one in kept_regions(cases, preprocessor(cases, 2.0), MM[0]) if one.region == "sheet"
    ]
    assert sheet.finer_mm is not None and MM[0] <= sheet.finer_mm < 2.0
    finer = preprocessor(cases, sheet.finer_mm)
    assert all(bool(finer(case)["target"][1].any()) for case in cases)
    assert all(bool(preprocessor(cases, 2.0)(case)["lost"][1]) for case in cases)


def test_losses_are_warned_of(tmp_path: Path) -> None:
    cases = [phantom(tmp_path, n) for n in range(3)]
    prepare = preprocessor(cases, 2.0)
    reporter = Recorder(console=Console(file=io.StringIO()), results=Console(file=io.StringIO()))
    report_kept(kept_regions(cases, prepare, MM[0]), prepare.preset, reporter)
    sheet, half = reporter.warnings
    assert "nothing in 3 of 3 cases" in sheet and "--spacing" in sheet
    assert "where the images show nothing, in 3 of 3 cases" in half
    (table,) = reporter.tables
    assert [row[0] for row in table.rows] == list(REGIONS)


def test_a_lost_region_scores_nothing_for_nothing() -> None:
    nothing = torch.zeros((2, 2, 2, 2), dtype=torch.bool)
    found = dice(nothing, nothing, torch.tensor([True, False]))
    assert found.tolist() == [0.0, 1.0]
    assert dice(nothing, nothing).tolist() == [1.0, 1.0]


def test_most_images_decide_and_the_others_are_warned_of(tmp_path: Path) -> None:
    cases = [phantom(tmp_path, n) for n in range(3)]
    path = cases[0].images[Modality("mr")].path
    image = nib.load(path)
    array = np.asarray(image.dataobj).copy()
    array[array == 0] = np.abs(np.random.default_rng(0).normal(0, 0.5, (array == 0).sum()))
    nib.save(nib.Nifti1Image(array, image.affine), path)
    reporter = Reporter(quiet=True)
    record = record_images({DOMAIN: cases}, reporter)["mr"]
    assert record.background == 0
    every = [np.asarray(nib.load(case.images[Modality("mr")].path).dataobj) for case in cases]
    low, high = np.transpose([np.percentile(one, (0.5, 99.5)) for one in every])
    assert record.low == pytest.approx((low.min(), low.max()))
    assert record.high == pytest.approx((high.min(), high.max()))
    assert reporter.warnings == [
        "1 of 3 training images of mr that were looked at have noise around what they show, the "
        "others one value: all are prepared like the others"
    ]
    of_windowed = Reporter(quiet=True)
    assert record_images({DOMAIN: cases}, of_windowed, ["mr"])["mr"] == record
    assert not of_windowed.warnings


@pytest.mark.parametrize("spacing_mm", [1e-9, 0.02, 1e6])
def test_impossible_spacings_are_refused(tmp_path: Path, spacing_mm: float) -> None:
    header = read_header(phantom(tmp_path, 0).images[Modality("mr")])
    with pytest.raises(ConfigError, match="--spacing"):
        check_spacing(
            mr().with_spacing(spacing_mm), [header] if spacing_mm != 0.02 else huge(header)
        )
    check_spacing(mr().with_spacing(2.0), [header])


def test_voxels_of_another_order_than_the_others_are_named(tmp_path: Path) -> None:
    cases = [phantom(tmp_path, seed) for seed in range(3)]
    own = [read_header(case.images[Modality("mr")]) for case in cases]
    tenth = replace(own[1], spacing_mm=np.array(own[1].spacing_mm) / 10)
    reporter = Reporter(silent=True)
    warn_of_edges(cases, own, reporter)
    assert not reporter.warnings
    warn_of_edges(cases, [own[0], tenth, own[2]], reporter)
    (told,) = reporter.warnings
    assert told.startswith("far from the median voxel of ")
    assert f": {cases[1].id} (0." in told and cases[0].id not in told


def huge(header):
    return [replace(header, shape=(4000, 4000, 4000))]


def test_a_plan_records_the_images_and_reports_the_regions(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    rows = ["case,mr,label"]
    for n in range(6):
        case = phantom(folder, n)
        rows.append(f"{case.id},{case.images[Modality('mr')].path.name},{case.target.path.name}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    config = TrainConfig(
        task="segmentation", data=folder / "cases.csv", labels="ball=1,sheet=2,half=3", spacing_mm=2
    )
    reporter = Recorder(quiet=True)
    plan = make_plan(config, load_catalog(), reporter)
    assert dict(plan.preset.images)["mr"].background == 0
    assert plan.preset.to_json()["images"]["mr"]["background"] == 0
    assert "Regions after preparation" in [table.title for table in reporter.tables]
    assert any(
        "region sheet: the training grid at 2 mm keeps" in text for text in reporter.warnings
    )
    assert not picture().with_images(dict(plan.preset.images)).images
