"""What predictions leave beside them: volumes, and a manifest of the files; which cases failed."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from medtl import __version__
from medtl.data.case import Case
from medtl.errors import ConfigError, DataError, RunError
from medtl.runtime.console import Reporter
from medtl.runtime.files import read_cell, write_csv
from medtl.runtime.run_folder import write_text

Result = TypeVar("Result")


#: Of the table of volumes.
_COLUMNS = ("case", "region", "ml")


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of the cases that one command predicts, counted from 1."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """``"2/4"`` -> the second quarter; None: all. Raises ConfigError."""
        if text is None:
            return cls()
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"--shard {text!r}: write NUMBER/OF, counted from 1, as 2/4")
        return cls(int(match[1]), int(match[2]))

    def named(self, name: str) -> str:
        """A file's name, with the shard in it unless there is one alone."""
        path = Path(name)
        return name if self.of == 1 else f"{path.stem}-{self.number}-of-{self.of}{path.suffix}"

    def take(self, cases: Sequence[Case]) -> Sequence[Case]:
        """The cases of this shard: every n-th."""
        return cases[self.number - 1 :: self.of]


#: One command predicts all.
ALL = Shard()


@dataclass(frozen=True, slots=True)
class Options:
    """What one command predicts, and what it writes."""

    shard: Shard = ALL
    skip_existing: bool = False  #: leave out cases that have a label map
    register: bool = False  #: move the images of a case onto one of them first
    probabilities: bool = False  #: write the probabilities of each region
    uncertainty: bool = False  #: write how undecided the prediction is
    profile: bool = False  #: tell where the time went


#: All cases, label maps alone.
USUAL = Options()


@dataclass(frozen=True, slots=True)
class Predicted:
    """The files that were written, and why cases are not among them."""

    files: tuple[Path, ...]
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempts:
    """Tries cases one after the other; those that cannot be read are told, and passed over."""

    reporter: Reporter
    failed: dict[str, DataError] = field(default_factory=dict)

    def attempt(
        self, work: Callable[[Case], Result]
    ) -> Callable[[Case], tuple[Case, Result | None]]:
        """``work`` that gives None, and notes the problem, where a case cannot be read."""

        def trying(case: Case) -> tuple[Case, Result | None]:
            try:
                return case, work(case)
            except DataError as error:
                self.failed[case.id] = error
                return case, None

        return trying

    def usable(self, tried: Iterable[tuple[Case, Result | None]]) -> Iterator[tuple[Case, Result]]:
        """What did not fail; a warning for what did."""
        for case, result in tried:
            if result is None:
                self.reporter.warn(f"left out: {self.failed[case.id]}", f"left out: {case.id}")
            else:
                yield case, result


def write_volumes(path: Path, volumes_ml: Mapping[str, Mapping[str, float]]) -> None:
    """``case, region, ml``; rows of other cases that are there already stay."""
    rows = {**read_volumes(path), **volumes_ml}
    write_csv(
        path,
        _COLUMNS,
        ((case, region, f"{ml:.3f}") for case in sorted(rows) for region, ml in rows[case].items()),
    )


def check_own(path: Path) -> None:
    """Refuse to replace a table that ``predict`` did not write."""
    try:
        start = path.read_bytes()[:100] if path.is_file() else b""
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    if start and not start.startswith(",".join(_COLUMNS).encode()):
        raise RunError(f"{path}: is no table of medtl's; move it, or choose another --out")


def read_volumes(path: Path) -> dict[str, dict[str, float]]:
    """Those of an earlier call; none where the file cannot be read."""
    found: dict[str, dict[str, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                case, region = read_cell(row["case"]), read_cell(row["region"])
                found.setdefault(case, {})[region] = float(row["ml"])
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}
    return found


def write_manifest(
    path: Path, files: Mapping[str, Sequence[Path]], failed: Iterable[str], model: str
) -> None:
    """What was written, with the SHA-256 of each file; no path, and no name beyond the cases'.

    Cases of an earlier call stay, as far as their files are there.
    """
    cases = {
        case: {name: digest for name, digest in those.items() if (path.parent / name).is_file()}
        for case, those in _read_manifest(path).items()
    }
    cases |= {
        case: {_below(path.parent, each): _sha256(each) for each in those if each.is_file()}
        for case, those in files.items()
    }
    content = {
        "medtl": __version__,
        "model": model,
        "cases": {case: those for case, those in sorted(cases.items()) if those},
        "failed": sorted(failed),
    }
    write_text(path, json.dumps(content, indent=2) + "\n")


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _read_manifest(path: Path) -> dict[str, dict[str, str]]:
    """The files of each case of an earlier call; none where the file cannot be read."""
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
        return {
            str(case): {str(k): str(v) for k, v in those.items()} for case, those in cases.items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
