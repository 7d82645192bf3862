"""The power of the primary test, and the patients that it needs, in words and as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medtl.runtime.shown import Shown
from medtl.runtime.table import Table
from medtl.shift.report.row import ShiftRow
from medtl.shift.report.sentences import number, percent, probability
from medtl.shift.stats.permutations import ALPHA, Design
from medtl.shift.stats.power import MOST_PATIENTS, POWER, ShiftPilot

#: Patients per domain in the table, beside those of the pilot and those advised.
PATIENTS = (5, 10, 20, 40, 80, 160)


@dataclass(frozen=True, slots=True, repr=False)
class ShiftPower(Shown):
    """What the measured shift, as a pilot, tells of the next one."""

    row: ShiftRow  #: of the primary metric
    pilot: ShiftPilot

    @property
    def title(self) -> str:
        return f"Patients that find a shift with a power of {POWER:.0%}"

    @property
    def synthetic(self) -> bool:
        return self.row.synthetic

    @property
    def power(self) -> float | None:
        """At the pilot's sizes, for its shift; None: it shows none."""
        return self._power(self.pilot.design)

    @property
    def patients(self) -> int | None:
        """Per domain, for the pilot's shift; None: it shows none, or no number is enough."""
        return self.pilot.patients(self.pilot.shift) if self.pilot.found else None

    @property
    def interval(self) -> tuple[int | None, int | None]:
        """``patients`` for the ends of the 95% interval of the shift; None: no number is enough."""
        low, high = self.pilot.interval()
        return self.pilot.patients(high), self.pilot.patients(low)

    @property
    def smallest(self) -> float | None:
        """The smallest shift that is found at the pilot's sizes."""
        return self.pilot.smallest(self.pilot.design)

    @property
    def sentence(self) -> str:
        """The plan; without a shift, what these patients would have found."""
        row = self.row
        where = "in both domains" if self.pilot.design.paired else "per domain"
        now = f"{row.n_source} and {row.n_target} patients"
        if self.pilot.found:
            return (
                f"A shift as in this pilot ({row.metric} {number(self.pilot.shift)}) takes "
                f"{_number(self.patients)} patients {where} for a power of {POWER:.0%} "
                f"(95% interval {_range(self.interval)}); {now} have {percent(self.power)}."
            )
        shows = f"The pilot shows no shift (p = {probability(self.pilot.p)})"
        if self.smallest is None:
            return f"{shows}; {now} cannot find any."
        half = self.pilot.patients(self.smallest / 2)
        return (
            f"{shows}, so that none can be planned for. With a power of {POWER:.0%}, {now} find a "
            f"{row.metric} of {number(self.smallest)}; half of that takes "
            f"{_number(half)} patients {where}."
        )

    def rows(self) -> list[dict[str, Any]]:
        """A dict per number of patients."""
        return [
            {
                "n_source": design.n_source,
                "n_target": design.n_target,
                "power": self._power(design),
                "smallest": self.pilot.smallest(design),
                "is_pilot": design == self.pilot.design,
            }
            for design in self._designs()
        ]

    def tables(self) -> list[Table]:
        columns = ["source, target patients", "smallest shift found"]
        if self.pilot.found:
            columns.insert(1, "power for the pilot's shift")
        cells = []
        for row in self.rows():
            sizes = f"{row['n_source']}, {row['n_target']}" + (" (pilot)" * row["is_pilot"])
            power = [percent(row["power"])] if self.pilot.found else []
            cells.append((sizes, *power, number(row["smallest"])))
        notes = (
            f"test: {self.row.metric} of {self.row.features}, {self.row.design}, p <= {ALPHA:g}",
            f"smallest shift found: with a power of {POWER:.0%}; -: p cannot be {ALPHA:g}",
        )
        return [Table(self._line(), tuple(columns), tuple(cells), notes)]

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "metric": self.row.metric,
            "features": self.row.features,
            "design": self.row.design,
            "shift": self.pilot.shift,
            "p": self.pilot.p,
            "found": self.pilot.found,
            "wanted_power": POWER,
            "power": self.power,
            "patients": self.patients,
            "patients_low": low if self.pilot.found else None,
            "patients_high": high if self.pilot.found else None,
            "smallest": self.smallest,
            "table": self.rows(),
            "synthetic": self.synthetic,
        }

    def _power(self, design: Design) -> float | None:
        return self.pilot.power(design, self.pilot.shift) if self.pilot.found else None

    def _designs(self) -> list[Design]:
        """Those of the table, from small to large."""
        pilot, numbers = self.pilot, {*PATIENTS}
        if self.patients:
            numbers.add(self.patients)
        designs = {pilot.design, *map(pilot.equal, numbers)}
        return sorted(designs, key=lambda design: design.n_source + design.n_target)


def _number(patients: int | None) -> str:
    return f"more than {MOST_PATIENTS:,}" if patients is None else str(patients)


def _range(ends: tuple[int | None, int | None]) -> str:
    low, high = ends
    return f"{_number(low)} or more" if high is None else f"{low} to {high}"
