"""Draw the figures of docs/concepts/leakage.md.

python docs/make_leakage_figures.py

Axes: N picture or patient, F pixel, C checkpoint, R repetition.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from figure_style import BLUE, GREY, ORANGE, draw_all, save
from numpy.typing import NDArray

from medtl.data.phantom.brats_layout import render_case, scanner_of

PATIENTS, SLICES, SIZE, THUMBNAIL = 24, 12, 48, 16
REPETITIONS = 100  # drawings of the labels
TEST = 0.25  # share of the slices, or of the patients, that is tested on
ACCURACY, CHECKPOINTS, STUDIES = 0.8, (1, 5, 20, 100), 2000
TEST_PATIENTS = (20, 50, 100, 200, 400)


def slices(path: Path) -> None:
    """Accuracy on labels that mean nothing, by how slices are divided into training and test."""
    rows_NF, patient_N = _thumbnails()
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {"slices shuffled": [], "patients kept apart": []}
    for _ in range(REPETITIONS):
        label_N = random.permutation(np.arange(PATIENTS) % 2)[patient_N]
        shuffled_N = random.permutation(len(rows_NF)) < TEST * len(rows_NF)
        grouped_N = (random.permutation(PATIENTS) < TEST * PATIENTS)[patient_N]
        for name, test_N in zip(found, (shuffled_N, grouped_N), strict=True):
            found[name].append(_nearest_accuracy(rows_NF, label_N, test_N))
    _, axis = plt.subplots(figsize=(6, 2.4))
    for (name, values), colour in zip(found.items(), (ORANGE, BLUE), strict=True):
        axis.hist(
            values, np.linspace(0, 1, 41), color=colour, label=f"{name}: mean {np.mean(values):.2f}"
        )
    axis.axvline(0.5, color=GREY, linestyle="--", linewidth=1)
    axis.set_xlabel("accuracy of the nearest neighbour; each patient's label was drawn by lot")
    axis.set_ylabel("drawings")
    axis.legend(frameon=False)
    save(path)


def selection(path: Path) -> None:
    """What is reported if the best of equally good checkpoints is picked on the test set."""
    random = np.random.default_rng(1)
    _, axis = plt.subplots(figsize=(6, 2.6))
    for count, shade in zip(CHECKPOINTS, np.linspace(0.35, 1, len(CHECKPOINTS)), strict=True):
        reported = [
            (random.binomial(n, ACCURACY, size=(STUDIES, count)) / n).max(1).mean()
            for n in TEST_PATIENTS
        ]
        label = f"best of {count}" if count > 1 else "chosen elsewhere"
        axis.plot(TEST_PATIENTS, reported, "o-", color=plt.get_cmap("Oranges")(shade), label=label)
    axis.axhline(ACCURACY, color=GREY, linestyle="--", linewidth=1)
    axis.set_xlabel("test patients")
    axis.set_ylabel("reported accuracy")
    axis.legend(frameon=False, fontsize=8)
    save(path)


def _thumbnails() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Neighbouring axial FLAIR slices of synthetic patients, small, each of mean 0 and length 1."""
    rows, step = [], SIZE // THUMBNAIL
    middle = SIZE // 2
    for index in range(PATIENTS):
        case = render_case(0, index, SIZE, scanner_of(0, 0, 1.0))
        volume = case.images_IJK["flair"].astype(float)
        for k in range(middle - SLICES // 2, middle + SLICES // 2):
            small = volume[:, :, k].reshape(THUMBNAIL, step, THUMBNAIL, step).mean((1, 3)).ravel()
            small = small - small.mean()
            rows.append(small / np.linalg.norm(small))
    return np.array(rows), np.repeat(np.arange(PATIENTS), SLICES)


def _nearest_accuracy(
    rows_NF: NDArray[np.float64], label_N: NDArray[np.intp], test_N: NDArray[np.bool_]
) -> float:
    nearest = (rows_NF[test_N] @ rows_NF[~test_N].T).argmax(1)
    return float((label_N[~test_N][nearest] == label_N[test_N]).mean())


FIGURES = {"leakage-slices": slices, "leakage-selection": selection}

if __name__ == "__main__":
    draw_all(FIGURES)
