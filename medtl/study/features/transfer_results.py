"""What a study says of the transferability of its sources, as tables and as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medtl.evaluation.tables import titled
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table
from medtl.study.transferability.agreement import Agreement


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network with what it starts from: the study's own source, or weights from outside."""

    network: str
    start: str

    @property
    def name(self) -> str:
        return f"{self.network} from {self.start}"


@dataclass(frozen=True, slots=True)
class TransferScore:
    """A score of a candidate for an output, on the training patients of a budget."""

    candidate: Candidate
    budget: str
    output: str
    score: str
    value: float
    patients: int

    def to_json(self) -> dict[str, Any]:
        return {
            "network": self.candidate.network,
            "start": self.candidate.start,
            "budget": self.budget,
            "output": self.output,
            "score": self.score,
            "value": self.value,
            "patients": self.patients,
        }


@dataclass(frozen=True, slots=True)
class Ranked:
    """Whether a score ranks the candidates as the arms of a strategy did."""

    strategy: str
    budget: str
    output: str
    score: str
    agreement: Agreement

    def to_json(self) -> dict[str, Any]:
        own = {"strategy": self.strategy, "budget": self.budget, "output": self.output}
        return {**own, "score": self.score, **asdict(self.agreement)}


@dataclass(frozen=True, slots=True, repr=False)
class Transferability(Shown):
    """Scores of every candidate and, of three or more, their agreement with what arms reached."""

    name: str
    scores: tuple[TransferScore, ...]
    ranked: tuple[Ranked, ...]
    notes: tuple[str, ...]
    is_synthetic: bool

    @property
    def title(self) -> str:
        count = len({each.candidate for each in self.scores})
        return f"{self.name}: transferability of {count} candidate(s)"

    @property
    def synthetic(self) -> bool:
        return self.is_synthetic

    def rows(self) -> list[dict[str, Any]]:
        """One per candidate, budget, output and score, as plain data."""
        return [each.to_json() for each in self.scores]

    def tables(self) -> list[Table]:
        """The scores; of three candidates or more also the agreement."""
        return [self._scores(), *([self._agreement()] if self.ranked else [])]

    def _scores(self) -> Table:
        names = list(dict.fromkeys(each.score for each in self.scores))
        cells: dict[tuple[Candidate, str, str], dict[str, TransferScore]] = {}
        for each in self.scores:
            cells.setdefault((each.candidate, each.budget, each.output), {})[each.score] = each
        rows = tuple(
            (
                *(candidate.network, candidate.start, budget, output),
                str(next(iter(own.values())).patients),
                *(f"{own[name].value:.3f}" if name in own else "-" for name in names),
            )
            for (candidate, budget, output), own in cells.items()
        )
        columns = ("network", "starts from", "budget", "region or class", "patients", *names)
        notes = (
            "Of training patients of the target, before training on it; higher is better, among "
            "candidates alone.",
            *self.notes,
        )
        title = "Transferability to the target"
        return Table(titled(title, self.is_synthetic), columns, rows, notes)

    def _agreement(self) -> Table:
        rows = tuple(
            (
                *(each.output, each.budget, each.strategy, each.score),
                str(each.agreement.arms),
                f"{each.agreement.weighted_tau:.2f} (p {each.agreement.weighted_tau_p:.3f})",
                f"{each.agreement.spearman:.2f} (p {each.agreement.spearman_p:.3f})",
            )
            for each in self.ranked
        )
        columns = ("region or class", "budget", "strategy", "score", "candidates")
        title = "Did transferability rank the candidates as training did?"
        return Table(titled(title, self.is_synthetic), (*columns, "weighted tau", "Spearman"), rows)

    def to_json(self) -> dict[str, Any]:
        return {
            "synthetic": self.is_synthetic,
            "notes": list(self.notes),
            "transferability": self.rows(),
            "agreement": [each.to_json() for each in self.ranked],
        }
