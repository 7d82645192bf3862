"""Does transfer from FLAIR+T1ce to T1+T2 help on real BraTS cases? Three folds, four arms.

Cases are sorted by name and two are left out per fold; the arms of a fold are `medtl train` runs
on the others: the source model, the model transferred from it, control A (from scratch, the
target's steps) and control B (source + target steps). The source model trains for the minutes; the
other arms take its steps. With so few patients the last step is kept, so the left-out cases choose
no checkpoint; the default recipe was chosen with an eye on them (docs/decisions/0004), which makes
its scores optimistic. Dice is taken on the native 1 mm grid.

    python benchmarks/real_brats.py            # $MEDTL_SHARED_DATA/brats, else ../shared/data/brats
    python benchmarks/real_brats.py --minutes 1 --folds 0
    python benchmarks/real_brats.py --folds 0 --peer PYTHON    # nnU-Net on the first fold, too

A run that was interrupted goes on where it stopped: finished arms are read, not trained again.
What follows `--` is given to all arms.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import nibabel
import numpy as np
from machine import describe
from real_cases import (
    ROOT,
    add_data_option,
    folder_name,
    nnunet_fold,
    parse,
    sorted_cases,
    train,
    write_raw,
)

from medtl.data.case import Case
from medtl.data.modality import Modality
from medtl.evaluation.intervals import interval, paired_difference
from medtl.evaluation.metrics import mask_dice
from medtl.runtime.files import replacing
from medtl_brats.task import Brats

SOURCE, TARGET = "flair,t1ce", "t1,t2"
#: nnU-Net on the domain of the source and of the target.
PEERS = {"nnunet-source": SOURCE, "nnunet-target": TARGET}
ARMS = ("source", "transferred", "control-a", "control-b")
MINUTES = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_option(parser)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of the source model")
    parser.add_argument("--folds", default="0,1,2")
    parser.add_argument("--peer", type=Path, help="Python with nnunetv2 and this torch")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "real-brats")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/real_brats.json")
    options = parse(parser)
    cases = [case.id for case in sorted_cases(options.data)]
    folds = [cases[2 * fold : 2 * fold + 2] for fold in map(int, options.folds.split(","))]
    if any(len(left_out) < 2 for left_out in folds):
        sys.exit(f"{options.data} has {len(cases)} cases: folds 0 to {len(cases) // 2 - 1}")
    rows: list[dict[str, Any]] = []
    for left_out in folds:
        work = options.work / folder_name(f"{options.minutes:g}", *left_out, *options.words)
        for arm in ARMS:
            rows += run_arm(arm, left_out, work, options)
            write(options, rows, cases)
    if options.peer:
        rows += run_nnunet(folds[0], options)
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
        words = [*arguments(arm, work, options.minutes), *options.words]
        train(options.data, left_out, out, words)
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


def arguments(arm: str, work: Path, minutes: float) -> list[str]:
    """What tells the arms apart; control B gets as many steps as source and target together."""
    if arm == "source":
        return ["--strategy", "scratch", "--dst", SOURCE, "--minutes", f"{minutes:g}"]
    steps = steps_of(work / "source")
    if arm == "transferred":
        start = ["--init", str(work / "source"), "--src", SOURCE, "--dst", TARGET]
        return ["--strategy", "modality-transfer", *start, "--steps", str(steps)]
    total = 2 * steps if arm == "control-b" else steps
    return ["--strategy", "scratch", "--dst", TARGET, "--steps", str(total)]


def steps_of(run: Path) -> int:
    """The steps of a run's last stage."""
    stage = json.loads((run / "stages.json").read_text())[-1]
    lines = (run / stage / "metrics.jsonl").read_text().splitlines()
    return int(json.loads(lines[-1])["step"])


def run_nnunet(left_out: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """nnU-Net's own plans and trainer on both domains, for the minutes of the source model."""
    rows = []
    cases = sorted_cases(options.data)
    for number, (arm, domain) in enumerate(PEERS.items(), start=5):
        out = options.work / f"{arm}-{options.minutes:g}-{'-'.join(left_out)}"
        raw = out / "raw" / f"Dataset{number:03}_Brats"
        write_brats(cases, domain.split(","), raw)
        done = nnunet_fold(options.peer, out, options.minutes, left_out)
        for case in left_out:
            found, true = (
                np.asanyarray(nibabel.load(folder / f"{case}.nii.gz").dataobj)
                for folder in (out / "masks", raw / "labelsTr")
            )
            for value, region in enumerate(Brats.regions, start=1):
                dice = mask_dice(found >= value, true >= value)
                rows.append({"arm": arm, "case": case, "region": region, "dice": dice, **done})
    return rows


def write_brats(cases: Sequence[Case], modalities: Sequence[str], raw: Path) -> None:
    """The cases in nnU-Net's format: 1 whole tumour only, 2 core only, 3 enhancing tumour."""
    images = {case.id: [case.images[Modality(m)].path for m in modalities] for case in cases}
    values = range(1, len(Brats.regions) + 1)
    labels = {"background": 0}
    labels |= {name: list(values[n:]) for n, name in enumerate(Brats.regions)}
    write_raw(raw, images, modalities, labels, regions_class_order=list(values))
    for case in cases:
        assert case.target is not None
        image = nibabel.load(case.target.path)
        stored = np.asanyarray(image.dataobj)
        merged = np.zeros(stored.shape, np.uint8)
        for value, region in zip(values, Brats.regions, strict=True):
            merged[np.isin(stored, case.regions[region])] = value
        path = raw / "labelsTr" / f"{case.id}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(merged, image.affine), path)


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
        for arm in (*ARMS, *PEERS)
        if dice(arm, "WT")
    }
    differences = {}
    for control in ("control-a", "control-b"):
        ours, theirs = dice("transferred", "WT"), dice(control, "WT")
        if theirs and ours.keys() == theirs.keys():
            differences[f"transferred - {control}, WT"] = paired_difference(ours, theirs).to_json()
    result = {
        "machine": describe(),
        "synthetic": False,
        "minutes": options.minutes,
        "settings": options.words,
        "cases": cases,
        "dice": summary,
        "paired": differences,
        "rows": rows,
    }
    with replacing(options.out) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
