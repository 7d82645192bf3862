"""All that only a GPU can show, in one go of eight minutes: tests, training steps, input, inference
and its memory.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --peer PYTHON --prepared FOLDER   # nnU-Net beside it

Each part has a share of the time and is stopped when it is over; the others go on. What each has
measured lies in `results/gpu-PART.json`, which part passed in `results/gpu.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from machine import describe
from real_cases import ROOT

RESULTS = ROOT / "benchmarks" / "results"
#: Tests that need a GPU, or take it where there is one.
TESTS = ("tests/unit/training", "tests/unit/inference", "tests/runs/test_profiler.py")


def parts(options: argparse.Namespace) -> dict[str, tuple[float, list[str]]]:
    """Share of the time and command of each part."""

    def script(name: str, *words: str) -> list[str]:
        out = RESULTS / f"gpu-{name}.json"
        path = str(ROOT / "benchmarks" / f"{name}.py")
        return [sys.executable, path, "--device", options.device, "--out", str(out), *words]

    peer = ("--peer", str(options.peer), "--prepared", str(options.prepared))
    given = peer if options.peer else ()
    tests = [sys.executable, "-m", "pytest", "-q", "-n", "8", "-k", "gpu or cuda or device"]
    return {
        "tests": (0.25, [*tests, *TESTS]),
        "planned_step": (0.2, script("planned_step", *given)),
        "training_step": (0.2, script("training_step", "--workers", "4")),
        "inference": (0.35, script("inference", "--repeats", "2")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peer", type=Path, help="Python with nnunetv2")
    parser.add_argument("--prepared", type=Path, help="what strength.py nnunet has preprocessed")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: there is no CUDA device here")
    result: dict[str, Any] = {"machine": describe()}
    if options.device == "cuda":
        result["gpu"] = torch.cuda.get_device_name()
    failed = []
    for name, (share, command) in parts(options).items():
        started = perf_counter()
        try:
            code = subprocess.run(
                command, timeout=60 * options.minutes * share, cwd=ROOT
            ).returncode
            ended = "passed" if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            ended = "time is over"
        result[name] = {"seconds": round(perf_counter() - started, 1), "ended": ended}
        failed += [name] if ended != "passed" else []
        (RESULTS / "gpu.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
