"""Three public studies with patients or groups apart, fixed seeds and intervals.

- kaggle-vgg: VGG11/16/19 with and without batch norm on the four classes; training and test scores;
- lgg-resnet: ResNet18/50 frozen or fine-tuned, with and without normalisation and flips, on LGG
  slices: three folds by patient, the predictions pooled. No ImageNet weights are available: the
  frozen and tuned networks start from one trained on the four classes, as three colours;
- transfusion (Raghu et al. 2019): random, Mean-Var and transfused starts of a ResNet18 and a CBR on
  the four classes, with the steps each took to nine tenths of the random start's best validation
  score. Source: LGG slices.

    python examples/studies/studies.py               # $MEDTL_SHARED_DATA, else ../shared/data
    python examples/studies/studies.py --only kaggle-vgg

Widths are a quarter of the published ones and images have 64 pixels, to fit into 90 minutes on two
cores. As many arms as cores train at a time. Finished arms are read, not trained again. Tables go
to the result and, as text, beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from arms import curve, overall, rows_of, shown, side_by_side, steps_to, train
from common import ROOT, describe, shared_data

from medtl.data.phantom.cohort import read_index
from medtl.data.splits import cases_of, read_splits
from medtl.evaluation import classification
from medtl.inference.load import read_stage
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Reporter
from medtl.runtime.device import build_fabric
from medtl.runtime.files import replacing
from medtl.runtime.run_folder import open_run

WIDTH, EDGE, SEED = 16, 64, 0
STEPS = {"kaggle-vgg": 1500, "source": 600, "lgg-resnet": 300, "transfusion": 800}
COMMON = ("--width", WIDTH, f"--set=patch_size={EDGE},{EDGE}", "--batch-size", 32, "--seed", SEED)
VGG = tuple(f"vgg{n}{norm}" for n, norm in itertools.product((11, 16, 19), ("", "-bn")))
FOLDS = 3
#: Presets of the ResNets on LGG slices; those without augmentation end in ``PLAIN``.
RAW, NORMALISED, PLAIN = "picture-raw", "picture", "-plain"
#: Their source has three channels, so that a frozen stem can distinguish the modalities.
COLOURS, MAP = "mod:red+green+blue", "t1=red,flair=green,t1ce=blue"
#: Share of the random start's best validation score that the others must reach.
REACHED = 0.9
#: Networks of the transfusion study, with their number of blocks below the head.
TRANSFUSED = {"resnet18": 5, "cbr-small": 4}
TITLES = {
    "kaggle-vgg": "VGG on the four classes of Kaggle's brain tumour set (Bhuvaji)",
    "lgg-resnet": "ResNet on the LGG slices: tumour or not",
    "transfusion": "Transfusion (Raghu et al. 2019)",
}
REPORTED = {
    "kaggle-vgg": "VGG11 with a 2048-256 head, best epoch by the test set: accuracy 84.26%, F1 "
    "85.64% on a test set of which 259 of 394 images are in training, too; batch norm lowers "
    "accuracy and narrows the gap, depth does not help",
    "lgg-resnet": "accuracy 97% (ResNet18) and 96% (ResNet50) fine-tuned, 65 to 90% frozen; "
    "slices were shuffled",
    "transfusion": "random and pretrained starts end close, small networks gain nothing, transfer "
    "speeds convergence",
}

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=shared_data())
    parser.add_argument("--only", choices=tuple(TITLES))
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "studies")
    parser.add_argument("--out", type=Path, default=ROOT / "examples/studies/results/studies.json")
    options = parser.parse_args()
    synthetic = bool(read_index(options.data / "kaggle"))
    result: Row = {"machine": describe(), "synthetic": synthetic, "width": WIDTH, "edge": EDGE}
    if options.out.is_file():
        result = json.loads(options.out.read_text())
    kaggle = ["kaggle-mri", "--data", options.data / "kaggle" / "Training", *COMMON]
    lgg = ["lgg-mri", "--data", options.data / "lgg", *COMMON]
    parts: dict[str, Callable[[], list[Row]]] = {
        "kaggle-vgg": lambda: vggs(kaggle, options.work / "kaggle-vgg"),
        "lgg-resnet": lambda: slices(kaggle, lgg, options.work / "lgg-resnet"),
        "transfusion": lambda: transfusion(kaggle, lgg, options.work / "transfusion"),
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

    def trained(network: str) -> Path:
        return train(work / network, *kaggle, "--network", network, "--steps", STEPS["kaggle-vgg"])

    rows = []
    for network, run in zip(VGG, side_by_side(trained, VGG), strict=True):
        test = overall(rows_of(run), "accuracy", "macro_f1", "auroc")
        seen = training_accuracy(run, Path(kaggle[2]))
        gap = seen - test["accuracy"]["mean"]
        rows.append({"network": network, "training accuracy": seen, "gap": gap, **test})
    return rows


def training_accuracy(run: Path, data: Path) -> float:
    """Share of the training images that the best weights classify correctly."""
    catalog, fabric = load_catalog(), build_fabric("cpu", "auto", 1, 1)
    opened = open_run(run)
    stage = read_stage(opened, "scratch", catalog, fabric)
    cases = catalog.tasks["kaggle-mri"].load()().cases(data).cases
    chosen = cases_of(read_splits(run / "splits.json", cases).train, cases)
    rows = classification.score(stage.predictor, chosen, Reporter(quiet=True), "scoring")
    return sum(row["predicted"] == row["class"] for row in rows) / len(rows)


def slices(kaggle: Sequence[Any], lgg: Sequence[Any], work: Path) -> list[Row]:
    """Every combination of frozen or tuned, depth, normalisation and flips; pooled folds."""

    def source(start: tuple[int, str]) -> Path:
        layers, preset = start
        return train(
            work / f"source-{layers}-{preset}",
            *(*kaggle, "--network", f"resnet{layers}", "--dst", COLOURS, "--transforms", preset),
            *("--steps", STEPS["source"]),
        )

    def fold_rows(asked: tuple[tuple[int, str, bool, str], int]) -> list[Row]:
        (layers, preset, flips, strategy), fold = asked
        name = f"{strategy}-{layers}-{preset}-{'flips' if flips else 'plain'}-{fold}"
        run = train(
            work / name,
            *(*lgg, "--network", f"resnet{layers}"),
            *("--transforms", preset if flips else f"{preset}{PLAIN}"),
            *("--strategy", strategy, "--init", sources[layers, preset], "--map", MAP),
            *("--folds", FOLDS, "--fold", fold, "--steps", STEPS["lgg-resnet"]),
        )
        return rows_of(run)

    starts = list(itertools.product((18, 50), (NORMALISED, RAW)))
    sources = dict(zip(starts, side_by_side(source, starts), strict=True))
    arms = [
        (*start, flips, strategy)
        for start in starts
        for flips in (False, True)
        for strategy in ("linear-probe", "fine-tune")
    ]
    asked = list(itertools.product(arms, range(FOLDS)))
    found: dict[tuple[int, str, bool, str], list[Row]] = {arm: [] for arm in arms}
    for (arm, _), tested in zip(asked, side_by_side(fold_rows, asked), strict=True):
        found[arm] += tested
    return [
        {
            "network": f"resnet{layers}",
            "trained": "head" if strategy == "linear-probe" else "all",
            "normalised": preset == NORMALISED,
            "augmented": flips,
            **overall(pooled, "accuracy", "auroc"),
        }
        for (layers, preset, flips, strategy), pooled in found.items()
    ]


def transfusion(kaggle: Sequence[Any], lgg: Sequence[Any], work: Path) -> list[Row]:
    """Test scores and steps to the target score by start."""

    def source(network: str) -> Path:
        words = ("--network", network, "--steps", STEPS["source"])
        return train(work / f"{network}-source", *lgg, *words)

    def started(arm: tuple[str, str]) -> Path:
        network, start = arm
        out = work / f"{network}-{start.replace(' ', '-')}"
        words = starts[network][start]
        return train(out, *kaggle, "--network", network, *words, "--steps", STEPS["transfusion"])

    starts: dict[str, dict[str, tuple[Any, ...]]] = {}
    for (network, blocks), run in zip(
        TRANSFUSED.items(), side_by_side(source, TRANSFUSED), strict=True
    ):
        again = ("--strategy", "transfusion", "--init", run, "--depth")
        starts[network] = {
            "random": ("--strategy", "scratch"),
            "mean-var": (*again, blocks, "--initialiser", "mean-var"),
            **{f"{k} blocks": (*again, k) for k in range(1, blocks + 1)},
        }
    arms = [(network, start) for network in TRANSFUSED for start in starts[network]]
    runs = dict(zip(arms, side_by_side(started, arms), strict=True))
    rows = []
    for (network, start), run in runs.items():
        best = max(score for _, score in last_curve(runs[network, "random"]))
        reached = steps_to(last_curve(run), REACHED * best)
        found = overall(rows_of(run), "macro_f1", "auroc")
        rows.append({"network": network, "start": start, "steps to target": reached, **found})
    return rows


def last_curve(run: Path) -> list[tuple[int, float]]:
    return curve(run, json.loads((run / "stages.json").read_text())[-1])


def table(name: str, part: Row) -> str:
    """Rows as Markdown, with what the study reported above them."""
    columns = list(part["rows"][0])
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    for row in part["rows"]:
        lines.append(" | ".join(cell(row[column]) for column in columns))
    body = "\n".join(f"| {line} |" for line in lines)
    return f"## {TITLES[name]}\n\nReported: {part['reported']}.\n\n{body}\n"


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
