"""Do real cases give the same model whatever layout they lie in?

The BraTS cases are rearranged, in a temporary folder, as nnU-Net raw, MSD, a MONAI datalist and a
table. ``segmentation`` trains on each a few steps with the settings that ``brats`` trains with, and
both segment all cases: the weights must be bit-identical, the masks equal.

    python benchmarks/own_data.py              # 5 minutes on two cores
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from inputs.own_layouts import LAYOUTS, rearrange, region_values
from machine import describe
from real_cases import ROOT, add_data_option, sorted_cases

from medtl.data.case import Case

SMALL = ("--strategy", "scratch", "--dst", "flair,t1,t1ce,t2", "--width", "8", "--spacing", "3")
SMALL += ("--transforms", "brain-mr", "--batch-size", "1", "--set", "patch_size=48,64,48")
SMALL += ("--set", "val_fraction=0", "--precision", "fp32", "--device", "cpu", "--quiet")
SMALL += ("--network", "unet", "--lr", "0.002")  # of brats, whose defaults are others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_option(parser)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/own_data.json")
    options = parser.parse_args()
    cases = sorted_cases(options.data)
    with tempfile.TemporaryDirectory() as work:
        rows = compare(options.data, cases, Path(work), options.steps)
    result = {
        "machine": describe(),
        "steps": options.steps,
        "cases": [case.id for case in cases],
        "all_identical": all(row["same_weights"] and row["same_masks"] for row in rows),
        "layouts": rows,
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print("all identical:", result["all_identical"])


def compare(data: Path, cases: Sequence[Case], work: Path, steps: int) -> list[dict[str, Any]]:
    """Train and predict through ``brats`` and through each layout; one row per layout."""
    layouts = rearrange(cases, work)
    words = {"brats": ("brats", "--data", str(data)), **layouts}
    found, seconds = {}, {}
    for name, task in words.items():
        started = perf_counter()
        last = ("--steps", str(steps), "--test-cases", cases[-1].id)
        medtl("train", *task, *SMALL, *last, "--out", str(work / name / "run"))
        run, out = work / name / "run", work / name / "masks"
        fixed = ("--precision", "fp32", "--device", "cpu", "--quiet")
        medtl("predict", str(run), "-i", task[2], "-o", str(out), *fixed)
        found[name] = weights(run), masks(out, cases, name)
        seconds[name] = round(perf_counter() - started, 1)
    rows = []
    for layout in LAYOUTS:
        row = {
            "layout": layout,
            "same_weights": equal(found[layout][0], found["brats"][0]),
            "same_masks": equal(found[layout][1], found["brats"][1]),
            "voxels_predicted": sum(int(mask.sum()) for mask in found[layout][1].values()),
            "seconds": seconds[layout],
            "seconds_brats": seconds["brats"],
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def medtl(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "medtl", *words], check=True)


def weights(run: Path) -> dict[str, Any]:
    from medtl.transfer.weights import BEST, read_weights

    return {n: t.numpy() for n, t in read_weights(run / "scratch" / BEST).tensors.items()}


def masks(out: Path, cases: Sequence[Case], name: str) -> dict[str, Any]:
    """Each region of each case, decoded by the values that its label map was written with."""
    import nibabel as nib
    import numpy as np

    together = region_values(cases)
    found = {}
    for case in cases:
        label_IJK = np.asanyarray(nib.load(out / f"{case.id}.nii.gz").dataobj)
        for region, values in (case.regions if name == "brats" else together).items():
            found[f"{case.id} {region}"] = np.isin(label_IJK, values)
    return found


def equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    import numpy as np

    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


if __name__ == "__main__":
    main()
