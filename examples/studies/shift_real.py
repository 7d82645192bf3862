"""Shift in real images: modalities of BraTS, hospitals of the LGG set, two parts of the Kaggle set.

    python examples/studies/shift_real.py            # $MEDTL_SHARED_DATA, else ../shared/data

Each comparison is one call of `medtl shift`. The result holds verdicts, attributions and rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from common import ROOT, describe, shared_data
from PIL import Image

from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Reporter
from medtl.runtime.files import replacing
from medtl.shift.request import ShiftRequest, build_request
from medtl.shift.run import measure_shift


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=shared_data())
    parser.add_argument(
        "--out", type=Path, default=ROOT / "examples/studies/results/shift_real.json"
    )
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": describe(), "synthetic": False}
    with tempfile.TemporaryDirectory() as folder:
        table = write_lgg_table(options.data / "lgg", Path(folder) / "lgg.csv")
        kaggle = options.data / "kaggle"
        requests = {
            "brats modalities": {
                "task": "brats",
                "data": options.data / "brats",
                "src": "flair,t1ce",
                "dst": "t1,t2",
            },
            "lgg hospitals": {
                "task": "classification",
                "data": table,
                "src": "green",
                "across": "site",
            },
            "kaggle parts": {
                "task": "classification",
                "src": f"data={kaggle / 'Training'}",
                "dst": f"data={kaggle / 'Testing_sample'}",
            },
        }
        for name, settings in requests.items():
            result[name] = measured(name, build_request(settings))
            with replacing(options.out) as temporary:
                temporary.write_text(json.dumps(result, indent=2) + "\n")


def measured(name: str, request: ShiftRequest) -> dict[str, Any]:
    started = perf_counter()
    reporter = Reporter()
    reporter.say(f"== {name}")
    shift = measure_shift(request, load_catalog(), reporter)
    for text in (*shift.notes, shift.verdict, *shift.advice):
        reporter.say(text)
    for table in shift.tables():
        reporter.show(table)
    return {
        "seconds": perf_counter() - started,
        "verdict": shift.verdict,
        "advice": list(shift.advice),
        "notes": list(shift.notes),
        "rows": shift.to_json(),
        "attribution": shift.attribution.to_json() if shift.attribution else None,
    }


def write_lgg_table(root: Path, path: Path) -> Path:
    """A row per slice: TCGA_<hospital>_<patient>_<date>_<slice>.tif."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "image", "class", "patient", "site"))
        for image in sorted(root.rglob("*.tif")):
            if image.stem.endswith("_mask"):
                continue
            _, site, patient, *_ = image.stem.split("_")
            with Image.open(image.with_name(f"{image.stem}_mask.tif")) as mask:
                label = "tumour" if mask.getextrema()[1] else "none"
            writer.writerow((image.stem, image.resolve(), label, f"{site}_{patient}", site))
    return path


if __name__ == "__main__":
    main()
