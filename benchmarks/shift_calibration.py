"""Are the p-values of `medtl shift` what they say, and what does it find?

    python benchmarks/shift_calibration.py  # writes benchmarks/results/shift_calibration.json

Simulated cohorts without any shift: 20 + 20 patients, and 20 patients who lie in both domains, with
several rows per patient that depend on each other. The share of cohorts with p <= a must be within
3 binomial standard errors of a. Beside it, on the same cohorts, what must not be done: permuting
rows, and permuting the images of paired patients freely.

Power: phantom cohorts of two sites whose scanners differ more and more.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from medtl.catalog import load_catalog
from medtl.console import Reporter
from medtl.phantom import write_phantom
from medtl.shift.contract import Rows, ShiftMetric
from medtl.shift.design import arrange
from medtl.shift.measure import p_value, scored
from medtl.shift.pipeline import measure_shift
from medtl.shift.request import DRAWS, Request

ROOT = Path(__file__).resolve().parents[1]
PATIENTS, ROWS, FEATURES = 20, 6, 4
LEVELS = (0.01, 0.05, 0.1)
SHIFTS = (0.0, 0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class Simulated:
    rows: Rows
    source_U: Any


def unpaired(random: np.random.Generator) -> Simulated:
    """20 + 20 patients of one image each."""
    patient_U = np.arange(2 * PATIENTS)
    return simulated(random, patient_U, patient_U < PATIENTS)


def paired(random: np.random.Generator) -> Simulated:
    """20 patients of an image in each domain."""
    return simulated(random, np.repeat(np.arange(PATIENTS), 2), np.arange(2 * PATIENTS) % 2 == 0)


def simulated(random: np.random.Generator, patient_U: Any, source_U: Any) -> Simulated:
    """Rows that share a patient's and an image's offset, of heavy tails; alike in both domains."""
    unit_N = np.repeat(np.arange(len(patient_U)), ROWS)
    patient_PF = random.standard_t(4, size=(int(patient_U.max()) + 1, FEATURES))
    image_UF = random.normal(size=(len(patient_U), FEATURES))
    values_NF = (patient_PF[patient_U] + image_UF)[unit_N]
    values_NF += random.normal(size=values_NF.shape)
    values_NF = (values_NF - values_NF.mean(0)) / values_NF.std(0)
    return Simulated(Rows(values_NF, ("f/1",) * FEATURES, unit_N, patient_U), source_U)


def p_of(metric: ShiftMetric, sample: Simulated, draws: int, seed: int) -> float:
    source_U, patient_U = sample.source_U, sample.rows.patient_U
    scorer = metric.prepare(sample.rows)
    arrangements = arrange(source_U, ~source_U, patient_U, draws, seed)
    value = float(scorer(source_U[None], ~source_U[None])[0])
    null_R = scored(scorer, *arrangements.sides(source_U, ~source_U, patient_U))
    return p_value(value, null_R, arrangements.exhaustive)


def as_told(sample: Simulated) -> Simulated:
    return sample


def rows_alone(sample: Simulated) -> Simulated:
    """Wrong: every row a patient of its own."""
    rows = sample.rows
    own = np.arange(len(rows.values_NF))
    return Simulated(Rows(rows.values_NF, rows.names, own, own), sample.source_U[rows.unit_N])


def images_alone(sample: Simulated) -> Simulated:
    """Wrong where patients are paired: every image a patient of its own."""
    rows = sample.rows
    own = np.arange(rows.units)
    return Simulated(Rows(rows.values_NF, rows.names, rows.unit_N, own), sample.source_U)


#: Name -> design, how the sample is treated, and whether that is right.
CASES: dict[str, tuple[Callable[..., Simulated], Callable[[Simulated], Simulated], bool]] = {
    "unpaired, patients permuted": (unpaired, as_told, True),
    "paired, labels exchanged within patients": (paired, as_told, True),
    "unpaired, rows permuted (wrong)": (unpaired, rows_alone, False),
    "paired, rows permuted (wrong)": (paired, rows_alone, False),
    "paired, images permuted freely (wrong)": (paired, images_alone, False),
}


def calibration(metric: ShiftMetric, cohorts: int, draws: int) -> list[dict[str, Any]]:
    table = []
    for name, (make, treat, right) in CASES.items():
        p_C = np.array(
            [
                p_of(metric, treat(make(np.random.default_rng([2, seed]))), draws, seed)
                for seed in range(cohorts)
            ]
        )
        row: dict[str, Any] = {"test": name, "right": right}
        for level in LEVELS:
            error = (level * (1 - level) / cohorts) ** 0.5
            rate = float((p_C <= level).mean())
            row[f"p<={level}"] = round(rate, 4)
            row[f"off_by_standard_errors_{level}"] = round((rate - level) / error, 2)
        row["calibrated"] = all(abs(row[f"off_by_standard_errors_{a}"]) <= 3 for a in LEVELS)
        table.append(row)
        print(json.dumps(row), flush=True)
    return table


def power(metric: str, cohorts: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Share of phantom cohorts with p <= .05 between two sites, by how far the scanners differ."""
    table = []
    for cases in sizes:
        for shift in SHIFTS:
            found = [phantom_p(metric, cases, shift, seed) for seed in range(cohorts)]
            row = {
                "patients": [cases // 2, cases // 2],
                "shift": shift,
                "cohorts": cohorts,
                "share_found": round(float(np.mean([p <= 0.05 for p, _ in found])), 3),
                "median_value": round(float(np.median([value for _, value in found])), 4),
            }
            table.append(row)
            print(json.dumps(row), flush=True)
    return table


def phantom_p(metric: str, cases: int, shift: float, seed: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as work:
        data = write_phantom(
            Path(work) / "data", cases=cases, size=24, sites=2, seed=seed, shift=shift, workers=1
        )
        request = Request(
            "brats", data, src="site:S1", dst="site:S2", metrics=(metric,), attribute=False
        )
        first = measure_shift(request, load_catalog(), Reporter(quiet=True)).rows[0]
    assert first.p is not None
    assert first.value is not None
    return first.p, first.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--metric", default="mmd")
    parser.add_argument("--cohorts", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--phantoms", type=int, default=40, help="cohorts per point of the curve")
    default = ROOT / "benchmarks/results/shift_calibration.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    metric: ShiftMetric = load_catalog().shift_metrics[options.metric].load()()
    table = calibration(metric, options.cohorts, options.draws)
    result = {
        "machine": describe(),
        "metric": metric.name,
        "cohorts": options.cohorts,
        "draws": options.draws,
        "patients": PATIENTS,
        "rows_per_image": ROWS,
        "kept": all(row["calibrated"] == row["right"] for row in table),
        "calibration": table,
        "power_on_phantoms": power(metric.name, options.phantoms, (12, 24)),
        "synthetic": True,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    if not result["kept"]:
        sys.exit("a right test is not calibrated, or a wrong one is")


if __name__ == "__main__":
    main()
