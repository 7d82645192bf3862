"""How strong is medtl's default segmentation, and how fast? Against nnU-Net at equal minutes.

Hippocampus (130 cases of MSD Task04; anterior, posterior): five fixed folds, ``medtl train`` on
four, scored on the fifth, each case on its native grid. The folds and the recipe do not depend on
the scores: settings are chosen by ``select`` on fold 0's own validation cases, its test cases stay
unread.

    python benchmarks/strength.py select --minutes 15 -- --network plain-unet --width 16
    python benchmarks/strength.py hippocampus --folds 0 --minutes 15
    python benchmarks/strength.py thick --minutes 15      # resampled to 1x1x4 mm, three seeds
    python benchmarks/strength.py nnunet --minutes 15 --peer PYTHON   # an environment of its own
    python benchmarks/strength.py nnunet --minutes 13 --times 3 --peer PYTHON    # nnU-Net: 39

A run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import nibabel
import numpy as np
from machine import describe
from real_cases import (
    ROOT,
    folder_name,
    keep,
    link,
    medtl,
    nnunet_fold,
    parse,
    shared_data,
    write_raw,
)
from scipy.ndimage import zoom

from medtl.evaluation.intervals import interval, paired_difference
from medtl.evaluation.metrics import mask_dice

FOLDS = 5

#: mm between the slices of the thick copy.
THICK_MM = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("select", "hippocampus", "thick", "nnunet"))
    parser.add_argument("--data", type=Path, default=shared_data() / "hippocampus")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--folds", default="0,1,2,3,4")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--peer", type=Path, help="Python with nnunetv2 and this torch")
    parser.add_argument("--times", type=float, default=1, help="of the minutes, for nnU-Net")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "strength")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/strength.json")
    options = parse(parser)
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not there; set MEDTL_SHARED_DATA or give --data")
    folds = [int(fold) for fold in options.folds.split(",")]
    if options.what == "select":
        select(options)
    elif options.what == "hippocampus":
        for fold in folds:
            row = score(run(options.data, fold, options), {"fold": fold})
            record(options, f"hippocampus, {options.minutes:g} minutes", row)
    elif options.what == "thick":
        thick(options, folds[0])
    else:
        against_nnunet(options, folds[0])


def run(
    data: Path, fold: int, options: argparse.Namespace, words: Sequence[str] = (), seed: int = 0
) -> Path:
    """A fold's run: all cases of the others are trained on, the last step is kept."""
    every = [*options.words, *words]
    out = options.work / folder_name(data.name, f"{options.minutes:g}", fold, seed, *every)
    if (out / "summary.json").is_file():
        return out
    if (out / "config.yaml").is_file():
        medtl(["train", "--resume", str(out)])
        return out
    split = ["--folds", str(FOLDS), "--fold", str(fold), "--set", "val_fraction=0"]
    budget = ["--minutes", f"{options.minutes:g}", "--seed", str(seed), "--out", str(out)]
    started = perf_counter()
    medtl(["train", "segmentation", "--data", str(data), *split, *budget, *every])
    (out / "seconds.json").write_text(json.dumps(perf_counter() - started))
    return out


def select(options: argparse.Namespace) -> None:
    """Train fold 0 with its own validation cases; what is tested is neither scored nor read."""
    out = options.work / folder_name("select", f"{options.minutes:g}", *options.words)
    split = ["--folds", str(FOLDS), "--fold", "0", "--minutes", f"{options.minutes:g}"]
    if not (out / "stages.json").is_file():
        words = [*split, "--out", str(out), *options.words]
        medtl(["train", "segmentation", "--data", str(options.data), *words])
    rows = [json.loads(line) for line in (out / "scratch" / "metrics.jsonl").open()]
    scores = [row for row in rows if "validation" in row]
    for row in scores:
        print(row["step"], {name: round(dice, 4) for name, dice in row["validation"].items()})


def score(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Mean Dice of both labels per case, on the native grid."""
    with (out / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    stages = json.loads((out / "stages.json").read_text())
    cases: dict[str, list[float]] = {}
    for row in rows:
        if row["stage"] == stages[-1]:
            cases.setdefault(row["case"], []).append(float(row["dice"]))
    dice = {case: fmean(each) for case, each in sorted(cases.items())}
    log = [json.loads(line) for line in (out / stages[-1] / "metrics.jsonl").open()]
    whole = out / "seconds.json"
    return {
        **facts,
        "run": out.name,
        "steps": log[-1]["step"],
        "seconds_in_all": json.loads(whole.read_text()) if whole.is_file() else None,
        "mean": interval(dice).to_json(),
        "cases": dice,
    }


def record(options: argparse.Namespace, key: str, row: dict[str, Any]) -> None:
    """Add a row to the results; the mean over all rows of the key stands beside them."""
    part = read_results(options).get(key, {"machine": describe(), "rows": []})
    part["rows"] = [each for each in part["rows"] if each["run"] != row["run"]] + [row]
    pooled = {case: dice for each in part["rows"] for case, dice in each["cases"].items()}
    part["cases"], part["mean"] = len(pooled), interval(pooled).to_json()
    keep(options.out, key, part)
    print(key, row["run"], "mean Dice", round(fmean(row["cases"].values()), 4))


def thick(options: argparse.Namespace, fold: int) -> None:
    """Planned per axis against cubes of the same volume, on slices 4 mm apart.

    Cubes with ``unet`` are what was planned before networks were planned per axis.
    """
    data = options.work / "thick"
    if not (data / "dataset.json").is_file():
        write_thick(options.data, data)
    cube_mm = round(THICK_MM ** (1 / 3), 2)
    cubes = ("--spacing", f"{cube_mm:g}")
    arms = {"per axis": (), "cubes": cubes, "unet in cubes": ("--network", "unet", *cubes)}
    dice: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
    for seed in map(int, options.seeds.split(",")):
        for arm, words in arms.items():
            row = score(run(data, fold, options, words, seed), {"arm": arm, "seed": seed})
            record(options, f"thick {arm}, {options.minutes:g} minutes", row)
            for case, value in row["cases"].items():
                dice[arm].setdefault(case, []).append(value)
    means = {arm: {case: fmean(each) for case, each in dice[arm].items()} for arm in arms}
    for other in ("cubes", "unet in cubes"):
        difference = paired_difference(means["per axis"], means[other]).to_json()
        keep(options.out, f"thick, per axis - {other}, {options.minutes:g} minutes", difference)
        print(f"per axis - {other}", json.dumps(difference))


def write_thick(data: Path, out: Path) -> None:
    """A copy whose slices are the mean of four, and whose labels are those at their centres."""
    content = json.loads((data / "dataset.json").read_text())
    for item in content["training"]:
        for key, labels in (("image", False), ("label", True)):
            image = nibabel.load(data / item[key])
            stored = np.asanyarray(image.dataobj)
            count = max(1, round(stored.shape[2] * float(image.header.get_zooms()[2]) / THICK_MM))
            if labels:
                middle = (np.arange(count) + 0.5) * stored.shape[2] / count
                moved = stored[:, :, middle.astype(int)]
            else:
                factors = (1, 1, count / stored.shape[2])
                moved = zoom(
                    stored.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest"
                )
            affine = image.affine.copy()
            affine[:3, 2] *= stored.shape[2] / count
            path = out / item[key]
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(moved, affine), path)
    (out / "dataset.json").write_text(json.dumps(content))


def against_nnunet(options: argparse.Namespace, fold: int) -> None:
    """The fold by nnU-Net itself, in its own environment, and the paired difference to medtl's
    result, which is trained for unless it is recorded."""
    if options.peer is None:
        sys.exit("--peer names the Python of an environment with nnunetv2")
    key, minutes = f"hippocampus, {options.minutes:g} minutes", options.minutes * options.times
    known = read_results(options).get(key, {"rows": []})["rows"]
    ours = next((row for row in known if row["fold"] == fold), None)
    if ours is None:
        ours = score(run(options.data, fold, options), {"fold": fold})
        record(options, key, ours)
    out = options.work / f"nnunet-{minutes:g}-{fold}"
    truth = write_hippocampus(options.data, out / "raw" / "Dataset004_Hippocampus")
    done = nnunet_fold(options.peer, out, minutes, list(ours["cases"]))
    dice = {
        case: label_dice(out / "masks" / f"{case}.nii.gz", truth[case]) for case in ours["cases"]
    }
    theirs = {**done, "mean": interval(dice).to_json(), "cases": dice}
    row = {"run": out.name, "fold": fold, **theirs}
    record(options, f"nnU-Net, {minutes:g} minutes", row)
    difference = paired_difference(ours["cases"], theirs["cases"]).to_json()
    keep(options.out, f"medtl - nnU-Net, {options.minutes:g} and {minutes:g} minutes", difference)
    print("medtl - nnU-Net", json.dumps(difference))


def write_hippocampus(data: Path, raw: Path) -> dict[str, Path]:
    """The data set under nnU-Net's names; returns the labels of each case."""
    content = json.loads((data / "dataset.json").read_text())["training"]
    found = {Path(item["image"]).name.removesuffix(".nii.gz"): item for item in content}
    images = {case: [data / item["image"]] for case, item in found.items()}
    write_raw(raw, images, ["MRI"], {"background": 0, "Anterior": 1, "Posterior": 2})
    truth = {case: data / item["label"] for case, item in found.items()}
    for case, path in truth.items():
        link(raw / "labelsTr" / f"{case}.nii.gz", path)
    return truth


def label_dice(mask: Path, truth: Path) -> float:
    """Mean Dice of both labels."""
    found, true = (np.asanyarray(nibabel.load(path).dataobj) for path in (mask, truth))
    return fmean(mask_dice(found == label, true == label) for label in (1, 2))


def read_results(options: argparse.Namespace) -> dict[str, Any]:
    return dict(json.loads(options.out.read_text())) if options.out.is_file() else {}


if __name__ == "__main__":
    main()
