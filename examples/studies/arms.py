"""What the benchmarks on pictures share: arms that are `medtl train` runs, and their scores."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from common import medtl

from medtl.evaluation.class_metrics import summarise_classes

#: Columns of probabilities in predictions.csv begin so.
PROBABILITY = "p_"

Item = TypeVar("Item")
Made = TypeVar("Made")


def side_by_side(make: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """``make`` of every item, in their order, as many at a time as there are cores.

    What it trains runs in one thread: small networks make less use of several.
    """
    cores = torch.get_num_threads()
    os.environ["OMP_NUM_THREADS"] = "1"
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(make, items))


def train(out: Path, *words: object) -> Path:
    """``medtl train`` with these words, unless ``out`` holds the finished run; one that was
    stopped goes on. The program ends where ``out`` was asked for in other words (other data)."""
    asked, beside = [*map(str, words)], out.with_name(f"{out.name}.words.json")
    if beside.is_file() and json.loads(beside.read_text()) != asked:
        sys.exit(f"{out} was trained with other settings; remove it, or name another --work")
    if not (out / "summary.json").is_file():
        started = ["--resume", str(out)] if (out / "config.yaml").is_file() else None
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(asked))
        medtl(["train", *(started or [*asked, "--out", str(out)]), "--quiet"])
    return out


def rows_of(run: Path, stage: str | None = None) -> list[dict[str, Any]]:
    """The test cases of a stage (None: the last of the transfer) with their probabilities."""
    stage = stage or json.loads((run / "stages.json").read_text())[-1]
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["stage"] == stage]
    return [
        {
            **{key: line[key] for key in ("case", "patient", "class", "predicted")},
            "probability": {
                name.removeprefix(PROBABILITY): float(value)
                for name, value in line.items()
                if name.startswith(PROBABILITY)
            },
        }
        for line in lines
    ]


def tcga_patient(name: str) -> str:
    """The patient of a TCGA case or folder, whatever date and slice follow."""
    return "_".join(name.split("_")[:3])


def overall(rows: Sequence[Mapping[str, Any]], *metrics: str) -> dict[str, dict[str, Any]]:
    """Scores of all classes together with their intervals over patients."""
    found = summarise_classes(rows)["all"]
    return {metric: found[metric] for metric in metrics}


def curve(run: Path, stage: str) -> list[tuple[int, float]]:
    """Step and mean validation score, at each validation of a stage."""
    lines = (run / stage / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "validation" in row]
    return [(row["step"], sum(row["validation"].values()) / len(row["validation"])) for row in rows]


def steps_to(curve: Sequence[tuple[int, float]], target: float) -> int | None:
    """The first validated step that reaches the target score."""
    return next((step for step, score in curve if score >= target), None)


def shown(score: Mapping[str, Any]) -> str:
    """``0.91 [0.87, 0.94], n = 14``."""
    if score["mean"] is None:
        return "undefined"
    low_high = f" [{score['low']:.2f}, {score['high']:.2f}]" if score["low"] is not None else ""
    return f"{score['mean']:.2f}{low_high}, n = {score['n']}"
