"""Who was trained on, and who was locked away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medtl.api.shown import Shown

if TYPE_CHECKING:
    from medtl.report.tables import Table

PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, repr=False)
class Split(Shown):
    """Cases by part, and the patient of each case."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    patients: Mapping[str, str]  #: case -> patient

    @classmethod
    def from_json(cls, fold: Mapping[str, Any]) -> Split:
        train, val, test = (tuple(map(str, fold[part])) for part in PARTS)
        return cls(train, val, test, dict(fold["patients"]))

    @property
    def title(self) -> str:
        counts = ", ".join(f"{len(self.patients_of(part))} {part}" for part in PARTS)
        return f"patients: {counts}"

    def patients_of(self, part: str) -> tuple[str, ...]:
        """Patients in "train", "val" or "test"."""
        return tuple(sorted({self.patients.get(case, case) for case in getattr(self, part)}))

    def rows(self) -> list[dict[str, Any]]:
        """case, patient, part."""
        return [
            {"case": case, "patient": self.patients.get(case, case), "part": part}
            for part in PARTS
            for case in getattr(self, part)
        ]

    def tables(self) -> list[Table]:
        from medtl.report.tables import Table

        rows = [
            (part, str(len(self.patients_of(part))), str(len(getattr(self, part))))
            for part in PARTS
        ]
        return [Table("Split by patient", ("part", "patients", "cases"), tuple(rows))]

    def to_json(self) -> dict[str, Any]:
        return {part: list(getattr(self, part)) for part in PARTS} | {
            "patients": dict(self.patients)
        }
