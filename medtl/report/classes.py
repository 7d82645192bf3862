"""Figures of classifications. Each function writes a PNG and returns the figure that it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from medtl.report.canvas import new_grid, save, styled


def confusion_matrix(
    path: Path, stage: str, found: Mapping[str, Any], *, synthetic: bool
) -> Figure:
    """Cases by true class (rows) and predicted class (columns), shaded by the share of their row.

    Args:
        found: what :func:`medtl.classification.metrics.confusion` returned.
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
