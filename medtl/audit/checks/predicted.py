"""Checks that train a classifier: kept between audits while what they learn from is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from medtl.audit.checks.classes import check_classes
from medtl.audit.checks.measured import Measured
from medtl.audit.checks.shortcuts import Learnt, check_shortcuts
from medtl.audit.facts.cases import VERSION
from medtl.audit.findings import Finding
from medtl.runtime.cache import remembered_result

#: Part of the cache key; raise it whenever these checks change.
_FACT = "audit predicted 5"


def predicted(cohort: Sequence[Measured], groups: Mapping[str, str]) -> list[Finding]:
    """Likely mislabelled cases, and shortcuts, of pictures and of volumes.

    Args:
        groups: case -> its group of copies, which stays on one side of every fold.
    """
    named = [one for one in cohort if one.case.class_name or one.case.site]
    shown = [(one, one.facts.first) for one in named]
    every = [(one, facts) for one, facts in shown if facts is not None]
    kinds = ([pair for pair in every if pair[1].flat == flat] for flat in (True, False))
    return [finding for own in kinds if own for finding in _of_one_kind(own, groups)]


def _of_one_kind(own: Sequence[Learnt], groups: Mapping[str, str]) -> list[Finding]:
    place = {one.case.id: number for number, (one, _) in enumerate(own)}
    numbers = {group: n for n, group in enumerate(dict.fromkeys(groups[name] for name in place))}

    def compute() -> list[Any]:
        found = [*check_classes(own, groups), *check_shortcuts(own, groups)]
        return [
            (one.kind, [place[name] for name in one.cases], one.seen, one.score) for one in found
        ]

    digest = hashlib.blake2b(VERSION.encode())
    for one, facts in own:
        case, path = one.case, next(iter(one.case.images.values())).path
        group = numbers[groups[case.id]]
        known = (case.class_name, case.site, group, path.stem, facts.content, facts.placement)
        digest.update(repr(known).encode("utf-8", "surrogatepass"))
    rows = remembered_result(_FACT, digest.hexdigest(), compute)
    return [
        Finding(kind, tuple(own[n][0].case.id for n in cases), seen, _files(own, cases), score)
        for kind, cases, seen, score in rows
    ]


def _files(own: Sequence[Learnt], numbers: Sequence[int]) -> Any:
    return tuple(next(iter(own[n][0].case.images.values())).path for n in numbers)
