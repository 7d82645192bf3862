"""How often a verdict over patients and training runs is wrong, and how often it is right.

Tables of scores are simulated: Dice with a skewed distribution over patients, 1 in 20 of them so
hard that an arm misses it in a random share of its runs (Dice 0), and training runs that move the
scores of all patients. Each true difference is set exactly: the gain of an arm that has it after
clipping to [0, 1] and misses is solved for.

- **cells**: 10, 20 and 40 patients of one test set with 3 and 5 seeds, and 40 patients in 5 folds
  with 3 seeds; each with run effects of two sizes. Coverage of the 95% interval and its width over
  that of an oracle that knows the variance of the mean; shares of wrong verdicts; power.
- **stress**: the same with run effects of twice the larger size, and without misses, so that runs
  decide more of the difference than patients. No bar.
- **today**: the same with one run of each arm and `paired_difference`, for comparison, also without
  run effects; and the share that Student-t rejects in the same tables. No bar.
- **planning**: the power that the patients advised after simulated pilots have, on average.

    python examples/studies/verdicts.py
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import describe
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import beta, norm

from medtl.evaluation.comparison.effects import LEVEL, Effect, Runs, paired_effect
from medtl.evaluation.comparison.patients_needed import POWER, patients_for_difference
from medtl.evaluation.comparison.verdicts import (
    BETTER_THAN_A,
    EQUIVALENT,
    FASTER,
    HELPED,
    HURT,
    family_verdicts,
    verdict,
)
from medtl.evaluation.intervals import paired_difference

#: Patients, folds, seeds.
CELLS = (*((n, 1, seeds) for n in (10, 20, 40) for seeds in (3, 5)), (40, 5, 3))
#: Standard deviation of the run effect in a difference of two arms, and that of the stress.
RUN_SDS, STRESS = (0.01, 0.03), 0.06
#: True differences in Dice; the larger is also the margin of equivalence.
DIFFERENCES = (0.03, 0.06)
MARGIN = DIFFERENCES[-1]
#: Skill of the networks on a patient, what an arm adds for that patient, noise of one score.
SKILL, ARM_SD, NOISE_SD = (8.0, 2.0), 0.04, 0.03
#: Share of hard patients, each missed by an arm with a probability drawn from 0 to 1.
HARD = 0.05
FAMILY = 6
#: Sizes of the pilots and of the plan: patients and seeds.
PILOTS, PLANNED_SEEDS = ((20, 3), (40, 3)), 5
CURVE = (5, 8, 12, 18, 27, 40, 60, 90, 135, 200)
#: The bars. Those of coverage and width hold from this many patients and seeds on.
COVERAGE, WIDTH, WITHIN, FROM = 0.93, 1.3, 0.05, (20, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--today", type=int, default=400, help="tables of today's rule")
    parser.add_argument("--pilots", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    results = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=results / "verdicts.json")
    options = parser.parse_args()
    started = perf_counter()
    random = np.random.default_rng(options.seed)
    result: dict[str, Any] = {
        "machine": describe(),
        "tables": options.tables,
        "differences": DIFFERENCES,
        "margin": MARGIN,
        "cells": [
            printed(cell(random, options.tables, Setting(*shape, run_sd)))
            for shape, run_sd in product(CELLS, RUN_SDS)
        ],
        "stress": [
            printed(of_null(random, options.tables, Setting(*shape, run_sd, hard)))
            for shape in CELLS
            for run_sd, hard in ((STRESS, HARD), *((run_sd, 0.0) for run_sd in RUN_SDS))
        ],
        "today": [
            printed(today(random, options.today, Setting(n, folds, 1, run_sd)))
            for (n, folds, seeds), run_sd in product(CELLS, (0.0, *RUN_SDS))
            if seeds == 3
        ],
        "planning": [
            printed(row)
            for run_sd in RUN_SDS
            for row in planning(random, options.pilots, options.tables // 2, run_sd)
        ],
    }
    result["bars"] = list(bars(result, options.tables))
    result["minutes"] = round((perf_counter() - started) / 60, 1)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for bar in result["bars"]:
        print(
            f"{'met    ' if bar['met'] else 'NOT MET'}  {bar['bar']:<44} "
            f"worst {bar['worst']:.3f}  {bar['where']}"
        )
    print(f"{result['minutes']} minutes")


def printed(row: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps(row), flush=True)
    return row


@dataclass(frozen=True)
class Setting:
    patients: int
    folds: int
    seeds: int
    run_sd: float
    hard: float = HARD


def draw(
    random: np.random.Generator, tables: int, setting: Setting, gains: Sequence[float]
) -> NDArray[np.float64]:
    """Simulated Dice: table, fold, patient, arm, seed. ``gains``: of each arm."""
    folds, run_sd = setting.folds, setting.run_sd
    each = (tables, folds, setting.patients // folds, len(gains), setting.seeds)
    skill = random.beta(*SKILL, (*each[:3], 1, 1))
    of_arm = random.normal(0, ARM_SD, (*each[:4], 1))
    of_run = random.normal(0, run_sd / math.sqrt(2), (tables, folds, 1, *each[3:]))
    noise = random.normal(0, NOISE_SD, each)
    dice = np.clip(skill + of_arm + of_run + noise + np.array(gains)[:, None], 0, 1)
    hard = random.random((*each[:3], 1, 1)) < setting.hard
    missed = random.random(each) < random.random((*each[:4], 1))
    dice[hard & missed] = 0
    return dice


def expected(gain: float, setting: Setting) -> float:
    """The mean Dice of an arm: that of a clipped normal, over quantiles of the skill."""
    nodes = 20_000
    means = beta.ppf((np.arange(nodes) + 0.5) / nodes, *SKILL) + gain
    sd = math.sqrt(ARM_SD**2 + NOISE_SD**2 + setting.run_sd**2 / 2)

    def integral(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values * ndtr(values) + norm.pdf(values)

    clipped = 1 - sd * (integral((1 - means) / sd) - integral(-means / sd))
    return (1 - setting.hard / 2) * float(clipped.mean())


def gain_for(difference: float, setting: Setting) -> float:
    """The gain before clipping of an arm whose mean Dice is higher by ``difference``."""
    without = expected(0.0, setting)
    return float(brentq(lambda gain: expected(gain, setting) - without - difference, 0, 0.5))


def arms(table: NDArray[np.float64]) -> list[Runs]:
    """The runs of each arm of one table (fold, patient, arm, seed)."""
    folds, patients, count, seeds = table.shape
    names = [[f"{fold}-{patient}" for patient in range(patients)] for fold in range(folds)]
    return [
        {
            (fold, seed): dict(zip(names[fold], table[fold, :, arm, seed].tolist(), strict=True))
            for fold in range(folds)
            for seed in range(seeds)
        }
        for arm in range(count)
    ]


def of_null(random: np.random.Generator, tables: int, setting: Setting) -> dict[str, Any]:
    """Controls A and B and other arms, none of which differs from another."""
    single, both, within, families = [], [], [], []
    effects = []
    for table in draw(random, tables, setting, [0.0] * (2 + FAMILY)):
        control_a, control_b, *others = arms(table)
        rows = {index: [paired_effect(arm, control_a)] for index, arm in enumerate(others)}
        effects.append(rows[0][0])
        single.append(verdict(rows[0]))
        both.append(verdict([*rows[0], paired_effect(others[0], control_b)]))
        within.append(verdict(rows[0], margin=MARGIN))
        judged = family_verdicts(rows).values()
        families.append(any(row.verdict in (BETTER_THAN_A, HURT) for row in judged))
    return asdict(setting) | {
        "coverage": covered(effects, 0.0),
        "width_over_oracle": over_oracle(effects),
        "rejected_at_0": share(single, BETTER_THAN_A, HURT),
        "helped_at_0": share(both, HELPED),
        "faster_at_0": share(both, FASTER),
        "hurt_at_0": share(both, HURT),
        "equivalent_at_0": share(within, EQUIVALENT),
        "family_at_0": float(np.mean(families)),
    }


def cell(random: np.random.Generator, tables: int, setting: Setting) -> dict[str, Any]:
    row = of_null(random, tables, setting)
    for difference in DIFFERENCES:
        effects = list(with_gain(random, tables, setting, difference))
        row[f"power_at_{difference:g}"] = share([verdict([e]) for e in effects], BETTER_THAN_A)
        row[f"coverage_at_{difference:g}"] = covered(effects, difference)
    row["equivalent_at_margin"] = share([verdict([e], margin=MARGIN) for e in effects], EQUIVALENT)
    return row


def with_gain(
    random: np.random.Generator, tables: int, setting: Setting, difference: float
) -> Iterator[Effect]:
    gains = [gain_for(difference, setting), 0.0]
    for table in draw(random, tables, setting, gains):
        yield paired_effect(*arms(table))


def today(random: np.random.Generator, tables: int, setting: Setting) -> dict[str, Any]:
    """One run of each arm, or one for each fold, taken for all there is."""

    def one_run(gains: Sequence[float]) -> Iterator[list[dict[str, float]]]:
        for table in draw(random, tables, setting, gains):
            yield [
                {name: score for run in runs.values() for name, score in run.items()}
                for runs in arms(table)
            ]

    null = list(one_run([0.0, 0.0, 0.0]))
    found = [[paired_difference(own, other) for other in others] for own, *others in null]
    by_t = [paired_effect({(0, 0): own}, {(0, 0): control}) for own, control, _ in null]
    row = asdict(setting) | {
        "coverage": covered([first for first, _ in found], 0.0),
        "rejected_at_0": share([verdict([first]) for first, _ in found], BETTER_THAN_A, HURT),
        "rejected_at_0_by_t": share([verdict([e]) for e in by_t], BETTER_THAN_A, HURT),
        "helped_at_0": share(map(verdict, found), HELPED),
        "faster_at_0": share(map(verdict, found), FASTER),
        "hurt_at_0": share(map(verdict, found), HURT),
    }
    for difference in DIFFERENCES:
        gains = [gain_for(difference, setting), 0.0]
        said = [verdict([paired_difference(*pair)]) for pair in one_run(gains)]
        row[f"power_at_{difference:g}"] = share(said, BETTER_THAN_A)
    return row


def planning(
    random: np.random.Generator, pilots: int, tables: int, run_sd: float
) -> Iterator[dict[str, Any]]:
    """Pilots without a difference, which plan to find the larger one."""
    powers = []
    for patients in CURVE:
        planned = Setting(patients, 1, PLANNED_SEEDS, run_sd)
        effects = with_gain(random, tables, planned, MARGIN)
        powers.append(share([verdict([e]) for e in effects], BETTER_THAN_A))
    for patients, seeds in PILOTS:
        pilot = Setting(patients, 1, seeds, run_sd)
        advised = [
            patients_for_difference(paired_effect(*arms(table)), MARGIN, PLANNED_SEEDS)
            for table in draw(random, pilots, pilot, [0.0, 0.0])
        ]
        numbers = np.array([number for number in advised if number is not None])
        yield {
            "pilot_patients": patients,
            "pilot_seeds": seeds,
            "planned_seeds": PLANNED_SEEDS,
            "run_sd": run_sd,
            "none": 1 - len(numbers) / pilots,
            "advised": np.quantile(numbers, (0.1, 0.5, 0.9)).tolist(),
            "mean_power": float(np.interp(np.log(numbers), np.log(CURVE), powers).mean()),
            "power_by_patients": dict(zip(CURVE, powers, strict=True)),
        }


def share(said: Any, *words: str) -> float:
    return float(np.mean([word in words for word in said]))


def covered(found: Sequence[Any], difference: float) -> float:
    return float(np.mean([each.low <= difference <= each.high for each in found]))


def over_oracle(effects: Sequence[Effect]) -> float:
    """The median width over that with the variance of the mean known."""
    sd = np.std([effect.mean for effect in effects])
    return float(np.median([e.high - e.low for e in effects]) / (2 * norm.ppf(1 - LEVEL / 2) * sd))


def bars(result: dict[str, Any], tables: int) -> Iterator[dict[str, Any]]:
    """Each bar with the row that is furthest from it."""
    cells = result["cells"]
    large = [row for row in cells if row["patients"] >= FROM[0] and row["seeds"] >= FROM[1]]
    most = LEVEL + 2 * math.sqrt(LEVEL * (1 - LEVEL) / tables)
    yield bar(large, "coverage", min, lambda value: value >= COVERAGE, f">= {COVERAGE}")
    for difference in DIFFERENCES:
        name = f"coverage_at_{difference:g}"
        yield bar(large, name, min, lambda value: value >= COVERAGE, f">= {COVERAGE}")
    yield bar(large, "width_over_oracle", max, lambda value: value <= WIDTH, f"<= {WIDTH}")
    wrong = ("rejected", "helped", "faster", "hurt", "family")
    for name in (*(f"{word}_at_0" for word in wrong), "equivalent_at_margin"):
        yield bar(cells, name, max, lambda value: value <= most, f"<= {most:.4f}")

    planned = result["planning"]
    lowest, highest = POWER - WITHIN, POWER + WITHIN
    yield bar(planned, "mean_power", min, lambda value: value >= lowest, f">= {lowest:.2f}")
    yield bar(planned, "mean_power", max, lambda value: value <= highest, f"<= {highest:.2f}")


def bar(
    rows: Sequence[dict[str, Any]],
    name: str,
    worst: Callable[..., Any],
    met: Callable[[float], bool],
    asked: str,
) -> dict[str, Any]:
    row = worst(rows, key=lambda row: row[name])
    sizes = ("patients", "folds", "seeds", "pilot_patients", "run_sd")
    where = ", ".join(f"{size} {row[size]}" for size in sizes if size in row)
    return {"bar": f"{name} {asked}", "met": met(row[name]), "worst": row[name], "where": where}


if __name__ == "__main__":
    main()
