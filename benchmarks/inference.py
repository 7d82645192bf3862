"""How much faster is medtl's inference than MONAI's, with the same weights on the same grid?

A network is trained on four modalities at 1 mm (resumable, kept under runs/), then segments three
real cases of 240x240x155x4: by MONAI's ``sliding_window_inference`` (roi 128, overlap 0.5,
Gaussian, fp32), by medtl with the same roi and overlap, and as ``medtl predict`` runs by default.
Every way of running gets a process of its own per case, so that its peak memory is its own; the
ways take turns, and the medians of the repeats are compared.

The network has seen the three cases: it stands for one trained on a large cohort, which so few
cases cannot give. Its Dice only shows that it finds the tumours. ``--left-out`` trains on the
other cases instead.

    python benchmarks/inference.py             # trains 20 minutes first
    python benchmarks/inference.py --run RUN   # with the last stage of a run
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from machine import describe
from real_cases import ROOT, add_data_option, sorted_cases, train

ROI = (128, 128, 128)
WAYS = ("monai", "same", "default", "fp32")
#: Least agreement of two outputs, and most that Dice against the truth may fall instead.
AGREEMENT = {"WT": 0.99, "TC": 0.98, "ET": 0.97}
ALLOWED_LOSS = 0.005
STEPS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_option(parser)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", default="unet")
    parser.add_argument("--left-out", action="store_true", help="train on the other cases only")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "inference")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/inference.json")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "CASE", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options, *options.one)
        return
    cases = [case.id for case in sorted_cases(options.data)][-3:]
    if not (options.run / "stages.json").is_file():
        words = ["--strategy", "scratch", "--dst", "flair,t1,t1ce,t2", "--spacing", "1"]
        words += ["--set", "patch_size=128,128,128", "--batch-size", "1", "--steps", str(STEPS)]
        words += ["--network", options.network, "--transforms", "brain-mr-light"]
        train(options.data, cases if options.left_out else [], options.run, words)
    rows = [compare(options, case) for case in cases]
    ratios = {
        way: {case["case"]: case["seconds"]["monai"] / case["seconds"][way] for case in rows}
        for way in WAYS[1:]
    }
    result = {
        "machine": describe(),
        "repeats": options.repeats,
        "network": options.network,
        "trained_on_these_cases": not options.left_out,
        "times_faster_than_monai": {w: round(median(r.values()), 2) for w, r in ratios.items()},
        "agrees": all(row["agrees"] for row in rows),
        "memory_no_higher": all(row["memory_no_higher"] for row in rows),
        "fp32_logits_within": max(row["fp32_difference"] for row in rows),
        "cases": rows,
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in list(result)[4:8]}, indent=2))


def compare(options: argparse.Namespace, case: str) -> dict[str, Any]:
    """One case by every way: medians of time and peak memory, and how far the outputs agree."""
    import torch

    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as work:
        files = {way: Path(work) / f"{way}.pt" for way in WAYS}
        for _ in range(options.repeats):
            for way in WAYS:
                words = ["--one", way, case, str(files[way]), "--device", options.device]
                words += ["--run", str(options.run), "--data", str(options.data)]
                done = subprocess.run(
                    [sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE
                )
                found[way].append(json.loads(done.stdout))
        outputs = {way: torch.load(files[way], weights_only=True) for way in WAYS}
    regions = tuple(AGREEMENT)
    truth_LIJK = outputs["monai"]["truth"]
    masks = {way: outputs[way]["logits"] > 0 for way in WAYS}
    agreement = {
        way: dict(zip(regions, dices(masks[way], masks["monai"]), strict=True)) for way in WAYS[1:]
    }
    truth = {way: dict(zip(regions, dices(masks[way], truth_LIJK), strict=True)) for way in WAYS}
    seconds = {way: median(run["seconds"] for run in runs) for way, runs in found.items()}
    memory = {way: median(run["peak_mb"] for run in runs) for way, runs in found.items()}
    difference = (outputs["fp32"]["logits"] - outputs["monai"]["logits"]).abs().max().item()
    row = {
        "case": case,
        "seconds": seconds,
        "peak_mb": memory,
        "dice_with_monai": agreement,
        "dice_with_truth": truth,
        "fp32_difference": difference,
        "agrees": all(
            agreement[way][region] >= least
            or truth[way][region] >= truth["monai"][region] - ALLOWED_LOSS
            for way in ("same", "default")
            for region, least in AGREEMENT.items()
        ),
        "memory_no_higher": all(memory[w] <= memory["monai"] for w in ("same", "default")),
    }
    print(json.dumps(row), flush=True)
    return row


def dices(one_LIJK: Any, other_LIJK: Any) -> list[float]:
    from medtl.inference.segmentation import dice

    return [round(value, 4) for value in dice(one_LIJK, other_LIJK).tolist()]


def run_one(options: argparse.Namespace, way: str, case: str, file: str) -> None:
    """Time one way on one case, after a run on a small volume; logits go to ``file``."""
    import torch

    from medtl.data.cohort import region_masks
    from medtl.data.io.nifti import read_labels
    from medtl.inference.load import read_stage
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.device import build_fabric
    from medtl.runtime.run_folder import open_run

    fabric = build_fabric(options.device, "fp32" if way in ("monai", "fp32") else "auto")
    stage = json.loads((options.run / "stages.json").read_text())[-1]
    trained = read_stage(open_run(options.run), stage, load_catalog(), fabric)
    predictor = trained.predictor
    chosen = next(c for c in sorted_cases(options.data) if c.id == case)
    image_CIJK = whole_grid(
        predictor.preprocessor(chosen, with_target=False), predictor.preprocessor
    )
    image_CIJK = image_CIJK.to(fabric.device)
    forward = FORWARDS[way]
    forward(predictor, image_CIJK[:, :128, :128, :128])
    before = peak_mb(fabric.device)
    started = perf_counter()
    logits_LIJK = forward(predictor, image_CIJK)
    if fabric.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(fabric.device), "before": before}))
    assert chosen.target is not None
    labels_IJK, _ = read_labels(chosen.target, chosen.labels)
    truth = torch.from_numpy(region_masks(labels_IJK, chosen, predictor.preprocessor.regions))
    torch.save({"logits": logits_LIJK.cpu(), "truth": truth}, file)


def whole_grid(prepared: Any, preprocessor: Any) -> Any:
    """The prepared image put back into the native grid, background 0: both sides start here."""
    from medtl.transforms.native import to_native

    return to_native(prepared["image"], prepared["placement"], 0.0)


def by_monai(predictor: Any, image_CIJK: Any) -> Any:
    import torch
    from monai.inferers import sliding_window_inference

    module = predictor.network.module.eval()
    with torch.inference_mode():
        return sliding_window_inference(
            image_CIJK[None], ROI, 1, module, overlap=0.5, mode="gaussian"
        )[0]


def by_window(predictor: Any, image_CIJK: Any, **options: Any) -> Any:
    from medtl.inference.sliding_window import sliding_window
    from medtl.networks.cpu.convolutions import suited_to_cpu

    module = predictor.network.module.eval()
    with suited_to_cpu(module):
        return sliding_window(module, image_CIJK, ROI, out_channels=3, **options)


def with_same_windows(predictor: Any, image_CIJK: Any) -> Any:
    from medtl.runtime.device import autocast_dtype

    return by_window(predictor, image_CIJK, crop=True, autocast=autocast_dtype(predictor.fabric))


def by_default(predictor: Any, image_CIJK: Any) -> Any:
    return predictor.prepared_logits(image_CIJK)


FORWARDS = {"monai": by_monai, "same": with_same_windows, "default": by_default, "fp32": by_window}


def peak_mb(device: Any) -> float:
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    from medtl.runtime.memory import peak_memory_bytes

    # Not by getrusage(): that counts what the process that started this one held.
    return (peak_memory_bytes() or float("nan")) / 1e6


if __name__ == "__main__":
    main()
