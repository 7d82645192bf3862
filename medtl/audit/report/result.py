"""The result of an audit: findings, by kind and by case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl.audit.findings import Finding
from medtl.audit.kinds import ERROR, NOTE, SEVERITIES, WARNING
from medtl.errors import shortened
from medtl.runtime.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Examples of a kind that a table shows.
EXAMPLES = 3


@dataclass(frozen=True)
class Audit:
    """What was looked at, and what was found, the worst first.

    Args:
        groups: case -> the first case of its group: copies, and cases of one patient.
        looks: thumbnails of the files that findings are about.
        owners: the case of each of these files.
    """

    findings: tuple[Finding, ...]
    cases: tuple[str, ...]
    patients: int
    images: int
    groups: Mapping[str, str]
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    looks: Mapping[Path, NDArray[np.uint8]] = field(default_factory=dict, repr=False)
    owners: Mapping[Path, str] = field(default_factory=dict, repr=False)
    folder: Path | None = None

    def of(self, severity: str) -> tuple[Finding, ...]:
        """The findings of a severity: "error", "warning" or "note"."""
        return tuple(one for one in self.findings if one.about.severity == severity)

    @property
    def errors(self) -> tuple[Finding, ...]:
        return self.of(ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return self.of(WARNING)

    @cached_property
    def flagged(self) -> tuple[str, ...]:
        """The cases that an error or a warning is about."""
        named = {case for one in self.findings if one.about.severity != NOTE for case in one.cases}
        return tuple(case for case in self.cases if case in named)

    @property
    def verdict(self) -> str:
        """A sentence that says how much was found."""
        counts = [(len(self.of(severity)), severity) for severity in SEVERITIES]
        listed = ", ".join(
            f"{count} {name}{'s' if count != 1 else ''}" for count, name in counts if count
        )
        what = f"{len(self.cases)} cases, {self.images} images"
        synthetic = " (synthetic phantom)" if self.synthetic else ""
        return f"{what}{synthetic}: {listed or 'nothing found'}"

    def tables(self) -> list[Table]:
        """A table of all kinds that were found, with examples, and one of what to do.

        None where nothing was found.
        """
        rows, advice = [], []
        for kind, group in groupby(self.findings, key=lambda one: one.kind):
            found = list(group)
            about = found[0].about
            cases = list(dict.fromkeys(case for one in found for case in one.cases))
            rows.append(
                (
                    about.severity,
                    kind,
                    str(len(found)),
                    found[0].seen,
                    shortened(cases, EXAMPLES) if cases else "",
                )
            )
            advice.append((kind, f"{about.title}: {about.advice}"))
        if not rows:
            return []
        columns = ("severity", "kind", "found", "the worst", "cases")
        return [
            Table(self.verdict, columns, tuple(rows)),
            Table("What to do", ("kind", "advice"), tuple(advice)),
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything found, as plain values."""
        return {
            "verdict": self.verdict,
            "counts": {severity: len(self.of(severity)) for severity in SEVERITIES},
            "cases": len(self.cases),
            "patients": self.patients,
            "images": self.images,
            "synthetic": self.synthetic,
            "flagged": list(self.flagged),
            "findings": [one.to_json() for one in self.findings],
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self.tables())
