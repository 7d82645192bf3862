"""Calibration and power of the p-values of `medtl shift`.

    python examples/studies/shift_calibration.py

It writes examples/studies/results/shift_calibration.json.

Calibration: simulated cohorts without any shift, of 20 + 20 patients and of 20 patients in both
domains, with several dependent rows per patient. The share of cohorts with p <= a must be within
3 binomial standard errors of a. For comparison, two wrong tests on the same cohorts: permuting
rows, and permuting the images of paired patients freely.

Uneven designs, for every metric: different numbers of images or rows per patient in the two
domains. One of them has no calibrated test and is only reported: domains of different sizes, with
different numbers of images per patient.

Power: phantom cohorts of two sites with increasing differences between the scanners.
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
from common import ROOT, describe

from medtl.data.phantom.cohort import write_phantom
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Reporter
from medtl.shift.contract import Rows, ShiftMetric
from medtl.shift.request import PERMUTATIONS, build_request
from medtl.shift.run import measure_shift
from medtl.shift.stats.metric_result import p_value, score_in_chunks
from medtl.shift.stats.permutations import Comparison, draw_permutations

PATIENTS, ROWS, FEATURES = 20, 6, 4
LEVELS = (0.01, 0.05, 0.1)
SHIFTS = (0.0, 0.5, 1.0, 2.0, 3.0)
UNEVEN_COHORTS, UNEVEN_DRAWS = 300, 199
#: Of about 200 rates, the largest rarely exceeds its level by more standard errors.
UNEVEN_ERRORS = 4


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


def simulated(
    random: np.random.Generator, patient_U: Any, source_U: Any, rows_U: Any = ROWS
) -> Simulated:
    """Rows that share a patient's and an image's offset, with heavy tails; no shift."""
    unit_N = np.repeat(np.arange(len(patient_U)), rows_U)
    patient_PF = random.standard_t(4, size=(int(patient_U.max()) + 1, FEATURES))
    image_UF = random.normal(size=(len(patient_U), FEATURES))
    values_NF = (patient_PF[patient_U] + image_UF)[unit_N]
    values_NF += random.normal(size=values_NF.shape)
    values_NF = (values_NF - values_NF.mean(0)) / values_NF.std(0)
    return Simulated(Rows(values_NF, ("f/1",) * FEATURES, unit_N, patient_U), source_U)


@dataclass(frozen=True, slots=True)
class Uneven:
    """Patients, images of each and rows of an image, in the source and in the target."""

    patients: tuple[int, int]
    images: tuple[int, int] = (1, 1)
    rows: tuple[int, int] = (1, 1)
    paired: bool = False  #: all patients are in both

    def __call__(self, random: np.random.Generator) -> Simulated:
        n, m = self.patients
        source_P, target_P = np.arange(n), np.arange(m) + (0 if self.paired else n)
        patient_U = np.concatenate(
            [np.repeat(source_P, self.images[0]), np.repeat(target_P, self.images[1])]
        )
        source_U = np.arange(len(patient_U)) < n * self.images[0]
        return simulated(random, patient_U, source_U, np.where(source_U, *self.rows))


def p_of(metric: ShiftMetric, sample: Simulated, draws: int, seed: int) -> float:
    source_U, patient_U = sample.source_U, sample.rows.patient_U
    scorer = metric.prepare(sample.rows)
    permutations = draw_permutations(Comparison(source_U, ~source_U, patient_U), draws, seed)
    value = float(scorer(source_U[None], ~source_U[None])[0])
    null_R = score_in_chunks(
        scorer, *permutations.apply(Comparison(source_U, ~source_U, patient_U))
    )
    return p_value(value, null_R, permutations.exhaustive)


def unchanged(sample: Simulated) -> Simulated:
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
    "unpaired, patients permuted": (unpaired, unchanged, True),
    "paired, labels exchanged within patients": (paired, unchanged, True),
    "unpaired, rows permuted (wrong)": (unpaired, rows_alone, False),
    "paired, rows permuted (wrong)": (paired, rows_alone, False),
    "paired, images permuted freely (wrong)": (paired, images_alone, False),
}


#: Name -> cohorts, and whether the test is right for them.
UNEVEN: dict[str, tuple[Uneven, bool]] = {
    "paired, 3 images v 1": (Uneven((12, 12), images=(3, 1), paired=True), True),
    "paired, 2 images v 1": (Uneven((12, 12), images=(2, 1), paired=True), True),
    "20 patients x 30 rows v 20 x 1": (Uneven((20, 20), rows=(30, 1)), True),
    "8 patients x 1 row v 30 x 30": (Uneven((8, 30), rows=(1, 30)), True),
    "8 patients x 30 rows v 30 x 1": (Uneven((8, 30), rows=(30, 1)), True),
    "20 patients x 3 images v 20 x 1": (Uneven((20, 20), images=(3, 1)), True),
    "8 patients x 1 image v 30 x 3 (too often)": (Uneven((8, 30), images=(1, 3)), False),
}


def rates(p_C: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for level in LEVELS:
        error = (level * (1 - level) / len(p_C)) ** 0.5
        rate = float((p_C <= level).mean())
        row[f"p<={level}"] = round(rate, 4)
        row[f"off_by_standard_errors_{level}"] = round((rate - level) / error, 2)
    return row


def uneven_calibration(metrics: list[ShiftMetric], cohorts: int) -> list[dict[str, Any]]:
    """Rates must not be too high. They may be low: statistics of few values have many ties."""
    table = []
    for name, (make, right) in UNEVEN.items():
        samples = [make(np.random.default_rng([3, seed])) for seed in range(cohorts)]
        for metric in metrics:
            p_C = np.array([p_of(metric, one, UNEVEN_DRAWS, n) for n, one in enumerate(samples)])
            row = {"cohorts": name, "right": right, "metric": metric.name, **rates(p_C)}
            row["held"] = all(row[f"off_by_standard_errors_{a}"] <= UNEVEN_ERRORS for a in LEVELS)
            table.append(row)
            print(json.dumps(row), flush=True)
    return table


def calibration(metric: ShiftMetric, cohorts: int, draws: int) -> list[dict[str, Any]]:
    table = []
    for name, (make, treat, right) in CASES.items():
        p_C = np.array(
            [
                p_of(metric, treat(make(np.random.default_rng([2, seed]))), draws, seed)
                for seed in range(cohorts)
            ]
        )
        row = {"test": name, "right": right, **rates(p_C)}
        row["calibrated"] = all(abs(row[f"off_by_standard_errors_{a}"]) <= 3 for a in LEVELS)
        table.append(row)
        print(json.dumps(row), flush=True)
    return table


def power(metric: str, cohorts: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Share of phantom cohorts with p <= .05 between two sites, by the scanners' difference."""
    table = []
    for cases in sizes:
        for shift in SHIFTS:
            results = [phantom_p(metric, cases, shift, seed) for seed in range(cohorts)]
            row = {
                "patients": [cases // 2, cases // 2],
                "shift": shift,
                "cohorts": cohorts,
                "share_found": round(float(np.mean([p <= 0.05 for p, _ in results])), 3),
                "median_value": round(float(np.median([value for _, value in results])), 4),
            }
            table.append(row)
            print(json.dumps(row), flush=True)
    return table


def phantom_p(metric: str, cases: int, shift: float, seed: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as work:
        data = write_phantom(
            Path(work) / "data", cases=cases, size=24, sites=2, seed=seed, shift=shift, workers=1
        )
        settings = {"data": data, "src": "site:S1", "dst": "site:S2", "metrics": metric}
        request = build_request(settings | {"task": "brats", "attribute": False})
        first = measure_shift(request, load_catalog(), Reporter(quiet=True)).primary
    assert first.p is not None
    assert first.value is not None
    return first.p, first.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--metric", default="mmd")
    parser.add_argument("--cohorts", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=PERMUTATIONS)
    parser.add_argument(
        "--uneven", type=int, default=UNEVEN_COHORTS, help="cohorts per uneven design"
    )
    parser.add_argument("--phantoms", type=int, default=24, help="cohorts per point of the curve")
    default = ROOT / "examples/studies/results/shift_calibration.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    metric: ShiftMetric = load_catalog().shift_metrics[options.metric].load()()
    table = calibration(metric, options.cohorts, options.draws)
    tested = [component.load()() for component in load_catalog().shift_metrics.values()]
    uneven = uneven_calibration([one for one in tested if one.tested], options.uneven)
    result = {
        "machine": describe(),
        "metric": metric.name,
        "cohorts": options.cohorts,
        "draws": options.draws,
        "patients": PATIENTS,
        "rows_per_image": ROWS,
        "kept": all(row["calibrated"] == row["right"] for row in table)
        and all(row["held"] for row in uneven if row["right"]),
        "calibration": table,
        "uneven": {"cohorts": options.uneven, "draws": UNEVEN_DRAWS, "table": uneven},
        "power_on_phantoms": power(metric.name, options.phantoms, (12, 24)),
        "synthetic": True,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    if not result["kept"]:
        sys.exit("a right test is not calibrated, or a wrong one is")


if __name__ == "__main__":
    main()
