"""Read what medtl wrote: JSON that may have been cut, edited or made by somebody else since.

Every file is bounded in size and depth before its content is used, and its fields are checked
against a model. One line says which file and which field cannot be used. The fields of checkpoints
are in :mod:`medtl.transfer.checkpoint_metadata`.

Where help pages come from it is imported within functions, as pydantic takes long to import.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from medtl.errors import DamagedRunError, RunError, in_plain_words, shown
from medtl.runtime.files import file_name, read_regular

#: The largest file of a run that is no weights, in bytes.
MOST_BYTES = 256_000_000

#: Lists within lists. What medtl writes has 8 at most.
DEEPEST = 32

#: The longest name of a folder or file.
LONGEST_NAME = 200

Found = TypeVar("Found")


def _plain(name: str) -> str:
    if not name or len(name) > LONGEST_NAME or file_name(name) != name:
        raise PydanticCustomError("name", "Input should be a name without folders")
    return name


#: A name from a file that becomes the name of a folder.
FolderName = Annotated[str, AfterValidator(_plain)]

#: Numbers that are no text. Counts fit 64 bits.
Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

Flag = Annotated[bool, Field(strict=True)]


class Record(BaseModel):
    """Fields of a file; others that stand beside them are kept out of the model."""

    model_config = ConfigDict(frozen=True, protected_namespaces=(), allow_inf_nan=False)


def parse_json(text: str | bytes) -> Any:
    """The content of JSON of bounded depth. Raises ValueError, in a few words."""
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    check_plain(content)
    return content


def check_plain(content: Any) -> None:
    """Raise ValueError for lists nested too deeply, and for text that cannot be written."""
    level, depth = [content], 0
    while level:
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
        level, depth = inner, depth + 1


def _check_text(text: str) -> None:
    if "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
        raise ValueError("it has text with characters that no file can hold")


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Read a JSON file of a run. Raises RunError if it is missing or damaged."""
    try:
        return parse_json(read_regular(path, most))
    except OSError as problem:
        raise RunError(f"cannot read {path}: {problem.strerror}") from problem
    except ValueError as problem:
        raise DamagedRunError(
            f"{path} is not valid JSON ({problem}); fetch the run again, or train anew"
        ) from problem


def checked(kind: type[Found] | TypeAdapter[Found], content: Any, where: Path | str) -> Found:
    """The content as a model, or as what a type stands for.

    Raises:
        RunError: a field cannot be used; names it.
    """
    adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise RunError(f"{where}: {complaint(error.errors()[0])}; fetch it again") from error


def complaint(error: ErrorDetails) -> str:
    """``network.width: must be a whole number, not 'x'``."""
    path = ".".join(str(part)[:60] for part in error["loc"] if part != "__root__")
    field = f"{path}: " if path else ""
    if error["type"] == "missing":
        return f"{field}is missing"
    return f"{field}{in_plain_words(error['msg'])}, not {shown(error['input'])}"


def read_record(path: Path, kind: type[Found] | TypeAdapter[Found]) -> Found:
    """:func:`read_json` and :func:`checked`."""
    return checked(kind, read_json(path), path)


class MetricsRow(Record):
    """A line of ``metrics.jsonl``; it may hold more."""

    model_config = ConfigDict(extra="allow")

    step: Count
    #: JSON has no NaN, but Python writes one for a loss that is none.
    loss: Annotated[float, Field(strict=True, allow_inf_nan=True)] | None = None
    rate_scale: Number | None = None
    validation: dict[str, Number] = {}


_ROW = TypeAdapter(MetricsRow)


def read_lines(path: Path, *, torn: bool = False) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; ``torn``: drop the last one if it is cut off.

    Raises:
        RunError: it cannot be read; names the line.
    """
    rows = []
    for number, line in enumerate(_lines(path, torn), 1):
        try:
            rows.append(_row(line, f"{path}, line {number}"))
        except ValueError as problem:
            raise RunError(
                f"{path}, line {number}: is not valid JSON ({problem}); delete that line"
            ) from problem
    return rows


def readable_lines(path: Path, *, torn: bool = False) -> tuple[list[dict[str, Any]], int]:
    """The rows of ``metrics.jsonl`` that can be read, and the number of other lines."""
    rows, lines = [], _lines(path, torn)
    for line in lines:
        try:
            rows.append(_row(line, path))
        except (ValueError, RunError):
            continue
    return rows, len(lines) - len(rows)


def _lines(path: Path, torn: bool) -> list[bytes]:
    try:
        lines = read_regular(path, MOST_BYTES).splitlines(keepends=True)
    except OSError as problem:
        raise RunError(f"cannot read {path}: {problem.strerror}") from problem
    if torn and lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    return lines


def _row(line: bytes, where: Path | str) -> dict[str, Any]:
    row = parse_json(line)
    checked(_ROW, row, where)
    return dict(row)


# --- the files of a run -----------------------------------------------------------------------

_STAGES = TypeAdapter(Annotated[tuple[FolderName, ...], Field(max_length=1000)])


def read_stages(path: Path) -> tuple[str, ...]:
    """The stages of the transfer that ``stages.json`` lists. Raises RunError if it is damaged."""
    return read_record(path, _STAGES)


class BudgetRecord(Record):
    """The patients that the target's stages are limited to."""

    train: tuple[str, ...]
    val: tuple[str, ...]


class SplitFold(Record):
    """One fold of a file of splits. nnU-Net's own lists no test cases, and no patients."""

    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    test: tuple[str, ...] | None = None
    patients: dict[str, str] = Field(default_factory=dict)
    budget: BudgetRecord | None = None


FOLDS = TypeAdapter(list[SplitFold])


class ReceiptTensor(Record):
    """A row of a receipt, see :class:`medtl.transfer.receipt.ReceiptRow`."""

    name: str
    block: str
    status: Literal["loaded", "adapted", "random", "skipped"]
    shape: tuple[Count, ...]
    numel: Count
    parameter: Flag = True
    source: str = ""
    note: str = ""
    factors: dict[str, Number] = Field(default_factory=dict)


class ReceiptRecord(Record):
    """The receipt of one stage."""

    origin: str
    shares: dict[str, Number] = Field(default_factory=dict)
    new_modalities: tuple[str, ...]
    identical_modalities: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    tensors: tuple[ReceiptTensor, ...]


#: ``receipt.json``: by stage.
ALL_RECEIPTS = TypeAdapter(dict[FolderName, ReceiptRecord])

#: JSON has no infinite numbers, but Python writes them.
_Score = Annotated[float, Field(strict=True, allow_inf_nan=True)] | None


class Facts(Record):
    """``data`` of ``summary.json``: what was scored. There is more."""

    synthetic: Flag
    patients: Count
    leak: str


class Interval(Record):
    """The mean of a score, with its interval. There is more."""

    mean: _Score
    low: _Score
    high: _Score
    n: Count


#: ``summary.json``, and its part without ``data``: stage -> output -> metric.
WHOLE_SUMMARY = TypeAdapter(dict[str, dict[str, Any]])

STAGE_SCORES = TypeAdapter(dict[str, dict[str, dict[str, Interval]]])


class Began(Record):
    """What ``environment.json`` says of the settings; versions and machine stand beside them."""

    settings: dict[str, Any] = Field(default_factory=dict)


_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{16,128}$")]


class CaseInputs(Record):
    """What a case is prepared from: hashes of files, and the class."""

    images: dict[str, _Hash]  #: by modality
    label: _Hash | None
    class_name: str


class Inputs(Record):
    """``inputs.json``: by case, and the hash of the weights that the run starts from."""

    cases: dict[str, CaseInputs]
    weights: _Hash | None
