"""Does a killed run, resumed, end with the very same weights?

A small `medtl train brats --strategy modality-transfer` on a phantom is trained without a break for
each precision, number of workers and kind of cache: worker count and cache must change no weight.
Then it is killed (SIGKILL) at ten moments and resumed; the checkpoints must be bit-identical.

    python benchmarks/resume.py                # fp32 and bf16, settings taken in turn: 8 minutes
    python benchmarks/resume.py --all          # every moment under every setting: 40 minutes
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import describe

from medtl.data.phantom import write_phantom
from medtl.training.state import STATE
from medtl.training.trainer import LAST
from medtl.transfer.weights import BEST

HERE = Path(__file__).resolve().parent
#: Each a moment of ``killed.py``: mid-epoch, mid-validation, mid-write and stage boundaries.
MOMENTS = (
    *("step:5", "step:17", "row:9", "validation:1", "validation:3"),
    *("state:3", "kept:12", "between:1", "ended:2", "scoring:2"),
)
SETTINGS = tuple(itertools.product((0, 2), ("memory", "disk")))
STAGES = ("source", "adapt", "unfreeze")
SMALL = ("--network", "plain-unet", "--width", "4", "--steps", "12", "--device", "cpu", "--quiet")
SMALL += ("--transforms", "brain-mr", "--batch-size", "2", "--set=patch_size=32,32,32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--all", action="store_true", help="every moment under every setting")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "resume.json")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        os.environ["MEDTL_CACHE"] = f"{work}/cache"
        data = write_phantom(Path(work) / "data", cases=14, size=24, sites=2, seed=3, workers=1)
        for precision in ("fp32", "bf16"):
            folder = Path(work) / precision
            whole = []
            for workers, cache in SETTINGS:
                out = folder / f"whole-{workers}-{cache}"
                launch("medtl", data, out, precision, workers, cache, check=True)
                whole.append(weights(out))
                rows.append(row(precision, workers, cache, "none", whole[-1] == whole[0]))
            for number, moment in enumerate(MOMENTS):
                for workers, cache in SETTINGS if options.all else SETTINGS[number % 4 :][:1]:
                    out = folder / f"{moment.replace(':', '-')}-{workers}-{cache}"
                    done = launch(moment, data, out, precision, workers, cache)
                    assert done.returncode == -signal.SIGKILL, (moment, done.stderr)
                    subprocess.run(
                        [sys.executable, "-m", "medtl", "train", "--resume", str(out), "-q"],
                        check=True,
                    )
                    same = weights(out) == whole[0] and not (out / STAGES[0] / STATE).exists()
                    rows.append(row(precision, workers, cache, moment, same))
    result = {"machine": describe(), "identical": all(r["identical"] for r in rows), "runs": rows}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(0 if result["identical"] else "not all weights are identical")


def launch(
    moment: str,
    data: Path,
    out: Path,
    precision: str,
    workers: int,
    cache: str,
    *,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Train, whole (``medtl``) or killed at a moment."""
    program = ["-m", "medtl"] if moment == "medtl" else [str(HERE / "damage" / "killed.py"), moment]
    words = ["train", "brats", "--data", str(data), *SMALL, "--precision", precision]
    words += ["--workers", str(workers), "--cache", cache, "--out", str(out)]
    return subprocess.run(
        [sys.executable, *program, *words], check=check, stderr=subprocess.PIPE, text=True
    )


def weights(run: Path) -> dict[str, str]:
    """Hashes of every stage's best and last checkpoint, metadata included, and of its rows."""
    files = [Path(s) / name for s in STAGES for name in (BEST, LAST, "metrics.jsonl")]
    return {str(f): hashlib.sha256((run / f).read_bytes()).hexdigest() for f in files}


def row(precision: str, workers: int, cache: str, moment: str, same: bool) -> dict[str, object]:
    print(f"{precision} {workers} workers, {cache} cache, killed at {moment}:", same, flush=True)
    return {
        "precision": precision,
        "workers": workers,
        "cache": cache,
        "killed_at": moment,
        "identical": same,
    }


if __name__ == "__main__":
    main()
