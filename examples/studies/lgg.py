"""How much do leaking slices flatter? `lgg-mri` by patients, by hospitals and by slices.

Each protocol has five folds (hospitals: one each); the predictions on all of them are pooled, and
AUROC and AUPRC of "tumor" are taken with intervals by patient (14 in the sample), whatever the
protocol took for one. Beside them a shortcut that sees no picture: how near a slice is to the
middle of its patient's. The maps of what the networks of ``patients`` look at (Grad-CAM of their
third encoder) are held against the masks of tumour, by patient.

    python examples/studies/lgg.py            # $MEDTL_SHARED_DATA/lgg, else ../shared/data/lgg
    python examples/studies/lgg.py --protocols patients,slices --steps 100

As many folds as cores train at a time. Finished ones are read, not trained again; one that was
interrupted goes on.

Axes: N slice, R replicate (a way to weigh the slices).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from arms import rows_of, side_by_side, tcga_patient, train
from common import ROOT, describe, medtl, shared_data
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from medtl.evaluation.intervals import set_intervals
from medtl.explain.localisation import SCORES, summarise_localisation
from medtl.runtime.files import replacing
from medtl_lgg_mri.task import HOSPITALS, PATIENTS, SLICES, WITH_TUMOR, LggMri

FOLDS = 5
PROTOCOLS = (PATIENTS, HOSPITALS, SLICES)
#: 6 x 6 places of 96 pixels; the last encoder has 3 x 3.
LAYER = "encoder3"
METRICS = {"auroc": roc_auc_score, "auprc": average_precision_score}
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=shared_data() / "lgg")
    parser.add_argument("--protocols", default=",".join(PROTOCOLS))
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--width", default="32")
    parser.add_argument("--size", default="96", help="pixels along each edge")
    parser.add_argument("--steps", default="300")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "lgg")
    parser.add_argument("--out", type=Path, default=ROOT / "examples/studies/results/lgg.json")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not there; set MEDTL_SHARED_DATA or give --data")
    settings = (options.network, options.width, options.size, options.steps)
    work = options.work / "-".join(settings)
    hospitals = len({case.site for case in LggMri().cases(options.data).cases})
    result: dict[str, Any] = {
        "machine": describe(),
        **dict(zip(("network", "width", "size", "steps"), settings, strict=True)),
    }
    for protocol in options.protocols.split(","):
        count = hospitals if protocol == HOSPITALS else FOLDS

        def tested(fold: int, protocol: str = protocol) -> list[Row]:
            return fold_rows(protocol, fold, work, options)

        rows = [row for fold in side_by_side(tested, range(count)) for row in fold]
        summary = json.loads((work / protocol / "0" / "summary.json").read_text())
        result["synthetic"] = summary["data"]["synthetic"]
        found = {"slices": len(rows), **scores(rows)}
        if len({row["case"] for row in rows}) < len(rows):
            sys.exit(f"{work}: a slice was tested twice; remove the folder")
        result.setdefault("protocols", {})[protocol] = found
        result["shortcut"] = scores(nearness(rows))
        if protocol == PATIENTS:
            runs = (work / protocol / str(fold) for fold in range(count))
            maps = [row for folded in side_by_side(explained, runs) for row in folded]
            result["localisation"] = {"layer": LAYER, **summarise_localisation(maps)}
        print(protocol, json.dumps(found))
        with replacing(options.out) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n")
    print("shortcut", json.dumps(result["shortcut"]))


def fold_rows(protocol: str, fold: int, work: Path, options: argparse.Namespace) -> list[Row]:
    """Train one fold, or read what it left behind: test slices and their probability of tumor."""
    run = train(
        work / protocol / str(fold),
        *("lgg-mri", "--data", options.data, "--protocol", protocol),
        *(() if protocol == HOSPITALS else ("--folds", FOLDS)),
        *("--fold", fold, "--network", options.network, "--width", options.width),
        *("--set", f"patch_size={options.size},{options.size}", "--steps", options.steps),
    )
    return [
        {
            "case": row["case"],
            "patient": tcga_patient(row["case"]),
            "tumor": row["class"] == WITH_TUMOR,
            "score": row["probability"][WITH_TUMOR],
        }
        for row in rows_of(run)
    ]


def explained(run: Path) -> list[Row]:
    """What the run's network looks at in the tumours of its test patients, by slice."""
    out = run.with_name(f"{run.name}-explained")
    medtl(["explain", str(run), "--layer", LAYER, "--out", str(out), "--quiet"])
    with (out / "saliency.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["dice"]]
    return [
        {"patient": row["patient"], **{name: float(row[name]) for name in SCORES if row[name]}}
        for row in rows
    ]


def nearness(rows: Sequence[Row]) -> list[Row]:
    """The same slices, scored by how near they are to the middle of their patient's slices."""
    numbers: dict[str, list[int]] = {}
    for row in rows:
        numbers.setdefault(row["patient"], []).append(number(row))
    return [
        {**row, "score": -abs(number(row) - np.mean(own)) / (np.ptp(own) or 1)}
        for row in rows
        for own in [numbers[row["patient"]]]
    ]


def number(row: Row) -> int:
    return int(row["case"].rpartition("_")[2])


def scores(rows: Sequence[Row]) -> dict[str, Any]:
    """AUROC and AUPRC of all slices, with intervals by patient."""
    truth_N = np.array([row["tumor"] for row in rows])
    score_N = np.array([row["score"] for row in rows])
    patients = [row["patient"] for row in rows]

    def measure(weights_RN: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {
            name: np.array([metric(truth_N, score_N, sample_weight=row) for row in weights_RN])
            for name, metric in METRICS.items()
        }

    everybody = dict.fromkeys(METRICS, len(set(patients)))
    found = set_intervals(measure, patients, dict.fromkeys(METRICS, (0.0, 1.0)), everybody)
    return {name: interval.to_json() for name, interval in found.items()}


if __name__ == "__main__":
    main()
