"""What the benchmarks on real cases share: where they are, training on some, nnU-Net beside it."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from medtl.data.case import Case
from medtl.runtime.files import replacing
from medtl_brats.task import Brats

ROOT = Path(__file__).resolve().parents[1]


def shared_data() -> Path:
    return Path(os.environ.get("MEDTL_SHARED_DATA", ROOT.parent / "shared" / "data"))


def add_data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=shared_data() / "brats")


def sorted_cases(data: Path) -> list[Case]:
    """The cases by name; the program ends where there is no such folder."""
    if not data.is_dir():
        sys.exit(f"{data} is not there; set MEDTL_SHARED_DATA or give --data")
    return sorted(Brats().cases(data).cases, key=lambda case: case.id)


def train(data: Path, left_out: Sequence[str], out: Path, words: Sequence[str]) -> None:
    """``medtl train brats`` on all cases but some, which are scored; nobody is validated on.

    A run that was stopped goes on."""
    if (out / "config.yaml").is_file():
        medtl(["train", "--resume", str(out)])
        return
    test = ["--test-cases", ",".join(left_out)] if left_out else ["--set", "test_fraction=0"]
    command = ["train", "brats", "--data", str(data), *test, "--set", "val_fraction=0"]
    medtl([*command, "--out", str(out), *words])


def medtl(words: Sequence[str]) -> None:
    subprocess.run([sys.executable, "-m", "medtl", *words], check=True)


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; ``words`` are what follows ``--``, for medtl."""
    given = [*sys.argv[1:], "--"]
    own, words = given[: given.index("--")], given[given.index("--") + 1 : -1]
    return parser.parse_args(own, argparse.Namespace(words=words))


def folder_name(*parts: object) -> str:
    """The name of a run's folder, from its settings."""
    return "-".join(map(str, parts)).replace("/", "_").replace("--", "")


def link(place: Path, file: Path) -> None:
    """A link at ``place`` to ``file``, unless there is one."""
    if not place.is_symlink():
        place.symlink_to(file.resolve())


def write_raw(
    raw: Path,
    images: Mapping[str, Sequence[Path]],
    channels: Sequence[str],
    labels: Mapping[str, Any],
    **facts: Any,
) -> None:
    """nnU-Net's format for the images of some cases, as links; their labels are left to write."""
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    for case, paths in images.items():
        for channel, path in enumerate(paths):
            link(raw / "imagesTr" / f"{case}_{channel:04}.nii.gz", path)
    dataset = {"channel_names": dict(enumerate(channels)), "labels": labels, **facts}
    dataset |= {"numTraining": len(images), "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(dataset))


def nnunet_fold(peer: Path, out: Path, minutes: float, test: Sequence[str]) -> dict[str, Any]:
    """Train nnU-Net without some cases of OUT/raw and predict these, or read what it did."""
    if not (out / "fold.json").is_file():
        script = Path(__file__).parent / "peers" / "nnunet_fold.py"
        threads = {"OMP_NUM_THREADS": str(os.cpu_count()), "nnUNet_n_proc_DA": "1"}
        environment = {**os.environ, **threads}
        environment.pop("PYTHONPATH", None)
        words = [str(peer), str(script), str(out), f"{minutes:g}", ",".join(test)]
        subprocess.run(words, check=True, env=environment)
    return dict(json.loads((out / "fold.json").read_text()))


def timed(words: list[Any], *, without_path: bool = False) -> dict[str, float]:
    """Seconds of the whole command, and the memory of its largest process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    if without_path:
        environment.pop("PYTHONPATH", None)
    program = shutil.which("time", path="/usr/bin")
    command = [*([program, "-f", "%M", "-o", "peak.txt"] if program else []), *map(str, words)]
    with tempfile.TemporaryDirectory() as folder:
        started = perf_counter()
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        seconds = perf_counter() - started
        if done.returncode:
            sys.exit(done.stderr)
        if program:
            peak_kb = int(Path(folder, "peak.txt").read_text().split()[-1])
        else:  # of all commands so far
            peak_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds": seconds, "peak_mb": peak_kb / 1024}


def keep(path: Path, key: str, value: Any) -> None:
    """Write one entry of a file of results; the others stay."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**known, key: value}, indent=1) + "\n")
