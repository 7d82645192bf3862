"""Figures of classifications. Each function writes a PNG and returns the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medtl.evaluation.class_metrics import Row, truth_and_probability
from medtl.evaluation.roc import curves
from medtl.evaluation.tables import score_cell
from medtl.runtime.figure_style import BLUE, GREY, colours, new_grid, save, styled


def confusion_matrix(
    path: Path, stage: str, found: Mapping[str, Any], *, synthetic: bool
) -> Figure:
    """Cases by true class (rows) and predicted class (columns), shaded by the share of their row.

    Args:
        found: what :func:`medtl.evaluation.class_metrics.confusion` returned.
    """
    classes, cases = found["classes"], np.array(found["cases"])
    shares = cases / np.maximum(cases.sum(axis=1, keepdims=True), 1)
    edge = 1.8 + 0.7 * len(classes)
    with styled():
        figure, [[axis]] = new_grid(1, 1, (edge + 0.9, edge))
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(cases):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{count}\n{shares[row, column]:.0%}"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        axis.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
        axis.set_yticks(range(len(classes)), classes)
        axis.set_xlabel("predicted")
        axis.set_ylabel("truth")
        axis.spines[:].set_visible(False)
        title = f"{stage}: test cases by class (n = {cases.sum()})"
        return save(figure, path, title, synthetic)


def ranking_curves(
    path: Path,
    stage: str,
    rows: Sequence[Row],
    summary: Mapping[str, Mapping[str, Any]],
    *,
    synthetic: bool,
) -> Figure:
    """ROC and precision-recall curve of each class against the rest, over cases.

    Args:
        rows: one per case, see :mod:`medtl.evaluation.class_metrics`.
        summary: of these rows, by :func:`medtl.evaluation.class_metrics.summarise_classes`.
    """
    truth_N, probability_NL = truth_and_probability(rows)
    classes = list(rows[0]["probability"])
    with styled():
        legend = 0.12 + 0.16 * len(classes)  # inches
        figure, grid = new_grid(2, 2, (8.2, 4.9 + legend), height_ratios=(4.4, legend))
        (roc, recall), names = grid
        roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for index, (name, colour) in enumerate(colours(classes).items()):
            is_N = (truth_N == index).astype(np.float64)
            if not 0 < is_N.sum() < len(is_N):
                continue
            found = curves(is_N, probability_NL[:, index])
            area, precision = (score_cell(m, summary[name][m]) for m in ("auroc", "auprc"))
            sensitivity, alarms = (np.r_[0, found[key]] for key in ("sensitivity", "false_alarms"))
            roc.plot(alarms, sensitivity, color=colour, label=f"{name}: {area}")
            label = f"{name}: {precision}, guessing {is_N.mean():.2f}"
            heights = np.r_[found["precision"][0], found["precision"]]
            recall.step(sensitivity, heights, color=colour, label=label)
        _unit_square(roc, names[0], "1 - specificity", "sensitivity", "ROC: area")
        title = "Precision and recall: area"
        _unit_square(recall, names[1], "sensitivity (recall)", "precision", title)
        return save(figure, path, f"{stage}: each class against the rest", synthetic)


def _unit_square(axis: Axes, names: Axes, across: str, up: str, title: str) -> None:
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=across, ylabel=up, title=title)
    axis.set_box_aspect(1)
    axis.grid(True)
    names.legend(*axis.get_legend_handles_labels(), loc="upper center", fontsize=7)
    names.set_axis_off()


def reliability_diagram(
    path: Path, stage: str, found: Mapping[str, Any], after: Mapping[str, Any], *, synthetic: bool
) -> Figure:
    """Accuracy of the likeliest class by its probability, before and after the temperature.

    Args:
        found: what :func:`medtl.evaluation.class_metrics.calibrated` returned.
        after: the scores of all classes; ``ece`` is shown.
    """
    sides = (
        ("as the network says", found["reliability_uncalibrated"], found["uncalibrated"]["ece"]),
        (f"temperature {found['temperature']:.3g}", found["reliability"], after["ece"]),
    )
    with styled():
        figure, axes = new_grid(2, 2, (7.2, 4.9), sharex=True, height_ratios=(3, 1))
        for (above, below), (title, bins, ece) in zip(zip(*axes, strict=True), sides, strict=True):
            edges = np.array([each["low"] for each in bins])
            sure, right, cases = (
                np.array([each[key] for each in bins])
                for key in ("confidence", "accuracy", "cases")
            )
            width = bins[0]["high"] - bins[0]["low"]
            above.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
            above.plot(sure, right, "o-", color=BLUE, markersize=4)
            above.set(title=f"{title}: ECE {score_cell('ece', ece)}", ylim=(-0.02, 1.02))
            above.grid(True)
            below.bar(edges, cases, width, align="edge", color=BLUE, alpha=0.5)
            below.set(xlabel="probability of the likeliest class", xlim=(0, 1))
        axes[0][0].set_ylabel("share that is right")
        axes[1][0].set_ylabel("cases")
        total = sum(each["cases"] for each in found["reliability"])
        return save(figure, path, f"{stage}: calibration on test cases (n = {total})", synthetic)
