"""Own data: four layouts of the same cases give the same model; bad lists are one clear line.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import torch
from places import ROOT
from terminal import Terminal, exit_code

from medtl.data.case import Case
from medtl.transfer.weights import BEST, read_weights
from medtl_brats.task import Brats

TINY = ("--network", "unet", "--width", "4", "--device", "cpu", "--precision", "fp32")
TINY += ("--steps", "3", "--batch-size", "2", "--spacing", "7.5", "--transforms", "brain-mr")
TINY += ("--strategy", "scratch", "--dst", "flair,t1,t1ce,t2")
TINY += ("--set=patch_size=32,32,32", "--set=val_fraction=0", "-q")


def _layouts() -> ModuleType:
    path = ROOT / "benchmarks" / "inputs" / "own_layouts.py"
    spec = importlib.util.spec_from_file_location("own_layouts", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


own_layouts = _layouts()
LAYOUTS: tuple[str, ...] = own_layouts.LAYOUTS


@pytest.fixture(scope="module")
def cases(small_phantom: Callable[..., Path]) -> tuple[Case, ...]:
    return Brats().cases(small_phantom(cases=5, size=24, sites=1, seed=3)).cases


@pytest.fixture(scope="module")
def listed(
    cases: tuple[Case, ...], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = own_layouts.rearrange(
        cases, tmp_path_factory.mktemp("layouts")
    )
    return found


@pytest.fixture(scope="module")
def runs(
    cases: tuple[Case, ...],
    listed: dict[str, tuple[str, ...]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """The same training through ``brats`` and through every layout."""
    folder = tmp_path_factory.mktemp("runs")
    words = {"brats": ("brats", "--data", str(cases[0].images["flair"].path.parents[1])), **listed}
    words["other seed"] = (*words["nnunet"], "--seed", "1")
    for name, data in words.items():
        last = ("--lr", "0.002", "--test-cases", cases[-1].id, "--out", folder / name)
        assert exit_code("train", *data, *TINY, *last) == 0
    return {name: folder / name for name in words}


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return read_weights(run / "scratch" / BEST).tensors


def label_map(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


# --- the same cases, the same result --------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_trains_the_weights_of_brats(runs: dict[str, Path], layout: str) -> None:
    expected, found = tensors(runs["brats"]), tensors(runs[layout])
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    scores = [json.loads((runs[r] / "summary.json").read_text()) for r in ("brats", layout)]
    assert scores[0]["scratch"] == scores[1]["scratch"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_predicts_the_masks_of_brats(
    runs: dict[str, Path],
    listed: dict[str, tuple[str, ...]],
    cases: tuple[Case, ...],
    tmp_path: Path,
    medtl: Terminal,
    layout: str,
) -> None:
    data = Path(listed[layout][2])
    folder = cases[0].images["flair"].path.parents[1]
    medtl("predict", runs["brats"], "-i", folder, "-o", tmp_path / "a", "-q", "--device", "cpu")
    medtl("predict", runs[layout], "-i", data, "-o", tmp_path / "b", "-q", "--device", "cpu")
    assert len(list((tmp_path / "b").glob("*.nii.gz"))) == len(cases)
    assert label_map(tmp_path / "b" / f"{cases[0].id}.nii.gz").any()
    for case in cases:
        a, b = (label_map(tmp_path / side / f"{case.id}.nii.gz") for side in "ab")
        assert np.array_equal(a, b)


def test_folder_of_numbered_files_is_predicted_without_a_list(
    runs: dict[str, Path], listed: dict[str, tuple[str, ...]], tmp_path: Path, medtl: Terminal
) -> None:
    folder = Path(listed["nnunet"][2])
    words = ("predict", runs["datalist"], "-q", "--device", "cpu", "-o")
    medtl(*words, tmp_path / "a", "-i", folder)
    medtl(*words, tmp_path / "b", "-i", folder / "imagesTr")
    for path in (tmp_path / "a").glob("*.nii.gz"):
        assert np.array_equal(label_map(path), label_map(tmp_path / "b" / path.name))


def test_mean_of_two_runs_is_the_mean_of_their_probabilities(
    runs: dict[str, Path], cases: tuple[Case, ...], tmp_path: Path, medtl: Terminal
) -> None:
    from medtl.inference.load import restore_stage
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.device import build_fabric
    from medtl.transfer.weights import resolve_weights

    members = [runs["nnunet"], runs["other seed"]]
    fabric = build_fabric("cpu", "fp32")
    predictors = [
        restore_stage(read_weights(resolve_weights(str(run))), load_catalog(), fabric).predictor
        for run in members
    ]
    probability_LIJK = sum(
        1
        / (
            1
            + np.exp(-p.native_logits(p.preprocessor(cases[0], with_target=False)).double().numpy())
        )
        for p in predictors
    ) / len(members)
    whole, core, enhancing = np.logical_and.accumulate(probability_LIJK > 0.5)
    expected = np.select([enhancing, core, whole], [4, 1, 2])
    assert expected.any()
    rows = [["case", *own_layouts.CHANNELS.values()]]
    rows += [["one", *(str(cases[0].images[m].path) for m in own_layouts.CHANNELS)]]
    table = tmp_path / "one.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    words = ("-o", tmp_path / "out", "-q", "--device", "cpu", "--precision", "fp32")
    medtl("predict", *members, "-i", table, *words)
    assert np.array_equal(label_map(tmp_path / "out" / "one.nii.gz"), expected)


def test_mean_of_unlike_runs_is_refused(
    runs: dict[str, Path], tmp_path: Path, medtl: Terminal
) -> None:
    words = ("-i", tmp_path, "-o", tmp_path / "out")
    line = medtl.refused("predict", runs["brats"], runs["nnunet"], *words)
    assert "differ in task: brats and segmentation" in line


def test_other_regions_than_trained_on_are_refused(
    runs: dict[str, Path], listed: dict[str, tuple[str, ...]], tmp_path: Path, medtl: Terminal
) -> None:
    data = Path(listed["nnunet"][2])
    content = json.loads((data / "dataset.json").read_text())
    content["labels"] = {"background": 0, "tumour": [1, 2, 4]}
    del content["regions_class_order"]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).symlink_to(data / name)
    for words in (("evaluate", "--data"), ("predict", "-o", tmp_path / "out", "-i")):
        line = medtl.refused(words[0], runs["msd"], "-q", *words[1:], tmp_path)
        assert "knows no region WT" in line and "named tumour" in line


def test_evaluate_scores_own_data_again(runs: dict[str, Path], medtl: Terminal) -> None:
    words = ("evaluate", runs["table"], "--json", "-q", "--device", "cpu", "--precision", "fp32")
    found = json.loads(medtl(*words).out)
    assert found["scratch"] == json.loads((runs["table"] / "summary.json").read_text())["scratch"]
