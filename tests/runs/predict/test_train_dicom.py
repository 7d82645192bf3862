"""Training on DICOM with SEG: as on the same voxels in NIfTI."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_files import Scan, write_scan
from pydicom.uid import generate_uid
from terminal import Terminal, exit_code

from medtl.data.dicom.seg import write_seg
from medtl.data.dicom.series import find_series
from medtl.transfer.weights import BEST, read_weights

TINY = ("--network", "unet", "--width", "4", "--device", "cpu", "--precision", "fp32")
TINY += ("--steps", "3", "--batch-size", "2", "--spacing", "2", "--transforms", "brain-mr")
TINY += ("--set=patch_size=32,32,32", "--set=val_fraction=0", "-q")
VALUES = {"WT": (1, 2), "TC": (2,)}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients with FLAIR, T1 after contrast and a SEG of nested balls."""
    folder = tmp_path_factory.mktemp("studies")
    places = np.stack(np.meshgrid(*map(np.arange, (24, 26, 20)), indexing="ij"), axis=-1)
    random = np.random.default_rng(0)
    for n in range(4):
        away = np.linalg.norm(places - (12, 13, 10) - random.integers(-2, 3, 3), axis=-1)
        head = np.linalg.norm((places - (12, 13, 10)) / (11, 12, 9), axis=-1) < 1
        label_IJK = ((away < 6).astype(np.uint8) + (away < 3)) * head
        noise = random.integers(0, 40, label_IJK.shape)
        flair = Scan(
            values_IJK=(head * (300 + noise + 300 * (label_IJK > 0))).astype(np.int16),
            turn=np.eye(3),
            spacing_mm=(2.0, 2.0, 2.0),
            study=generate_uid(),
            header={"SeriesDescription": "AX FLAIR", "PatientID": f"P{n}"},
        )
        bright = (head * (200 + noise + 300 * (label_IJK > 1))).astype(np.int16)
        write_scan(folder / f"{n}/a", flair)
        post = replace(flair, values_IJK=bright).of(SeriesDescription="Contrast")
        write_scan(folder / f"{n}/b", post)
        (stack,) = find_series(folder / f"{n}/a").series[0].stacks
        write_seg(folder / f"{n}/seg.dcm", label_IJK, VALUES, stack, "a model")
    return folder


@pytest.fixture(scope="module")
def runs(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run on DICOM, one on what ``data convert`` makes of it."""
    folder = tmp_path_factory.mktemp("runs")
    series = ("--series", "t1ce=Contrast")
    assert exit_code("data", "convert", studies, folder / "table", "--to", "nifti", *series) == 0
    rows = list(csv.DictReader((folder / "table/cases.csv").read_text().splitlines()))
    words = {
        "dicom": ("--data", studies, *series),
        "nifti": ("--data", folder / "table/cases.csv", "--labels", "WT=1+2,TC=2"),
    }
    for name, data in words.items():
        last = ("--test-cases", rows[-1]["case"], "--out", folder / name)
        assert exit_code("train", "segmentation", *data, *TINY, *last) == 0
    return {**{name: folder / name for name in words}, "table": folder / "table/cases.csv"}


def test_the_same_network(runs: dict[str, Path]) -> None:
    one, other = (
        read_weights(runs[name] / "scratch" / BEST).tensors for name in ("dicom", "nifti")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_scores_are_those_of_the_converted_cases(
    runs: dict[str, Path], studies: Path, medtl: Terminal
) -> None:
    scores = []
    for words in ((), ("--data", studies), ("--data", runs["table"], "--cases", "test")):
        out, _ = medtl("evaluate", runs["dicom"], *words, "--json", "-q")
        scores.append(json.loads(out)["scratch"])
    assert scores[0] == scores[1] == scores[2]


def test_series_are_remembered(runs: dict[str, Path]) -> None:
    config = (runs["dicom"] / "config.yaml").read_text()
    assert "t1ce: Contrast" in config
