"""How long until a newcomer has a plugin of one's own that passes its tests, and a trained model?

    python benchmarks/newcomer.py plugins    # medtl plugins new, pip install -e '.[dev]', pytest
    python benchmarks/newcomer.py model      # a clone and the README's first command: minutes

Each adds its part to benchmarks/results/newcomer.json. The promise: a plugin of any kind in less
than two minutes. Seconds of the processor stand beside those of the clock, which other programs on
the machine stretch.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from machine import describe

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests" / "helpers"))
from clean_environment import CleanEnvironment  # noqa: E402

from medtl.plugins.scaffold import SCAFFOLDS  # noqa: E402

PROMISE_S = 120.0
RESULTS = Path(__file__).parent / "results" / "newcomer.json"


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the clock, and of the processor in the processes that it started."""
    clock, processor = perf_counter(), _processor_s()
    work()
    return {
        "seconds": round(perf_counter() - clock, 1),
        "processor_s": round(_processor_s() - processor, 1),
    }


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def plugins() -> dict[str, Any]:
    rows = {}
    for kind in SCAFFOLDS:
        with tempfile.TemporaryDirectory() as folder:
            rows[kind] = plugin(kind, Path(folder))
        print(f"{kind:<13} {rows[kind]['seconds']:6.1f} s of {PROMISE_S:.0f}", flush=True)
    return rows


def plugin(kind: str, folder: Path) -> dict[str, Any]:
    """What ``medtl plugins new`` prints, typed; medtl is installed already."""
    clean = CleanEnvironment.create(folder / "environment")
    project = folder / f"medtl-my-{kind}"
    steps: dict[str, tuple[object, ...]] = {
        "new": ("-m", "medtl", "plugins", "new", f"my-{kind}", "--kind", kind, "--out", folder),
        "install": ("-m", "pip", "install", "--quiet", "--editable", f"{project}[dev]"),
        "tests": ("-m", "pytest", "-q", "--rootdir", project, project),
    }
    row: dict[str, Any] = {name: timed(partial(clean.run, *words)) for name, words in steps.items()}
    return {**row, "seconds": round(sum(step["seconds"] for step in row.values()), 1)}


def model() -> dict[str, Any]:
    """The README's first command in a fresh clone: environment, installation, training, figures."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^python3 -m venv .+medtl train .+$", readme, re.MULTILINE)
    if found is None:
        sys.exit("README.md has no command that installs and trains")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "medtl"
        environment = os.environ | {"MEDTL_CACHE": str(Path(folder) / "cache")}
        environment.pop("PYTHONPATH", None)

        def run(*words: object, **settings: Any) -> None:
            subprocess.run(words, check=True, env=environment, **settings)

        row: dict[str, Any] = {"command": found[0]}
        row["clone"] = timed(lambda: run("git", "clone", "--quiet", ROOT, clone))
        row["command_took"] = timed(lambda: run("bash", "-c", found[0], cwd=clone))
        row["figures"] = sorted(path.name for path in clone.glob("runs/*/figures/*"))
    if not row["figures"]:
        sys.exit("the first command left no figures")
    print(f"clone to first model: {row['command_took']['seconds']:.0f} s, {row['figures']}")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("plugins", "model"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    result = {"plugins": plugins, "model": model}[options.part]()
    report = json.loads(options.out.read_text()) if options.out.is_file() else {}
    report |= {"promise_s": PROMISE_S, options.part: {"machine": describe(), **result}}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    timed_kinds = SCAFFOLDS if options.part == "plugins" else ()
    slow = [kind for kind in timed_kinds if result[kind]["seconds"] > PROMISE_S]
    if slow:
        sys.exit(f"slower than {PROMISE_S:.0f} s: {', '.join(slow)}")


if __name__ == "__main__":
    main()
