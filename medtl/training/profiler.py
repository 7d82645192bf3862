"""Where the time of a training step goes, by torch's profiler.

A few steps of a stage, once it runs warm, are traced; the summary says what each part of a step
takes, which operators take most, and how long the device computed.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from torch.profiler import ProfilerActivity, record_function

from medtl.errors import RunError
from medtl.runtime.files import replacing
from medtl.runtime.memory import peak_memory_bytes
from medtl.runtime.run_folder import write_text
from medtl.runtime.table import Table

TRACE, SUMMARY = "trace.json", "summary.json"


#: Steps that are not traced, as the first ones are slower, and steps that are.
WARM_UP, TRACED = 5, 10


#: Operators that are listed per device, and how many of them are printed.
LISTED, PRINTED = 20, 5


#: A longer trace is compressed; the viewers read both.
LARGE_BYTES = 10 * 2**20


DATA, FORWARD, BACKWARD, CLIP = "data", "forward", "backward", "clip gradients"


OPTIMISER, AVERAGE, KEEP = "optimiser", "average weights", "keep rows and state"


VALIDATION, OTHER = "validation", "other"


COMPUTED = (FORWARD, BACKWARD, CLIP, OPTIMISER, AVERAGE)


#: Not part of every step: measured over the stage, of which each step bears its share.
RARE = (VALIDATION, KEEP)


class Profile:
    """Measures nothing: the default of the training loop."""

    def begin(self, steps: int) -> None:
        """Called before the first of ``steps`` steps."""

    def span(self, name: str) -> AbstractContextManager[None]:
        """The context whose time belongs to ``name``."""
        return nullcontext()

    def step_taken(self) -> None:
        """A step ends here, its validation included."""


class Profiling(Profile):
    """Traces some steps and writes ``trace.json`` and ``summary.json`` to ``folder``."""

    def __init__(self, folder: Path, device: torch.device, facts: Mapping[str, Any]) -> None:
        """``facts`` stand at the top of the summary."""
        self.folder, self.device, self.facts = folder, device, facts
        self.first = self.last = self.taken = 0
        self.started = self.wall = 0.0
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.averages: list[Any] = []
        self.trace = ""
        self.running: torch.profiler.profile | None = None

    def begin(self, steps: int) -> None:
        self.first = min(WARM_UP, steps // 2)
        self.last = min(self.first + TRACED, steps)
        if self.first == 0 < self.last:
            self._start()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        started = perf_counter()
        with record_function(name):
            yield
        passed = perf_counter() - started
        if name in RARE:
            self.started += passed  # as if it had not been within the traced steps
        if name in RARE or self.running:
            self.seconds[name] += passed

    def step_taken(self) -> None:
        self.taken += 1
        if self.taken == self.first:
            self._start()
        elif self.taken == self.last:
            self.finish()

    def finish(self) -> None:
        """Stop tracing, if it still runs, and write the trace."""
        if self.running is None:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.wall = perf_counter() - self.started
        self.last = self.taken
        profiler, self.running = self.running, None
        profiler.stop()
        self.averages = [row for row in profiler.key_averages() if not row.is_user_annotation]
        try:
            self.trace = _write_trace(profiler, self.folder)
        except (OSError, ValueError) as problem:  # a full disk cuts the exported trace off
            raise RunError(
                f"{self.folder}: the trace cannot be written ({problem}); make room, or leave "
                "--profile out"
            ) from problem

    def _start(self) -> None:
        quiet()
        cuda = [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
        self.running = torch.profiler.profile(activities=[ProfilerActivity.CPU, *cuda])
        self.running.start()
        self.started = perf_counter()

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` holds; seconds are per step, shares of the mean step."""
        steps = max(1, self.last - self.first)
        parts = {name: self.seconds[name] / steps for name in (DATA, *COMPUTED)}
        parts[OTHER] = max(0.0, self.wall / steps - sum(parts.values()))
        parts |= {name: self.seconds[name] / max(1, self.taken) for name in RARE}
        whole = sum(parts.values()) or 1.0
        computed = sum(self.seconds[name] for name in COMPUTED)
        peak = peak_memory_bytes()
        operators = {"cpu": self._operators("self_cpu_time_total", steps)}
        if self.device.type == "cuda":
            kernels = (row for row in self.averages if "CUDA" in str(row.device_type))
            computed = sum(row.self_device_time_total for row in kernels) / 1e6
            peak = torch.cuda.max_memory_allocated()
            operators["cuda"] = self._operators("self_device_time_total", steps)
        return {
            **self.facts,
            "steps": [self.first + 1, self.last],
            "seconds_per_step": whole,
            "parts": {n: {"seconds": s, "share": s / whole} for n, s in parts.items()},
            "device_share": min(1.0, computed / self.wall) if self.wall else None,
            "peak_memory_bytes": peak,
            "operators": operators,
            "trace": self.trace,
        }

    def _operators(self, attribute: str, steps: int) -> list[dict[str, Any]]:
        rows = [row for row in self.averages if "CPU" in str(row.device_type)]
        timed = sorted(((getattr(row, attribute), row) for row in rows), key=lambda pair: -pair[0])
        return [
            {"name": row.key, "calls": row.count / steps, "seconds": time / 1e6 / steps}
            for time, row in timed[:LISTED]
        ]


def write_summary(profiling: Profiling) -> Table:
    """Write ``summary.json``; returns it as a table."""
    found = profiling.summary()
    write_text(profiling.folder / SUMMARY, json.dumps(found, indent=2) + "\n")
    per_step = found["seconds_per_step"]
    timed = [
        ("wait for the batch" if name == DATA else name, part["seconds"])
        for name, part in found["parts"].items()
    ]
    for device, operators in found["operators"].items():
        printed = [(f"{device}: {row['name']}", row["seconds"]) for row in operators[:PRINTED]]
        timed += [(name, seconds) for name, seconds in printed if seconds / per_step >= 0.01]
    rows = [(name, f"{1000 * own:.1f}", f"{own / per_step:.1%}") for name, own in timed]
    first, last = found["steps"]
    share = found["device_share"]
    computing = f"; the {found['device']} computed {share:.0%} of the time" if share else ""
    return Table(
        f"Where a step's time goes: {found['stage']}, steps {first} to {last}",
        ("part, then operators", "ms per step", "share"),
        tuple(rows),
        (f"{per_step:.3f} s per step{computing}; {profiling.folder / found['trace']}",),
    )


def quiet() -> None:
    """Silence the profiler's own log on stderr; to be called before its first use."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def exported(profiler: torch.profiler.profile) -> dict[str, Any]:
    """The profiler's events in Chrome's format; ValueError where a full disk cut the file off."""
    with TemporaryDirectory() as work:
        file = Path(work) / TRACE
        profiler.export_chrome_trace(str(file))
        trace: dict[str, Any] = json.loads(file.read_bytes())
    return trace


def _write_trace(profiler: torch.profiler.profile, folder: Path) -> str:
    """Write the trace without names of host or folders, compressed if large; returns its name."""
    trace = exported(profiler)
    trace.pop("host_name", None)
    content = json.dumps({**trace, "traceName": TRACE}).encode()
    plain, packed = folder / TRACE, folder / f"{TRACE}.gz"
    large = len(content) > LARGE_BYTES
    written, other = (packed, plain) if large else (plain, packed)
    with replacing(written) as temporary:
        temporary.write_bytes(gzip.compress(content) if large else content)
    other.unlink(missing_ok=True)  # of an earlier part of the run
    return written.name
