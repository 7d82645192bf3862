"""Axes: C modality, L region, I J K voxels; pictures are YX and RGB."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform
from PIL import Image
from terminal import run_python

from medtl.data.case import Case
from medtl.data.splits import Split
from medtl.errors import RunError
from medtl.evaluation.figures import loss_curves, split_sizes, stage_scores
from medtl.evaluation.metrics import BOUNDS, summarise
from medtl.evaluation.montage import PICTURE_AXES, _slices, montage, to_lps
from medtl.evaluation.results import median_case, sizes_by_stratum
from medtl.inference.task_types import CLASSIFICATION
from medtl.runtime import figure_style as canvas

SIZE = (24, 30, 12)


def ball(centre, radius) -> np.ndarray:
    axes = np.ogrid[: SIZE[0], : SIZE[1], : SIZE[2]]
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2


def head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two modalities: the tumour is bright in the first, its core in the second."""
    brain, tumour, core = ball((12, 15, 5), 11), ball((15, 12, 6), 5), ball((15, 12, 6), 2.5)
    noise = np.random.default_rng(0).normal(0, 0.1, (2, *SIZE))
    image_CIJK = brain * (np.stack([1 + 2.0 * tumour, 1 + 2.0 * core]) + noise)
    prediction_LIJK = np.stack([ball((14, 12, 6), 5), ball((15, 13, 6), 2.5)])
    return image_CIJK, np.stack([tumour, core]), prediction_LIJK


def draw_montage(path, *, synthetic=False, spacing_mm=(1, 1, 2), axes="LPS", arrays=None):
    image_CIJK, truth_LIJK, prediction_LIJK = arrays or head()
    return montage(
        path, image_CIJK, ["flair", "t1ce"], truth_LIJK, prediction_LIJK, ["WT", "TC"],
        "case 7", spacing_mm, axes=axes, synthetic=synthetic,
    )  # fmt: skip


def rows(n: int) -> dict[str, list[dict]]:
    draw = np.random.default_rng(0).random
    return {
        stage: [
            {"case": f"c{i}", "patient": f"p{i}", "region": region,
             "metrics": {metric: float(draw()) for metric in BOUNDS}}
            for i in range(n) for region in ("WT", "TC")
        ]
        for stage in ("source", "adapt")
    }  # fmt: skip


def values(n: int, metric: str) -> list[float]:
    return sorted(row["metrics"][metric] for stage in rows(n).values() for row in stage)


def draw_scores(path, *, synthetic=False, n=24, metric="dice"):
    summary = {stage: summarise(found) for stage, found in rows(n).items()}
    return stage_scores(path, summary, rows(n), metric=metric, synthetic=synthetic)


def draw_curves(path, *, synthetic=False):
    lines = [{"step": step, "loss": 1 / step, "rate_scale": 1.0} for step in range(1, 41)]
    validated = [
        {**line, "validation": {"WT": 0.5, "TC": 0.25}} if line["step"] % 10 == 0 else line
        for line in lines
    ]
    return loss_curves(path, {"source": validated, "adapt": lines}, synthetic=synthetic)


def draw_split(path, *, synthetic=False):
    sizes = {"train": {"enhancing": 3, "none": 2}, "val": {}, "test": {"enhancing": 1}}
    return split_sizes(path, sizes, synthetic=synthetic)


FIGURES = [draw_montage, draw_scores, draw_curves, draw_split]


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=int)


def share_of(colour: str, picture: np.ndarray) -> float:
    near = np.abs(picture - np.array(to_rgb(colour)) * 255).max(axis=-1) < 12
    return float(near.mean())


@pytest.mark.parametrize("draw", FIGURES)
def test_figures_repeat_byte_for_byte(draw, tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert "Software" not in Image.open(tmp_path / "a.png").info


@pytest.mark.parametrize("draw", FIGURES)
def test_figures_of_synthetic_data_say_so(draw, tmp_path):
    synthetic, real = (
        draw(tmp_path / f"{flag}.png", synthetic=flag).get_suptitle() for flag in (True, False)
    )
    assert synthetic == f"{real}\nsynthetic phantom"
    assert Image.open(tmp_path / "True.png").info["Description"] == "synthetic phantom"
    assert "Description" not in Image.open(tmp_path / "False.png").info


def test_split_sizes_state_every_total(tmp_path):
    words = {text.get_text() for text in draw_split(tmp_path / "a.png").findobj(Text)}
    assert {"train", "val", "test", "5", "0", "1", "enhancing", "none"} <= words


def test_figures_leave_matplotlib_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    draw_curves(tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before


def test_figures_need_no_display_and_no_pyplot():
    code = "import sys, medtl.evaluation.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    run_python("-c", code, code=0)


def test_a_figure_that_has_no_place_says_so_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"a\.png: cannot be written"):
        draw_split(tmp_path / "file" / "a.png")


def test_montage_shows_the_slice_with_most_tumour_between_two_others():
    mask_IJK = np.zeros((4, 4, 20), bool)
    mask_IJK[:2, :2, 5:15] = True
    mask_IJK[:3, :3, 9] = True
    below, largest, above = _slices(mask_IJK)
    assert 5 <= below < largest == 9 < above <= 14


@pytest.mark.parametrize("k", [0, 19])
def test_montage_stays_within_the_volume(k):
    mask_IJK = np.zeros((4, 4, 20), bool)
    mask_IJK[1, 1, k] = True
    assert _slices(mask_IJK) == ([0, 1] if k == 0 else [18, 19])


def test_montage_draws_truth_and_prediction_in_their_colours(tmp_path):
    image_CIJK, truth_LIJK, prediction_LIJK = head()
    nothing_LIJK = np.zeros_like(truth_LIJK)
    draw_montage(tmp_path / "both.png")
    draw_montage(tmp_path / "missed.png", arrays=(image_CIJK, truth_LIJK, nothing_LIJK))
    draw_montage(tmp_path / "invented.png", arrays=(image_CIJK, nothing_LIJK, prediction_LIJK))
    blue = {name: share_of(canvas.SKY, pixels(tmp_path / f"{name}.png"))
            for name in ("both", "missed", "invented")}  # fmt: skip
    orange = {name: share_of(canvas.ORANGE, pixels(tmp_path / f"{name}.png"))
              for name in ("both", "missed", "invented")}  # fmt: skip
    assert min(blue["both"], blue["missed"]) > 5 * blue["invented"]  # there, the legend's line
    assert min(orange["both"], orange["invented"]) > 5 * orange["missed"]


@pytest.mark.parametrize("axes", ["RAS", "LAS", "PLI", "SRA"])
def test_montage_is_the_same_picture_in_any_orientation(axes, tmp_path):
    turn = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(axes))
    turned = tuple(
        np.stack([apply_orientation(array_IJK, turn) for array_IJK in array_xIJK])
        for array_xIJK in head()
    )
    spacing_mm = [0.0, 0.0, 0.0]
    for source, target in enumerate(turn[:, 0].astype(int)):
        spacing_mm[target] = (1, 1.2, 2)[source]
    draw_montage(tmp_path / "lps.png", spacing_mm=(1, 1.2, 2))
    draw_montage(tmp_path / "turned.png", spacing_mm=spacing_mm, axes=axes, arrays=turned)
    same = pixels(tmp_path / "lps.png"), pixels(tmp_path / "turned.png")
    assert same[0].shape == same[1].shape
    differing = (np.abs(same[0] - same[1]).max(axis=-1) > 60).mean()
    assert differing < 0.002  # slice numbers are those of the file


def test_picture_is_shown_as_it_is_stored():
    picture_IJK = np.arange(12.0).reshape(3, 4, 1)
    shown_JI = to_lps(picture_IJK[None], PICTURE_AXES)[0, ..., 0].T  # as montage turns it
    np.testing.assert_array_equal(shown_JI, picture_IJK[..., 0])


@pytest.mark.parametrize("empty", ["tumour", "everything"])
def test_montage_copes_with_nothing_to_show(empty, tmp_path):
    image_CIJK, truth_LIJK, _ = head()
    nothing_LIJK = np.zeros_like(truth_LIJK)
    image_CIJK = image_CIJK if empty == "tumour" else np.zeros_like(image_CIJK)
    draw_montage(tmp_path / "a.png", arrays=(image_CIJK, nothing_LIJK, nothing_LIJK))
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_montage_shows_air_black_whatever_its_value(tmp_path):
    image_CIJK, truth_LIJK, prediction_LIJK = head()
    shifted = np.where(image_CIJK == 0, -7.0, image_CIJK)
    draw_montage(tmp_path / "zero.png")
    draw_montage(tmp_path / "negative.png", arrays=(shifted, truth_LIJK, prediction_LIJK))
    assert (pixels(tmp_path / "zero.png") == pixels(tmp_path / "negative.png")).all()


@pytest.mark.parametrize("n", [2, 24])
def test_distances_are_drawn_from_zero(n, tmp_path):
    figure = draw_scores(tmp_path / "a.png", n=n, metric="hd95_mm")
    low, high = figure.axes[0].get_xlim()
    assert low < 0
    assert high >= max(values(n, "hd95_mm"))


def test_every_patient_is_a_dot(tmp_path):
    figure = draw_scores(tmp_path / "a.png", n=24)
    drawn = [x for dots in figure.findobj(PathCollection) for x, _ in dots.get_offsets()]
    assert sorted(drawn) == pytest.approx(values(24, "dice"))


@pytest.mark.parametrize(("n", "words"), [(2, "no interval  n=2"), (24, "]  n=24")])
def test_every_mean_stands_with_n_and_interval(n, words, tmp_path):
    figure = draw_scores(tmp_path / "a.png", n=n)
    found = [text.get_text() for text in figure.findobj(Text) if words in text.get_text()]
    assert len(found) == 2 * 2  # stages x regions


def test_curves_of_a_stage_without_validation_or_steps_are_drawn(tmp_path):
    loss_curves(tmp_path / "a.png", {"norm": []}, synthetic=False)
    loss_curves(tmp_path / "b.png", {"one": [{"step": 1, "loss": 2.0}]}, synthetic=False)


def test_steps_of_a_long_run_do_not_run_into_each_other(tmp_path):
    lines = [{"step": step, "loss": 1.0, "validation": {"WT": 0.5}} for step in (300, 240_000)]
    figure = loss_curves(tmp_path / "a.png", dict.fromkeys("abcde", lines), synthetic=False)
    with canvas.styled():
        figure.draw_without_rendering()
        labels = [
            label.get_window_extent()
            for axis in figure.axes[-5:]
            for label, place in zip(axis.get_xticklabels(), axis.get_xticks(), strict=True)
            if axis.get_xlim()[0] <= place <= axis.get_xlim()[1]
        ]
    assert len(labels) >= 15
    assert all(left.x1 + 2 < right.x0 for left, right in pairwise(labels))


def test_curves_of_classes_say_what_is_validated(tmp_path):
    measure = CLASSIFICATION.selected_by
    lines = [{"step": 1, "loss": 2.0, "validation": {"a": 0.5}}]
    figure = loss_curves(tmp_path / "a.png", {"one": lines}, measure=measure, synthetic=False)
    (label,) = {axis.get_ylabel() for axis in figure.axes} - {"training loss", ""}
    assert label.replace("\n", " ") == f"validation {measure}: mean probability of the true class"
    axis = next(axis for axis in figure.axes if axis.get_ylabel() == label)
    with canvas.styled():
        figure.draw_without_rendering()
        edge = axis.get_window_extent().height
        assert axis.yaxis.label.get_window_extent().height < 1.2 * edge


def test_long_title_of_a_narrow_figure_is_not_cut_off(tmp_path):
    image = np.ones((1, 8, 8, 1))
    title = "scratch: TCGA_DU_7014_19990101_13, tumor Dice 0.00 (median test case)"
    nothing = np.zeros_like(image, bool)
    figure = montage(
        tmp_path / "a.png", image, ["flair"], nothing, nothing, ["tumor"], title, (1, 1, 1),
        axes=PICTURE_AXES, synthetic=True,
    )  # fmt: skip
    with canvas.styled():
        figure.draw_without_rendering()
        box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert figure.get_suptitle().replace("\n", " ") == f"{title} synthetic phantom"


@pytest.mark.parametrize(("truth", "told"), [(True, {"truth", "prediction"}), (False, set())])
def test_montage_lists_no_truth_that_no_slice_shows(truth, told, tmp_path):
    image_CIJK, truth_LIJK, prediction_LIJK = head()
    masks = truth_LIJK & truth, prediction_LIJK & truth
    figure = draw_montage(tmp_path / "a.png", arrays=(image_CIJK, *masks))
    assert {text.get_text() for legend in figure.legends for text in legend.texts} == told
    words = {text.get_text() for text in figure.findobj(Text)}
    assert ("no WT in the truth\nnone predicted" in words) is not truth


def test_example_is_the_median_of_the_cases_that_have_the_region() -> None:
    rows = [
        {"case": f"c{n}", "region": region, "metrics": {"dice": n / 10, "truth_ml": 1.0 * (n > 5)}}
        for n in range(9)
        for region in ("tumor", "core")
    ]
    assert median_case(rows, "tumor") == (0.7, "c7", "test cases with tumor")
    assert median_case(rows[:8], "tumor") == (0.2, "c2", "test cases, none with tumor")


def test_patient_with_cases_of_two_classes_is_counted_under_both() -> None:
    cases = [
        Case("a1", "a", {}, stratum="tumor"), Case("a2", "a", {}, stratum="no_tumor"),
        Case("b1", "b", {}, stratum="tumor"), Case("c1", "c", {}),
    ]  # fmt: skip
    assert sizes_by_stratum(Split(("a", "b"), (), ("c",)), cases) == {
        "train": {"no_tumor+tumor": 1, "tumor": 1}, "val": {}, "test": {"none": 1},
    }  # fmt: skip
    nameless = [Case("a1", "a", {}), Case("b1", "b", {}), Case("c1", "c", {})]
    assert sizes_by_stratum(Split(("a", "b"), (), ("c",)), nameless) == {
        "train": {"all": 2}, "val": {}, "test": {"all": 1},
    }  # fmt: skip


def test_region_that_a_stage_does_not_score_is_left_out_of_its_row(tmp_path: Path) -> None:
    own = rows(6)
    first = next(iter(own))
    region = own[first][0]["region"]
    own[first] = [row for row in own[first] if row["region"] != region]
    summary = {stage: summarise(found) for stage, found in own.items()}
    figure = stage_scores(tmp_path / "scores.png", summary, own, synthetic=False)
    diamonds = {
        axis.get_title(): sum(line.get_marker() == "D" for line in axis.lines)
        for axis in figure.axes
    }
    assert diamonds.pop(region) == len(own) - 1
    assert set(diamonds.values()) == {len(own)}
