"""Draw the figures of docs/concepts/controls.md.

python docs/make_controls_figures.py

Axes: N patient.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from figure_style import BLUE, GREEN, GREY, ORANGE, draw_all, save
from numpy.typing import NDArray

from medtl.evaluation.intervals import Interval, interval, paired_difference

PATIENTS, GAIN = 30, 0.04  # of the simulated study: test patients, true gain in Dice
COHORTS = 400
SIZES = (5, 8, 12, 19, 20, 30, 50)


def pairing(path: Path) -> None:
    """Intervals of two arms on the same simulated patients, and of their paired difference."""
    random = np.random.default_rng(4)
    control_N = _dice(random, PATIENTS)
    transfer_N = np.clip(control_N + random.normal(GAIN, 0.06, PATIENTS), 0, 1)
    control, transfer = _by_patient(control_N), _by_patient(transfer_N)
    arms = {"control A": (control_N, BLUE), "transfer": (transfer_N, ORANGE)}
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8, 2.6), gridspec_kw={"width_ratios": (3, 2), "wspace": 0.3}
    )
    left.plot((0, 1), (control_N, transfer_N), color=GREY, linewidth=0.5, alpha=0.6)
    for place, (values, colour) in enumerate(arms.values()):
        _bar(left, place, interval(_by_patient(values)), colour)
        left.plot([place] * PATIENTS, values, ".", color=colour, alpha=0.5)
    left.set_xticks((0, 1), arms)
    left.set_xlim(-0.4, 1.4)
    left.set_ylabel("Dice; one line per patient")
    difference = paired_difference(transfer, control)
    _bar(right, 0, difference, GREEN)
    right.axhline(0, color=GREY, linestyle="--", linewidth=1)
    right.set_xticks((0,), ("transfer minus control A, paired",))
    right.set_xlim(-0.5, 0.5)
    right.set_ylabel("difference in Dice")
    figure.suptitle(f"simulated: {PATIENTS} test patients, true gain {GAIN}", fontsize=9, y=1.0)
    save(path)


def coverage(path: Path) -> None:
    """How often medtl's 95% interval of a mean Dice holds the true mean, by number of patients."""
    truth = float(_dice(np.random.default_rng(0), 1_000_000).mean())
    shares, widths = [], []
    for n in SIZES:
        found = [
            interval(_by_patient(_dice(np.random.default_rng([n, seed]), n)))
            for seed in range(COHORTS)
        ]
        limits = np.array([(one.low, one.high) for one in found], dtype=float)
        shares.append(np.mean((limits[:, 0] <= truth) & (truth <= limits[:, 1])))
        widths.append(float(np.median(limits[:, 1] - limits[:, 0])))
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 2.5), gridspec_kw={"wspace": 0.3})
    colours = [BLUE if n < 20 else ORANGE for n in SIZES]
    places = range(len(SIZES))
    left.bar(places, shares, color=colours)
    left.axhline(0.95, color=GREY, linestyle="--", linewidth=1)
    left.set_ylim(0.7, 1)
    left.set_ylabel(f"coverage in {COHORTS} cohorts")
    right.bar(places, widths, color=colours)
    right.set_ylabel("median width, Dice")
    for axis in (left, right):
        axis.set_xticks(places, [str(n) for n in SIZES])
        axis.set_xlabel("test patients (blue: Student-t, orange: BCa)")
    save(path)


def _dice(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Scores as they are: mostly good, some bad, one in twenty missed altogether."""
    return np.where(random.random(count) < 0.05, 0.0, random.beta(8, 2.5, count))


def _by_patient(values_N: NDArray[np.float64]) -> dict[str, float]:
    return {f"patient {n:04}": float(value) for n, value in enumerate(values_N)}


def _bar(axis: plt.Axes, place: float, found: Interval, colour: str) -> None:
    assert found.low is not None and found.high is not None
    error = [[found.mean - found.low], [found.high - found.mean]]
    axis.errorbar(
        place, found.mean, error, fmt="o", color=colour, capsize=5, linewidth=2.5, zorder=3
    )


FIGURES = {"controls-pairing": pairing, "controls-coverage": coverage}

if __name__ == "__main__":
    draw_all(FIGURES)
