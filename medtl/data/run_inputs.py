"""What a run was trained from, by content: has a file been replaced while the run was stopped?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from medtl.data.case import Case
from medtl.data.content_hash import file_hash, files_of
from medtl.errors import DataError
from medtl.runtime.records import CaseInputs, Inputs, read_record
from medtl.runtime.run_folder import INPUTS, Run

_MEND = "put the former one back, or start a new run"


def inputs_of(cases: Iterable[Case], contents: Mapping[Path, str], weights: Path | None) -> Inputs:
    """The hashes of the cases' files, without the files' names, and of the file of ``--init``.

    Args:
        contents: hashes by path, of :func:`medtl.data.content_hash.contents_of`.

    Raises:
        DataError: the weights cannot be read.
    """
    found = {
        case.id: CaseInputs(
            images={str(name): contents[file.path] for name, file in case.images.items()},
            label=contents[case.target.path] if case.target else None,
            class_name=case.class_name,
        )
        for case in cases
    }
    return Inputs(cases=found, weights=file_hash(weights) if weights else None)


def check_inputs(run: Run, cases: Iterable[Case], now: Inputs, weights: Path | None) -> None:
    """Refuse to go on with other cases or weights than the run began with.

    Runs of older versions do not say which they were.

    Args:
        now: :func:`inputs_of` the ``cases`` and the ``weights``.

    Raises:
        DataError: something was replaced, added or removed; names the file or the case.
    """
    if not run.has(INPUTS):
        return
    began = read_record(run.path / INPUTS, Inputs)
    if weights is not None and now.weights != began.weights:
        raise DataError(f"{weights}: changed since {run.path} began; {_MEND}")
    for case in cases:
        if case.id not in began.cases:
            raise DataError(f"{case.id}: is no case that {run.path} began with; {_MEND}")
        _check_case(run, case, began.cases[case.id], now.cases[case.id])
    for name in began.cases.keys() - now.cases.keys():
        raise DataError(f"{name}: is gone, and {run.path} began with it; {_MEND}")


def _check_case(run: Run, case: Case, began: CaseInputs, now: CaseInputs) -> None:
    if now.class_name != began.class_name:
        raise DataError(
            f"{case.id}: its class is {now.class_name or 'unknown'}, but {run.path} began with "
            f"{began.class_name or 'unknown'}; {_MEND}"
        )
    kept, found = _files(began), _files(now)
    if kept.keys() != found.keys():
        raise DataError(
            f"{case.id}: has {', '.join(found)}, but {run.path} began with {', '.join(kept)}; "
            f"{_MEND}"
        )
    for file, name in zip(files_of(case), found, strict=True):
        if kept[name] != found[name]:
            raise DataError(f"{file.path}: changed since {run.path} began; {_MEND}")


def _files(inputs: CaseInputs) -> dict[str, str]:
    return {**inputs.images, **({"label": inputs.label} if inputs.label else {})}
