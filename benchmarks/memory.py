"""Is the memory foreseen for a training step what the process then takes?

    python benchmarks/memory.py             # writes benchmarks/results/memory.json

For each network and patch, in bf16 and fp32 on the CPU: the estimate that `medtl train` prints, and
the growth of a fresh process's peak (VmHWM) over three real steps with AdamW and the running
average, after a small step has loaded what torch loads at first use. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from machine import describe

from medtl.config import TrainConfig
from medtl.data.phantom import write_phantom
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Reporter
from medtl.runtime.device import build_fabric
from medtl.runtime.memory import give_back_freed_memory
from medtl.training.build import build_losses, build_network
from medtl.training.memory_estimate import measure_footprint
from medtl.training.optimizer import EMA, build_optimizer
from medtl.training.plan import Plan, make_plan
from medtl.training.profiler import Profile
from medtl.training.step import Gradients, Objective

OUT = Path(__file__).parent / "results" / "memory.json"
#: The estimate is within this share of what was measured.
PROMISE = 0.3
BATCH_SIZE = 2


def plan_for(data: Path, network: str, edge: int) -> Plan:
    config = TrainConfig(
        task="brats",
        data=data,
        network=network,
        patch_size=(edge,) * 3,
        batch_size=BATCH_SIZE,
        steps=3,
    )
    return make_plan(config, load_catalog(), Reporter(quiet=True))


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def take_steps(plan: Plan, precision: str, edge: int, steps: int) -> None:
    catalog, fabric = load_catalog(), build_fabric("cpu", precision)
    stage = plan.stages[0]
    network = build_network(plan, catalog, stage)
    images = torch.zeros(BATCH_SIZE, network.in_channels, edge, edge, edge)
    objective = Objective(network.module, build_losses(stage, catalog, network, images))
    optimizer, average = build_optimizer(network, stage, ()), EMA(network)
    model, stepper = fabric.setup(objective, optimizer)
    gradients = Gradients(
        objective,
        fabric,
        model,
        stepper.zero_grad,
        at_once=None,
        tell=print,
        profile=Profile(),
    )
    for step in range(1, steps + 1):
        image = torch.randn(BATCH_SIZE, network.in_channels, edge, edge, edge)
        target = torch.zeros(BATCH_SIZE, network.out_channels, edge, edge, edge)
        gradients(image, target, step)
        stepper.step()
        average.update(step)


def measured(data: Path, network: str, precision: str, edge: int) -> int:
    words = (__file__, "--measure", data, network, precision, edge)
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def measure(data: str, network: str, precision: str, edge: str) -> None:
    plan = plan_for(Path(data), network, int(edge))
    take_steps(plan, precision, 32, 1)
    gc.collect()
    give_back_freed_memory()
    before = status("VmRSS")
    take_steps(plan, precision, int(edge), 3)
    print(status("VmHWM") - before)


def main(networks: Sequence[str], patches: Sequence[int]) -> None:
    with TemporaryDirectory() as work:
        data = write_phantom(Path(work) / "data", cases=4, size=24, sites=1, seed=1, workers=1)
        rows = []
        for network in networks:
            for precision in ("bf16", "fp32"):
                for edge in patches:
                    plan, fabric = plan_for(data, network, edge), build_fabric("cpu", precision)
                    catalog = load_catalog()
                    built = build_network(plan, catalog, plan.stages[0])
                    footprint = measure_footprint(plan, catalog, fabric, built)
                    assert footprint is not None
                    foreseen = footprint.step_bytes(BATCH_SIZE, plan.patch_size)
                    real = measured(data, network, precision, edge)
                    rows.append(
                        {
                            "network": network,
                            "precision": precision,
                            "patch": [edge] * 3,
                            "batch_size": BATCH_SIZE,
                            "foreseen_mb": round(foreseen / 1e6),
                            "measured_mb": round(real / 1e6),
                            "ratio": round(foreseen / real, 2),
                        }
                    )
                    print(rows[-1], flush=True)
    kept = all(abs(row["ratio"] - 1) <= PROMISE for row in rows)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": describe(), "kept": kept, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    else:
        parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
        parser.add_argument(
            "--networks", nargs="+", default=["unet", "plain-unet", "resenc-unet", "segresnet"]
        )
        parser.add_argument("--patches", nargs="+", type=int, default=[64, 96])
        options = parser.parse_args()
        main(options.networks, options.patches)
