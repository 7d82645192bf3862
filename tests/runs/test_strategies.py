"""Strategies from the command line: what a run keeps of its steps, cuts, interruptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from medtl.transfer.weights import BEST

TINY = ("--width", 4, "--batch-size", 4, "--device", "cpu", "--precision", "fp32", "-q")
TINY += ("--set=patch_size=32,32", "--transforms", "picture-plain", "--cache", "memory")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten bright and ten dark pictures with noise."""
    folder, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for level, name in ((40, "dark"), (120, "bright")):
        (folder / name).mkdir()
        for n in range(10):
            values = draw.normal(level, 20, (32, 32)).clip(0, 255).astype(np.uint8)
            Image.fromarray(values).save(folder / name / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def train(command, pictures: Path):
    def run(out: Path, *words: object, code: int = 0) -> Path:
        network = () if "--network" in words else ("--network", "cbr-tiny")
        command(
            "train",
            "classification",
            "--data",
            pictures,
            *TINY,
            *network,
            "--out",
            out,
            *words,
            code=code,
        )
        return out

    return run


@pytest.fixture(scope="module")
def source(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("source") / "run", "--steps", 3)


def metadata(run: Path, stage: str) -> dict[str, Any]:
    with safe_open(run / stage / BEST, "pt") as file:
        return json.loads(file.metadata()["medtl"])


def test_run_that_starts_from_a_run_gets_both_controls(train, source: Path, tmp_path: Path) -> None:
    words = ("--strategy", "head-first", "--init", source, "--steps", 4, "--with-control")
    run = train(tmp_path / "run", *words, "--keep-blocks", 2, "--initialiser", "mean-var")
    assert metadata(source, "scratch")["steps"] == 3
    steps = {stage: metadata(run, stage)["steps"] for stage in ("head", "last-block", "deeper")}
    assert steps == {"head": 4, "last-block": 5, "deeper": 7}
    for control, count in (("control-a", 4), ("control-b", 7)):
        recorded = metadata(run, control)
        assert recorded["steps"] == count
        assert recorded["network"]["options"]["keep_blocks"] == 2
    receipts = json.loads((run / "receipt.json").read_text())
    assert any("mean-var" in note for note in receipts["head"]["notes"])
    assert receipts["last-block"]["shares"]["loaded"] == 1
    statuses = {row["name"]: row["note"] for row in receipts["head"]["tensors"]}
    assert statuses["head.weight"] == "left random as asked"  # it sits on other features now


def test_schedule_cut_short_goes_on_to_the_same_weights(
    train, command, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import medtl.training.loop

    words = ("--strategy", "gradual-unfreeze", "--init", source, "--steps", 5, "--depth", 1)
    words += ("--initialiser", "gabor")
    whole = train(tmp_path / "whole", *words)
    append = medtl.training.loop.append_line

    def killed(path: Path, row: dict[str, Any]) -> None:
        append(path, row)
        if path.parent.name == "unfreeze-2" and row["step"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(medtl.training.loop, "append_line", killed)
        train(tmp_path / "cut", *words, code=130)
    command("train", "--resume", tmp_path / "cut", "-q")
    for stage in ("unfreeze-1", "unfreeze-2"):
        assert (whole / stage / BEST).read_bytes() == (tmp_path / "cut" / stage / BEST).read_bytes()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--strategy", "fine-tune", "--depth", 2), "strategy fine-tune has no --depth; drop it"),
        (
            ("--strategy", "transfusion"),
            "--depth is needed: the number of first blocks that transfusion",
        ),
        (("--strategy", "head-first", "--depth", 7), "0 to 4; the blocks are stem, encoder1"),
        (("--strategy", "head-first", "--freeze", "1"), "drop --freeze, or give --depth"),
        (("--strategy", "fine-tune", "--keep-blocks", 9), "keep_blocks counts the blocks"),
        (("--keep-blocks", 2, "--set", "options.keep_blocks=3"), "are the same setting; drop one"),
        (("--initialiser", "mean-vra"), "did you mean 'mean-var'?"),
        (("--initialiser", "mean-var"), "none were loaded; give --init"),
        (("--optimizer", "lion"), "must be 'adamw', 'adam' or 'sgd', not 'lion'"),
    ],
)
def test_mistakes_are_one_line(
    train, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words, error
) -> None:
    given = words if "--initialiser" in words else (*words, "--init", source)
    train(tmp_path / "run", *given, "--dry-run", code=2)
    err = capsys.readouterr().err
    assert error in err and len(err.strip().splitlines()) == 1


def test_source_that_is_the_target_is_told(
    command, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = [word for word in TINY if word != "-q"]
    words = ("--data", pictures, *loud, "--network", "cbr-tiny", "--steps", 1, "--dry-run")
    command("train", "classification", *words, "--strategy", "linear-probe")
    assert "--src and --dst are the same images" in "".join(capsys.readouterr())
