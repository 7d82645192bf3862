"""Draw docs/images/result.png: the verdict of a run with controls, and the differences behind it.

python docs/make_result_figure.py RUN
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
from figure_style import BLUE, GREEN, GREY, ORANGE

from medtl.evaluation.tables import gain_cell

TARGET = Path(__file__).parent / "images" / "result.png"
VERDICT_COLOURS = {"helped": GREEN, "hurt": ORANGE}


def dice_by_patient(run: Path) -> dict[tuple[str, str], dict[str, float]]:
    """(stage, region) -> patient -> mean Dice, from a run's metrics.csv."""
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values[row["stage"], row["region"]][row["patient"]].append(float(row["dice"]))
    return {key: {p: fmean(v) for p, v in own.items()} for key, own in values.items()}


def draw_differences(axis: plt.Axes, run: Path, gain: dict[str, Any]) -> None:
    """One dot per patient, with the mean and its 95% interval, per region and control."""
    dice = dice_by_patient(run)
    ticks = []
    for row, (region, outcome) in enumerate(gain["outputs"].items()):
        for place, (control, colour) in enumerate((("control-a", BLUE), ("control-b", ORANGE))):
            height = -row - 0.18 + 0.36 * (place == 0)
            ours, theirs = dice[gain["stage"], region], dice[control, region]
            dots = [ours[patient] - theirs[patient] for patient in sorted(theirs)]
            axis.plot(dots, [height] * len(dots), ".", color=colour, alpha=0.35)
            mean, low, high = (outcome[control][key] for key in ("mean", "low", "high"))
            axis.errorbar(
                mean, height, xerr=[[mean - low], [high - mean]], fmt="o", color=colour,
                capsize=4, linewidth=2, label=f"vs {control}" if row == 0 else None,
            )  # fmt: skip
        ticks.append(region)
    axis.axvline(0, color=GREY, linestyle="--", linewidth=1)
    axis.set_yticks([-n for n in range(len(ticks))], ticks)
    axis.set_xlabel("difference in Dice, one dot per test patient; mean and 95% interval")
    axis.legend(loc="lower right", frameon=False)


def draw_table(axis: plt.Axes, gain: dict[str, Any]) -> None:
    axis.axis("off")
    rows, colours = [], []
    for region, outcome in gain["outputs"].items():
        cells = [gain_cell(outcome[c]) for c in ("control-a", "control-b")]
        rows.append([region, str(outcome["control-a"]["n"]), *cells, outcome["verdict"]])
        colours.append(VERDICT_COLOURS.get(outcome["verdict"], GREY))
    labels = ["region", "n", "vs control-a", "vs control-b", "verdict"]
    table = axis.table(rows, colLabels=labels, cellLoc="left", edges="horizontal", loc="center")
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.auto_set_column_width(list(range(len(labels))))
    table.scale(1, 1.5)
    for row, colour in enumerate(colours, 1):
        table[row, len(labels) - 1].get_text().set(color=colour, weight="bold")


def main(run: Path) -> None:
    gain = json.loads((run / "summary.json").read_text(encoding="utf-8"))["data"][
        "against_controls"
    ]
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(8, 4.2), gridspec_kw={"height_ratios": (1, 2), "hspace": 0.1}
    )
    draw_table(top, gain)
    draw_differences(bottom, run, gain)
    figure.suptitle(
        f"Did the transfer help? Difference in Dice: {gain['stage']} minus each control; "
        "synthetic phantom",
        fontsize=10,
    )
    figure.savefig(TARGET, facecolor="white", dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
