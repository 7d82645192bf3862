"""Training and scoring with labels that are known in part: the rest changes nothing.

Axes: I J K voxels.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from terminal import Terminal, exit_code

from medtl.transfer.weights import BEST, read_weights

SIZE = (16, 16, 16)
CASES = "abcdef"
#: In these cases nobody looked for the rim; f is tested.
WITHOUT_RIM = "bf"
TINY = ("--width", "4", "--steps", "3", "--batch-size", "2", "-q")
TINY += ("--device", "cpu", "--precision", "fp32", "--test-cases", "e,f", "--cache", "none")
TINY += ("--set=patch_size=16,16,16",)


def write(folder: Path, *, rim: bool) -> Path:
    """nnU-Net's layout; where nobody looked for the rim, it is there (``rim``) or not."""
    noise = np.random.default_rng(0)
    for n, name in enumerate(CASES):
        labels_IJK = np.zeros(SIZE, dtype=np.uint8)
        labels_IJK[3:11, 4:12, 3 + n : 9 + n] = 2
        labels_IJK[5:9, 6:10, 4 + n : 8 + n] = 1
        image_IJK = (noise.normal(100, 5, SIZE) + 20 * labels_IJK).astype(np.float32)
        if name in WITHOUT_RIM and not rim:
            labels_IJK[labels_IJK == 2] = 0
        labels_IJK[:2] = 3  # nobody labelled these slices
        for array, path in ((image_IJK, f"imagesTr/{name}_0000"), (labels_IJK, f"labelsTr/{name}")):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{path}.nii.gz")
    content = {
        "channel_names": {"0": "CT"},  # whose window is that of what was labelled
        "labels": {"background": 0, "core": 1, "rim": 2, "ignore": 3},
        "annotated": {name: ["core"] for name in WITHOUT_RIM},
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("partial")
    for rim in (True, False):
        data = write(folder / f"data{rim:d}", rim=rim)
        words = ("train", "segmentation", "--data", data, *TINY, "--out", folder / f"run{rim:d}")
        assert exit_code(*words) == 0
    return [folder / "run1", folder / "run0"]


def test_labels_that_nobody_gave_change_no_weight(runs: list[Path]) -> None:
    with_rim, without = (read_weights(run / "scratch" / BEST).tensors for run in runs)
    assert all(torch.equal(with_rim[name], without[name]) for name in with_rim)


def test_cases_are_scored_for_what_was_looked_for(runs: list[Path]) -> None:
    found = []
    for run in runs:
        with (run / "metrics.csv").open(newline="") as file:
            found.append(list(csv.DictReader(file)))
        summary = json.loads((run / "summary.json").read_text())
        counts = {region: own["dice"]["n"] for region, own in summary["scratch"].items()}
        assert counts == {"core": 2, "rim": 1}
    assert found[0] == found[1]
    assert [(row["case"], row["region"]) for row in found[0]] == [
        ("e", "core"),
        ("e", "rim"),
        ("f", "core"),
    ]


def test_loss_that_knows_no_partial_labels_is_refused(tmp_path: Path, medtl: Terminal) -> None:
    data = write(tmp_path / "data", rim=True)
    words = ("train", "segmentation", "--data", data, *TINY, "--set=loss=cross-entropy")
    line = medtl.refused(*words, "--out", tmp_path / "run")
    assert "loss cross-entropy cannot leave out voxels and regions that nobody annotated" in line


def test_region_that_no_training_case_annotates_is_refused(tmp_path: Path, medtl: Terminal) -> None:
    data = write(tmp_path / "data", rim=True)
    content = json.loads((data / "dataset.json").read_text())
    content["annotated"] = {name: ["core"] for name in CASES}
    (data / "dataset.json").write_text(json.dumps(content))
    line = medtl.refused("train", "segmentation", "--data", data, *TINY, "--out", tmp_path / "run")
    assert "stage scratch: region rim is annotated in none of 4 training cases" in line
