"""How well are four classes of brain MR pictures told apart, learnt from scratch in minutes?

Grouped 5-fold: near-duplicates stay on one side, as `medtl train kaggle-mri` keeps them, and each
fold is tested on once by a run that has seen no picture of it. Macro F1 of .89 is asked for, as the
mean over folds and pooled, in 10 minutes per fold on two cores. Width, steps and augmentation were
chosen on validation patients of the training side of fold 0 alone. A processor too slow for that
width (without bf16 it takes four times as long) gets the widest network whose steps it makes in
time, told by a trial of some steps before the first fold.

    python examples/studies/kaggle.py              # 45 minutes
    python examples/studies/kaggle.py --folds 2,3  # some folds

A run that was interrupted goes on where it stopped, and finished folds are read.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

from arms import rows_of, train
from common import ROOT, describe, shared_data

from medtl import api
from medtl.evaluation.class_metrics import summarise_classes
from medtl.runtime.files import replacing

FOLDS = 5
RECIPE: api.TrainSettings = {
    "strategy": "scratch",
    "network": "resnet18",
    "transforms": "head-picture",
    "val_fraction": 0.1,
    "device": "cpu",
}
STEPS, SEED = 2300, 0
#: The first is the one chosen. A fold's steps may take so many minutes by the trial, which leaves
#: out what makes the batches, prepares the pictures and scores them: three more at most.
WIDTHS, MINUTES = (64, 48, 32, 24, 16), 7.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=shared_data() / "kaggle" / "Training")
    parser.add_argument("--folds", default=",".join(map(str, range(FOLDS))), help="to train now")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--width", type=int, help=f"default: of {WIDTHS} the widest in time")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "kaggle")
    parser.add_argument("--out", type=Path, default=ROOT / "examples/studies/results/kaggle.json")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not there; set MEDTL_SHARED_DATA or give --data")
    if not set(options.folds.split(",")) <= set(map(str, range(FOLDS))):
        sys.exit(f"--folds {options.folds}: name some of 0 to {FOLDS - 1}, for example 0,3")
    options.width = options.width or widest(options)
    work = options.work / f"{options.steps}-{options.width}-{options.seed}"
    for fold in map(int, options.folds.split(",")):
        timed(work / f"fold-{fold}", fold, options)
        write(work, options)
    print(json.dumps(json.loads(options.out.read_text())["macro_f1"], indent=2))


def widest(options: argparse.Namespace) -> int:
    """The widest network whose steps take at most ``MINUTES`` here; found once for all folds."""
    kept = options.work / f"{options.steps}-width.json"
    if kept.is_file():
        return int(json.loads(kept.read_text()))
    found = next((width for width in WIDTHS if minutes(width, options) <= MINUTES), WIDTHS[-1])
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found))
    return found


def minutes(width: int, options: argparse.Namespace) -> float:
    plan = api.plan(
        "kaggle-mri", data=options.data, folds=FOLDS, fold=0, width=width, steps=1, **RECIPE
    )
    taken = options.steps * (plan.seconds_per_step or math.inf) / 60
    print(f"width {width}: {options.steps} steps take about {taken:.1f} minutes here", flush=True)
    return taken


def timed(out: Path, fold: int, options: argparse.Namespace) -> None:
    """One fold, unless it is there; what an interrupted run took counts, too."""
    took = out.with_suffix(".seconds.json")
    if took.is_file() and json.loads(took.read_text())["finished"]:
        return
    before = json.loads(took.read_text())["seconds"] if took.is_file() else 0.0
    out.parent.mkdir(parents=True, exist_ok=True)
    started, finished = perf_counter(), False
    try:
        train(
            out,
            *("kaggle-mri", "--data", options.data),
            *(word for name in RECIPE.items() for word in ("--set", "=".join(map(str, name)))),
            *("--folds", FOLDS, "--fold", fold, "--seed", options.seed),
            *("--steps", options.steps, "--width", options.width),
        )
        finished = True
    finally:
        seconds = round(before + perf_counter() - started, 1)
        took.write_text(json.dumps({"finished": finished, "seconds": seconds}))


def write(work: Path, options: argparse.Namespace) -> None:
    """Every finished fold, their mean, and the scores of all their pictures with intervals."""
    folds: dict[str, dict[str, Any]] = {}
    pooled: list[dict[str, Any]] = []
    for fold in range(FOLDS):
        took = work / f"fold-{fold}.seconds.json"
        if not took.is_file() or not json.loads(took.read_text())["finished"]:
            continue
        rows = rows_of(work / f"fold-{fold}")
        summary = json.loads((work / f"fold-{fold}" / "summary.json").read_text())
        synthetic = summary["data"]["synthetic"]
        pooled += rows
        folds[str(fold)] = {
            "macro_f1": summarise_classes(rows)["all"]["macro_f1"],
            "seconds": json.loads(took.read_text())["seconds"],
        }
    scores = summarise_classes(pooled)
    result = {
        "machine": describe(),
        "synthetic": synthetic,
        "recipe": {**RECIPE, "steps": options.steps, "width": options.width},
        "seed": options.seed,
        "pictures": len(pooled),
        "groups": len({row["patient"] for row in pooled}),
        "note": "patients are unknown: groups are near-duplicates; patients may be on both sides",
        "macro_f1": {
            "folds": {fold: round(found["macro_f1"]["mean"], 4) for fold, found in folds.items()},
            "mean_over_folds": round(fmean(f["macro_f1"]["mean"] for f in folds.values()), 4),
            "pooled": scores["all"]["macro_f1"],
        },
        "pooled": scores,
        "folds": folds,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.out) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
