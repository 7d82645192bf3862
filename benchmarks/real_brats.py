"""Does transfer from FLAIR+T1ce to T1+T2 help on real BraTS cases? Three folds, four arms.

Cases are sorted by name and two are left out per fold; the arms of a fold are `medtl train` runs
on the others: the source model, the model transferred from it, control A (from scratch, the
target's steps) and control B (source + target steps). With so few patients the last step is
kept, so the left-out cases choose no checkpoint; the default recipe was chosen with an eye on them
(docs/decisions/0004), which makes its scores optimistic. Dice is taken on the native 1 mm grid.

    python benchmarks/real_brats.py            # $MEDTL_SHARED_DATA/brats, else ../shared/data/brats
    python benchmarks/real_brats.py --steps 200 --folds 0

A run that was interrupted goes on where it stopped: finished arms are read, not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from machine import describe
from real_cases import ROOT, add_data_option, sorted_cases, train

from medtl.evaluation.intervals import interval, paired_difference
from medtl.runtime.files import replacing
from medtl_brats.task import Brats

SOURCE, TARGET = "flair,t1ce", "t1,t2"
ARMS = ("source", "transferred", "control-a", "control-b")
STEPS = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_option(parser)
    parser.add_argument("--steps", type=int, default=STEPS, help="per side, source and target")
    parser.add_argument("--folds", default="0,1,2")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "real-brats")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/real_brats.json")
    options = parser.parse_args()
    cases = [case.id for case in sorted_cases(options.data)]
    folds = [cases[2 * fold : 2 * fold + 2] for fold in map(int, options.folds.split(","))]
    if any(len(left_out) < 2 for left_out in folds):
        sys.exit(f"{options.data} has {len(cases)} cases: folds 0 to {len(cases) // 2 - 1}")
    rows: list[dict[str, Any]] = []
    for left_out in folds:
        work = options.work / f"{options.steps}-{'-'.join(left_out)}"
        for arm in ARMS:
            rows += run_arm(arm, left_out, work, options)
            write(options, rows, cases)
    print(json.dumps(json.loads(options.out.read_text())["dice"], indent=2))


def run_arm(
    arm: str, left_out: list[str], work: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Train and score one arm, or read what it left behind; one row per case and region."""
    out = work / arm
    took = out / "seconds.json"
    if not took.is_file():
        shutil.rmtree(out, ignore_errors=True)  # an arm that was cut off
        started = perf_counter()
        train(options.data, left_out, out, arguments(arm, work, options.steps))
        took.write_text(json.dumps(perf_counter() - started))
    seconds = json.loads(took.read_text())
    stage = json.loads((out / "stages.json").read_text())[-1]
    lines = (out / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    found = [dict(zip(columns, line.split(","), strict=True)) for line in lines[1:]]
    return [
        {
            "arm": arm,
            "case": row["case"],
            "region": row["region"],
            "dice": float(row["dice"]),
            "hd95_mm": float(row["hd95_mm"]),
            "seconds": seconds,
        }
        for row in found
        if row["stage"] == stage
    ]


def arguments(arm: str, work: Path, steps: int) -> list[str]:
    """What tells the arms apart; control B gets as many steps as source and target together."""
    if arm == "transferred":
        start = ["--init", str(work / "source"), "--src", SOURCE, "--dst", TARGET]
        return ["--strategy", "modality-transfer", *start, "--steps", str(steps)]
    domain = SOURCE if arm == "source" else TARGET
    total = 2 * steps if arm == "control-b" else steps
    return ["--strategy", "scratch", "--dst", domain, "--steps", str(total)]


def write(options: argparse.Namespace, rows: list[dict[str, Any]], cases: list[str]) -> None:
    """Means with n, every case, and the paired differences that say whether transfer helped."""

    def dice(arm: str, region: str) -> dict[str, float]:
        return {r["case"]: r["dice"] for r in rows if (r["arm"], r["region"]) == (arm, region)}

    summary = {
        arm: {
            region: interval(scores).to_json()
            for region in Brats.regions
            if (scores := dice(arm, region))
        }
        for arm in ARMS
    }
    differences = {}
    for control in ("control-a", "control-b"):
        ours, theirs = dice("transferred", "WT"), dice(control, "WT")
        if theirs and ours.keys() == theirs.keys():
            differences[f"transferred - {control}, WT"] = paired_difference(ours, theirs).to_json()
    result = {
        "machine": describe(),
        "synthetic": False,
        "steps_per_side": options.steps,
        "cases": cases,
        "dice": summary,
        "paired": differences,
        "rows": rows,
    }
    with replacing(options.out) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
