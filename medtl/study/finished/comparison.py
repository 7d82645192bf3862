"""``medtl compare RUN RUN``: finished runs that share their test patients, arm against arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from medtl.errors import ConfigError, RunError, shortened
from medtl.evaluation.comparison.effects import Effect, RunKey, paired_effect
from medtl.evaluation.comparison.ranks import Rank, rank_arms
from medtl.evaluation.comparison.verdicts import TOO_POOR, Judged, arm_verdicts
from medtl.evaluation.controls import below_floor
from medtl.evaluation.intervals import Interval, interval
from medtl.study.finished.result import ArmDifference, FinishedComparison
from medtl.study.finished.runs import FinishedArm, read_arms


def compare_runs(paths: Sequence[Path], *, margin: float | None = None) -> FinishedComparison:
    """Compare the last stages of finished runs on the test patients that they share.

    Runs that differ in seed or fold alone are one arm. The first arm is the reference.

    Args:
        margin: the largest difference that does not matter, declared beforehand.

    Raises:
        ConfigError: there are no two arms of one task, or the margin cannot be used.
        RunError: a run is not finished or damaged, or the test sets do not fit.
    """
    if len(paths) < 2:
        raise ConfigError("name two runs or more to compare, for example medtl compare runs/*")
    if margin is not None and not 0 < margin < 1:
        raise ConfigError(f"--margin {margin:g}: must be above 0 and below 1")
    arms = read_arms(paths)
    one = next(iter(arms[0].runs.values()))
    differences, notes = _differences(arms, margin)
    return FinishedComparison(
        one.config.task,
        one.metric,
        margin,
        arms,
        {arm.label: _scores(arm, one.metric) for arm in arms},
        tuple(differences),
        _ranks(arms),
        tuple(notes),
    )


def _scores(arm: FinishedArm, metric: str) -> dict[str, Interval]:
    return {
        output: interval(arm.by_patient(output), share=metric == "accuracy")
        for output in arm.outputs()
    }


def _differences(
    arms: Sequence[FinishedArm], margin: float | None
) -> tuple[list[ArmDifference], list[str]]:
    """Of every other arm to the first, and what is to be known of their pairs."""
    first, *others = arms
    pairs = {arm.label: _pairs(first, arm) for arm in others}
    found = []
    for output in first.outputs():
        effects = {arm.label: _effect(arm, first, pairs[arm.label], output) for arm in others}
        known = {label: effect for label, effect in effects.items() if effect}
        judged = arm_verdicts(known, margin=margin)
        for arm in others:
            if effect := known.get(arm.label):
                own = judged[arm.label]
                if _poor(arm, first, output):
                    own = Judged(TOO_POOR, None, None)
                found.append(ArmDifference(arm.label, first.label, output, effect, own))
    notes = [note for arm in others for note in _pair_notes(first, arm, pairs[arm.label])]
    return found, notes


def _pairs(first: FinishedArm, arm: FinishedArm) -> list[tuple[RunKey, RunKey]]:
    """Runs of the same fold and seed; then what is left of a fold, in the order of the seeds.

    Raises:
        RunError: the arms have no test patients in common.
    """
    pairs: list[tuple[RunKey, RunKey]] = []
    for fold in sorted(first.folds() & arm.folds()):
        a, b = ([key for key in side.runs if key[0] == fold] for side in (first, arm))
        pairs += [(key, key) for key in a if key in b]
        alone = ([key for key in a if key not in b], [key for key in b if key not in a])
        pairs += zip(*alone, strict=False)
    if not pairs:
        one, other = (next(iter(side.runs.values())).path for side in (first, arm))
        raise RunError(
            f"{one} ({first.label}) and {other} ({arm.label}) have no test patient in common; "
            "train both arms on the same --splits"
        )
    return pairs


def _effect(
    arm: FinishedArm, first: FinishedArm, pairs: Sequence[tuple[RunKey, RunKey]], output: str
) -> Effect | None:
    """``arm`` less ``first``; None: no two runs were both scored on the output."""
    own, reference = arm.scored(output), first.scored(output)
    both = [(a, b) for a, b in pairs if a in reference and b in own]
    if not both:
        return None
    return paired_effect({a: own[b] for a, b in both}, {a: reference[a] for a, _ in both})


def _poor(arm: FinishedArm, first: FinishedArm, output: str) -> bool:
    """Whether neither arm reaches the floor; False where there is nothing to find."""
    means = [mean for each in (arm, first) if (mean := each.found(output)) is not None]
    return below_floor(means)


def _pair_notes(
    first: FinishedArm, arm: FinishedArm, pairs: Sequence[tuple[RunKey, RunKey]]
) -> Iterator[str]:
    if other := [(a, b) for a, b in pairs if a != b]:
        seeds = ", ".join(f"{b[1]} with {a[1]}" for a, b in other)
        yield f"{arm.label}: its seeds are not those of the first arm; in order, {seeds}."
    paired = ({a for a, _ in pairs}, {b for _, b in pairs})
    for side, keys in zip((first, arm), paired, strict=True):
        if alone := [str(run.path) for key, run in side.runs.items() if key not in keys]:
            yield (
                f"{arm.label}: the difference is without {shortened(alone)}, as the other arm has "
                "no such run."
            )


def _ranks(arms: Sequence[FinishedArm]) -> dict[str, dict[str, Rank]]:
    """By output, of the arms that were tested on the patients of the first."""
    found = {}
    for output in arms[0].outputs():
        patients = arms[0].by_patient(output).keys()
        alike = [arm for arm in arms if arm.by_patient(output).keys() == patients]
        if len(alike) > 1:
            found[output] = rank_arms({arm.label: arm.scored(output) for arm in alike})
    return found
