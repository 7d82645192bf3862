"""S0, S2 and S3 run as they should have been: patients or groups apart, seeds fixed, intervals.

- s0: VGG11/16/19 with and without batch norm on the four classes; training and test scores;
- s2: ResNet18/50 frozen or fine-tuned, with and without normalisation and flips, on LGG slices:
  three folds by patient, the predictions pooled. No weights of ImageNet are at hand: the frozen
  and tuned networks start from one trained on the four classes, as three colours;
- s3: random, Mean-Var and transfused starts of a ResNet18 and a CBR on the four classes, with the
  steps each took to nine tenths of the random start's best validation score. Source: LGG slices.

    python benchmarks/studies.py               # $MEDTL_SHARED_DATA, else ../shared/data
    python benchmarks/studies.py --only s0

Widths are a quarter of the published ones and images have 64 pixels, to fit into 90 minutes on two
cores. Finished arms are read, not trained again. Tables go to the result and, as text, beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from arms import curve, overall, rows_of, shown, steps_to, train
from machine import describe
from real_cases import ROOT, shared_data

from medtl.catalog import load_catalog
from medtl.console import Reporter
from medtl.device import build_fabric
from medtl.files import replacing
from medtl.phantom.cohort import read_index
from medtl.runs import open_run
from medtl.splits import cases_of, read_splits
from medtl.trained import read_stage

WIDTH, EDGE, SEED = 16, 64, 0
STEPS = {"s0": 600, "source": 400, "s2": 200, "s3": 400}
COMMON = ("--width", WIDTH, f"--set=patch_size={EDGE},{EDGE}", "--batch-size", 32, "--seed", SEED)
VGG = tuple(f"vgg{n}{norm}" for n, norm in itertools.product((11, 16, 19), ("", "-bn")))
FOLDS = 3
#: S2's presets; without flips (and all else that augments) they end in ``PLAIN``.
RAW, NORMALISED, PLAIN = "picture-raw", "picture", "-plain"
#: S2's source has three channels, so that a frozen stem tells the modalities apart.
COLOURS, MAP = "mod:red+green+blue", "t1=red,flair=green,t1ce=blue"
#: Share of the random start's best validation score that the others must reach.
REACHED = 0.9
#: Blocks below the head.
S3 = {"resnet18": 5, "cbr-small": 4}
REPORTED = {
    "s0": "VGG11 with a 2048-256 head, best epoch by the test set: accuracy 84.26%, F1 85.64% on a "
    "test set of which 259 of 394 images are in training, too; batch norm lowers accuracy and "
    "narrows the gap, depth does not help",
    "s2": "accuracy 97% (ResNet18) and 96% (ResNet50) fine-tuned, 65 to 90% frozen; slices were "
    "shuffled",
    "s3": "random and pretrained starts end close, small networks gain nothing, transfer speeds "
    "convergence",
}

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=shared_data())
    parser.add_argument("--only", choices=("s0", "s2", "s3"))
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "studies")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/studies.json")
    options = parser.parse_args()
    synthetic = bool(read_index(options.data / "kaggle"))
    result: Row = {"machine": describe(), "synthetic": synthetic, "width": WIDTH, "edge": EDGE}
    if options.out.is_file():
        result = json.loads(options.out.read_text())
    kaggle = ["kaggle-mri", "--data", options.data / "kaggle" / "Training", *COMMON]
    lgg = ["lgg-mri", "--data", options.data / "lgg", *COMMON]
    parts: dict[str, Callable[[], list[Row]]] = {
        "s0": lambda: vggs(kaggle, options.work / "s0"),
        "s2": lambda: slices(kaggle, lgg, options.work / "s2"),
        "s3": lambda: transfusion(kaggle, lgg, options.work / "s3"),
    }
    for name, measure in parts.items():
        if options.only in (None, name):
            started = perf_counter()
            rows = measure()
            took = perf_counter() - started
            result[name] = {"reported": REPORTED[name], "seconds": round(took), "rows": rows}
            with replacing(options.out) as temporary:
                temporary.write_text(json.dumps(result, indent=1) + "\n")
    text = "\n".join(table(name, result[name]) for name in parts if name in result)
    with replacing(options.out.with_suffix(".md")) as temporary:
        temporary.write_text(text)
    print(text)


def vggs(kaggle: Sequence[Any], work: Path) -> list[Row]:
    """Score on test and training images of each network; ``gap`` between the accuracies."""
    rows = []
    for network in VGG:
        run = train(work / network, *kaggle, "--network", network, "--steps", STEPS["s0"])
        test = overall(rows_of(run), "accuracy", "macro_f1", "auroc")
        seen = training_accuracy(run, Path(kaggle[2]))
        gap = seen - test["accuracy"]["mean"]
        rows.append({"network": network, "training accuracy": seen, "gap": gap, **test})
    return rows


def training_accuracy(run: Path, data: Path) -> float:
    """Share of the training images that the best weights tell right."""
    catalog, fabric = load_catalog(), build_fabric("cpu", "auto", 1, 1)
    opened = open_run(run)
    stage = read_stage(opened, "scratch", catalog, fabric)
    cases = catalog.tasks["kaggle-mri"].load()().cases(data).cases
    chosen = cases_of(read_splits(run / "splits.json", cases).train, cases)
    found = stage.kind.score(stage.predictor, chosen, Reporter(quiet=True), "scoring")
    return sum(row["predicted"] == row["class"] for row in found) / len(found)


def slices(kaggle: Sequence[Any], lgg: Sequence[Any], work: Path) -> list[Row]:
    """Every combination of frozen or tuned, depth, normalisation and flips; pooled folds."""
    rows = []
    for layers, raw, flips in itertools.product((18, 50), (False, True), (False, True)):
        network = ("--network", f"resnet{layers}")
        name = RAW if raw else NORMALISED
        preset = ("--transforms", name if flips else f"{name}{PLAIN}")
        source = train(
            work / f"source-{layers}-{name}",
            *(*kaggle, *network, "--dst", COLOURS, "--transforms", name),
            *("--steps", STEPS["source"]),
        )
        for strategy in ("linear-probe", "fine-tune"):
            label = f"{strategy}-{layers}-{name}-{'flips' if flips else 'plain'}"
            how = (*network, *preset, "--strategy", strategy, "--init", source, "--map", MAP)
            pooled: list[Row] = []
            for fold in range(FOLDS):
                asked = ("--folds", FOLDS, "--fold", fold, "--steps", STEPS["s2"])
                pooled += rows_of(train(work / f"{label}-{fold}", *lgg, *how, *asked))
            found = overall(pooled, "accuracy", "auroc")
            rows.append(
                {
                    "network": f"resnet{layers}",
                    "trained": "head" if strategy == "linear-probe" else "all",
                    "normalised": not raw,
                    "augmented": flips,
                    **found,
                }
            )
    return rows


def transfusion(kaggle: Sequence[Any], lgg: Sequence[Any], work: Path) -> list[Row]:
    """Test scores and steps to the target score by start."""
    rows = []
    for network, blocks in S3.items():
        chosen = ("--network", network)
        source = train(work / f"{network}-source", *lgg, *chosen, "--steps", STEPS["source"])
        again = ("--strategy", "transfusion", "--init", source, "--depth")
        starts: dict[str, tuple[Any, ...]] = {
            "random": ("--strategy", "scratch"),
            "mean-var": (*again, blocks, "--initialiser", "mean-var"),
            **{f"{k} blocks": (*again, k) for k in range(1, blocks + 1)},
        }
        curves: dict[str, list[tuple[int, float]]] = {}
        for start, words in starts.items():
            out = work / f"{network}-{start.replace(' ', '-')}"
            run = train(out, *kaggle, *chosen, *words, "--steps", STEPS["s3"])
            stage = json.loads((run / "stages.json").read_text())[-1]
            curves[start] = curve(run, stage)
            found = overall(rows_of(run), "macro_f1", "auroc")
            target = REACHED * max(score for _, score in curves["random"])
            reached = steps_to(curves[start], target)
            rows.append({"network": network, "start": start, "steps to target": reached, **found})
    return rows


def table(name: str, part: Row) -> str:
    """Rows as Markdown, with what the study reported above them."""
    columns = list(part["rows"][0])
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    for row in part["rows"]:
        lines.append(" | ".join(cell(row[column]) for column in columns))
    body = "\n".join(f"| {line} |" for line in lines)
    return f"## {name.upper()}\n\nReported: {part['reported']}.\n\n{body}\n"


def cell(value: Any) -> str:
    if isinstance(value, dict):
        return shown(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:.2f}"
        if isinstance(value, float)
        else "not reached"
        if value is None
        else str(value)
    )


if __name__ == "__main__":
    main()
