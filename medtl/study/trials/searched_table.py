"""What ``--dry-run`` shows of the trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtl.evaluation.tables import titled
from medtl.runtime.table import Table

if TYPE_CHECKING:
    from medtl.study.plan import StudyPlan


def duration(steps: int, step_s: float | None) -> str:
    """How long the steps take, in words; ``step_s``: seconds of one, None if not timed."""
    if step_s is None:
        return "not timed"
    seconds = steps * step_s
    if seconds < 60:
        return "less than a minute"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def searched_table(plan: StudyPlan) -> Table:
    """A row per arm that is tuned: its trials, and the values that they take."""
    tuning = plan.tuning
    assert tuning is not None
    steps_of = {arm.name: arm.on_target for arm in plan.arms}
    tuned = {arm.tuned_from: arm.name for arm in plan.arms if arm.tuned_from}
    networks = len({network for network, _ in tuning.spaces}) > 1
    rows, steps, trials = [], 0, 0
    for (network, arm), space in tuning.spaces.items():
        own = [run for run in plan.runs if (run.network, run.arm) == (network, tuned[arm])]
        count = tuning.trials * sum(run.tuned == run.name for run in own)
        steps, trials = steps + count * steps_of[arm], trials + count
        words = space.words()
        head = (network,) if networks else ()
        rows.append((*head, tuned[arm], str(count), str(steps_of[arm]), *words.values()))
    head = ("network",) if networks else ()
    columns = (*head, "arm", "trials", "steps of each", "lr", "weight decay", "depth")
    notes = (
        f"{trials} trials, {steps} steps; about {duration(steps, plan.step_s)} of training on this "
        "machine, one after the other, without validation",
        f"{tuning.trials} trials of each arm in each network, budget, fold and seed (budget all: "
        "once for all seeds). The first one is the untuned arm.",
        "A trial sees the training and validation patients of its budget, and no test patient.",
    )
    return Table(titled("Tuning", plan.synthetic), columns, tuple(rows), notes)
