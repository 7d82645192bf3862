"""Checks that train a classifier: kept between audits while what they learn from is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtl.audit.checks.classes import check_classes
from medtl.audit.checks.measured import Measured
from medtl.audit.checks.shortcuts import check_shortcuts
from medtl.audit.findings import Finding
from medtl.runtime.cache import remembered_result

#: Part of the cache key; raise it whenever these checks change.
_FACT = "audit predicted 2"


def predicted(cohort: Sequence[Measured], groups: Mapping[str, str]) -> list[Finding]:
    """Likely mislabelled cases, and shortcuts.

    Args:
        groups: case -> its group of copies, which stays on one side of every fold.
    """
    if not any(one.case.class_name or one.case.site for one in cohort):
        return []
    place = {one.case.id: number for number, one in enumerate(cohort)}
    digest = hashlib.blake2b()
    for one in cohort:
        case = one.case
        stems = [file.path.stem for file in case.images.values()]
        known = [case.class_name, case.site, place[groups[case.id]], stems]
        digest.update(json.dumps([known, one.facts.to_json()["images"]]).encode())

    def compute() -> list[Any]:
        found = [*check_classes(cohort, groups), *check_shortcuts(cohort, groups)]
        return [
            (one.kind, [place[name] for name in one.cases], one.seen, one.score) for one in found
        ]

    rows = remembered_result(_FACT, digest.hexdigest(), compute)
    return [
        Finding(
            kind,
            tuple(cohort[number].case.id for number in numbers),
            seen,
            tuple(_first(cohort[number]) for number in numbers),
            score,
        )
        for kind, numbers, seen, score in rows
    ]


def _first(one: Measured) -> Path:
    return one.path_of(next(iter(one.case.images)))
