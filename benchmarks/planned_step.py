"""A training step of `plain-unet` beside nnU-Net's own, and its share of the processor's rate.

- Step: the same network, patch and batch on the same cases, augmentation on, by medtl's loop and by
  nnU-Net's trainer in an environment of its own (`--peer`), in turns; and how long medtl's loop
  waits for its input.
- Rate: arithmetic operations of forward and backward per second, at full resolution and several
  widths, over the rate of large matrix products in the same precision.

    python benchmarks/planned_step.py --peer PYTHON --prepared FOLDER

FOLDER holds `raw` and `preprocessed` as `strength.py nnunet` leaves them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from machine import describe
from real_cases import ROOT, shared_data
from torch.utils.flop_counter import FlopCounterMode
from training_step import Stamps, timed

from medtl.data.tasks.segmentation import Segmentation
from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.device import autocast_dtype, build_fabric, precision_name
from medtl.training.loop import Objective, Setup, fit
from medtl.training.samples.augmented import Patches
from medtl.training.samples.prepared import cached_cases
from medtl.transfer.strategies.base import LossSpec, Stage
from medtl.transforms.preprocessor import Preprocessor

PATCH, STRIDES, CASES = (40, 56, 40), [1, 2, 2, 2], 20
WARM_UP = 3
#: Edges of the matrices, and repeats, of the rate to compare with.
EDGE, PRODUCTS = 2048, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", type=Path, help="Python with nnunetv2 and this torch")
    parser.add_argument("--prepared", type=Path, help="what strength.py nnunet has preprocessed")
    parser.add_argument("--data", type=Path, default=shared_data() / "hippocampus")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=2)
    # Enough of them that the median is one without a state to write.
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/planned_step.json")
    options = parser.parse_args()
    fabric = build_fabric(options.device, options.precision)
    catalog = load_catalog()
    result: dict[str, Any] = {
        "machine": describe(),
        "device": str(fabric.device),
        "precision": precision_name(fabric),
        "patch": PATCH,
        "rate": [rate(fabric, catalog, width, options.batch) for width in (8, 16, 32)],
    }
    if options.peer:
        result["step"] = against_nnunet(options, fabric, catalog)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result.get(key) for key in ("rate", "step")}, indent=2))


def build(catalog: Catalog, width: int) -> tuple[Any, Any]:
    torch.manual_seed(0)
    network = catalog.networks["plain-unet"].load()(
        in_channels=1, out_channels=2, width=width, patch_size=PATCH, strides=STRIDES
    )
    return network, catalog.losses["dice-ce-softmax"].load()()


def rate(fabric: Any, catalog: Catalog, width: int, batch: int) -> dict[str, Any]:
    """Operations per second of forward and backward, over those of matrix products."""
    network, loss = build(catalog, width)
    objective = Objective(network.module, [(1.0, loss)]).to(fabric.device).train()
    image = torch.randn(batch, 1, *PATCH, device=fabric.device)
    target = (torch.rand(batch, 2, *PATCH, device=fabric.device) > 0.9).float()
    target[:, 1] *= 1 - target[:, 0]
    dtype = autocast_dtype(fabric)

    def step() -> None:
        cast = torch.autocast(fabric.device.type, dtype=dtype, enabled=dtype is not None)
        with suited_to_cpu(network.module), cast:
            value = objective(image, target)
        value.backward()
        wait(fabric)

    with FlopCounterMode(display=False) as counter:
        step()
    operations = counter.get_total_flops()
    one = torch.randn(EDGE, EDGE, device=fabric.device, dtype=dtype or torch.float32)
    seconds: dict[str, list[float]] = {"step": [], "product": []}
    for _ in range(PRODUCTS):  # in turns, as the rate of a shared machine moves
        for way, act in (("product", lambda: one @ one), ("step", step)):
            started = perf_counter()
            act()
            wait(fabric)
            seconds[way].append(perf_counter() - started)
    ours = operations / median(seconds["step"]) / 1e9
    products = 2 * EDGE**3 / median(seconds["product"]) / 1e9
    return {
        "width": width,
        "gigaflops": round(ours, 1),
        "of_matrix_products": round(products, 1),
        "share": round(ours / products, 3),
    }


def wait(fabric: Any) -> None:
    if fabric.device.type == "cuda":
        torch.cuda.synchronize()


def against_nnunet(options: Any, fabric: Any, catalog: Catalog) -> dict[str, Any]:
    """Medians of the seconds per step, in turns, and of their ratio."""
    rows = []
    for _ in range(options.repeats):
        ours = medtl_step(options, fabric, catalog)
        rows.append({"medtl": ours, "nnunet": nnunet_step(options)})
    ratios = [row["nnunet"]["seconds"] / row["medtl"]["seconds"] for row in rows]
    return {
        "width": options.width,
        "batch": options.batch,
        "parameters": {way: rows[0][way]["parameters"] for way in rows[0]},
        "seconds": {way: median(row[way]["seconds"] for row in rows) for way in rows[0]},
        "waiting": {way: median(row[way]["waiting"] for row in rows) for way in rows[0]},
        "times_faster": round(median(ratios), 2),
        "repeats": len(rows),
    }


def medtl_step(options: Any, fabric: Any, catalog: Catalog) -> dict[str, Any]:
    task = Segmentation().bind(options.data)
    cases = task.cases(options.data).cases[:CASES]
    preset = catalog.transforms["mr-usual"].load()().with_spacing(1.0)
    preprocessor = Preprocessor(task.modalities, task.regions, preset)
    cached = cached_cases(cases, preprocessor, "memory", 1)
    patches = Patches(cached, len(cases), preprocessor, PATCH, "benchmark")
    network, loss = build(catalog, options.width)
    network.module.to(fabric.device)
    steps = WARM_UP + options.steps
    stage = Stage("benchmark", None, steps, losses=(LossSpec("dice-ce-softmax"),))  # type: ignore[arg-type]
    stamps: Stamps = []
    batches = timed(patches, steps, options.batch, 0, fabric, stamps)
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(network, stage, (), [(1.0, loss)], fabric, Path(folder), seed=0)
        fit(setup, lambda _done: batches)
    seconds = [later - asked for (asked, _), (later, _) in pairwise(stamps)][WARM_UP:]
    waiting = [came - asked for asked, came in stamps[WARM_UP:-1]]
    return {
        "seconds": median(seconds),
        "waiting": sum(waiting) / sum(seconds),
        "parameters": sum(p.numel() for p in network.module.parameters()),
    }


def nnunet_step(options: Any) -> dict[str, Any]:
    script = Path(__file__).parent / "peers" / "nnunet_step.py"
    patch = ",".join(map(str, PATCH))
    words = [options.prepared, options.width, options.batch, patch, options.steps, options.device]
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count()), "nnUNet_n_proc_DA": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(options.peer), str(script), *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
