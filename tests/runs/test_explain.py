"""``medtl explain`` on a tiny run. Axes: I J pixels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl.explain.localisation import localisation_table

CLASSES = ("dark", "spot")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., None]) -> Path:
    """A tiny run on pictures with and without a spot, listed with their masks."""
    folder = tmp_path_factory.mktemp("spots")
    random = np.random.default_rng(0)
    lines = ["case,patient,image,mask,class"]
    for number in range(24):
        shape = (34, 30 + number % 3)
        image = random.integers(20, 60, shape).astype(np.uint8)
        mask = np.zeros(shape, dtype=np.uint8)
        name = CLASSES[number % 2]
        if name == "spot":
            i, j = random.integers(8, 22, 2)
            image[i - 4 : i + 4, j - 4 : j + 4] += 150
            mask[i - 4 : i + 4, j - 4 : j + 4] = 255
        Image.fromarray(image).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"{number}_mask.png")
        lines.append(f"c{number},p{number // 2},{number}.png,{number}_mask.png,{name}")
    (folder / "list.csv").write_text("\n".join(lines))
    words = ("--width", 4, "--device", "cpu", "--precision", "fp32", "--steps", 3, "-q")
    out = folder / "run"
    command(
        *("train", "classification", "--data", folder / "list.csv", "--out", out, *words),
        *("--set=patch_size=32,32", "--set=test_fraction=0.5", "--batch-size", 4),
    )
    return out


def test_explain_writes_figures_and_scores_maps_against_masks(
    run: Path, command: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("--layer", "encoder2", "--cases", 2, "--device", "cpu")
    command("explain", run, *words, "--json", "-q")
    found = json.loads(capfd.readouterr().out)
    folder = run / "explain" / "scratch"
    assert found == json.loads((folder / "saliency.json").read_text())
    for name in ("cam", "activations", "filters"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "saliency.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    scored = [row for row in rows if row["dice"]]
    assert {row["explained"] for row in scored} == {"spot"}
    assert found["images_scored"] == len(scored) == found["localisation"]["dice"]["n"]
    mean = np.mean([float(row["pointing"]) for row in scored])
    assert found["localisation"]["pointing"]["mean"] == pytest.approx(mean)
    unscored = len(rows) - len(scored)
    assert found["not_scored"] == {"whose mask shows nothing of what is explained": unscored}
    told = localisation_table(found)
    assert f", {len(scored)} of {len(rows)} images" in told.title
    assert any(f"not scored: {unscored} image" in note for note in told.notes)
    assert found["block"] == "encoder2" and found["map_size"] == [4, 4]


def test_explain_shows_unlabelled_pictures_and_never_scores_what_was_trained_on(
    run: Path, tmp_path: Path, command: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "new"
    data.mkdir()
    lines = ["case,image", f"a,{run.parent / '0.png'}", f"b,{run.parent / '1.png'}"]
    (data / "list.csv").write_text("\n".join(lines))
    words = ("--layer", "stem", "--device", "cpu", "--cases", 1)
    command("explain", run, "-i", data, "-o", tmp_path / "out", *words)
    told = "".join(capfd.readouterr())
    assert "no map is scored: 1 image without a mask" in told
    command("explain", run, "-i", run.parent / "list.csv", "-o", tmp_path / "all", *words)
    told = "".join(capfd.readouterr())
    assert "cases were seen in training: never scored" in told
    found = json.loads((tmp_path / "all" / "saliency.json").read_text())
    assert found["images_scored"] < 12


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--class", "spott"), "unknown class of this run 'spott'; did you mean 'spot'?"),
        (("--layer", "encoder4"), "gives no map of more than one place for images of 32x32"),
        (("--stage", "x"), "no finished stage 'x'; finished: scratch"),
        (("-i", "nowhere"), "nowhere"),
    ],
)
def test_explain_refuses_in_one_line(
    run: Path,
    command: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    line: str,
) -> None:
    command("explain", run, *words, "-q", "--device", "cpu", code=2)
    (told,) = capfd.readouterr().err.splitlines()
    assert told.startswith("error: ") and line in told
