"""How often does `medtl compare` call two equal arms different? Forty pairs of trained networks.

Each pair has a phantom of its own, one split, and two arms of three runs. Both arms train from
random weights with the same settings; all six runs have seeds of their own. There is no difference
to find, so a verdict is wrong. Claim: the lower limit of the Clopper-Pearson interval of the share
of wrong verdicts is at most .05. No seed is drawn again. The rule for single runs, which takes one
run of each arm, is shown beside it; training noise is unknown to it.

    python examples/studies/real_pairs.py --work pairs      # 40 minutes, resumable by run
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from common import ROOT, describe, train_once
from scipy.stats import binomtest

from medtl.data.phantom import write_phantom
from medtl.evaluation.comparison.effects import RunKey, Runs, paired_effect
from medtl.evaluation.comparison.verdicts import BETTER, WORSE, arm_verdicts
from medtl.study.scores import read_run_scores

PAIRS, RUNS, FIRST_SEED = 40, 3, 20_000
CASES, SIZE, REGION, TEST_FRACTION = 40, 32, "WT", 0.5
SETTINGS: dict[str, Any] = {
    "strategy": "scratch",
    "network": "plain-unet",
    "dst": "mod:t1+t2",
    "steps": 60,
    "width": 8,
    "optimizer": "adamw",
    "lr": 0.01,
    "spacing_mm": 3.75,
    "patch_size": (32, 32, 32),
    "batch_size": 2,
    "device": "cpu",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "pairs")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    results = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=results / "real_pairs.json")
    options = parser.parse_args()
    pairs = [compared(options.work / f"{n:02d}", n) for n in range(options.pairs)]
    shares = {rule: share([pair[rule]["verdict"] for pair in pairs]) for rule in pairs[0]}
    met = len(pairs) == PAIRS and shares["three runs"]["low"] <= 0.05
    settings = {
        **SETTINGS,
        "test_fraction": TEST_FRACTION,
        "cases": CASES,
        "size": SIZE,
        "region": REGION,
        "runs": RUNS,
    }
    body = {"machine": describe(), "settings": settings, "met": met, "shares": shares}
    options.out.write_text(json.dumps({**body, "pairs": pairs}, indent=1) + "\n")
    print(json.dumps(shares, indent=1))


def compared(folder: Path, number: int) -> dict[str, Any]:
    """The verdicts on one pair, by three runs of each arm and by one."""
    data = folder / "data"
    if not data.is_dir():
        making = folder / "making"
        shutil.rmtree(making, ignore_errors=True)
        write_phantom(making, cases=CASES, size=SIZE, sites=1, seed=FIRST_SEED + number)
        making.rename(data)
    first, second = (trained(folder, data, number, arm) for arm in range(2))
    found = {}
    for rule, runs in (("three runs", RUNS), ("one run", 1)):
        keys = [(0, n) for n in range(runs)]
        sides = [{key: arm[key] for key in keys} for arm in (second, first)]
        effect = paired_effect(sides[0], sides[1])
        said = arm_verdicts({"pair": effect})["pair"]
        found[rule] = {"verdict": said.verdict, "p": said.p, **effect.to_json()}
    print(number, {rule: (each["verdict"], each["p"]) for rule, each in found.items()}, flush=True)
    return found


def trained(folder: Path, data: Path, number: int, arm: int) -> Runs:
    """The scores of an arm's runs by patient."""
    found: dict[RunKey, Any] = {}
    for run in range(RUNS):
        out = folder / f"run-{arm}-{run}"
        splits = folder / "run-0-0" / "splits.json"
        given = {"splits": splits} if run or arm else {"test_fraction": TEST_FRACTION}
        seed = FIRST_SEED + 10 * number + 5 * arm + run
        train_once(out, "brats", data=data, seed=seed, **SETTINGS, **given)
        found[0, run] = read_run_scores(out, "dice").scores[REGION]
    return found


def share(verdicts: list[str]) -> dict[str, Any]:
    """Of wrong verdicts, with the Clopper-Pearson interval of 95%."""
    wrong = sum(verdict in (BETTER, WORSE) for verdict in verdicts)
    interval = binomtest(wrong, len(verdicts)).proportion_ci(0.95, method="exact")
    limits = {"low": interval.low, "high": interval.high}
    return {"wrong": wrong, "pairs": len(verdicts), "share": wrong / len(verdicts), **limits}


if __name__ == "__main__":
    main()
