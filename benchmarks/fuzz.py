"""Does damaged input end in one line, without harm?

Good inputs of seven readers (NIfTI, pictures, weights, run folders, configs, tables, datalists) are
damaged, each by the generator of its number, and read by the command line in a process of its own:

    python benchmarks/fuzz.py --work fuzz            # 500 per reader; goes on where it stopped
    python benchmarks/fuzz.py --work fuzz --inputs 30 --readers nifti,configs
    python benchmarks/fuzz.py --work fuzz --only configs:17    # one, shown; its folder is kept

An input fails where there is a traceback, a "bug", an exit code other than 0 and 2, not exactly one
``error:`` line with code 2, more than --limit seconds, more than twice the memory of the good
input, a control character on a stream, a file made or changed outside the output folder and the
cache, a program started, a pickled function called, or a temporary file left behind. The work
folder belongs to one version of medtl: the good inputs, runs among them, are made there once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from random import Random
from time import perf_counter
from typing import Any

from damage.good import build
from damage.readers import READERS
from damage.server import Server
from machine import describe

RESULTS = Path(__file__).resolve().parent / "results" / "fuzz.json"
#: Where commands may write.
WRITABLE = ("out", "cache")
#: An input that takes more is stopped.
MEMORY_MB = 4_000
KINDS = (
    "traceback",
    "bug",
    "code",
    "lines",
    "hang",
    "memory",
    "outside",
    "executed",
    "escape",
    "leftover",
)


class Bench:
    """The good inputs, and a folder per input at work."""

    def __init__(self, work: Path, seed: int, limit_s: float, keep: Path | None) -> None:
        self.work, self.seed, self.limit_s, self.keep = work.resolve(), seed, limit_s, keep
        self.base = self.work / "base"
        self.servers: SimpleQueue[Server] = SimpleQueue()
        self.good: dict[str, int] = {}  #: command -> memory of the good input, in MB

    def templates(self, reader: str) -> list[tuple[str, str]]:
        return [(t, words) for t, each in READERS[reader].commands.items() for words in each]

    def prepare(self, reader: str) -> None:
        """Run each command on its good input: it has to succeed, and its memory is the measure."""
        for template, words in self.templates(reader):
            if f"{template} {words}" not in self.good:
                row = self.trial(reader, "good", template, words, None)
                if row["code"] or row["failures"]:
                    sys.exit(f"the good input of {reader} fails: {json.dumps(row, indent=1)}")
                self.good[f"{template} {words}"] = row["peak_mb"]

    def number(self, reader: str, number: int, *, keep: bool = False) -> dict[str, Any]:
        random = Random(f"{self.seed} {reader} {number}")
        template, words = random.choice(self.templates(reader))
        return self.trial(reader, str(number), template, words, random, keep=keep)

    def trial(
        self,
        reader: str,
        name: str,
        template: str,
        words: str,
        random: Random | None,
        *,
        keep: bool = False,
    ) -> dict[str, Any]:
        folder = self.work / "trials" / f"{reader}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        for inner in ("canary", "cwd", "tmp", "home"):
            (folder / inner).mkdir(parents=True)
        (folder / "canary" / "keep.txt").write_text("kept\n")
        given = folder / "in"
        self.copy(template, given)
        what = READERS[reader].mutate(given, random, folder / "canary") if random else "good"
        places = {"in": given, "out": folder / "out", "base": self.base}
        places["given"] = next(given.glob("given*"), given / "own.safetensors")
        line = [word.format(**places) for word in words.split()]
        writable = [folder / w for w in WRITABLE] + ([given] if reader == "runs" else [])
        before, had = snapshot(folder, writable), hidden(folder, writable)
        server = self.servers.get()
        try:
            reply = server.run(
                words=line,
                folder=str(folder / "cwd"),
                limit_s=self.limit_s,
                limit_mb=MEMORY_MB,
                stdout=str(folder / "stdout"),
                stderr=str(folder / "stderr"),
                noted=str(folder / "noted"),
                writable=[str(w) for w in (*writable, folder / "tmp")],
                environment={
                    "MEDTL_CACHE": str(folder / "cache"),
                    "TMPDIR": str(folder / "tmp"),
                    "HOME": str(folder / "home"),
                    "MPLCONFIGDIR": str(folder / "cache"),
                    "NO_COLOR": "1",
                },
            )
        finally:
            self.servers.put(server)
        row = {
            "reader": reader,
            "number": name,
            "template": template,
            "command": words,
            "what": what,
            **reply,
        }
        most = 2 * self.good[f"{template} {words}"] if random else MEMORY_MB
        changes = [f"changed {path}" for path in changed(before, snapshot(folder, writable))]
        left = [name for name in hidden(folder, writable) if name not in had]
        row |= judged(folder, reply, most, changes, left)
        if random is None or keep or (row["failures"] and self.keep):
            (folder / "words.json").write_text(json.dumps(line))
            if self.keep:
                shutil.rmtree(self.keep / folder.name, ignore_errors=True)
                shutil.copytree(folder, self.keep / folder.name, symlinks=True, ignore=no_pipes)
        if not keep:
            shutil.rmtree(folder)
        return row

    def copy(self, template: str, given: Path) -> None:
        if template == "config":
            given.mkdir()
            text = (self.base / "seg" / "config.yaml").read_text()
            (given / "config.yaml").write_text(text)
        elif template == "classes":
            shutil.copytree(self.base / "pictures", given / "pictures")
            shutil.copy(self.base / "classes.csv", given)
        else:
            shutil.copytree(self.base / template, given)


def no_pipes(folder: str, names: list[str]) -> list[str]:
    return [
        n
        for n in names
        if not (
            Path(folder, n).is_symlink() or Path(folder, n).is_dir() or Path(folder, n).is_file()
        )
    ]


def snapshot(folder: Path, writable: list[Path]) -> dict[str, tuple[object, ...]]:
    """Every file below the folder but those that may change: kind, size, time, content."""
    found: dict[str, tuple[object, ...]] = {}
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(where, name) not in writable]
        for name in (*folders, *files):
            path = Path(where, name)
            if path.parent == folder and name in ("stdout", "stderr", "noted", "out"):
                continue
            fact = path.lstat()
            content = (
                hashlib.sha256(path.read_bytes()).digest()
                if path.is_file() and not path.is_symlink()
                else b""
            )
            found[str(path.relative_to(folder))] = (
                fact.st_mode,
                fact.st_size if content else 0,
                content,
            )
    return found


def hidden(folder: Path, writable: list[Path]) -> list[str]:
    """Temporary files below the folders that may change; the lock of a run stays."""
    paths = (path for where in writable for path in where.rglob(".*") if path.name != ".lock")
    return sorted(str(path.relative_to(folder)) for path in paths)


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )


def judged(
    folder: Path, reply: dict[str, Any], most_mb: int, changes: list[str], left: list[str]
) -> dict[str, Any]:
    """The failures by kind, and the last line that the user saw."""
    out, err = ((folder / name).read_bytes() for name in ("stdout", "stderr"))
    text = err.decode("utf-8", "replace")
    noted = (folder / "noted").read_text("utf-8", "replace").splitlines()
    errors = sum(line.startswith("error") for line in text.splitlines())
    stopped = reply["stopped"]
    failures = {
        "traceback": b"Traceback (most recent call" in out + err,
        "bug": "this is a bug" in text,
        "code": not stopped and reply["code"] not in (0, 2),
        "lines": not stopped and errors != (1 if reply["code"] else 0),
        "hang": stopped == "time",
        "memory": stopped == "memory" or reply["peak_mb"] > most_mb,
        "outside": bool(changes) or any(not line.startswith("called") for line in noted),
        "executed": any(line.startswith("called") for line in noted)
        or (folder / "canary/executed").exists(),
        "escape": bool(control_characters(out) or control_characters(err)),
        "leftover": bool(left) or reply["left_running"],
    }
    lines = [line for line in text.splitlines() if line.strip()]
    return {
        "failures": [kind for kind, there in failures.items() if there],
        "line": ascii(lines[-1][:400]) if lines else "",
        "detail": [ascii(line[:200]) for line in (*noted[:3], *changes[:3], *left[:3])],
    }


def control_characters(content: bytes) -> list[str]:
    """Those that a terminal obeys; tabs and ends of lines are not counted."""
    text = content.decode("utf-8", "surrogateescape")
    return [
        c
        for c in re.sub(r"[\n\t]", "", text)
        if unicodedata.category(c) in ("Cc", "Cs")
        or c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("fuzz-work"),
        help="folder to work in; its rows are gone on from",
    )
    parser.add_argument("--inputs", type=int, default=500, help="per reader")
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of one input")
    parser.add_argument("--jobs", type=int, default=1, help="inputs at once")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that fail")
    parser.add_argument("--only", help="one input, READER:NUMBER; its folder is kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    bench = Bench(options.work, options.seed, options.limit, options.keep)
    bench.work.mkdir(parents=True, exist_ok=True)
    build(bench.base)
    for _ in range(options.jobs):
        bench.servers.put(Server())
    if options.only:
        reader, _, number = options.only.partition(":")
        bench.prepare(reader)
        print(json.dumps(bench.number(reader, int(number), keep=True), indent=1))
        print(
            (bench.work / "trials" / f"{reader}-{number}" / "stderr").read_text(
                "utf-8", "backslashreplace"
            )
        )
        return
    rows = sweep(bench, options.readers.split(","), options.inputs, options.jobs)
    report = {
        "machine": describe(),
        "seed": options.seed,
        "limit_s": options.limit,
        "readers": summed_up(rows),
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report["readers"]))
    if any(row["failures"] for row in rows):
        sys.exit("some inputs did harm")


def sweep(bench: Bench, readers: list[str], inputs: int, jobs: int) -> list[dict[str, Any]]:
    """The rows of every input, those of an earlier call among them."""
    path = bench.work / f"rows-{bench.seed}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    rows = [row for row in rows if row["reader"] in readers and int(row["number"]) < inputs]
    done = {(row["reader"], int(row["number"])) for row in rows}
    for reader in readers:
        wanted = [n for n in range(inputs) if (reader, n) not in done]
        started = perf_counter()
        if wanted:
            bench.prepare(reader)
        with ThreadPoolExecutor(jobs) as pool, path.open("a") as file:
            for count, row in enumerate(
                pool.map(lambda n, r=reader: bench.number(r, n), wanted), 1
            ):
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
                if row["failures"]:
                    print(as_line(row), flush=True)
                if count % 25 == 0 or count == len(wanted):
                    print(
                        f"{reader}: {count}/{len(wanted)} in {perf_counter() - started:.0f} s",
                        flush=True,
                    )
    return rows


def as_line(row: dict[str, Any]) -> str:
    """A line on an input that failed."""
    parts = (",".join(row["failures"]), row["what"][:60], row["command"][:40], row["line"][:260])
    return f"{row['reader']}:{row['number']} {' | '.join(parts)} {row['detail']}"


def summed_up(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Reader -> inputs, refused, accepted, failures by kind, longest time, most memory."""
    found: dict[str, dict[str, Any]] = {}
    for reader in READERS:
        mine = [row for row in rows if row["reader"] == reader]
        if mine:
            found[reader] = {
                "inputs": len(mine),
                "refused": sum(row["code"] == 2 for row in mine),
                "accepted": sum(row["code"] == 0 for row in mine),
                "failed": sum(bool(row["failures"]) for row in mine),
                "failures": dict(Counter(kind for row in mine for kind in row["failures"])),
                "longest_s": max(row["seconds"] for row in mine),
                "peak_mb": max(row["peak_mb"] for row in mine),
            }
    return found


def table(readers: dict[str, dict[str, Any]]) -> str:
    columns = ("inputs", "refused", "accepted", "failed", "longest_s", "peak_mb")
    lines = [f"{'reader':<10}" + "".join(f"{c:>11}" for c in columns) + "  failures"]
    for name, row in readers.items():
        kinds = ", ".join(f"{kind} {count}" for kind, count in row["failures"].items())
        lines.append(f"{name:<10}" + "".join(f"{row[c]:>11}" for c in columns) + f"  {kinds}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
