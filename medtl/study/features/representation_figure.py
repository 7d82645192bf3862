"""The figure of how alike networks are: CKA over the blocks."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medtl.runtime.figure_style import colours, new_grid, save, styled
from medtl.study.features.representation_results import CONTROL, SEED, START, Similarity

#: Rows of panels: networks with their budgets.
MOST_ROWS = 6

_TITLES = {START: "with its start", CONTROL: "with control A", SEED: "with itself, another seed"}


def similarity_figure(path: Path, found: Similarity) -> Figure:
    """A line per arm over the blocks; a panel for each thing that arms are compared with.

    A row per network and budget, at most :data:`MOST_ROWS`. Arms without a budget are in each.
    """
    lines = found.lines()
    kinds = [kind for kind in _TITLES if any(kind == other for *_, other in lines)]
    every = list(dict.fromkeys((network, budget) for network, budget, _, _ in lines))
    places = [place for place in every if place[1]][:MOST_ROWS] or every[:1]
    colour = colours(list(dict.fromkeys(arm for _, _, arm, _ in lines)))
    widest = max(len(found.blocks(network)) for network, _ in places)
    size = (len(kinds) * (0.8 + 0.22 * widest) + 1.2, 2.1 * len(places) + 1.3)
    with styled():
        figure, axes = new_grid(len(places), len(kinds), size, sharey=True)
        for (network, budget), row in zip(places, axes, strict=True):
            for axis, against in zip(row, kinds, strict=True):
                own = {
                    arm: values
                    for (other, at, arm, kind), values in lines.items()
                    if (other, kind) == (network, against) and at in ("", budget)
                }
                _panel(axis, found.blocks(network), own, colour)
            row[0].set_ylabel(f"CKA\n{network}\nbudget {budget}")
        low = min((cka for values in lines.values() for cka in values.values()), default=0.0)
        axes[0][0].set_ylim(min(0.0, low) - 0.05, 1.05)
        for axis, against in zip(axes[0], kinds, strict=True):
            axis.set_title(_TITLES[against], fontweight="bold")
        drawn = {str(line.get_label()): line for row in axes for axis in row for line in axis.lines}
        columns = min(len(drawn), 4)
        figure.legend([*drawn.values()], [*drawn], loc="outside lower center", ncols=columns)
        title = f"Features of each block on {found.images} test images, mean over seeds"
        return save(figure, path, title, found.synthetic)


def _panel(
    axis: Axes, blocks: list[str], arms: dict[str, dict[str, float]], colour: dict[str, str]
) -> None:
    for arm, values in arms.items():
        places = [n for n, block in enumerate(blocks) if block in values]
        heights = [values[blocks[n]] for n in places]
        style = "--" if arm.startswith("control") else "-"
        axis.plot(places, heights, f"o{style}", color=colour[arm], label=arm, markersize=3)
    axis.set_xticks(range(len(blocks)), blocks, rotation=90)
    axis.set_xlim(-0.5, len(blocks) - 0.5)
    axis.grid(True, axis="y")
