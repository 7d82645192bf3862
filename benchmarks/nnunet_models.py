"""`medtl predict` against `nnUNetv2_predict` with the same model of nnU-Net: masks, time, memory.

    python benchmarks/nnunet_models.py MODEL --images FOLDER --peer PYTHON --cases 26

MODEL is the model folder that nnunetv2 wrote; fold 0 is taken. `strength.py nnunet` writes one.
FOLDER holds CASE_0000.nii.gz files, CASE_0001.nii.gz and so on. Both commands run whole, one after
the other on the same cores, with a step of half a window and, unless --no-mirroring is given, with
mirroring.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import fmean

import nibabel
import numpy as np
from machine import describe
from real_cases import ROOT, keep, timed

from medtl.plugins.catalog import load_catalog
from medtl.transfer.transfer import transfer
from medtl.transfer.weights import read_weights, resolve_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--peer", type=Path, required=True, help="Python with nnunetv2")
    parser.add_argument("--cases", type=int, default=26)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--no-mirroring", dest="mirroring", action="store_false")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/nnunet_models.json")
    options = parser.parse_args()
    options.model = options.model.resolve()
    with tempfile.TemporaryDirectory() as work:
        images, ours, theirs = (Path(work, name) for name in ("images", "ours", "theirs"))
        images.mkdir()
        for first in sorted(options.images.glob("*_0000.nii.gz"))[: options.cases]:
            for path in options.images.glob(first.name.replace("_0000.", "_*.")):
                (images / path.name).symlink_to(path.resolve())
        own = [sys.executable, "-m", "medtl", "predict", options.model, "-i", images, "-o", ours]
        own += ["--device", "cpu", "--precision", options.precision]
        peer = [options.peer.parent / "nnUNetv2_predict_from_modelfolder", "-m", options.model]
        peer += ["-i", images, "-o", theirs, "-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1"]
        if options.mirroring:
            own.append("--tta")
        else:
            peer.append("--disable_tta")
        rows = {"medtl": timed(own), "nnU-Net": timed(peer, without_path=True)}
        agreement = compare(ours, theirs)
    name = f"{options.model.parts[-4]}, {options.precision}"
    name += "" if options.mirroring else ", without mirroring"
    found = {
        "machine": describe(),
        "receipt": receipt(options.model),
        "cases": len(agreement),
        "least_dice": min(agreement.values()),
        "mean_dice": fmean(agreement.values()),
        "commands": rows,
        "times_faster": rows["nnU-Net"]["seconds"] / rows["medtl"]["seconds"],
    }
    keep(options.out, name, found)
    print(json.dumps(found, indent=1))


def compare(ours: Path, theirs: Path) -> dict[str, float]:
    """Per case, the least Dice of a label between the two masks; 1 where neither has it."""
    agreement = {}
    for path in sorted(theirs.glob("*.nii.gz")):
        pair = [
            np.asanyarray(nibabel.load(folder / path.name).dataobj) for folder in (ours, theirs)
        ]
        dice = []
        for label in sorted((set(np.unique(pair[1])) | set(np.unique(pair[0]))) - {0}):
            one, other = pair[0] == label, pair[1] == label
            dice.append(2 * np.sum(one & other) / (np.sum(one) + np.sum(other)))
        agreement[path.name] = float(min(dice, default=1.0))
    return agreement


def receipt(model: Path) -> float:
    """The share of the network's parameters that come from the checkpoint."""
    weights = read_weights(resolve_weights(str(model)))
    record = weights.network
    network = (
        load_catalog()
        .networks[record["name"]]
        .load()(
            in_channels=record["in_channels"],
            out_channels=record["out_channels"],
            width=record["width"],
            **record["options"],
        )
    )
    found = transfer(network, weights, modalities=weights.modalities, regions=weights.regions)
    return found.transferred


if __name__ == "__main__":
    main()
