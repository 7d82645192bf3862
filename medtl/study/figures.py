"""Figures of a study: paired differences by patient, and scores over budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medtl.evaluation.intervals import Interval
from medtl.evaluation.tables import LABELS, gain_cell
from medtl.runtime.figure_style import GREY, SERIES, new_grid, save, styled
from medtl.study.results import Comparison, Findings
from medtl.study.scores import StudyScores
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B

#: Panels of a figure of paired differences.
MOST_PANELS = 12

#: Controls in the titles of panels.
_SHORT = {CONTROL_A: "A", CONTROL_B: "B"}

#: Width of a figure in inches, for its title.
NARROWEST = 4.6


def paired_differences(
    path: Path, found: Findings, scores: StudyScores, *, synthetic: bool
) -> Figure:
    """A line per patient from control A to the arm, the differences to all controls, the verdict.

    A line is the wider, the more patients have the same two scores.

    Of the first output; the primary comparison comes first, at most :data:`MOST_PANELS` in all.
    """
    output = found.comparisons[0].output
    every = [each for each in found.comparisons if each.output == output]
    own = sorted(every, key=lambda each: not each.primary)[:MOST_PANELS]
    columns = min(4, len(own))
    rows = -(-len(own) // columns)
    with styled():
        width = max(NARROWEST, 2.5 * columns + 0.5)
        figure, axes = new_grid(rows, columns, (width, 2.7 * rows + 0.4), sharey=True)
        panels = [axis for line in axes for axis in line]
        several = len(scores.networks()) > 1
        for axis, each in zip(panels, own, strict=False):
            network = f"{each.network.rpartition(':')[2]}, " if several else ""
            _pairs(axis, each, scores, f"{network}{each.arm}, budget {each.budget}")
        for axis in panels[len(own) :]:
            axis.set_axis_off()
        title = f"{output}: {LABELS[found.metric]} of each test patient, control A and arm"
        if len(own) < len(every):
            title += f" ({len(own)} of {len(every)} comparisons)"
        return save(figure, path, title, synthetic)


def _pairs(axis: Axes, each: Comparison, scores: StudyScores, name: str) -> None:
    control = next(iter(each.against))
    sides = []
    for arm in (control, each.arm):
        runs = scores.runs((each.network, arm, each.budget), each.output)
        patients = sorted({patient for values in runs.values() for patient in values})
        sides.append(np.array([np.mean([v[p] for v in runs.values() if p in v]) for p in patients]))
    alike = Counter(zip(*(side.tolist() for side in sides), strict=True))
    for (before, after), count in alike.items():  # as wide as there are patients
        width = 0.7 + 12.0 * (count - 1) / len(sides[0])
        axis.plot([0, 1], [before, after], color=GREY, linewidth=width, alpha=0.6)
    means = [float(side.mean()) for side in sides]
    axis.plot([0, 1], means, "o-", color="black", linewidth=1.8, markersize=4)
    differences = [
        f"{_SHORT.get(arm, 'A, own rate')}: {gain_cell(own.to_json())}"
        for arm, own in each.against.items()
    ]
    axis.set_title("\n".join([name, *differences, each.judged.verdict]))
    axis.set_xticks([0, 1], [control, each.arm])
    axis.set_xlim(-0.2, 1.2)
    axis.grid(True, axis="y")


def label_efficiency(path: Path, found: Findings, network: str, *, synthetic: bool) -> Figure:
    """The mean score of each arm of a network over the budgets, with 95% intervals.

    They are bands, and lines where there is one budget.
    """
    outputs = list(dict.fromkeys(each.output for each in found.arms))
    budgets = list(dict.fromkeys(each.budget for each in found.arms))
    arms = list(dict.fromkeys(each.arm for each in found.arms))
    with styled():
        figure, [axes] = new_grid(1, len(outputs), (1.2 + 3.0 * len(outputs), 3.2), sharey=True)
        for axis, output in zip(axes, outputs, strict=True):
            for number, arm in enumerate(arms):
                own = {
                    each.budget: each.score
                    for each in found.arms
                    if (each.arm, each.output, each.network) == (arm, output, network)
                }
                if len(budgets) == 1:
                    axis.set_xlim(-0.5, 0.5)
                    _point(axis, own.get(budgets[0]), arm, number, (number + 0.5) / len(arms))
                else:
                    _curve(axis, budgets, own, arm, number)
            axis.set_xticks(range(len(budgets)), budgets)
            axis.set_xlabel("labelled target patients")
            axis.set_title(output, fontweight="bold")
            axis.grid(True)
        axes[0].set_ylabel(LABELS[found.metric])
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4))
        return save(figure, path, "Score over budget, mean and 95% interval", synthetic)


def _curve(
    axis: Axes, budgets: Sequence[str], own: Mapping[str, Interval], arm: str, number: int
) -> None:
    colour = SERIES[number % len(SERIES)]
    places = [n for n, budget in enumerate(budgets) if budget in own]
    scores = [own[budgets[n]] for n in places]
    style = "--" if arm.startswith("control") else "-"
    axis.plot(places, [s.mean for s in scores], f"o{style}", color=colour, label=arm, markersize=4)
    limits = [(s.low, s.high) for s in scores if s.low is not None and s.high is not None]
    if limits and len(limits) == len(scores):
        low, high = zip(*limits, strict=True)
        axis.fill_between(places, low, high, color=colour, alpha=0.12, linewidth=0)


def _point(axis: Axes, score: Interval | None, arm: str, number: int, share: float) -> None:
    """A score with its interval, at a ``share`` of the middle of the panel."""
    if score is None:
        return
    place, colour = 0.7 * (share - 0.5), SERIES[number % len(SERIES)]
    axis.plot([place], [score.mean], "o", color=colour, label=arm, markersize=4)
    if score.low is not None and score.high is not None:
        axis.vlines(place, score.low, score.high, color=colour)
