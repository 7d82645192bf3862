"""What a study says of how alike its networks are, as tables and as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from medtl.evaluation.tables import titled
from medtl.runtime.shown import Shown
from medtl.runtime.table import Table
from medtl.transfer.strategies.base import CONTROL_A

#: What an arm is compared with.
START, CONTROL, SEED = "start", CONTROL_A, "other seed"


@dataclass(frozen=True, slots=True)
class Side:
    """The network of a run.

    ``random``: before its first step, from the seed. ``weights``: as it starts from these, which
    come from outside of the study.
    """

    run: str
    random: int | None = None
    weights: str = ""

    @property
    def name(self) -> str:
        if self.weights:
            return self.weights
        return self.run if self.random is None else f"random weights, seed {self.random}"


@dataclass(frozen=True, slots=True)
class Pair:
    """An arm's network and another. ``budget``: "" of what sees no labelled target patient."""

    network: str
    budget: str
    arm: str
    seed: int
    against: str
    one: Side
    other: Side


@dataclass(frozen=True, slots=True)
class BlockSimilarity:
    """Of one block in two networks; None: it cannot be told."""

    pair: Pair
    block: str
    rows: int
    cka: float | None
    svcca: float | None
    pwcca: float | None  #: with the weights of the arm's features

    def to_json(self) -> dict[str, Any]:
        return {
            "network": self.pair.network,
            "budget": self.pair.budget,
            "arm": self.pair.arm,
            "seed": self.pair.seed,
            "against": self.pair.against,
            "other": self.pair.other.name,
            "block": self.block,
            "rows": self.rows,
            "cka": self.cka,
            "svcca": self.svcca,
            "pwcca": self.pwcca,
        }


@dataclass(frozen=True, slots=True, repr=False)
class Similarity(Shown):
    """Of every pair of networks, block by block in the order of execution."""

    name: str
    found: tuple[BlockSimilarity, ...]
    images: int
    notes: tuple[str, ...]
    is_synthetic: bool

    @property
    def title(self) -> str:
        return f"{self.name}: features on {self.images} test images"

    @property
    def synthetic(self) -> bool:
        return self.is_synthetic

    def lines(self) -> dict[tuple[str, str, str, str], dict[str, float]]:
        """Network, budget, arm, compared with -> block -> mean CKA over seeds, where known."""
        values: dict[tuple[str, str, str, str], dict[str, list[float]]] = {}
        for each in self.found:
            pair = each.pair
            key = pair.network, pair.budget, pair.arm, pair.against
            blocks = values.setdefault(key, {})
            if each.cka is not None:
                blocks.setdefault(each.block, []).append(each.cka)
        return {
            key: {block: fmean(seeds) for block, seeds in blocks.items()}
            for key, blocks in values.items()
        }

    def blocks(self, network: str) -> list[str]:
        """In the order of execution."""
        own = (each.block for each in self.found if each.pair.network == network)
        return list(dict.fromkeys(own))

    def rows(self) -> list[dict[str, Any]]:
        """One per pair and block, as plain data."""
        return [each.to_json() for each in self.found]

    def tables(self) -> list[Table]:
        """One per network, with the mean over seeds."""
        networks = dict.fromkeys(each.pair.network for each in self.found)
        return [self._table(network) for network in networks]

    def _table(self, network: str) -> Table:
        blocks = self.blocks(network)
        rows = tuple(
            (budget, arm, against, *(_number(values.get(block)) for block in blocks))
            for (own, budget, arm, against), values in self.lines().items()
            if own == network
        )
        notes = (
            "1: the same up to rotation and scale, about 0: unrelated; mean over seeds. What two "
            "seeds of an arm differ by is noise.",
            *self.notes,
        )
        title = f"Similarity of {network}'s features (debiased linear CKA), {self.images} images"
        columns = ("budget", "arm", "compared with", *blocks)
        return Table(titled(title, self.is_synthetic), columns, rows, notes)

    def to_json(self) -> dict[str, Any]:
        return {
            "synthetic": self.is_synthetic,
            "images": self.images,
            "notes": list(self.notes),
            "similarity": self.rows(),
        }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
