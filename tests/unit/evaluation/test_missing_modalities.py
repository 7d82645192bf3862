"""Scores of every subset of the modalities. Axes: B batch, C modality, L region, I J K voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medtl.data.case import Case
from medtl.data.cohort import region_masks
from medtl.data.io.nifti import read_labels
from medtl.data.label_scheme import LabelScheme
from medtl.evaluation.metrics import mask_dice, summarise
from medtl.evaluation.missing_modalities import SUBSETS, subset_dice, subsets, summarise_subsets
from medtl.evaluation.segmentation import score
from medtl.evaluation.tables import missing_table
from medtl.inference.segmentation import Segmenter
from medtl.inference.sliding_window import OUTSIDE
from medtl.inference.windows import shown
from medtl.networks.blocks import Block, Network
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Reporter
from medtl.runtime.device import build_fabric
from medtl.transforms.preprocess import Placement
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import brain_mr_plain
from medtl_brats.task import Brats

REGIONS = ("WT", "TC", "ET")
MODALITIES = ("flair", "t1", "t1ce")
RAS = ((0, 1, 2), (False,) * 3)
QUIET = Reporter(quiet=True)


class Sum(nn.Module):
    """Every region is where the sum of all channels is above its threshold."""

    def forward(self, batch_BCIJK: Tensor) -> Tensor:
        thresholds = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1, 1)
        return batch_BCIJK.sum(1, keepdim=True) - thresholds


@dataclass
class Counting:
    """A preprocessor that notes which cases it has prepared."""

    preprocessor: Preprocessor
    made: list[str] = field(default_factory=list)

    def __call__(self, case: Case, **options: bool) -> dict:
        self.made.append(case.id)
        return self.preprocessor(case, **options)

    def __getattr__(self, name: str) -> object:
        return getattr(self.preprocessor, name)


def predictor(module: nn.Module | None = None) -> Segmenter:
    blocks = (Block("head", "head", ("*",)),)
    network = Network("sum", module or Sum(), blocks, 3, 3, 3, 1, (), ())
    preprocessor = Preprocessor(MODALITIES, REGIONS, brain_mr_plain().with_spacing(7.5))
    return Segmenter(network, preprocessor, (32, 32, 32), build_fabric("cpu", "fp32"), nested=True)


@pytest.fixture(scope="module")
def cases(small_phantom: Callable[..., Path]) -> tuple[Case, ...]:
    return Brats().cases(small_phantom(cases=5, size=24, sites=1, seed=2)).cases


def truth(case: Case) -> np.ndarray:
    return region_masks(read_labels(case.target, case.labels)[0], case, REGIONS)


def scheme(case: Case) -> LabelScheme:
    return LabelScheme.of(case.regions, REGIONS)


def test_subsets_are_all_but_none_and_begin_with_all() -> None:
    found = subsets(MODALITIES)
    assert found[0] == MODALITIES and len(found) == len(set(found)) == 7
    assert found[-3:] == [("flair",), ("t1",), ("t1ce",)]
    assert len(subsets(("flair", "t1", "t1ce", "t2"))) == 15


def test_missing_modalities_are_zero_throughout(cases) -> None:
    found = predictor()
    prepared = found.preprocessor(cases[0], with_target=False)
    before = prepared["image"].clone()
    scores = subset_dice(found, prepared, truth(cases[0]), scheme(cases[0]))
    assert torch.equal(prepared["image"], before)
    for kept in subsets(MODALITIES)[1:]:
        image = before * torch.tensor([name in kept for name in MODALITIES]).view(3, 1, 1, 1)
        masks = found.masks({**prepared, "image": image}, scheme(cases[0])).masks_LIJK
        for region, mask_IJK, truth_IJK in zip(scores, masks, truth(cases[0]), strict=True):
            total = mask_IJK.sum() + truth_IJK.sum()
            expected = 2 * (mask_IJK & truth_IJK).sum() / total if total else 1.0
            assert region[SUBSETS]["+".join(kept)] == pytest.approx(expected)
    assert len(scores[0][SUBSETS]) == 6


def test_nothing_missing_is_the_plain_evaluation_to_the_last_bit(cases) -> None:
    plain = score(predictor(), cases, QUIET, "")
    rows = score(predictor(), cases, QUIET, "", subset_dice)
    assert [{k: v for k, v in row.items() if k != SUBSETS} for row in rows] == plain
    found = summarise_subsets(rows, MODALITIES)
    assert list(found) == ["+".join(kept) for kept in subsets(MODALITIES)]
    summary = summarise(plain)
    for region in REGIONS:
        assert found["flair+t1+t1ce"][region] == summary[region]["dice"]
        own = [row[SUBSETS]["t1"] for row in rows if row["region"] == region]
        assert found["t1"][region]["mean"] == pytest.approx(np.mean(own))
        assert found["t1"][region]["n"] == 5


def test_each_case_is_prepared_once_for_all_subsets(cases) -> None:
    found = predictor()
    counting = Counting(found.preprocessor)
    score(replace(found, preprocessor=counting), cases, QUIET, "", subset_dice)
    assert sorted(counting.made) == sorted(case.id for case in cases)


def test_the_same_part_of_the_head_is_computed_whatever_is_missing() -> None:
    """A slab of t1 in a wider brain: without the others, t1's own box would be smaller."""
    image = torch.zeros(3, 40, 40, 40)
    image[:, 4:36, 6:34, 8:32] = torch.randn(3, 32, 28, 24)
    image[1, :, :, 20:] = 0
    seen: list[tuple[int, ...]] = []

    class Noting(Sum):
        def forward(self, batch_BCIJK: Tensor) -> Tensor:
            seen.append(tuple(batch_BCIJK.shape))
            return super().forward(batch_BCIJK)

    found = predictor(Noting())
    prepared = {"image": image, "placement": Placement((40,) * 3, (0,) * 3, (40,) * 3, *RAS)}
    outside = found.native_logits(prepared) == OUTSIDE
    every = LabelScheme.of({"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}, REGIONS)
    assert outside.any() and not outside[:, 4:36, 6:34, 8:32].any()
    subset_dice(found, prepared, np.zeros((3, 40, 40, 40), bool), every)
    assert len(seen) == 7 and len(set(seen)) == 1
    blanked = {**prepared, "image": image * torch.tensor([0, 1, 0]).view(3, 1, 1, 1)}
    own = found.native_logits(blanked) == OUTSIDE
    assert own[:, 4:36, 6:34, 20:32].all()
    same = found.native_logits({**blanked, "shown": shown(image)}) == OUTSIDE
    assert torch.equal(same, outside)


@pytest.mark.parametrize("name", ["unet", "unet2d-37"])
def test_networks_of_2_and_3_dimensions_are_scored(cases, name: str) -> None:
    network = load_catalog().networks[name].load()(in_channels=3, out_channels=3, width=2)
    found = replace(predictor(), network=network, patch_size=(32,) * network.spatial_dims)
    rows = score(found, cases[:1], QUIET, "", subset_dice)
    assert len(rows[0][SUBSETS]) == 6


def test_dice_alone_is_that_of_the_metrics(cases) -> None:
    masks = predictor().masks(predictor().preprocessor(cases[0]), scheme(cases[0])).masks_LIJK
    rows = score(predictor(), cases[:1], QUIET, "")
    for row, mask_IJK, truth_IJK in zip(rows, masks, truth(cases[0]), strict=True):
        assert mask_dice(mask_IJK, truth_IJK) == row["metrics"]["dice"]
    assert mask_dice(masks[0] & False, masks[0] & False) == 1.0


def test_table_says_what_the_network_was_trained_for() -> None:
    rows = [
        {
            "case": str(n),
            "patient": str(n),
            "region": region,
            "metrics": {"dice": 0.5 + n / 100},
            SUBSETS: {"flair": 0.3 + n / 100, "t1": 0.1},
        }
        for n in range(6)
        for region in REGIONS
    ]
    found = summarise_subsets(rows, ("flair", "t1"))
    missing = {
        "adapt": {"modality_dropout": 0.0, "dice": found},
        "robust": {"modality_dropout": 0.3, "dice": found},
    }
    table = missing_table(missing, synthetic=True)
    assert table.columns == ("stage", "modalities", "n", "WT Dice", "TC Dice", "ET Dice")
    assert [row[:3] for row in table.rows[:3]] == [
        ("adapt", "flair+t1", "6"),
        ("adapt", "flair", "6"),
        ("adapt", "t1", "6"),
    ]
    assert "synthetic phantom" in table.title
    assert "adapt: trained WITHOUT modality dropout" in table.notes[0]
    assert table.notes[1] == "robust: trained with modality dropout 0.3"
    assert "Student-t" in table.notes[-1]


def test_region_that_a_stage_does_not_score_has_no_cell() -> None:
    def rows(regions: tuple[str, ...], patients: int) -> list[dict[str, Any]]:
        return [
            {
                "case": str(n),
                "patient": str(n),
                "region": region,
                "metrics": {"dice": 0.5 + n / 100},
                SUBSETS: {"flair": 0.3 + n / 100},
            }
            for region in regions
            for n in range(patients if region == "ET" else 6)
        ]

    missing = {
        stage: {"modality_dropout": 0.0, "dice": summarise_subsets(own, ("flair", "t1"))}
        for stage, own in {"a": rows(("TC", "ET"), 5), "b": rows(("WT", "TC"), 6)}.items()
    }
    table = missing_table(missing, synthetic=False)
    assert table.columns == ("stage", "modalities", "n", "TC Dice", "ET Dice", "WT Dice")
    first, *_, last = table.rows
    assert (first[2], first[5], last[2], last[4]) == ("5-6", "-", "6", "-")
