"""Draw the figures of docs/concepts/shift.md.

python docs/make_shift_figures.py

Axes: N row, U unit, F feature, I J K voxels.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from figure_style import BLUE, GREY, ORANGE, draw_all, save
from numpy.typing import NDArray

from medtl.data.modality import Modality
from medtl.data.phantom.brats_layout import render_case, scanner_of
from medtl.shift.contract import Rows, View
from medtl.shift.harmonisers import nyul, zscore
from medtl.shift.metrics.mmd import mmd
from medtl.shift.stats.metric_result import p_value, score_in_chunks
from medtl.shift.stats.permutations import Comparison, draw_permutations

COHORTS, DRAWS = 200, 99
PATIENTS, ROWS, FEATURES = 12, 8, 4  # patients of each domain, rows of each
SIZE, CASES, SEED, SHIFT = 48, 6, 3, 1.5  # of the phantom: edge, patients of each scanner


def units_of_exchange(path: Path) -> None:
    """p-values of cohorts without a shift: whole patients permuted, and rows."""
    by_patient, by_row = np.array([_p_values(seed) for seed in range(COHORTS)]).T
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 2.6), sharey=True)
    names = ("whole patients permuted", "rows permuted")
    for axis, name, p in zip(axes, names, (by_patient, by_row), strict=True):
        edges = np.linspace(0, 1, 21)
        counts, _ = np.histogram(p, edges)
        colours = [ORANGE] + [BLUE] * (len(edges) - 2)
        axis.bar(edges[:-1], counts / COHORTS, 0.045, align="edge", color=colours)
        axis.axhline(0.05, color=GREY, linewidth=1, linestyle="--")
        axis.set_title(f"{name}: p <= .05 in {np.mean(p <= 0.05):.0%} of {COHORTS}", fontsize=9)
        axis.set_xlabel("p of mmd; there is no shift")
    axes[0].set_ylabel("share of cohorts")
    figure.subplots_adjust(wspace=0.08)
    save(path)


def harmonising(path: Path) -> None:
    """FLAIR intensities of two synthetic scanners: as stored, z-scored, and by deciles."""
    views = [[_view(scanner, n + CASES * scanner) for n in range(CASES)] for scanner in (0, 1)]
    z, deciles = zscore(), nyul()
    standard = deciles.fit(views[0])
    shown = {
        "as stored": lambda view: view,
        "z-scored": lambda view: z.apply(view, {}),
        "nyul, fitted on scanner 1": lambda view: deciles.apply(view, standard),
    }
    figure, axes = plt.subplots(1, len(shown), figsize=(9, 2.4))
    for axis, (title, change) in zip(axes, shown.items(), strict=True):
        values = [[_inside(change(view)) for view in side] for side in views]
        low, high = np.percentile(np.concatenate([v for side in values for v in side]), (0.5, 99.5))
        for side, colour in zip(values, (BLUE, ORANGE), strict=True):
            for value in side:
                axis.hist(
                    value, bins=24, range=(low, high), density=True, histtype="step", color=colour
                )
        axis.set_title(title, fontsize=9)
        axis.set_yticks([])
    axes[0].set_ylabel("voxels of the brain")
    figure.supxlabel(
        "FLAIR intensity; synthetic phantom, one line per patient", y=-0.06, fontsize=9
    )
    lines = [plt.Line2D([], [], color=colour) for colour in (BLUE, ORANGE)]
    axes[0].legend(lines, ("scanner 1", "scanner 2"), frameon=False, fontsize=8)
    save(path)


def _p_values(seed: int) -> tuple[float, float]:
    """Of one cohort whose two domains are alike: by patient, and by row, which is wrong."""
    random = np.random.default_rng([7, seed])
    patient_N = np.repeat(np.arange(2 * PATIENTS), ROWS)
    values_NF = random.normal(size=(2 * PATIENTS, FEATURES))[patient_N]
    values_NF = values_NF + random.normal(size=values_NF.shape)
    values_NF = (values_NF - values_NF.mean(0)) / values_NF.std(0)
    return _p(values_NF, patient_N, seed), _p(values_NF, np.arange(len(patient_N)), seed)


def _p(values_NF: NDArray[np.float64], unit_N: NDArray[np.intp], seed: int) -> float:
    """The first half of the units, each a patient's, against the second."""
    unit_U = np.arange(unit_N[-1] + 1)
    source_U = unit_U < len(unit_U) / 2
    scorer = mmd().prepare(Rows(values_NF, ("f/1",) * FEATURES, unit_N, unit_U))
    permutations = draw_permutations(Comparison(source_U, ~source_U, unit_U), DRAWS, seed)
    value = float(scorer(source_U[None], ~source_U[None])[0])
    null_R = score_in_chunks(scorer, *permutations.apply(Comparison(source_U, ~source_U, unit_U)))
    return p_value(value, null_R, permutations.exhaustive)


def _view(scanner: int, index: int) -> View:
    case = render_case(SEED, index, SIZE, scanner_of(SEED, scanner, SHIFT))
    image_IJK = case.images_IJK["flair"].astype(np.float32)
    edge_mm = 180 / SIZE
    return View(
        f"case {index}",
        (Modality("flair"),),
        image_IJK[None],
        (image_IJK > 0)[None],
        (edge_mm,) * 3,
        "LPS",
        False,
    )


def _inside(view: View) -> NDArray[np.float32]:
    return view.image_CIJK[view.foreground_CIJK]


FIGURES = {"shift-units": units_of_exchange, "shift-harmonising": harmonising}

if __name__ == "__main__":
    draw_all(FIGURES)
