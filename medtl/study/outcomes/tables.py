"""Tables of what the arms of a study took, and of what they left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medtl.evaluation.tables import LABELS, gain_cell, output_word, titled
from medtl.runtime.table import Table
from medtl.study.config import TUNED
from medtl.study.outcomes.arm_runs import Place
from medtl.study.outcomes.cost import Cost, total
from medtl.study.outcomes.efficiency import Efficiency
from medtl.study.outcomes.found import Outcomes
from medtl.study.outcomes.speed import Speed
from medtl.transfer.strategies.base import CONTROL_A


def outcome_tables(found: Outcomes, *, synthetic: bool) -> list[Table]:
    """Those that are the same however often a study was stopped."""
    tables = [_took_table(found, synthetic)]
    if found.retained or found.not_scored:
        tables.append(_source_table(found, synthetic))
    return tables


def _lead(places: Sequence[Place], place: Place) -> tuple[str, ...]:
    """Network, where there are several, and budget."""
    network, budget, _ = place
    several = len({each[0] for each in places if each[0]}) > 1
    return (*((network or "-",) if several else ()), budget or "-")


def _head(places: Sequence[Place]) -> tuple[str, ...]:
    several = len({each[0] for each in places if each[0]}) > 1
    return (*(("network",) if several else ()), "budget")


def _took_table(found: Outcomes, synthetic: bool) -> Table:
    calibration = {each.place: each for each in found.calibrations}
    places = [each.place for each in found.speeds]
    rows = []
    for each in found.speeds:
        own = calibration.get(each.place)
        measures = () if not calibration else ("", "") if own is None else (
            f"{own.brier:.3f}", f"{own.ece:.3f}"
        )  # fmt: skip
        rows.append(
            (
                *_lead(places, each.place),
                each.place[2],
                "" if each.target is None else f"{each.target:.3f}",
                "unknown" if each.source_steps is None else str(each.source_steps),
                _steps_cell(each),
                *measures,
            )
        )
    columns = (
        *(*_head(places), "arm", "target", "source steps", "steps to target"),
        *(("Brier", "ECE") if calibration else ()),
    )
    notes = (*_speed_notes(found), *_calibration_notes(found), *_efficiency_notes(found))
    return Table(titled("What it took", synthetic), columns, tuple(rows), notes)


def _steps_cell(speed: Speed) -> str:
    """``50 (3 of 3)``, ``> 100 (1 of 3)``; empty where nothing is known."""
    if not speed.runs:
        return ""
    median = f"> {speed.longest}" if speed.steps is None else f"{speed.steps:g}"
    return f"{median} ({speed.reached} of {speed.runs})"


def _speed_notes(found: Outcomes) -> Iterator[str]:
    of = "Dice" if found.metric == "dice" else "soft balanced accuracy"
    what = f"mean {of} of the validation patients over {output_word(found.metric)}s"
    if found.metric != "dice":
        what = f"{of} of the validation patients"
    if any(each.target is not None for each in found.speeds):
        which = "as asked" if found.target else f"the last of {CONTROL_A}, mean over its runs"
        yield (
            f"target: {what}; {which}. steps to target: median over runs (Kaplan-Meier) of the "
            "first validation that reaches it, and how many runs did; >: most did not within so "
            "many steps. Empty: nothing is trained, or validation looks at other patients."
        )
    none = {each.place[1] for each in found.speeds if each.place[1] and each.target is None}
    none -= {each.place[1] for each in found.speeds if each.target is not None}
    if none:
        budgets = dict.fromkeys(each.place[1] for each in found.speeds if each.place[1] in none)
        yield f"No validation at budget {', '.join(budgets)}: steps to a target are not known."


def _calibration_notes(found: Outcomes) -> Iterator[str]:
    if found.calibrations:
        yield "Brier score, ECE (expected calibration error): test patients, mean over runs."
    else:
        yield "No calibration: runs of segmentation keep no probabilities of test patients."


def _efficiency_notes(found: Outcomes) -> Iterator[str]:
    several = len({each.network for each in found.efficiencies}) > 1
    for each in found.efficiencies:
        name = f"{each.output}, {each.arm}" + (f", {each.network}" if several else "")
        yield f"{name}: {_reached(each)}"


def _reached(each: Efficiency) -> str:
    aim = f"what {CONTROL_A} has with {each.largest}"
    difference = gain_cell(each.effect.to_json())
    way = "by the means alone" if each.margin is None else f"within the margin of {each.margin:g}"
    if each.budget is None:
        return f"no budget reaches {aim} {way} (difference {difference})."
    return f"budget {each.budget} reaches {aim}, {way} (difference {difference})."


def _source_table(found: Outcomes, synthetic: bool) -> Table:
    places = [each.place for each in found.retained]
    outputs = list(dict.fromkeys(each.output for each in found.retained))
    rows = tuple(
        (
            each.output,
            *_lead(places, each.place),
            *(each.place[2], str(each.effect.runs), str(each.effect.n)),
            *(f"{each.before:.2f}", f"{each.after:.2f}", gain_cell(each.effect.to_json())),
        )
        for each in sorted(found.retained, key=lambda each: outputs.index(each.output))
    )
    columns = (
        *(output_word(found.metric), *_head(places)),
        *("arm", "runs", "n", "before", "after", "difference"),
    )
    title = f"What is left of the source? {LABELS[found.metric]} on its test patients"
    return Table(titled(title, synthetic), columns, rows, tuple(_source_notes(found)))


def _source_notes(found: Outcomes) -> Iterator[str]:
    yield (
        "before: the source's own network; after: the transferred one. Difference within patients "
        "[95% interval], training runs included, not adjusted for its number."
    )
    if found.mapped:
        yield (
            "The source has other modalities: the first layer is adapted to them, as it was to the "
            "target's in training. The row of zero-shot, if there is one, tells what this costs."
        )
    for arm, reason in found.not_scored.items():
        yield f"{arm} is not scored on the source: {reason}."


def cost_table(costs: Sequence[Cost], speeds: Sequence[Speed], *, synthetic: bool) -> Table:
    """Times, which differ whenever a study is carried out."""
    every = [*costs, total(costs)]
    places = [each.place for each in costs]
    speed_at = {each.place: each for each in speeds}
    gpus = any(each.gpus for each in every)
    rows = tuple(
        (
            *_lead(places, each.place),
            *(each.place[2], str(each.runs), _seconds_cell(speed_at.get(each.place))),
            f"{each.cpu_seconds / 3600:#.3g}",
            *((f"{each.gpu_seconds / 3600:#.3g}", ", ".join(each.gpus)) if gpus else ()),
        )
        for each in every
    )
    columns = (
        *(*_head(places), "arm", "runs", "seconds to target", "processor hours"),
        *(("GPU hours", "GPU") if gpus else ()),
    )
    return Table(titled("Cost", synthetic), columns, rows, tuple(_cost_notes(costs, speeds)))


def _seconds_cell(speed: Speed | None) -> str:
    if speed is None or speed.longest_seconds is None:
        return ""
    shown = speed.longest_seconds if speed.seconds is None else speed.seconds
    digits = 0 if shown >= 10 else 1
    return ("> " if speed.seconds is None else "") + f"{shown:.{digits}f}"


def _cost_notes(costs: Sequence[Cost], speeds: Sequence[Speed]) -> Iterator[str]:
    yield (
        "Hours of all runs together, with reading and scoring; of runs that were stopped, of their "
        "last part. The source is trained once for all arms."
    )
    if any(each.place[2].endswith(TUNED) for each in costs):
        yield "Trials count among the runs of the arm that they tune."
    yield "seconds to target: of training and validation on the target, median over runs."
    if any(each.runs and each.longest_seconds is None for each in speeds):
        yield "Runs that were trained before times were kept have no seconds to target."
