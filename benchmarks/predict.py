"""`medtl predict` as a whole: against a plain MONAI script, and on a volume that is too large.

    python benchmarks/predict.py cases            # ten BraTS cases; trains a run first
    python benchmarks/predict.py cases --run RUN  # with the last stage of a run
    python benchmarks/predict.py large            # 512x512x600 voxels, 30 regions

``cases``: a network at 1 mm with windows of 128 voxels; the whole commands with the same weights,
one after the other on the same cores, in turns, medtl in its own precision. The script
(``peers/monai_predict.py``) has MONAI's transforms, sliding window, ``Invertd`` and ``SaveImaged``.
``large``: a small run on 30 regions is trained, and the memory of predicting one large volume is
measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import numpy as np
from inputs.large_ct import LARGE, REGIONS, write_large, write_training
from machine import describe
from real_cases import ROOT, add_data_option, keep, medtl, sorted_cases, timed, train

from medtl.data.case import Case
from medtl.evaluation.metrics import mask_dice

PEER = Path(__file__).parent / "peers" / "monai_predict.py"
CASES = 10
MODALITIES = "flair,t1,t1ce,t2"
STEPS, LAST_STEPS = 120, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_option(parser)
    parser.add_argument("what", choices=("cases", "large"))
    parser.add_argument("--run", type=Path, help="of brats; trained where none is given")
    parser.add_argument("--network", default="plain-unet")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "predict")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/predict.json")
    options = parser.parse_args()
    options.work = options.work.resolve()
    found = against_monai(options) if options.what == "cases" else large(options)
    what = f"cases, {options.network}" if options.what == "cases" else options.what
    keep(options.out, what, {"machine": describe(), **found})
    print(json.dumps(found, indent=1))


def against_monai(options: argparse.Namespace) -> dict[str, Any]:
    """Medians of both commands, and the Dice of each region between their masks."""
    cases = sorted_cases(options.data)
    run = (options.run or trained(options)).resolve()
    stage = json.loads((run / "stages.json").read_text())[-1]
    rows: dict[str, list[dict[str, float]]] = {"medtl": [], "MONAI": []}
    with TemporaryDirectory() as work:
        images, ours, theirs = (Path(work, name) for name in ("images", "ours", "theirs"))
        link_cases(cases, images)
        device = ["--device", options.device]
        own = [sys.executable, "-m", "medtl", "predict", run, "-i", images, "-o", ours, *device]
        peer = [sys.executable, PEER, run / stage, images, theirs, options.device]
        for _ in range(options.repeats):
            rows["medtl"].append(timed(own))
            rows["MONAI"].append(timed(peer))
        dice = [agreement(ours, theirs, path.name) for path in sorted(images.iterdir())]
    seconds = {name: median(each["seconds"] for each in those) for name, those in rows.items()}
    memory = {name: median(each["peak_mb"] for each in those) for name, those in rows.items()}
    return {
        "cases": CASES,
        "commands": rows,
        "cases_per_minute": {name: 60 * CASES / each for name, each in seconds.items()},
        "times_faster": seconds["MONAI"] / seconds["medtl"],
        "memory_no_higher": memory["medtl"] <= memory["MONAI"],
        "mean_dice_with_monai": dict(
            zip(("WT", "TC", "ET"), map(fmean, zip(*dice, strict=True)), strict=True)
        ),
    }


def trained(options: argparse.Namespace) -> Path:
    """A run at 1 mm with patches of 128 voxels; most steps are taken on smaller ones."""
    small, run = (options.work / f"{options.network}-{edge}" for edge in (96, 128))
    words = ["--dst", MODALITIES, "--spacing", "1", "--batch-size", "1"]
    words += ["--network", options.network]
    first = ["--strategy", "scratch", "--steps", str(STEPS)]
    then = ["--strategy", "fine-tune", "--init", str(small), "--src", MODALITIES]
    then += ["--steps", str(LAST_STEPS)]
    for out, edge, more in ((small, 96, first), (run, 128, then)):
        if not (out / "stages.json").is_file():
            patch = ["--set", f"patch_size={edge},{edge},{edge}"]
            train(options.data, [], out, [*words, *more, *patch])
    return run


def link_cases(cases: Sequence[Case], folder: Path) -> None:
    """Ten cases in the layout of BraTS 2021; there are fewer, so some come under two names."""
    for number in range(CASES):
        case = cases[number % len(cases)]
        own = folder / f"BraTS2021_{number:05}"
        own.mkdir(parents=True)
        for modality, file in case.images.items():
            (own / f"{own.name}_{modality}.nii.gz").symlink_to(file.path.resolve())


def agreement(ours: Path, theirs: Path, case: str) -> list[float]:
    """Dice of WT, TC and ET between both masks."""
    label = np.asanyarray(nibabel.load(ours / f"{case}.nii.gz").dataobj)
    (path,) = theirs.glob(f"{case}_*_seg.nii.gz")
    peer = np.asanyarray(nibabel.load(path).dataobj).reshape(*label.shape, 3) > 0.5
    values = ((1, 2, 4), (1, 4), (4,))
    return [mask_dice(np.isin(label, own), peer[..., n]) for n, own in enumerate(values)]


def large(options: argparse.Namespace) -> dict[str, Any]:
    """Memory and time of one volume, and how many regions were found in it."""
    run = options.work / "large-run"
    with TemporaryDirectory() as folder:
        work = Path(folder)
        if not (run / "stages.json").is_file():
            data = write_training(work / "training")
            split = ["--set", "test_fraction=0", "--set", "val_fraction=0"]
            words = ["--strategy", "scratch", "--steps", "60", "--out", str(run), *split]
            medtl(["train", "segmentation", "--data", str(data), *words])
        images, out = write_large(work / "images"), work / "out"
        own = [sys.executable, "-m", "medtl", "predict", run, "-i", images, "-o", out]
        row = timed([*own, "--device", options.device])
        label = np.asanyarray(nibabel.load(out / "large.nii.gz").dataobj)
    return {
        "voxels": LARGE,
        "regions": REGIONS,
        "predicted_regions": len(np.unique(label)) - 1,
        "command": row,
        "under_4_gb": row["peak_mb"] * 1024**2 < 4e9,
    }


if __name__ == "__main__":
    main()
