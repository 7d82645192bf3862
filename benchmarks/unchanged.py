"""Does a change that should change no result change none?

Small jobs with fixed seeds are run by the command line, on one thread of the processor, and what
they leave is recorded: hashes of every tensor and mask, every score, p-value and receipt. Two such
recordings are compared, bit by bit:

    python benchmarks/unchanged.py record before    # 7 minutes on two cores
    python benchmarks/unchanged.py record after --medtl .venv/bin/medtl
    python benchmarks/unchanged.py compare before/record.json after/record.json

The comparison fails where a value differs or is missing. Renamed keys (the same values under
another name), additional ones and reworded sentences are listed. Times, memory, versions, paths,
settings and figures are not recorded. Both recordings should be of one machine and one torch.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

ON = "--device cpu --precision fp32"
SMALL = f"{ON} --width 4 --seed {{seed}}"
HEADS = f"{SMALL} --network unet --spacing 6 --batch-size 2"
PICTURES = f"{SMALL} --batch-size 8 --steps 20"
MODALITIES = "--src flair,t1ce --dst t1,t2"
TRANSFER = f"train brats --data heads --strategy modality-transfer {MODALITIES} {HEADS} --steps 24"
ADAPTED = f"train kaggle-mri --data pictures --src image,site:S1 --dst image,site:S2 {PICTURES}"
REGIONS = "--labels WT=1+2+4,TC=1+4,ET=4"
DRAWS = "--draws 99 --seed {seed}"

#: The words after ``medtl``, job by job; what a job writes lies in the folder of its name.
JOBS = {
    "heads": "data phantom heads --cases 14 --size 32 --seed 3",
    "new-heads": "data phantom new-heads --cases 2 --size 32 --seed 4",
    "pictures": "data phantom pictures --layout kaggle-mri --cases 32 --size 48 --seed 3",
    "transfer": f"{TRANSFER} --with-control --out transfer",
    "evaluate": f"evaluate transfer --json {ON}",
    "predict": f"predict transfer -i new-heads -o predict {ON}",
    "explain": "explain transfer -o explain --cases 2 --device cpu",
    "classes": f"train kaggle-mri {PICTURES} --out classes",
    "predict-classes": f"predict classes -i pictures/Testing -o predict-classes {ON}",
    "explain-classes": "explain classes -o explain-classes --cases 4 --device cpu",
    "fine-tune": "train classification --data pictures --strategy fine-tune --init classes"
    f" {PICTURES} --with-control --out fine-tune",
    "dann": f"{ADAPTED} --strategy dann --out dann",
    "mmd": f"{ADAPTED} --strategy mmd --out mmd",
    "shift": f"shift brats --data heads {MODALITIES} {DRAWS} --out shift",
    "shift-across": f"shift brats --src flair --across site {DRAWS} --out shift-across",
    "table": f"train segmentation --data table.csv {REGIONS} {HEADS} --steps 12"
    " --folds 3 --fold 1 --out table",
    "resumed": f"{TRANSFER} --out resumed",
}
#: Jobs that are stopped once they have begun to train, and how they go on.
STOPPED = {"resumed": "train --resume resumed"}
KIND_OF_COMMAND = {"data": "images", "shift": "p-values", "explain": "maps"}
RECEIPTS = ("receipt", "splits", "stages")
#: Files and parts of keys that tell of the machine, the settings and the moment.
LEFT_OUT = ("environment", "config")
UNSTABLE = {
    "seconds",
    "minutes",
    "hours",
    "time",
    "date",
    "memory",
    "version",
    "versions",
    "path",
    "paths",
}
#: Of the table; "largest" is the largest difference of two numbers.
COLUMNS = ("values", "differ", "missing", "largest")
LINES = 40  #: of each list that are printed


def record(out: Path, medtl: str, seed: int) -> None:
    """Run every job below a new or empty folder and write what they leave to ``record.json``."""
    program, out = shutil.which(medtl), out.resolve()
    if program is None:
        sys.exit(f"--medtl {medtl}: no such program")
    if out.is_dir() and any(out.iterdir()):
        sys.exit(f"{out} is not empty; remove it, or name another folder")
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, text in JOBS.items():
        start, words = time.perf_counter(), text.format(seed=seed)
        if name == "table":
            write_table(out)
        if name in STOPPED:
            if launch(program, out, name, words, stop=True) == 0:
                sys.exit(f"{name}: was over before it could be stopped; give it more steps")
            words = STOPPED[name]
        if launch(program, out, name, words):
            sys.exit(f"medtl {words}: failed, see {out / name}.log")
        found[name] = left_by(out, name, words.split()[0])
        print(f"{name:<16} {time.perf_counter() - start:6.1f} s", flush=True)
    (out / "record.json").write_text(json.dumps(found, indent=1) + "\n")


def launch(program: str, out: Path, name: str, words: str, *, stop: bool = False) -> int:
    """The exit code of ``medtl`` in the folder of all jobs, run to its end, or asked to ``stop``
    when its first step is written."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MEDTL_CACHE": str(out / "cache")}
    with (out / f"{name}.json").open("w") as told, (out / f"{name}.log").open("a") as log:
        command = [os.path.abspath(program), *shlex.split(words)]
        printed = told if "--json" in command else subprocess.DEVNULL  # else tables for people
        process = subprocess.Popen(command, cwd=out, env=environment, stdout=printed, stderr=log)
        while stop and process.poll() is None:
            if any(path.stat().st_size for path in (out / name).rglob("*.jsonl")):
                process.send_signal(signal.SIGTERM)
                break
            time.sleep(0.05)
        return process.wait()


def write_table(out: Path) -> None:
    """The phantom's cases as a table with a column per modality."""
    modalities = ("flair", "t1", "t1ce", "t2")
    with (out / "table.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", *modalities, "label"])
        for case in sorted(path for path in (out / "heads").iterdir() if path.is_dir()):
            files = [next(case.glob(f"*_{name}.nii*")) for name in (*modalities, "seg")]
            writer.writerow([case.name, *(file.relative_to(out) for file in files)])


def left_by(out: Path, job: str, command: str) -> dict[str, dict[str, Any]]:
    """Kind of value -> file -> what it holds, of everything that a job wrote."""
    kinds: dict[str, dict[str, Any]] = {}
    for path in (out / f"{job}.json", *sorted((out / job).rglob("*"))):
        name, stem = path.relative_to(out).as_posix(), path.name.partition(".")[0]
        content = None if stem in LEFT_OUT else cleaned(read(path), out)
        if content is None:
            continue
        kind = "receipts" if stem in RECEIPTS else "masks" if ".nii" in name else "scores"
        kind = KIND_OF_COMMAND.get(command, kind)
        if path.suffix == ".safetensors":
            kind = "weights"
            kinds.setdefault("receipts", {})[f"{name} metadata"] = content.pop("metadata")
        kinds.setdefault(kind, {})[name] = content
    return kinds


def read(path: Path) -> Any:
    """What a file holds, with hashes for tensors and voxels; None: it is not compared."""
    if not path.is_file() or not path.stat().st_size:
        return None
    if path.suffix == ".safetensors":
        return read_tensors(path.read_bytes())
    if ".nii" in path.suffixes:
        image: Any = nib.load(path)
        voxels = np.asanyarray(image.dataobj)
        digest = hash_of(voxels.dtype.str, voxels.shape, voxels.tobytes())
        return {"voxels": digest, "affine": image.affine.tolist()}
    if path.suffix == ".jpg":
        return hash_of("file", (), path.read_bytes())
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".jsonl":
        return [*map(json.loads, path.read_text().splitlines())]
    if path.suffix == ".csv":
        with path.open(newline="") as stream:
            rows = [*csv.DictReader(stream)]
        return [{key: parsed(text) for key, text in row.items()} for row in rows]
    return None


def read_tensors(content: bytes) -> dict[str, Any]:
    """Hashes of the tensors in the bytes of a safetensors file, and its metadata."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = {key: parsed(text) for key, text in header.pop("__metadata__", {}).items()}
    hashes = {}
    for name, tensor in header.items():
        first, end = (start + offset for offset in tensor["data_offsets"])
        hashes[name] = hash_of(tensor["dtype"], tensor["shape"], content[first:end])
    return {"metadata": metadata, "tensors": hashes}


def hash_of(dtype: str, shape: Any, content: bytes) -> str:
    return hashlib.sha256(f"{dtype} {list(shape)} ".encode() + content).hexdigest()


def parsed(text: str) -> Any:
    """A number (or what else JSON can say) from text, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def cleaned(content: Any, out: Path) -> Any:
    """Without what differs from run to run, and with paths as seen from the folder of all jobs."""
    if isinstance(content, dict):
        kept = {key for key in content if UNSTABLE.isdisjoint(key.split("_"))}
        return {key: cleaned(value, out) for key, value in content.items() if key in kept}
    if isinstance(content, list):
        return [cleaned(value, out) for value in content]
    return content.replace(f"{out}/", "") if isinstance(content, str) else content


def walk(old: Any, new: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, Any, Any, Any]]:
    """What happened ("value": nothing to its key), the keys that lead there, the old and the new
    content (of a renamed key: its names)."""
    if isinstance(old, list) and isinstance(new, list):
        old, new = ({str(n): value for n, value in enumerate(side)} for side in (old, new))
    if not isinstance(old, dict) or not isinstance(new, dict):
        yield "value", where, old, new
        return
    names = {key: key for key in old if key in new} | renamed(old, new)
    for key, value in old.items():
        if key not in names:
            yield "missing", (*where, key), value, None
            continue
        if key != names[key]:
            yield "renamed", (*where, key), key, names[key]
        yield from walk(value, new[names[key]], (*where, key))
    for key in sorted(new.keys() - set(names.values())):
        yield "additional", (*where, key), None, new[key]


def renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Old key -> new key, where one that is gone and a new one hold the same values."""
    free = {key: repr(leaves(value)) for key, value in new.items() if key not in old}
    found = {}
    for key in (key for key in old if key not in new and leaves(old[key])):
        values = repr(leaves(old[key]))
        if match := next((other for other in free if free[other] == values), None):
            found[key] = match
            del free[match]
    return found


def leaves(content: Any) -> list[Any]:
    """The values without their names."""
    if isinstance(content, (dict, list)):
        inner = content.values() if isinstance(content, dict) else content
        return [leaf for value in inner for leaf in leaves(value)]
    return [content]


def compare(before: Path, after: Path) -> bool:
    """Print the table and the lists; whether every value is there and unchanged."""
    tallies: dict[tuple[str, str], dict[str, float]] = {}
    notes: dict[str, dict[str, list[str]]] = {}
    old_and_new = (json.loads(path.read_text()) for path in (before, after))
    for event, where, old, new in walk(*old_and_new):
        job_and_kind = where[0], where[1] if where[1:] else "all"
        tally = tallies.setdefault(job_and_kind, dict.fromkeys(COLUMNS, 0))
        sentences = all(isinstance(end, str) and " " in end for end in (old, new))
        if event == "missing":
            tally["missing"] += len(leaves(old))
        elif event == "value" and not sentences:
            tally["values"] += 1
        if event == "value" and repr(old) != repr(new):
            event = "reworded" if sentences else "differ"
        if event == "differ":
            tally["differ"] += 1
            if type(old) in (int, float) and type(new) in (int, float):
                tally["largest"] = max(tally["largest"], abs(old - new))
        if event != "value":
            note = "" if event in ("missing", "additional") else f"{old!r} -> {new!r}"
            # One line for the same key in every case, tensor and step.
            place = re.sub(r"\d+", "*", f"{where[0]} ... {where[-1]}")
            what = note if event in ("renamed", "reworded") else place
            found = f"{' / '.join(where)} {note if what == place else ''}"
            notes.setdefault(event, {}).setdefault(what, []).append(found)
    print(f"{'job':<16} {'kind':<9}", *(f"{column:>8}" for column in COLUMNS))
    for (job, kind), tally in tallies.items():
        print(f"{job:<16} {kind:<9}", *(f"{tally[column]:>8g}" for column in COLUMNS))
    for event, lines in notes.items():
        print(f"\n{event}: {sum(map(len, lines.values()))}")
        for what, places in [*lines.items()][:LINES]:
            print(f"  {len(places)} x {what[:200]}, first {places[0][:200]}")
    return not any(tally["differ"] or tally["missing"] for tally in tallies.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="run the jobs and record what they leave")
    recording.add_argument("out", type=Path, help="new or empty folder")
    recording.add_argument("--medtl", default="medtl", help="the program to run")
    recording.add_argument("--seed", type=int, default=0, help="another one must be noticed")
    comparing = commands.add_parser("compare", help="compare two recordings")
    comparing.add_argument("old", type=Path, help="record.json")
    comparing.add_argument("new", type=Path, help="record.json")
    options = parser.parse_args()
    if options.command == "record":
        record(options.out, options.medtl, options.seed)
    elif not compare(options.old, options.new):
        sys.exit("not all values are identical")


if __name__ == "__main__":
    main()
