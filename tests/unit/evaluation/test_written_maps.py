"""What is scored is the written label map, computed from its file by NumPy alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medtl.data.case import Cohort
from medtl.evaluation import segmentation
from medtl.inference.ensemble import Ensemble
from medtl.inference.predict import write_label_maps
from medtl.inference.segmentation import Segmenter
from medtl.networks.blocks import Block, Network
from medtl.runtime.console import Reporter
from medtl.runtime.device import build_fabric
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import brain_mr_plain
from medtl_brats.task import Brats

REGIONS = ("A", "B", "C")
#: B crosses A, C lies in both of them or in A alone; B with C but without A has no value.
VALUES = {"A": (1, 4, 2), "B": (4, 3), "C": (4, 2)}


class Crossed(nn.Module):
    """Regions that cross: bright, dark and middling voxels of the first channel."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, batch_BCIJK: Tensor) -> Tensor:
        x = batch_BCIJK[:, :1] + self.shift
        return torch.cat((x - 0.4, 0.8 - x, 0.6 - (x - 0.2).abs()), dim=1)


@pytest.mark.parametrize("members", [1, 2])
def test_scores_are_those_of_the_written_map(
    small_phantom: Callable[..., Path], tmp_path: Path, members: int
) -> None:
    cohort = Brats().cases(small_phantom(cases=2, size=24, sites=1, seed=2))
    cases = tuple(replace(case, regions=VALUES) for case in cohort.cases)
    blocks = (Block("head", "head", ("*",)),)
    network = Network("crossed", Crossed(), blocks, 1, 3, 3, 1, (), ("shift",))
    preprocessor = Preprocessor(("flair",), REGIONS, brain_mr_plain().with_spacing(7.5))
    fabric = build_fabric("cpu", "fp32")
    found = Segmenter(network, preprocessor, (32, 32, 32), fabric, nested=False)
    ensemble = Ensemble((SimpleNamespace(predictor=found),) * members)
    quiet = Reporter(quiet=True)
    write_label_maps(ensemble, Cohort(cohort.root, cases), tmp_path, quiet)
    rows = segmentation.score(found, cases, quiet, "")
    assert any(row["moved_voxels"] for row in rows)
    for row in rows:
        case = next(case for case in cases if case.id == row["case"])
        written = np.asarray(nib.load(tmp_path / f"{case.id}.nii.gz").dataobj)
        truth = np.asarray(nib.load(case.target.path).dataobj)
        ours, theirs = (np.isin(labels, VALUES[row["region"]]) for labels in (written, truth))
        dice = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
        assert row["metrics"]["dice"] == pytest.approx(dice, abs=1e-12)
    totals = segmentation.details(found, rows)["moved_voxels"]
    assert totals["A"] == sum(row["moved_voxels"] for row in rows if row["region"] == "A")
