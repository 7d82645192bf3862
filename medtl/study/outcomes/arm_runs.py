"""The runs of a study, by arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from medtl.study.arms import PlannedRun
from medtl.study.config import budget_name, in_order
from medtl.study.folder import StudyFolder
from medtl.transfer.strategies.base import SOURCE

#: A network, a budget ("": the arm has none) and an arm.
Place = tuple[str, str, str]


def arm_runs(folder: StudyFolder, runs: Iterable[PlannedRun]) -> dict[Place, list[PlannedRun]]:
    """The runs by network and budget, arms as planned. The source comes first, without a budget."""
    plan = folder.plan
    limited = {arm.name for arm in plan.arms if arm.budgeted}
    found: dict[Place, list[PlannedRun]] = {}
    for run in runs:
        budget = run.budget if run.arm in limited else ""
        found.setdefault((run.network, budget, run.arm), []).append(run)
    budgets = ["", *map(budget_name, in_order(folder.config.budgets))]
    return _sorted(found, budgets, [SOURCE, *(arm.name for arm in plan.arms)])


def _sorted(
    found: Mapping[Place, list[PlannedRun]], budgets: Sequence[str], arms: Sequence[str]
) -> dict[Place, list[PlannedRun]]:
    networks = list(dict.fromkeys(network for network, _, _ in found))

    def position(place: Place) -> tuple[int, int, int]:
        network, budget, arm = place
        return networks.index(network), budgets.index(budget), arms.index(arm)

    return {place: found[place] for place in sorted(found, key=position)}
