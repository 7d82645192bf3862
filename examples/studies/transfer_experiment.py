"""Does training on LGG slices first help to tell the four classes of another data set?

Source: `lgg-mri`, all patients; target: `kaggle-mri` with 50, 100, 250 and all training groups,
three seeds. Four arms on the same groups: fine-tuned from the source (the stem at a tenth of the
rate), carried over whole and trained at the full rate, control A (from scratch, the target's steps)
and control B (source + target steps). One test set of groups, never trained on by any arm; the
interval of a difference is over its groups, scores averaged over the seeds.

    python examples/studies/transfer_experiment.py   # $MEDTL_SHARED_DATA, else ../shared/data

As many runs as cores train at a time. Finished ones are read, not trained again.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from arms import overall, rows_of, side_by_side, train
from common import ROOT, describe, shared_data

from medtl.data.case import Case
from medtl.data.splits import Split, split_patients, write_splits
from medtl.evaluation.class_metrics import hits_by_patient
from medtl.evaluation.intervals import interval, paired_difference
from medtl.runtime.files import replacing
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B
from medtl_kaggle_mri.task import KaggleMri

SIZES = (50, 100, 250, None)  #: training groups; None: all
SEEDS = (0, 1, 2)
#: Optimiser steps on the source, and on the target by the number of groups.
SOURCE_STEPS, STEPS = 400, {50: 150, 100: 200, 250: 300, None: 500}
COMMON = ("--network", "resnet18", "--width", 32, "--set=patch_size=64,64", "--batch-size", 32)
#: Both arms of a transfer see grey images prepared alike.
PRESET = ("--transforms", "head-picture")
#: Blocks of a ResNet below its head.
BLOCKS = 5
FINE_TUNED, CARRIED = ("--strategy", "fine-tune"), ("--strategy", "transfusion", "--depth", BLOCKS)
CONTROLS = {"control A": CONTROL_A, "control B": CONTROL_B}

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=shared_data())
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "transfer-experiment")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "examples/studies/results/transfer_experiment.json"
    )
    options = parser.parse_args()
    kaggle = options.data / "kaggle" / "Training"
    cohort = KaggleMri().cases(kaggle)
    cases = cohort.cases
    split = split_patients(cases, seed=0)
    result: Row = {"machine": describe(), "synthetic": cohort.synthetic}
    # Validation, which chooses the weights of all arms, is as large for 50 groups as for all.
    result["groups"] = {part: len(getattr(split, part)) for part in ("train", "val", "test")}
    result["sizes"] = {}
    options.work.mkdir(parents=True, exist_ok=True)
    sources = side_by_side(lambda seed: source(options, seed), SEEDS)
    asked = list(product((FINE_TUNED, CARRIED), sizes_for(split), SEEDS))

    def one(arm: tuple[tuple[Any, ...], int | None, int]) -> Path:
        strategy, size, seed = arm
        return target(options, cases, kaggle, size, seed, (*strategy, "--init", sources[seed]))

    runs = dict(zip(asked, side_by_side(one, asked), strict=True))
    for size in sizes_for(split):
        tuned = [runs[FINE_TUNED, size, seed] for seed in SEEDS]
        rows = {
            "fine-tuned": [rows_of(run) for run in tuned],
            "carried": [rows_of(runs[CARRIED, size, seed]) for seed in SEEDS],
            **{name: [rows_of(run, stage) for run in tuned] for name, stage in CONTROLS.items()},
        }
        result["sizes"][str(size or "all")] = summary(rows)
        with replacing(options.out) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["sizes"], indent=1))


def sizes_for(split: Split) -> list[int | None]:
    """The sizes that there are groups enough for."""
    return [size for size in SIZES if size is None or size < len(split.train)]


def source(options: argparse.Namespace, seed: int) -> Path:
    return train(
        options.work / f"source-{seed}",
        *("lgg-mri", "--data", options.data / "lgg", *COMMON, *PRESET, "--seed", seed),
        *("--steps", SOURCE_STEPS, "--set=test_fraction=0"),
    )


def target(
    options: argparse.Namespace,
    cases: Sequence[Case],
    kaggle: Path,
    size: int | None,
    seed: int,
    start: tuple[Any, ...],
) -> Path:
    """A transfer to ``size`` training groups drawn by ``seed``; with the controls, which are the
    same for every strategy, where it fine-tunes."""
    tuned = start[: len(FINE_TUNED)] == FINE_TUNED
    name = f"{size or 'all'}-{seed}"
    splits = options.work / f"splits-{name}.json"
    write_splits(splits, fewer(cases, size, seed), cases)
    return train(
        options.work / (name if tuned else f"{name}-carried"),
        *("kaggle-mri", "--data", kaggle, *COMMON, *PRESET, "--seed", seed, "--splits", splits),
        *(*start, *(("--with-control",) if tuned else ()), "--steps", STEPS[size]),
    )


def fewer(cases: Sequence[Case], size: int | None, seed: int) -> Split:
    """The same test and validation groups for all sizes and seeds; ``size`` of the others, by class
    as in all of them."""
    split = split_patients(cases, seed=0)
    if size is None:
        return split
    stratum = {case.patient: case.stratum for case in cases}
    groups: dict[str, list[str]] = defaultdict(list)
    for patient in split.train:
        groups[stratum[patient]].append(patient)
    chosen: list[str] = []
    for name, members in sorted(groups.items()):
        count = max(1, round(size * len(members) / len(split.train)))
        chosen += Random(f"{seed}/{name}").sample(members, count)
    return replace(split, train=tuple(sorted(chosen)))


def summary(rows: dict[str, list[list[Row]]]) -> Row:
    """Scores by arm and seed, the share told right within a group, and its paired differences."""
    right = {
        arm: hits_by_patient([row for run in runs for row in run])["all"]
        for arm, runs in rows.items()
    }
    scores = {}
    for arm, runs in rows.items():
        by_seed = [overall(run, "macro_f1")["macro_f1"] for run in runs]
        scores[arm] = {
            "macro_f1 by seed": by_seed,
            "macro_f1": fmean(found["mean"] for found in by_seed),
            "accuracy": interval(right[arm]).to_json(),
        }
    differences = {
        f"{arm} - {control}, accuracy": paired_difference(right[arm], right[control]).to_json()
        for arm in rows
        for control in CONTROLS
        if arm not in CONTROLS
    }
    return {**scores, **differences}


if __name__ == "__main__":
    main()
