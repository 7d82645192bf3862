"""Tables of a study, for the terminal and for papers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medtl.evaluation.comparison.effects import Effect
from medtl.evaluation.comparison.verdicts import TOO_POOR
from medtl.evaluation.controls import FLOOR
from medtl.evaluation.tables import LABELS, gain_cell, output_word, p_cell, score_cell, titled
from medtl.runtime.table import Table
from medtl.study.arms import Arm
from medtl.study.plan import StudyPlan
from medtl.study.results import Findings
from medtl.study.trials.searched_table import duration, searched_table
from medtl.transfer.strategies.base import Stage

_NOISE_UNKNOWN = (
    "One run per arm: training noise is unknown. The intervals tell how patients differ, not how "
    "another seed would turn out."
)


def found_tables(found: Findings, *, synthetic: bool) -> list[Table]:
    """Scores of the arms, then differences to the controls with verdicts."""
    tables = [score_table(found, synthetic)]
    if found.comparisons:
        tables.append(verdict_table(found, synthetic))
    return tables


def score_table(found: Findings, synthetic: bool) -> Table:
    """The mean score of each arm, with the share of resamples in which it is the best."""
    networks = len({each.network for each in found.arms}) > 1
    rows = []
    for each in found.arms:
        key = (each.network, each.budget, each.arm, each.output)
        rank = found.ranks.get(key)
        lead = (each.network,) if networks else ()
        rows.append(
            (
                *lead,
                each.output,
                each.budget,
                each.arm,
                str(each.runs),
                str(each.score.n),
                score_cell(found.metric, each.score.to_json()),
                "" if rank is None else f"{rank.best:.0%}",
            )
        )
    head = ("network",) if networks else ()
    columns = (
        *head,
        output_word(found.metric),
        "budget",
        "arm",
        "runs",
        "n",
        LABELS[found.metric],
        "best",
    )
    notes = (
        "Mean over test patients [95% interval]; a patient's runs are averaged first.",
        "best: share of resamples of the patients in which the arm has the highest mean.",
    )
    return Table(titled("Scores", synthetic), columns, tuple(rows), notes)


def verdict_table(found: Findings, synthetic: bool) -> Table:
    """Each arm less its controls."""
    networks = len({each.network for each in found.comparisons}) > 1
    controls = list(dict.fromkeys(name for c in found.comparisons for name in c.against))
    rows = []
    for each in found.comparisons:
        cells = [
            gain_cell(each.against[name].to_json()) if name in each.against else ""
            for name in controls
        ]
        lead = (each.network,) if networks else ()
        first = next(iter(each.against.values()))
        rows.append(
            (
                *lead,
                each.output,
                each.budget,
                each.arm + (" (primary)" if each.primary else ""),
                str(first.n),
                *cells,
                p_cell(each.judged.p if each.primary else each.judged.p_holm),
                each.judged.verdict,
            )
        )
    head = ("network",) if networks else ()
    versus = (f"vs {name}" for name in controls)
    columns = (*head, output_word(found.metric), "budget", "arm", "n", *versus, "p", "verdict")
    title = f"Did the transfer help? Difference in {LABELS[found.metric]} to each control"
    return Table(titled(title, synthetic), columns, tuple(rows), tuple(_notes(found)))


def _notes(found: Findings) -> Iterator[str]:
    word = output_word(found.metric)
    effects = [effect for each in found.comparisons for effect in each.against.values()]
    methods = dict.fromkeys(effect.method for effect in effects if effect.low is not None)
    yield (
        f"Mean difference within patients [interval: {'; '.join(methods) or 'none'}]. p is that of "
        "the verdict, or of the one that came nearest, adjusted by Holm over budgets, strategies "
        f"and networks within a {word}, but for the primary comparison."
    )
    yield _noise_note(effects)
    if any(each.judged.verdict == TOO_POOR for each in found.comparisons):
        yield (
            f"{TOO_POOR}: none of the arms reaches a mean {LABELS[found.metric]} of {FLOOR:g} in "
            "the test cases that have the region."
        )
    for each in found.comparisons:
        if each.needed and each.sought is not None:
            yield (
                f"{each.output}, budget {each.budget}, {each.arm}: about {each.needed} test "
                f"patients would find a difference of {each.sought:.3f} to control A, if there "
                "is one, with a power of 80%."
            )


def _noise_note(effects: Sequence[Effect]) -> str:
    """How much runs differ, as far as several seeds tell it."""
    known = [effect.run_sd for effect in effects if effect.run_sd is not None]
    if not known:
        return _NOISE_UNKNOWN
    if all(effect.runs <= effect.folds for effect in effects):
        return (
            "One run per arm and fold: what folds differ by holds the noise of training, which is "
            "not told apart."
        )
    if max(known) < 0.0005:
        return (
            "No noise of training was told apart from that of patients. Few runs do not show that "
            "there is none."
        )
    return (
        f"Between training runs, differences have a standard deviation of up to {max(known):.3f}."
    )


def plan_tables(plan: StudyPlan) -> list[Table]:
    """What ``--dry-run`` shows: the arms, and every difference between any two of them."""
    tables = [_arms_table(plan), _differences_table(plan)]
    return [*tables, searched_table(plan)] if plan.tuning else tables


def shown_starts(starts: Iterable[str]) -> dict[str, str]:
    """Start -> what tables call it: of a run, the name of its folder, if no other has the name."""
    names = {start: start if Path(start).suffix else Path(start).name for start in starts}
    often = Counter(names.values())
    return {start: name if often[name] == 1 else start for start, name in names.items()}


def _arms_table(plan: StudyPlan) -> Table:
    starts = shown_starts({arm.start for arm in plan.arms})
    rows = [
        (
            arm.name,
            arm.spec.strategy,
            starts[arm.start],
            _known(arm.on_source),
            str(arm.on_target),
            str(sum(run.arm == arm.name for run in plan.runs)),
        )
        for arm in plan.arms
    ]
    columns = ("arm", "strategy", "starts from", "source steps", "target steps", "runs")
    steps = sum(_steps(run.arm, plan) for run in plan.runs)
    foreseen = duration(steps, plan.step_s)
    notes = (
        f"{len(plan.runs)} runs, {steps} steps; about {foreseen} of training on this machine, one "
        "run after the other, without scoring",
        f"{len(plan.splits)} test set(s): {', '.join(str(len(s.test)) for s in plan.splits)} "
        "patients; no arm sees a test patient in any stage",
    )
    return Table(titled("Arms", plan.synthetic), columns, tuple(rows), notes)


def _steps(name: str, plan: StudyPlan) -> int:
    arm = next((each for each in plan.arms if each.name == name), None)
    if arm is None:  # the source's own run
        return max(each.steps for each in plan.arms if each.start == "source")
    return arm.on_target


def _differences_table(plan: StudyPlan) -> Table:
    """Settings in which any two arms differ; the others are the same in all."""
    starts = shown_starts({arm.start for arm in plan.arms})
    columns = {
        arm.name: {"starts from": starts[arm.start], **_facts(arm, plan.stages[arm.name])}
        for arm in plan.arms
    }
    names = list(next(iter(columns.values())))
    differing = [n for n in names if len({column[n] for column in columns.values()}) > 1]
    rows = tuple((name, *(column[name] for column in columns.values())) for name in differing)
    same = ", ".join(n for n in names if n not in differing)
    notes = (f"The same in all arms: {same}, network, patients, splits, seeds, preprocessing.",)
    return Table("What differs between the arms", ("", *columns), rows, notes)


def _facts(arm: Arm, stages: Sequence[Stage]) -> dict[str, str]:
    """What the arm does on the target, in words."""

    def every(name: str) -> str:
        values = [_text(asdict(stage)[name]) for stage in stages]
        return ", then ".join(dict.fromkeys(values))

    chosen = dict.fromkeys(("rates", "weight decay"), "by trials") if arm.tuned_from else {}
    facts = {
        "source steps": _known(arm.on_source),
        "target steps": str(arm.on_target),
        "trained beside": every("beside"),
        "frozen": every("frozen"),
        "new blocks": every("reinit"),
        "optimiser": every("optimizer"),
        "rates": ", then ".join(dict.fromkeys(_rates(stage) for stage in stages)),
        "schedule": every("schedule"),
        "warm-up": every("warmup"),
        "weight decay": every("weight_decay"),
        "running average": every("average"),
        "batch size": every("batch_size"),
        "loss": ", then ".join(
            dict.fromkeys(" + ".join(loss.name for loss in stage.losses) for stage in stages)
        ),
        "norms": every("norm_stats"),
        "augmentation": _text(arm.spec.settings.get("augmentation", "the preset's")),
    }
    return facts | chosen


def _known(steps: int | None) -> str:
    return "unknown" if steps is None else str(steps)


def _rates(stage: Stage) -> str:
    low, high = min(stage.rates.values()), max(stage.rates.values())
    return f"{low:.2g}" + (f" to {high:.2g}" if high != low else "")


def _text(value: Any) -> str:
    if value in (None, (), ""):
        return "none"
    if isinstance(value, dict):  # a domain
        sites = "+".join(value.get("sites", ()))
        return "+".join(value.get("modalities", ())) + (f" of {sites}" if sites else "")
    return ", ".join(value) if isinstance(value, tuple) else str(value)
