"""Do the patients that `medtl shift --power` advises find the shift?

    python examples/studies/shift_power.py

It writes examples/studies/results/shift_power.json.

Pilots are simulated: two domains that differ in the means of normal features, in their spread, or
in the scale of skewed ones; unpaired or paired, one row or several per patient. Each pilot advises
a number of patients per domain; one without a shift advises none, which counts as the most. New
cohorts, tested as `medtl shift` does, tell the true power of the median of these numbers, and the
number that has a power of .80.

- **advice**: claim: the median number has a power within .1 of .80, or it has more, and one patient
  fewer per domain has less than .80. Also measured: the share of
  pilots whose 95% interval of the number holds the true one, and the power at the pilot's size
  beside the true one.
- **no shift**: pilots without a shift. The share that shows one, and the smallest shift that the
  others say the true number of patients finds, over the true shift that they find. No claim.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from common import ROOT, describe
from numpy.typing import NDArray
from scipy.stats import norm

from medtl.shift.contract import Rows
from medtl.shift.metrics.mmd import mmd
from medtl.shift.stats.metric_result import p_value, score_in_chunks
from medtl.shift.stats.permutations import ALPHA, Comparison, draw_permutations
from medtl.shift.stats.power import POWER, ShiftPilot, pilot_of

FEATURES = 6
PERMUTATIONS = 199
WITHIN = 0.1

Floats = NDArray[np.float64]
#: random, patients, shift -> values of the patients' means in one domain (PF).
Draw = Callable[[np.random.Generator, int, float], Floats]


def means(random: np.random.Generator, patients: int, shift: float) -> Floats:
    """Normal features, two of them moved."""
    values_PF = random.normal(size=(patients, FEATURES))
    values_PF[:, :2] += shift
    return values_PF


def spreads(random: np.random.Generator, patients: int, shift: float) -> Floats:
    """Normal features, all of them wider by a factor."""
    return random.normal(size=(patients, FEATURES)) * (1 + shift)


def skewed(random: np.random.Generator, patients: int, shift: float) -> Floats:
    """Log-normal features, correlated, larger by a factor: mean and spread change."""
    common = random.normal(size=(patients, 1))
    own = random.normal(size=(patients, FEATURES))
    return np.asarray(np.exp((common + own) / math.sqrt(2)) * (1 + shift))


@dataclass(frozen=True)
class Setting:
    name: str
    draw: Draw
    shift: float
    pilot: int  #: patients per domain
    rows: int = 1  #: of a patient
    paired: bool = False


SETTINGS = (
    Setting("means", means, 0.8, 20),
    Setting("means", means, 0.8, 40),
    Setting("means", means, 2.0, 20),
    Setting("means, 4 rows", means, 0.8, 30, rows=4),
    Setting("spreads", spreads, 0.6, 40),
    Setting("skewed", skewed, 1.2, 20),
    Setting("skewed", skewed, 1.2, 40),
    Setting("means, paired", means, 0.8, 20, paired=True),
    Setting("skewed, paired", skewed, 1.0, 30, paired=True),
    Setting("means, paired", means, 2.0, 20, paired=True),
)


@dataclass(frozen=True)
class Cohort:
    rows: Rows
    comparison: Comparison


def cohort(random: np.random.Generator, setting: Setting, patients: int, shift: float) -> Cohort:
    """Two domains on one scale."""
    target_PF = setting.draw(random, patients, shift)
    if setting.paired:  # what a patient has in both domains, and noise of either
        common_PF = random.normal(size=target_PF.shape)
        source_PF = setting.draw(random, patients, 0.0) + common_PF
        target_PF = target_PF + common_PF
        patient_U = np.tile(np.arange(patients), 2)
    else:
        source_PF = setting.draw(random, patients, 0.0)
        patient_U = np.arange(2 * patients)
    unit_N = np.repeat(np.arange(2 * patients), setting.rows)
    values_NF = np.concatenate([source_PF, target_PF])[unit_N]
    if setting.rows > 1:
        values_NF += random.normal(size=values_NF.shape) / 2
    values_NF = (values_NF - values_NF.mean(0)) / values_NF.std(0)
    source_U = np.arange(2 * patients) < patients
    rows = Rows(values_NF, ("f/1",) * FEATURES, unit_N, patient_U)
    return Cohort(rows, Comparison(source_U, ~source_U, patient_U))


def pilot(random: np.random.Generator, setting: Setting, shift: float) -> ShiftPilot:
    drawn = cohort(random, setting, setting.pilot, shift)
    permutations = draw_permutations(drawn.comparison, PERMUTATIONS, int(random.integers(2**31)))
    return pilot_of(mmd().prepare(drawn.rows), drawn.comparison, permutations)


def found(random: np.random.Generator, setting: Setting, patients: int) -> bool:
    """Whether the test of a new cohort finds the shift."""
    drawn = cohort(random, setting, patients, setting.shift)
    scorer, comparison = mmd().prepare(drawn.rows), drawn.comparison
    permutations = draw_permutations(comparison, PERMUTATIONS, int(random.integers(2**31)))
    value = float(scorer(comparison.source_U[None], comparison.target_U[None])[0])
    null_R = score_in_chunks(scorer, *permutations.apply(comparison))
    return p_value(value, null_R, permutations.exhaustive) <= ALPHA


def true_power(random: np.random.Generator, setting: Setting, patients: int, tests: int) -> float:
    return float(np.mean([found(random, setting, patients) for _ in range(tests)]))


def true_number(
    random: np.random.Generator, setting: Setting, near: int, tests: int
) -> tuple[float, dict[int, float]]:
    """The number with a power of .80, on a line of probits over roots, and the powers."""
    fewest = 6 if setting.paired else 4  #: with p <= .05 at all
    factors = (0.6, 0.8, 1.0, 1.25)
    numbers = sorted({max(fewest, round(near * factor)) for factor in factors} | {near - 1})
    powers = {n: true_power(random, setting, n, tests) for n in numbers}
    fitted = [n for n in numbers if n >= fewest]
    shares = np.clip([powers[n] for n in fitted], 0.5 / tests, 1 - 0.5 / tests)
    slope, start = np.polyfit(np.sqrt(fitted), norm.ppf(shares), 1)
    return float(((norm.ppf(POWER) - start) / slope) ** 2), powers


def advice(
    random: np.random.Generator, setting: Setting, pilots: int, tests: int
) -> dict[str, Any]:
    drawn = [pilot(random, setting, setting.shift) for _ in range(pilots)]
    numbers = np.array([enough(one, one.shift) if one.found else math.inf for one in drawn])
    quarter, median, three = np.quantile(numbers, (0.25, 0.5, 0.75), method="higher")
    truth, powers = true_number(random, setting, int(median), tests)
    ends = [[enough(one, shift) for shift in reversed(one.interval())] for one in drawn]
    needed = math.ceil(truth)
    row = {
        "cohorts": setting.name,
        "shift": setting.shift,
        "pilot_patients": setting.pilot,
        "found": share(one.found for one in drawn),
        "median_advised": int(median),
        "quartiles": [finite(quarter), finite(three)],
        "power_of_median": round(powers[int(median)], 3),
        "true_number": round(truth, 1),
        "interval_holds_it": share(low <= needed <= high for low, high in ends),
        "median_power_at_pilot": round(
            float(np.median([one.power(one.design, max(one.shift, 1e-9)) for one in drawn])), 3
        ),
        "true_power_at_pilot": round(true_power(random, setting, setting.pilot, tests), 3),
    }
    fewer = powers[int(median) - 1] < POWER <= row["power_of_median"]
    row["held"] = fewer or abs(row["power_of_median"] - POWER) <= WITHIN
    print(json.dumps(row), flush=True)
    return row


def no_shift(
    random: np.random.Generator, setting: Setting, pilots: int, number: int
) -> dict[str, Any]:
    drawn = [pilot(random, setting, 0.0) for _ in range(pilots)]
    shift = float(np.mean([pilot(random, setting, setting.shift).shift for _ in range(pilots)]))
    smallest = [one.smallest(one.equal(number)) for one in drawn if not one.found]
    row = {
        "cohorts": setting.name,
        "pilot_patients": setting.pilot,
        "found": share(one.found for one in drawn),
        "patients": number,
        "smallest_over_true": round(float(np.median([s or math.inf for s in smallest])) / shift, 2),
    }
    print(json.dumps(row), flush=True)
    return row


def enough(one: ShiftPilot, shift: float) -> float:
    return one.patients(shift) or math.inf


def share(held: Iterable[bool]) -> float:
    return round(float(np.mean(list(held))), 3)


def finite(number: float) -> int | None:
    return int(number) if math.isfinite(number) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pilots", type=int, default=200)
    parser.add_argument("--tests", type=int, default=400, help="new cohorts for a power")
    default = ROOT / "examples/studies/results/shift_power.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    started = process_time()
    rows, without = [], []
    for index, setting in enumerate(SETTINGS):
        random = np.random.default_rng([7, index])
        rows.append(advice(random, setting, options.pilots, options.tests))
        number = math.ceil(rows[-1]["true_number"])
        without.append(no_shift(random, setting, options.pilots, number))
    result = {
        "machine": describe(),
        "pilots": options.pilots,
        "tests": options.tests,
        "permutations": PERMUTATIONS,
        "kept": all(row["held"] for row in rows),
        "advice": rows,
        "no_shift": without,
        "minutes": round((process_time() - started) / 60, 1),
        "synthetic": True,
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    if not result["kept"]:
        sys.exit("advised numbers of patients have another power")


if __name__ == "__main__":
    main()
