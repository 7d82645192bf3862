"""The figure of a study that leaves each site out: measured shift against loss of score."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medtl.evaluation.tables import LABELS
from medtl.runtime.figure_style import GREY, SERIES, new_grid, save, styled
from medtl.study.sites.results import SiteFindings, SiteRow


def sites_figure(path: Path, found: SiteFindings, *, synthetic: bool) -> Figure:
    """A panel per output, a point per site: the loss of the source's network, and of each arm.

    The loss of an arm is that of the source's network less the arm's gain.
    """
    outputs = list(found.correlations)
    with styled():
        size = (1.4 + 3.4 * len(outputs), 3.8)
        figure, [axes] = new_grid(1, len(outputs), size, sharey=True)
        for axis, output in zip(axes, outputs, strict=True):
            _panel(axis, found, [row for row in found.rows if row.output == output])
            axis.set_title(_title(found, output), fontweight="bold")
            axis.set_xlabel("measured shift (MMD of appearance)")
        axes[0].set_ylabel(f"loss of {LABELS[found.metric]}")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4))
        return save(figure, path, "Each site left out: shift and loss of score", synthetic)


def _title(found: SiteFindings, output: str) -> str:
    each = found.correlations[output]
    rank = "" if each.spearman is None else f", Spearman {each.spearman:+.2f}"
    return f"{output}: {each.sites} sites{rank}"


def _panel(axis: Axes, found: SiteFindings, rows: list[SiteRow]) -> None:
    axis.axhline(0, color=GREY, linewidth=0.8)
    shown = [
        (row, row.shift.value, row.loss.mean)
        for row in rows
        if row.shift and row.shift.value is not None and row.loss
    ]
    axis.plot(
        [shift for _, shift, _ in shown],
        [loss for *_, loss in shown],
        "o",
        color="black",
        markersize=6,
        label="zero-shot",
    )
    for number, arm in enumerate(found.arms):
        own = [(s, loss - row.gains[arm].mean) for row, s, loss in shown if arm in row.gains]
        axis.plot(
            [shift for shift, _ in own],
            [loss for _, loss in own],
            "_",
            color=SERIES[number % len(SERIES)],
            markersize=10,
            markeredgewidth=1.6,
            label=arm,
        )
    for row, shift, loss in shown:
        axis.annotate(
            row.site, (shift, loss), xytext=(6, 4), textcoords="offset points", fontsize=8
        )
    axis.margins(0.12)
    axis.grid(True)
