"""What ``medtl train`` and ``compare`` tell of their data before the first step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from heads import draw_heads
from PIL import Image
from terminal import Terminal

from medtl import api
from medtl.audit.quick_look import MOST_LINES, look_before_training
from medtl.data.case import Case, ImageFile
from medtl.data.modality import Modality
from medtl.runtime.console import Recorder

CLASSES = ("glioma_tumor", "no_tumor")
IMAGE = Modality("image")
TINY = ("--width=4", "--device=cpu", "--precision=fp32", "--steps=1", "--set=patch_size=64,64")

SMALL = (
    "--device=cpu",
    "--steps=1",
    *(f"--set={word}" for word in ("patch_size=64,64", "width=4")),
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Thirty pictures of each of two classes; no two are alike, and no file has a number."""
    folder = tmp_path / "data"
    heads = iter(draw_heads(30 * len(CLASSES), edge=160))
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(30):
            letters = chr(97 + number // 26) + chr(97 + number % 26)
            Image.fromarray(next(heads).astype("uint8")).save(folder / name / f"x{letters}.png")
    return folder


def crop_into(pictures: Path, source: str, copy: str) -> None:
    image = Image.open(pictures / source)
    edge = image.width
    image.crop((0, 0, edge - 8, edge - 8)).save(pictures / copy)


def warned(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("warning: ")]


def trained(medtl: Terminal, pictures: Path, out: Path, *words: str) -> list[str]:
    """The warnings of a short training."""
    own = ("classification", "--data", pictures, "--out", out)
    return warned(medtl("train", *own, *TINY, *words).err)


def test_copies_across_the_split_are_told_before_training(
    pictures: Path, tmp_path: Path, medtl: Terminal
) -> None:
    crop_into(pictures, "glioma_tumor/xaa.png", "glioma_tumor/copy.png")
    tested = "glioma_tumor_copy.png,glioma_tumor_xab.png,no_tumor_xaa.png,no_tumor_xab.png"
    lines = trained(medtl, pictures, tmp_path / "run", "--test-cases", tested)
    leaks = [line for line in lines if "the same image on both sides" in line]
    assert len(leaks) == 1
    assert "glioma_tumor_copy.png" in leaks[0] and "glioma_tumor_xaa.png" in leaks[0]
    assert f"medtl audit {pictures}" in leaks[0]
    kept = json.loads((tmp_path / "run" / "summary.json").read_text())["data"]["warnings"]
    own = [text for text in kept if "the same image on both sides" in text]
    assert len(own) == 1 and "xaa" not in own[0]


def test_nothing_is_told_of_data_without_fault(
    pictures: Path, tmp_path: Path, medtl: Terminal
) -> None:
    assert not any("medtl audit" in line for line in trained(medtl, pictures, tmp_path / "run"))


def test_at_most_three_lines(pictures: Path, tmp_path: Path, medtl: Terminal) -> None:
    """Copies across the split, one image under two classes, copies in training, and size."""
    crop_into(pictures, "glioma_tumor/xaa.png", "glioma_tumor/copy.png")
    crop_into(pictures, "glioma_tumor/xac.png", "no_tumor/copy.png")
    crop_into(pictures, "no_tumor/xae.png", "no_tumor/other.png")
    for path in sorted((pictures / "no_tumor").glob("x*.png"))[:28]:
        Image.open(path).resize((90, 100)).save(path)
    tested = "glioma_tumor_copy.png,glioma_tumor_xab.png,no_tumor_xaa.png,no_tumor_xab.png"
    own = trained(medtl, pictures, tmp_path / "run", "--test-cases", tested)
    told = [line for line in own if "on both sides" in line or "two labels" in line]
    assert len(told) == 2
    assert sum("medtl audit" in line for line in own) == 1
    assert "more kind" in next(line for line in own if "medtl audit" in line)
    start = own.index(told[0])
    assert "medtl audit" in own[start + MOST_LINES - 1]


def test_studies_tell_it_once(pictures: Path, tmp_path: Path, medtl: Terminal) -> None:
    crop_into(pictures, "glioma_tumor/xaa.png", "no_tumor/copy.png")
    out = tmp_path / "study"
    words = ("classification", "--data", pictures, "--out", out, "--strategies", "linear-probe")
    err = medtl("compare", *words, "--seeds", "1", *SMALL).err
    lines = [line for line in warned(err) if "one image with two labels" in line]
    assert len(lines) == 1


def test_what_is_found_does_not_depend_on_the_cache(pictures: Path) -> None:
    crop_into(pictures, "glioma_tumor/xaa.png", "no_tumor/copy.png")
    cases = [
        Case(path.stem, path.stem, {IMAGE: ImageFile(path)}, class_name=path.parent.name)
        for path in sorted(pictures.rglob("*.png"))
    ]
    first, again = (look_before_training(cases, [IMAGE], ["copy"], Recorder()) for _ in range(2))
    assert [one.kind for one in first] == ["leak", "label-conflict"]
    assert first == again
    renamed = [*cases[:-1], Case("z", "z", cases[-1].images, class_name="no_tumor")]
    assert look_before_training(renamed, [IMAGE], ["copy"], Recorder()) == first


def test_the_quick_look_agrees_with_the_whole_audit(pictures: Path) -> None:
    crop_into(pictures, "glioma_tumor/xaa.png", "no_tumor/copy.png")
    whole = api.audit(pictures)
    assert {one.kind for one in whole.errors} == {"label-conflict"}
    assert whole.errors[0].seen.startswith("alike by")
