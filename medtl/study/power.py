"""How many test patients and seeds the next study needs, from the scores of a finished one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medtl.errors import ConfigError, DataError
from medtl.evaluation.comparison.patients_needed import (
    POWER,
    patients_for_difference,
    patients_for_width,
    seeds_for_difference,
)
from medtl.evaluation.tables import titled
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table
from medtl.study.config import StudyConfig
from medtl.study.folder import StudyFolder
from medtl.study.results import Comparison, Findings, find, place_of
from medtl.study.scores import read_study_scores


@dataclass(frozen=True, slots=True)
class Needed:
    """What a comparison needs; None: no number is enough."""

    comparison: Comparison
    control: str
    patients: int | None
    for_width: int | None
    seeds: int | None

    def to_json(self) -> dict[str, Any]:
        return {
            **place_of(self.comparison),
            "control": self.control,
            "patients": self.patients,
            "patients_for_width": self.for_width,
            "seeds": self.seeds,
        }


@dataclass(frozen=True, slots=True, repr=False)
class PowerPlan(Shown):
    """``difference`` is what shall be found with a power of 80%; ``width`` that of an interval."""

    needed: tuple[Needed, ...]
    difference: float
    width: float
    seeds: int
    is_synthetic: bool
    unknown: tuple[tuple[str, str], ...] = ()  #: comparison -> why nothing can be planned from it

    @property
    def title(self) -> str:
        return f"What finds a difference of {self.difference:g} with a power of {POWER:.0%}"

    @property
    def synthetic(self) -> bool:
        return self.is_synthetic

    def rows(self) -> list[dict[str, Any]]:
        return [each.to_json() for each in self.needed]

    def tables(self) -> list[Table]:
        rows = tuple(
            (
                each.comparison.output,
                each.comparison.budget,
                each.comparison.arm,
                each.control,
                _number(each.patients),
                _number(each.seeds),
                _number(each.for_width),
            )
            for each in self.needed
        )
        columns = (
            "region or class",
            "budget",
            "arm",
            "vs",
            f"patients, {self.seeds} seeds",
            "seeds, patients as now",
            f"patients for an interval {self.width:g} wide",
        )
        notes = (
            "From the variation between patients and between training runs in this study. -: no "
            "number is enough, as the other source of variation alone is too large.",
            "Patients that the test of a shift needs: medtl shift --power.",
            *(f"{name}: {why}" for name, why in self.unknown),
        )
        return [Table(titled(self.title, self.is_synthetic), columns, rows, notes)]

    def to_json(self) -> dict[str, Any]:
        return {
            "difference": self.difference,
            "width": self.width,
            "power": POWER,
            "seeds": self.seeds,
            "synthetic": self.is_synthetic,
            "comparisons": self.rows(),
        }


def plan_power(
    folder: StudyFolder, difference: float | None = None, width: float | None = None
) -> PowerPlan:
    """What the next study needs to find ``difference``, and for an interval of a ``width``.

    Args:
        difference: None: the study's margin, or else half of ``width``.
        width: from low to high; None: twice the difference.

    Raises:
        ConfigError: neither is given, and the study has no margin.
        DataError: the study does not tell patients from training runs.
    """
    config, record = folder.config, folder.plan
    wanted, wide = _wanted(config, difference, width)
    found = find(config, read_study_scores(folder), record.arms)
    needed, unknown = needed_by(found, wanted, wide, config.seeds)
    if not needed:
        waiting = sum(not folder.is_done(run.name) for run in record.runs)
        why = f"{waiting} of its {len(record.runs)} runs are not done; go on with it first"
        none = why if waiting else "it compares nothing"
        raise DataError(f"{folder.path}: {next(iter(unknown.values()), none)}")
    return PowerPlan(needed, wanted, wide, config.seeds, record.synthetic, tuple(unknown.items()))


def needed_by(
    found: Findings, difference: float, width: float, seeds: int
) -> tuple[tuple[Needed, ...], dict[str, str]]:
    """What each comparison needs, and of the others why nothing can be planned from them."""
    needed, unknown = [], {}
    for each in found.comparisons:
        for control in each.against:
            try:
                needed.append(_needed(each, control, difference, width, seeds))
            except DataError as problem:
                name = f"{each.output}, budget {each.budget}, {each.arm}, {control}"
                unknown[name] = str(problem)
    return tuple(needed), unknown


def _wanted(
    config: StudyConfig, difference: float | None, width: float | None
) -> tuple[float, float]:
    """The difference and the width."""
    if difference is None:
        difference = config.margin
    if difference is None and width is None:
        raise ConfigError("--power: say which difference has to be found, e.g. --margin 0.03")
    if width is not None and not 0 < width < 2:
        raise ConfigError(f"--width {width:g}: must be above 0 and below 2")
    if difference is None:
        difference = (width or 0) / 2
    if not 0 < difference < 1:
        raise ConfigError(f"--margin {difference:g}: must be above 0 and below 1")
    return difference, 2 * difference if width is None else width


def _needed(each: Comparison, control: str, difference: float, width: float, seeds: int) -> Needed:
    effect = each.against[control]
    return Needed(
        each,
        control,
        patients_for_difference(effect, difference, seeds),
        patients_for_width(effect, width, seeds),
        seeds_for_difference(effect, difference, effect.n),
    )


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
