"""How long do ``medtl --help`` and the listings take, next to an empty Typer program?

    python benchmarks/startup.py            # writes benchmarks/results/startup.json

The commands take turns, so that a busy moment of the machine hits all of them alike. The promise:
each at most 1.5 times the empty program, which is run as ``--help`` too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from machine import describe

PROMISE = 1.5
EMPTY = """import typer

app = typer.Typer()


@app.command()
def main():
    pass


app()
"""


def seconds(command: list[str]) -> float:
    start = perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return perf_counter() - start


def measure(runs: int) -> dict[str, dict[str, object]]:
    """Time every command ``runs`` times in turn, after one round that warms the file cache."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "empty.py"
        program.write_text(EMPTY)
        commands = {
            "empty Typer program --help": [sys.executable, str(program), "--help"],
            "empty Typer program": [sys.executable, str(program)],
            "medtl --help": [sys.executable, "-m", "medtl", "--help"],
            "medtl list": [sys.executable, "-m", "medtl", "list"],
            "medtl plugins list": [sys.executable, "-m", "medtl", "plugins", "list"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for round_ in range(runs + 1):
            for name, command in commands.items():
                took = seconds(command)
                if round_:
                    times[name].append(took)
    peer = min(statistics.median(times[name]) for name in times if name.startswith("empty"))
    return {
        name: {
            "median_s": round(statistics.median(taken), 4),
            "min_s": round(min(taken), 4),
            "ratio": round(statistics.median(taken) / peer, 3),
        }
        for name, taken in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    default = Path(__file__).parent / "results" / "startup.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    results = measure(options.runs)
    report = {
        "machine": describe() | {"typer": version("typer")},
        "runs": options.runs,
        "peer": "the faster of the two empty Typer programs",
        "promise": PROMISE,
        "results": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, result in results.items():
        print(f"{name:<28} {result['median_s']:.3f} s  {result['ratio']:.2f}x")
    slow = [n for n, r in results.items() if n.startswith("medtl") and r["ratio"] > PROMISE]
    if slow:
        sys.exit(f"slower than {PROMISE} times an empty Typer program: {', '.join(slow)}")


if __name__ == "__main__":
    main()
