"""A tiny synthetic cohort for a task: by its own writer, or in a built-in layout."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.domain import parse_domain
from medtl.data.phantom.cohort import BRATS, KAGGLE, LGG, write_own, write_phantom
from medtl.data.task import Task, bound
from medtl.errors import MedtlError
from medtl.runtime.console import Reporter
from medtl.testing.check import CheckFailed, require

#: Cases of a task's own writer.
CASES = 8


NEEDED = (
    *("name", "kind", "regions", "modalities", "nested"),
    *("defaults", "phantom_defaults", "cases"),
)


_LAYOUT_HINT = (
    "; name its layout in `phantom`, or give it write_phantom(folder, cases, seed), see "
    "medtl.data.task.Task"
)


#: Layout -> cases, voxels along an edge, sites: as few as show every region and class.
SIZES = {BRATS: (6, 24, 2), KAGGLE: (24, 32, 2), LGG: (6, 32, 3)}


@dataclass(frozen=True, eq=False)
class Tiny:
    """A task on a tiny cohort."""

    task: Task
    cohort: Cohort
    own: bool  #: by the task's own writer


@lru_cache(maxsize=2)
def tiny(target: Any) -> Tiny:
    """The task that a component's ``target`` makes, and what it reads.

    Raises CheckFailed where it cannot write or read its cohort.
    """
    made = target()
    require(isinstance(made, Task), "it does not inherit medtl.data.task.Task")
    own, layout = made.write_phantom, made.phantom
    try:
        with own_cache():
            folder = empty_folder() / "cohort"
            root = write_own(folder, own, CASES, seed=0) if own else _built_in(layout)
            task = bound(made, root)
            lacking = [name for name in NEEDED if not hasattr(task, name)]
            require(not lacking, f"it has no {', no '.join(lacking)}; see medtl.data.task.Task")
            cohort = read(task, root)
    except MedtlError as error:
        where = "its write_phantom wrote" if own else f"the built-in phantom {layout!r} holds"
        hint = "" if own else _LAYOUT_HINT
        raise CheckFailed(f"it cannot read what {where}: {error}{hint}") from error
    return Tiny(task, cohort, own is not None)


def read(task: Task, root: Path, *, need_target: bool = True) -> Cohort:
    """The cases as ``medtl train`` reads them; without ``need_target`` as ``medtl predict`` does.

    Raises CheckFailed where ``cases`` does not take what the commands give, or returns something
    else.
    """
    options: dict[str, Any] = {
        "labels": None,
        "required": parse_domain(task.phantom_defaults.src).modalities,
        "need_target": need_target,
    }
    protocol = next(iter(task.protocols), None)
    if protocol is not None and need_target:
        options |= {"protocol": protocol, "reporter": Reporter(silent=True)}
    try:
        inspect.signature(task.cases).bind(root, **options)
    except TypeError as error:
        given = ", ".join(("root", *options))
        raise CheckFailed(f"its cases() is called with {given}, but {error}; take them") from error
    cohort = task.cases(root, **options)
    _check_cohort(cohort)
    return cohort


def _check_cohort(cohort: object) -> None:
    found = type(cohort).__name__
    require(isinstance(cohort, Cohort), f"its cases() returns a {found}, not a medtl Cohort")
    assert isinstance(cohort, Cohort)
    held = type(cohort.cases).__name__
    require(isinstance(cohort.cases, tuple), f"Cohort.cases is a {held}; make it a tuple")
    for case in cohort.cases:
        require(isinstance(case, Case), f"Cohort.cases holds a {type(case).__name__}, not a Case")
        for field in ("id", "patient", "class_name", "site", "part", "stratum"):
            value = getattr(case, field)
            remedy = f"{field}={value!r} is no text; where it is unknown, "
            remedy += "give the case's id" if field == "patient" else "leave it out"
            require(isinstance(value, str), f"case {case.id}: {remedy}")
        files = [*case.images.values(), *filter(None, (case.target, case.mask))]
        odd = next((file for file in files if not isinstance(file, ImageFile)), None)
        require(odd is None, f"case {case.id}: {odd!r} is no ImageFile; write ImageFile(path)")


@contextmanager
def own_cache() -> Iterator[None]:
    """What is remembered of these files does not go to the user's cache."""
    before = os.environ.get("MEDTL_CACHE")
    os.environ["MEDTL_CACHE"] = str(_folder() / "cache")
    try:
        yield
    finally:
        if before is None:
            del os.environ["MEDTL_CACHE"]
        else:
            os.environ["MEDTL_CACHE"] = before


def empty_folder() -> Path:
    return Path(tempfile.mkdtemp(dir=_folder()))


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="medtl-checks-")  # goes when the process ends


def _folder() -> Path:
    return Path(_temporary().name)


@cache
def _built_in(layout: str) -> Path:
    cases, size, sites = SIZES.get(layout, SIZES[BRATS])
    root = _folder() / layout
    return write_phantom(
        root, cases=cases, size=size, sites=sites, seed=0, layout=layout, workers=1
    )
