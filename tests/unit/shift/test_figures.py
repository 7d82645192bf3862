"""Pictures of a shift: what their legends and axes say. Axes: N row, F feature, U unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from medtl.runtime import figure_style as canvas
from medtl.shift.contract import Rows
from medtl.shift.images.pool import Pooled
from medtl.shift.report.figures import _draw_densities, _draw_embedding

NAMES = ("resolution/width_k", "scale/p01", "thumbnail/3")


def pooled(sides: dict[str, bool], patients: int = 6) -> Pooled:
    """Every patient's image of each modality, one row each; True: in the source."""
    modality_U = tuple(sides) * patients
    units = np.arange(len(modality_U))
    values_NF = np.random.default_rng(0).normal(size=(len(units), len(NAMES)))
    rows = Rows(values_NF, NAMES, units, units // len(sides))
    source_U = np.array([sides[name] for name in modality_U])
    nothing = ("",) * len(units)
    return Pooled(rows, source_U, ~source_U, modality_U, nothing, tuple(map(str, range(patients))))


def embedding(path: Path, sample: Pooled, ends: tuple[str, str]) -> Figure:
    points_N2 = sample.rows.values_NF[:, :2]
    chosen_N = np.arange(len(points_N2))
    return _draw_embedding(path, "PCA", points_N2, chosen_N, sample, "texture", ends, False)


def legend(figure: Figure) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].texts]


def test_colours_are_sides_and_markers_modalities(tmp_path: Path) -> None:
    sample = pooled({"flair": True, "t1": False, "t1ce": True, "t2": False})
    figure = embedding(tmp_path / "a.png", sample, ("flair+t1ce", "t1+t2"))
    assert legend(figure) == [
        "flair+t1ce (source)", "t1+t2 (target)", "flair", "t1", "t1ce", "t2",
        "to the mean of a patient's points",
    ]  # fmt: skip
    drawn = [each for each in figure.axes[0].collections if isinstance(each, PathCollection)]
    assert sum(len(each.get_offsets()) for each in drawn) == 24


def test_where_lines_meet_there_is_a_mark(tmp_path: Path) -> None:
    sample = pooled({"flair": True, "t1": False})
    figure = embedding(tmp_path / "a.png", sample, ("flair", "t1"))
    assert legend(figure)[:2] == ["flair (source)", "t1 (target)"] and len(legend(figure)) == 3
    marks = [line.get_xydata()[0] for line in figure.axes[0].lines if line.get_marker() == "."]
    means_N2 = sample.rows.values_NF[:, :2].reshape(6, 2, 2).mean(axis=1)
    np.testing.assert_allclose(marks, means_N2)
    alone = pooled({"flair": True})
    assert legend(embedding(tmp_path / "b.png", alone, ("flair", "t1"))) == ["flair (source)"]


def test_densities_have_axes_and_words(tmp_path: Path) -> None:
    sample = pooled({"flair": True, "t1": False})
    figure = _draw_densities(tmp_path / "a.png", sample, "texture", ("flair", "t1"), False)
    assert {axes.get_title() for axes in figure.axes} == {
        "width of details, foot-head\n(resolution/width_k)",
        "1st percentile of intensity\n(scale/p01)",
        "thumbnail/3",
    }
    assert all(axes.get_xlabel() == "standard deviations from the mean" for axes in figure.axes)
    assert figure.axes[0].get_ylabel() == "density"
    with canvas.styled():
        figure.draw_without_rendering()
        low = min(axes.xaxis.label.get_window_extent().y0 for axes in figure.axes)
        assert figure.legends[0].get_window_extent().y1 < low
