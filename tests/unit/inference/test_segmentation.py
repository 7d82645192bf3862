"""From a trained network to masks, label maps and scores.

Axes: B batch, C modality, L region, I J K voxels.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bright import FREE, REGIONS, predictor
from rich.console import Console
from torch import Tensor

from medtl.data.case import Case, Cohort
from medtl.data.io.geometry import to_canonical
from medtl.data.io.nifti import read_header
from medtl.data.label_scheme import LabelScheme
from medtl.errors import DataError, RunError
from medtl.evaluation.evaluate import pick_cases
from medtl.evaluation.segmentation import score
from medtl.inference.segmentation import OUTSIDE, least_component_ml, prepared_dice
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Reporter
from medtl.runtime.run_folder import Run
from medtl_brats.task import Brats


def reporter() -> tuple[Reporter, io.StringIO]:
    stream = io.StringIO()
    return Reporter(console=Console(file=stream, soft_wrap=True, highlight=False)), stream


@pytest.fixture(scope="module")
def cases(small_phantom: Callable[..., Path]) -> tuple[Case, ...]:
    return Brats().cases(small_phantom(cases=2, size=24, sites=1, seed=2)).cases


def test_masks_lie_in_the_native_grid_where_the_network_says(cases) -> None:
    found = predictor(nested=False)
    prepared = found.preprocessor(cases[0])
    masks = found.masks(prepared, FREE).masks_LIJK
    assert masks.shape == (3, 24, 24, 24) and masks.dtype == bool
    affine = read_header(cases[0].images["flair"]).affine
    box = tuple(
        slice(a, a + n)
        for a, n in zip(prepared["placement"].start, prepared["placement"].size, strict=True)
    )
    for mask, threshold in zip(masks, (0.5, 0.0, 1.0), strict=True):
        expected = np.zeros((24, 24, 24), bool)
        expected[box] = prepared["image"][0].numpy() > threshold
        np.testing.assert_array_equal(to_canonical(mask, affine)[0], expected)
    logits = found.native_logits(prepared).numpy()
    assert (logits[:, 0, 0, 0] == OUTSIDE).all()


def test_nested_regions_never_leave_the_region_that_holds_them(cases) -> None:
    prepared = predictor().preprocessor(cases[0])
    loose, nested = (
        predictor(nested=own).masks(prepared, FREE).masks_LIJK for own in (False, True)
    )
    assert (loose[1] & ~loose[0]).any()
    assert not (nested[1] & ~nested[0]).any() and not (nested[2] & ~nested[1]).any()
    np.testing.assert_array_equal(nested[0], loose[0])


def test_specks_below_a_volume_are_put_out_in_every_region() -> None:
    image = torch.full((2, 12, 12, 12), -5.0)
    image[:, 1, 1, 1] = 5
    image[:, 5:8, 5:8, 5:8] = 5  # 27 voxels of 0.42 ml
    kept = replace(predictor(), min_component_ml=11.0).prepared_logits(image)
    none = replace(predictor(), min_component_ml=12.0).prepared_logits(image)
    untouched = predictor().prepared_logits(image)
    assert [int((logits > 0).sum()) for logits in (untouched, kept, none)] == [84, 81, 0]
    assert (kept[:, 1, 1, 1] == OUTSIDE).all()
    torch.testing.assert_close(kept[:, 5:8, 5:8, 5:8], untouched[:, 5:8, 5:8, 5:8])


def speck_case(*, lesions: tuple[int, ...], specks: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Bars of so many voxels: lesions are true and predicted, specks predicted only."""
    image = torch.full((2, 32, 32, 32), -5.0)
    target = torch.zeros((3, 32, 32, 32), dtype=torch.uint8)
    for row, (voxels, true) in enumerate(
        [(n, 1) for n in lesions] + [(n, 0) for n in specks],
    ):
        image[:, 2 * row, 0, :voxels] = 5
        target[:, 2 * row, 0, :voxels] = true
    return {"image": image, "target": target}


@pytest.mark.parametrize(
    ("validation", "voxels"),
    [
        ([speck_case(lesions=(30,), specks=(3,))], 6),  # 4 or 6 drop the speck: equals, largest
        ([speck_case(lesions=(30,), specks=(3,)), speck_case(lesions=(5,))], 4),
        ([speck_case(lesions=(30, 1))], 0),  # a true lesion of one voxel: .016 of Dice
        ([speck_case(lesions=(30, 30, 30, 30, 1))], 6),  # .005, which is little
        ([speck_case(lesions=(30,))], 6),  # costs nothing
        ([], 0),
    ],
)
def test_specks_are_what_validation_patients_can_do_without(
    validation: list[dict[str, Tensor]], voxels: int
) -> None:
    found = predictor(thresholds=(0.0, 0.0, 0.0))
    train = [speck_case(lesions=(20,)), speck_case(lesions=()), speck_case(lesions=(25,))]
    assert least_component_ml(found, train, validation) == pytest.approx(voxels * found.voxel_ml)
    loose = replace(found, nested=False)
    assert least_component_ml(loose, train, validation) == 0
    assert least_component_ml(found, [speck_case(lesions=())], validation) == 0


def hidden(case: dict[str, Tensor], *, rows: slice, regions: slice) -> dict[str, Tensor]:
    """The case without labels in these rows of these regions."""
    unknown = torch.zeros_like(case["target"])
    unknown[regions, rows] = 1
    return {**case, "unknown": unknown}


def test_dice_of_a_prepared_case_is_that_of_what_is_known() -> None:
    case = speck_case(lesions=(30,), specks=(10,))
    predicted = case["image"][:1].expand(3, -1, -1, -1) > 0
    assert prepared_dice(predicted, case).tolist() == pytest.approx([60 / 70] * 3)
    known = hidden(case, rows=slice(2, None), regions=slice(0, 2))  # the speck is not known
    assert prepared_dice(predicted, known).tolist() == pytest.approx([1, 1, 60 / 70])
    nothing = hidden(case, rows=slice(None), regions=slice(1, 2))
    found = prepared_dice(predicted, nothing)
    assert found.isnan().tolist() == [False, True, False]


def test_patients_in_whom_nobody_looked_choose_no_specks() -> None:
    found = predictor(thresholds=(0.0, 0.0, 0.0))
    train = [speck_case(lesions=(20,))]
    validation = [speck_case(lesions=(30,), specks=(3,)), speck_case(lesions=(5,))]
    whole = hidden(validation[1], rows=slice(None), regions=slice(0, 1))
    assert least_component_ml(found, train, validation) == pytest.approx(4 * found.voxel_ml)
    both = least_component_ml(found, train, [validation[0], whole])
    assert both == pytest.approx(6 * found.voxel_ml)


def test_validation_dice_is_the_mean_over_cases_and_counts_empty_ones(cases) -> None:
    found = predictor()
    prepared = [found.preprocessor(case) for case in cases]
    empty = {"image": prepared[0]["image"] * 0 - 5, "target": prepared[0]["target"] * 0}
    scores = found.validate([*prepared, empty], [*cases, cases[0]])
    for index, (region, threshold) in enumerate(zip(REGIONS, (0.5, 0.0, 1.0), strict=True)):
        dice = [1.0]
        for case in prepared:
            # The second region lies within the first, whose threshold is higher.
            guess = case["image"][0].numpy() > max(threshold, 0.5)
            truth = case["target"][index].numpy() > 0
            total = guess.sum() + truth.sum()
            dice.append(2 * (guess & truth).sum() / total)
        assert scores[region] == pytest.approx(np.mean(dice), abs=1e-6)


def test_rows_name_case_and_patient_and_progress_is_plain(cases) -> None:
    told, stream = reporter()
    rows = score(predictor(), cases, told, "scoring source")
    assert [(row["case"], row["region"]) for row in rows] == [
        (case.id, region) for case in cases for region in REGIONS
    ]
    assert all(row["patient"] == row["case"] for row in rows)
    assert stream.getvalue().startswith("scoring source: 2/2 in ")


def test_network_of_one_patch_size_runs_on_any_volume(cases) -> None:
    builder = load_catalog().networks["unetr"].load()
    network = builder(in_channels=2, out_channels=3, width=12, patch_size=(32, 32, 32))
    found = replace(predictor(), network=network)
    assert found.masks(found.preprocessor(cases[0]), FREE).masks_LIJK.shape == (3, 24, 24, 24)


def test_brain_smaller_than_the_coarsest_level_is_padded(cases) -> None:
    network = load_catalog().networks["unet"].load()(in_channels=2, out_channels=3, width=4)
    found = replace(predictor(), network=network)
    assert found.prepared_logits(torch.randn(2, 9, 12, 7)).shape == (3, 9, 12, 7)


def test_flat_network_sees_slices() -> None:
    torch.manual_seed(0)
    builder = load_catalog().networks["unet2d-37"].load()
    network = builder(in_channels=2, out_channels=3, width=2)
    found = replace(predictor(), network=network, patch_size=(32, 32))
    image = torch.randn(2, 20, 24, 3)
    logits = found.prepared_logits(image)
    assert logits.shape == (3, 20, 24, 3)
    alone = found.prepared_logits(image[..., 1:2])
    torch.testing.assert_close(alone, logits[..., 1:2], rtol=1e-4, atol=1e-4)


def test_painted_labels_read_back_as_the_masks() -> None:
    random = np.random.default_rng(0)
    whole = random.random((6, 6, 6)) > 0.3
    core = whole & (random.random(whole.shape) > 0.3)
    masks = np.stack([whole, core, core & (random.random(whole.shape) > 0.3)])
    schemes = (
        {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)},
        {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)},
        {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)},
    )
    for values in schemes:
        label = LabelScheme.of(values, REGIONS).paint(masks)
        assert label.dtype == np.uint8
        for region, mask in zip(REGIONS, masks, strict=True):
            np.testing.assert_array_equal(np.isin(label, values[region]), mask)


def test_locked_test_cases_are_picked_where_the_cohort_has_them(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_json("splits.json", [{"train": ["a"], "val": [], "test": ["b", "c"]}])
    own = Cohort(tmp_path, tuple(Case(name, name, {}) for name in "abc"))
    other = Cohort(tmp_path, tuple(Case(name, name, {}) for name in "xy"))
    reporter = Reporter(silent=True)

    def picked(cohort: Cohort, wanted: str) -> str:
        return "".join(case.id for case in pick_cases(cohort, run, wanted, reporter))

    assert picked(own, "test") == "bc" and not reporter.warnings
    assert picked(own, "all") == "abc"
    assert picked(other, "all") == "xy"
    with pytest.raises(DataError, match="--cases all"):
        picked(other, "test")
    assert picked(replace(own, cases=own.cases[:2]), "test") == "b"
    (lost,) = reporter.warnings
    assert lost == (
        f"1 of 2 test cases of run {tmp_path} are not in {tmp_path}, so they are left out: c"
    )


def test_damaged_splits_are_one_clear_error(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_json("splits.json", {"train": []})
    with pytest.raises(RunError, match=r"splits\.json"):
        pick_cases(Cohort(tmp_path, ()), run, "test", Reporter(silent=True))
