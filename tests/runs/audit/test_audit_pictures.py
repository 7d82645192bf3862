"""``medtl audit`` on pictures: leaks, conflicting labels, shortcuts, slices."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from heads import draw_heads
from PIL import Image, ImageDraw, ImageFont, ImageOps

from medtl import api
from medtl.audit.report.result import Audit
from medtl.data.phantom.cohort import write_phantom
from medtl.errors import ConfigError

CLASSES = ("glioma_tumor", "no_tumor")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures of each of two classes, of which no two are alike."""
    folder = tmp_path_factory.mktemp("pictures") / "data"
    heads = iter(draw_heads(60 * len(CLASSES), edge=200))
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(60):
            picture = next(heads).astype(np.uint8)
            Image.fromarray(picture).save(folder / name / f"p{number:02}.png")
    return folder


def kinds(found: Audit) -> dict[str, set[str]]:
    """Kind -> the cases that it was found in."""
    held: dict[str, set[str]] = {}
    for one in found.findings:
        held.setdefault(one.kind, set()).update(one.cases)
    return held


@pytest.fixture
def copied(pictures: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pictures, tmp_path / "data"))


def test_distinct_pictures_are_no_copies(pictures: Path) -> None:
    found = api.audit(pictures)
    assert set(kinds(found)) <= {"outlier"} and len(found.flagged) <= 6
    assert len(set(found.groups.values())) == 120


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "half": lambda image: image.resize((100, 100)),
    "cropped": lambda image: image.crop((10, 0, 200, 190)),
    "brighter": lambda image: image.point(lambda level: min(255, int(1.2 * level) + 5)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_copy_in_another_folder_is_a_leak(name: str, pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "Testing" / CLASSES[0]
    other.mkdir(parents=True)
    with Image.open(pictures / CLASSES[0] / "p07.png") as image:
        CHANGES[name](image).save(other / "copy.jpg", quality=80)
    found = api.audit(pictures, tmp_path / "Testing")
    (leak,) = (one for one in found.findings if one.kind == "leak")
    assert {file.name for file in leak.files} == {"p07.png", "copy.jpg"}
    assert "data and Testing" in leak.seen
    assert len(set(found.groups[case] for case in leak.cases)) == 1


def test_a_copy_of_another_class_is_a_conflict(copied: Path) -> None:
    shutil.copyfile(copied / CLASSES[0] / "p03.png", copied / CLASSES[1] / "x.png")
    held = kinds(api.audit(copied))
    pair = {f"{CLASSES[0]}_p03.png", f"{CLASSES[1]}_x.png"}
    assert held["label-conflict"] == held["exact-duplicate"] == pair


@pytest.mark.parametrize("size", [9, 12, 16])
def test_text_beside_the_head_is_told_and_is_a_shortcut(size: int, copied: Path) -> None:
    """Only the pictures of one class bear it."""
    written = sorted((copied / CLASSES[1]).iterdir())
    for path in written:
        with Image.open(path) as image:
            drawn = ImageDraw.Draw(image)
            drawn.text((3, 2), "DOE J 1970", fill=220, font=ImageFont.load_default(size))
            image.save(path)
    found = api.audit(copied)
    told = {file for one in found.findings if one.kind == "burnt-in-text" for file in one.files}
    assert told <= set(written) and len(told) >= 0.95 * len(written)
    assert "border-shortcut" in kinds(found)


@pytest.mark.parametrize("kind", ["size", "name", "border"])
def test_a_planted_shortcut_is_told_with_its_score(kind: str, copied: Path) -> None:
    for number, path in enumerate(sorted((copied / CLASSES[1]).iterdir())):
        image = np.asarray(Image.open(path))
        if kind == "size":
            image = np.pad(image, 4)
        elif kind == "border":
            image = image.copy()
            image[-2:] = 200
        path.unlink()
        name = f"other{number}.png" if kind == "name" else path.name
        Image.fromarray(image).save(path.with_name(name))
    found = api.audit(copied)
    shortcuts = [one for one in found.findings if one.kind == f"{kind}-shortcut"]
    assert len(shortcuts) == 1
    assert shortcuts[0].score == pytest.approx(1, abs=0.02)
    assert "chance 0.50" in shortcuts[0].seen


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("unreadable", lambda path: path.write_bytes(b"no picture")),
        ("truncated", lambda path: path.write_bytes(path.read_bytes()[:300])),
        ("constant", lambda path: Image.new("L", (200, 200), 9).save(path)),
        (
            "saturated",
            lambda path: Image.open(path).point(lambda v: min(v, 80)).save(path),
        ),
    ],
)
def test_a_damaged_picture_is_named(
    kind: str, damage: Callable[[Path], None], copied: Path
) -> None:
    path = copied / CLASSES[0] / "p05.png"
    damage(path)
    (finding,) = (one for one in api.audit(copied).findings if one.kind == kind)
    assert finding.files == (path,)
    assert str(path) not in finding.seen


def test_neighbouring_slices_and_stand_ins_of_patients_are_told(tmp_path: Path) -> None:
    data = write_phantom(
        tmp_path / "lgg", cases=6, size=32, sites=2, seed=0, layout="lgg-mri", workers=1
    )
    found = api.audit(data)
    held = kinds(found)
    assert "neighbouring-slices" in held and not found.errors
    assert len({found.groups[case] for case in found.cases}) == found.patients


def test_a_patient_in_two_data_sets_is_an_error(tmp_path: Path) -> None:
    one = write_phantom(
        tmp_path / "one", cases=3, size=32, sites=2, seed=0, layout="lgg-mri", workers=1
    )
    folder = next(path for path in one.iterdir() if path.is_dir())
    other = Path(shutil.copytree(folder, tmp_path / "other" / folder.name))
    for path in other.iterdir():
        Image.fromarray(np.flip(np.asarray(Image.open(path)), 0) // 2).save(path)
    assert "patient-on-both-sides" in kinds(api.audit(one, other.parent))


def test_folders_of_one_name_are_two_sides(pictures: Path, tmp_path: Path) -> None:
    for side in ("train", "test"):
        (tmp_path / side / "images").mkdir(parents=True)
    for number in range(4):
        path = pictures / CLASSES[0] / f"p{number:02}.png"
        shutil.copyfile(path, tmp_path / "train" / "images" / path.name)
    shutil.copyfile(path, tmp_path / "test" / "images" / "other.png")
    found = api.audit(tmp_path / "train" / "images", tmp_path / "test" / "images")
    (leak,) = found.errors
    assert leak.kind == "leak" and "train/images and test/images" in leak.seen


def test_a_folder_within_another_is_refused(pictures: Path) -> None:
    with pytest.raises(ConfigError, match="lies in"):
        api.audit(pictures, pictures / CLASSES[0])


@pytest.mark.parametrize(("one", "other"), [("sub_1_11", "sub_11_1"), ("Müller", "Möller")])
def test_other_names_are_other_patients(one: str, other: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for part, name in (("Training", one), ("Testing", other)):
        (tmp_path / part).mkdir()
        image = nib.Nifti1Image(random.normal(size=(9, 9, 9)).astype(np.float32), np.eye(4))
        nib.save(image, tmp_path / part / f"{name}.nii.gz")
    assert "patient-on-both-sides" not in kinds(api.audit(tmp_path))


def test_a_row_of_voxels_is_looked_at(tmp_path: Path) -> None:
    row = np.arange(30, dtype=np.float32).reshape(1, 1, 30)
    nib.save(nib.Nifti1Image(row, np.eye(4)), tmp_path / "row.nii")
    assert len(api.audit(tmp_path).cases) == 1
