"""What an audit found: a kind, the cases and files it is about, and what was seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl.audit.kinds import KINDS, SEVERITIES, Kind


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault.

    Args:
        kind: a name of :data:`medtl.audit.kinds.KINDS`.
        cases: ids, the one to look at first.
        seen: what was seen, in a few words with its figures.
        files: those to look at.
        score: how strong it is, where it has a degree.
    """

    kind: str
    cases: tuple[str, ...]
    seen: str
    files: tuple[Path, ...] = ()
    score: float | None = None

    @property
    def about(self) -> Kind:
        return KINDS[self.kind]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "severity": self.about.severity,
            "cases": list(self.cases),
            "seen": self.seen,
            "files": [str(file) for file in self.files],
            "score": self.score,
            "advice": self.about.advice,
        }


def once(findings: Iterable[Finding]) -> list[Finding]:
    """The first finding of a kind about the same cases: several ways may tell it."""
    kept: dict[tuple[str, tuple[str, ...]], Finding] = {}
    for finding in findings:
        kept.setdefault((finding.kind, finding.cases), finding)
    return list(kept.values())


def in_order(findings: list[Finding]) -> list[Finding]:
    """By severity, then in the order of the kinds, the strongest first."""
    places = {name: number for number, name in enumerate(KINDS)}
    return sorted(
        findings,
        key=lambda one: (
            SEVERITIES.index(one.about.severity),
            places[one.kind],
            -(one.score or 0.0),
            one.cases,
        ),
    )
