"""The seven readers: which good inputs each is given, how they are damaged, what reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from damage import folders, images, weights
from damage.good import HALF, ON, PICTURES, VOLUMES

Mutate = Callable[[Path, Random, Path], str]


@dataclass(frozen=True, slots=True)
class Reader:
    """Templates (folders of the good inputs) with the commands that read each, and the damage."""

    commands: dict[str, tuple[str, ...]]
    mutate: Mutate


_VOLUMES, _PICTURES, _ON = (" ".join(words) for words in (VOLUMES, PICTURES, ON))
_SEGMENT = f"train segmentation {_VOLUMES}"
_TABLE = f"{_SEGMENT} --data {{in}}/cases.csv"
_CLASSES = f"train classification --data {{in}} {_PICTURES}"
_TUNE = f"{_SEGMENT} --data {{base}}/table/cases.csv --strategy fine-tune --init %s"
_LISTED = "train segmentation --data {in}/%s " + _VOLUMES.replace("--labels a=1 ", "")
CASES = (
    f"{_TABLE} --dry-run",
    f"{_TABLE} --steps 1 --out {{out}}",
    f"predict {{base}}/seg -i {{in}}/cases.csv -o {{out}} {_ON} -q",
    f"evaluate {{base}}/seg --data {{in}}/cases.csv --cases all {_ON} --json",
    "explain {base}/seg -i {in}/cases.csv -o {out} --cases 2 --device cpu -q",
)
RUNS = (
    f"evaluate {{in}} {_ON}",
    f"predict {{in}} -i {{base}}/table/cases.csv -o {{out}} {_ON} -q",
    "train --resume {in} -q",
    "explain {in} -o {out} --cases 2 --device cpu",
    "weights inspect {in}",
    f"{_TUNE % '{in}'} --dry-run",
)
WEIGHTS = (
    "weights inspect {given}",
    "weights inspect {given} --network unet --width 4 --modalities mr --regions a",
    "weights inspect {given} --json",
    f"{_TUNE % '{given}'} --dry-run",
    f"{_TUNE % '{given}'} --steps 1 --out {{out}}",
)
FOLDERS = (
    f"{_CLASSES} --dry-run",
    f"{_CLASSES} --steps 1 --out {{out}}",
    f"predict {{base}}/cls -i {{in}} -o {{out}} {_ON} -q",
    "explain {base}/cls -i {in} -o {out} --cases 2 --device cpu -q",
)
LISTS = (
    f"{_LISTED % 'monai/datalist.json'} --labels a=1 --dry-run",
    f"{_LISTED % 'msd'} --dry-run",
    f"predict {{base}}/seg -i {{in}}/monai/datalist.json -o {{out}} {_ON} -q",
)
RAW = (f"{_LISTED % ''} --dry-run", f"{_LISTED % ''} --steps 1 --out {{out}}")
CONFIGS = ("train --config {in}/config.yaml --dry-run --out {out}",)
SHIFTS = (
    "shift segmentation --data {in}/cases.csv --labels a=1 --src mr --across site "
    "--features intensity --permutations 19 --no-attribute --json -q",
)
CLASS_TABLE = (f"train classification --data {{in}}/classes.csv {_PICTURES} --dry-run",)
READERS = {
    "nifti": Reader({"table": CASES}, images.nifti),
    "pictures": Reader({"pictures": FOLDERS}, images.picture),
    "weights": Reader({"weights": WEIGHTS}, weights.weights_file),
    "runs": Reader(
        {
            "seg": RUNS,
            "cls": (RUNS[0], *RUNS[3:5]),
            HALF: (RUNS[2],) * 3,
        },
        folders.run_folder,
    ),
    "configs": Reader({"config": CONFIGS}, folders.config),
    "tables": Reader({"sites": (*CASES, *SHIFTS), "classes": CLASS_TABLE}, folders.table),
    "datalists": Reader({"datalist": LISTS, "nnunet": RAW}, folders.datalist),
}
