"""Figures of a run: learning curves, split sizes and scores.

Each function writes a PNG and returns the figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medtl.evaluation.intervals import patient_means
from medtl.evaluation.metrics import BOUNDS, Row, scores_by_patient
from medtl.evaluation.tables import LABELS, Summary, score_cell
from medtl.runtime.figure_style import GREY, colours, new_grid, save, styled

#: Explanations of validation measures.
MEANING = {"soft balanced accuracy": "soft balanced accuracy: mean probability of the true class"}


#: Width of a step's label of up to six digits.
_TICK_INCHES = 0.6


#: Characters that fit along an axis of the learning curves.
_LINE = 26


def loss_curves(
    path: Path,
    rows_by_stage: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    measure: str = "Dice",
    synthetic: bool,
) -> Figure:
    """Training loss per step above, validation scores below, one column per stage.

    Args:
        rows_by_stage: the rows of each stage's ``metrics.jsonl``: ``step``, ``loss`` and, where
            the stage was validated, ``validation`` (region, or class, to score).
        measure: what that score is.
    """
    validated = [row.get("validation", {}) for rows in rows_by_stage.values() for row in rows]
    regions = list(dict.fromkeys(region for found in validated for region in found))
    colour = colours(regions)
    stages = len(rows_by_stage)
    with styled():
        size_inches = (1.2 + 2.4 * max(stages, 2), 4.6)
        figure, axes = new_grid(2, stages, size_inches, sharex="col", sharey="row")
        for column, (stage, rows) in enumerate(rows_by_stage.items()):
            _loss(axes[0][column], stage, rows)
            _validation(axes[1][column], rows, colour)
            most = max(2, int(size_inches[0] / stages / _TICK_INCHES))
            axes[1][column].xaxis.set_major_locator(MaxNLocator(min(most, 8), integer=True))
        axes[0][0].set_ylabel("training loss")
        meaning = f"validation {MEANING.get(measure, measure)}"
        axes[1][0].set_ylabel("\n".join(wrap(meaning, _LINE)))
        if all(0 <= score <= 1 for found in validated for score in found.values()):
            axes[1][0].set_ylim(-0.02, 1.02)
        if regions:
            handles = _handles(axes[1])
            figure.legend(
                handles.values(), list(handles), loc="outside lower center", ncols=len(handles)
            )
        return save(figure, path, "Learning curves", synthetic)


def _loss(axis: Axes, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
    trained = [row for row in rows if "loss" in row]
    steps = np.array([row["step"] for row in trained])
    loss = np.array([row["loss"] for row in trained])
    axis.plot(steps, loss, color="#BDBDBD", linewidth=0.7)
    axis.plot(*_smoothed(steps, loss), color="black", linewidth=1.4)
    axis.set_title(stage)
    axis.grid(True)
    axis.set_ylim(bottom=0)


def _smoothed(
    steps: NDArray[Any], values: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Running mean over a twentieth of the steps, drawn at the middle of each window."""
    width = max(1, len(values) // 20)
    if not len(values):
        return steps, values
    means = np.convolve(values, np.full(width, 1 / width), mode="valid")
    return steps[(width - 1) // 2 :][: len(means)], means


def _validation(axis: Axes, rows: Sequence[Mapping[str, Any]], colour: Mapping[str, str]) -> None:
    validated = [row for row in rows if row.get("validation")]
    for region, shade in colour.items():
        own = [row for row in validated if region in row["validation"]]
        if own:
            points = [row["step"] for row in own], [row["validation"][region] for row in own]
            axis.plot(*points, "o-", color=shade, markersize=3.5, linewidth=1.2, label=region)
    if not validated:
        axis.text(0.5, 0.5, "not validated", ha="center", color=GREY, transform=axis.transAxes)
    axis.set_xlabel("step")
    axis.grid(True)


def _handles(axes: Sequence[Axes]) -> dict[str, Any]:
    """A line for the legend by its name."""
    found = [zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes]
    return {name: handle for pairs in found for handle, name in pairs}


def split_sizes(
    path: Path,
    sizes: Mapping[str, Mapping[str, int]],
    *,
    synthetic: bool,
    counted: str = "patients",
) -> Figure:
    """Patients (or what is ``counted`` for them) per part of a split and stratum:
    ``{"train": {"enhancing": 40}, ...}``."""
    names = sorted(set().union(*sizes.values()))
    colour = colours(names)
    totals = {part: sum(counts.values()) for part, counts in sizes.items()}
    largest = max(1, *totals.values())
    with styled():
        figure, [[axis]] = new_grid(1, 1, (6.0, 2.6))
        for row, (part, counts) in enumerate(sizes.items()):
            left = 0
            for name in names:
                count = counts.get(name, 0)
                axis.barh(row, count, left=left, height=0.62, color=colour[name])
                if count > 0.03 * largest and len(names) > 1:
                    middle = left + count / 2
                    axis.text(middle, row, str(count), ha="center", va="center", color="white")
                left += count
            end = left + 0.015 * largest
            axis.text(end, row, str(totals[part]), va="center", fontweight="bold")
        axis.set_yticks(range(len(sizes)), list(sizes))
        axis.invert_yaxis()
        axis.set_xlim(0, 1.1 * largest)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axis.set_xlabel(counted)
        if len(names) > 1:
            bars = [Patch(color=colour[name], label=name) for name in names]
            figure.legend(handles=bars, loc="outside lower center", ncols=min(len(bars), 4))
        return save(figure, path, "Split", synthetic)


def stage_scores(
    path: Path,
    summary: Summary,
    rows_by_stage: Mapping[str, Sequence[Row]],
    *,
    metric: str = "dice",
    synthetic: bool,
) -> Figure:
    """Mean and interval per stage and region, with every patient as a dot.

    Args:
        summary: ``{stage: {region: {metric: interval}}}``, each stage as
            :func:`medtl.evaluation.metrics.summarise` gives it.
        rows_by_stage: the rows that each stage was summarised from.
    """
    regions = list(dict.fromkeys(region for scores in summary.values() for region in scores))
    colour = colours(regions)
    size_inches = (1.6 + 2.7 * len(regions), 1.3 + 0.62 * len(summary))
    with styled():
        figure, [axes] = new_grid(1, len(regions), size_inches, sharex=True, sharey=True)
        for axis, region in zip(axes, regions, strict=True):
            for row, (stage, scores) in enumerate(summary.items()):
                if region not in scores:  # nobody looked for it in this stage's test cases
                    continue
                found = scores[region][metric]
                patients = scores_by_patient(rows_by_stage[stage], region, metric)
                dots = list(patient_means(patients).values())
                _stage_row(axis, row, metric, found, dots, colour[region])
            axis.set_title(region, fontweight="bold", color=colour[region])
            axis.set_xlabel(LABELS[metric])
            axis.grid(True, axis="x")
        low, high = BOUNDS[metric]
        axes[0].set_xlim(low - 0.03, high + 0.03 if math.isfinite(high) else None)
        axes[0].set_yticks(range(len(summary)), list(summary))
        axes[0].set_ylim(len(summary) - 0.5, -0.6)
        title = f"{LABELS[metric]} of test patients (dots), mean and 95% interval"
        return save(figure, path, title, synthetic)


def _stage_row(
    axis: Axes, row: int, metric: str, found: Mapping[str, Any], dots: Sequence[float], colour: str
) -> None:
    # Golden ratio: neighbours are spread apart, the same way every time.
    heights = [row + 0.16 + 0.16 * ((n * 0.6180339887) % 1) for n in range(len(dots))]
    axis.scatter(dots, heights, s=9, color=colour, alpha=0.45, linewidths=0)
    if found["low"] is not None:
        axis.plot([found["low"], found["high"]], [row, row], color="black", linewidth=1.6)
    axis.plot(found["mean"], row, marker="D", color="black", markersize=4.5)
    text = f"{score_cell(metric, found, listed=False)}  n={found['n']}"
    place = axis.get_yaxis_transform()
    axis.text(0.02, row - 0.24, text, fontsize=7.5, transform=place, va="center")
