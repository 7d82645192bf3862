"""The kit calls tasks as the commands do, and says what of it goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.task import Defaults, Task
from medtl.testing.check import CheckFailed
from medtl.testing.cohorts import read

CASE = Case("a", "p", {}, ImageFile(Path("a")))


class Good(Task):
    phantom_defaults = Defaults("mod:t1", "mod:t1")
    found: Any = Cohort(Path(), (CASE,))

    def cases(self, root: Path, labels: Any = None, required: Any = None, need_target: bool = True):
        assert labels is None and tuple(required) == ("t1",)
        return self.found


class LacksArguments(Good):
    def cases(self, root: Path):  # type: ignore[override]
        return self.found


def test_arguments_and_types_are_what_the_commands_need() -> None:
    assert read(Good(), Path()).cases == (CASE,)
    assert read(Good(), Path(), need_target=False).cases == (CASE,)
    with pytest.raises(CheckFailed, match="called with root, labels, required, need_target, but"):
        read(LacksArguments(), Path())
    nameless = Case("a", None, {})  # type: ignore[arg-type]
    for found, told in (
        ([CASE], "returns a list, not a medtl Cohort"),
        (Cohort(Path(), [CASE]), "Cohort.cases is a list"),  # type: ignore[arg-type]
        (Cohort(Path(), ("a",)), "holds a str, not a Case"),  # type: ignore[arg-type]
        (Cohort(Path(), (nameless,)), "case a: patient=None is no text.* give the case's id"),
        (Cohort(Path(), (Case("a", "p", {}, "x.nii"),)), "'x.nii' is no ImageFile"),  # type: ignore[arg-type]
    ):
        task = Good()
        task.found = found
        with pytest.raises(CheckFailed, match=told):
            read(task, Path())
