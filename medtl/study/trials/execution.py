"""Carry out the trials of a study, together with every process that shares their store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import sleep

from medtl.runtime.console import Advance, Reporter
from medtl.study.arms import PlannedRun
from medtl.study.folder import State, StudyFolder
from medtl.study.trials.records import (
    Search,
    choice_name,
    choose,
    read_choice,
    read_tuning_plan,
)
from medtl.study.trials.store import Outcome, TrialStore, default_url, open_store
from medtl.study.work import Executor

#: Seconds between two looks at trials that other processes are at.
PAUSE_S = 2.0


def carry_out_trials(
    folder: StudyFolder,
    url: str | None,
    execute: Executor,
    failed: Mapping[str, str],
    reporter: Reporter,
) -> dict[str, str]:
    """End every search of the study; returns those that could not be ended, with the reasons.

    Args:
        url: of the store, which other processes may work on as well; None: a file in the study.
        failed: runs that failed; trials that start from them are not carried out.

    Raises:
        ConfigError: the store cannot be used.
        Interrupted: a signal came; the same call goes on.
        RunError: the store fails.
    """
    plan = read_tuning_plan(folder.path)
    every = plan.searches if plan else ()
    waiting = [each for each in every if read_choice(folder.path, each.name) is None]
    if not waiting:
        return {}
    untuned = {run.name: run for run in folder.runs()}
    starts = {each.name: untuned[each.run].after for each in waiting}
    unable = {
        name: f"{start} failed, from which its trials start"
        for name, start in starts.items()
        if start in failed
    }
    able = [each for each in waiting if each.name not in unable]
    store = open_store(url or default_url(folder.path), folder.path)
    total = sum(len(each.trials) for each in able)
    with store.working(), reporter.progress("trials", total) as advance:
        for each in able:
            store.begin(each)
        work = _Work(folder, store, {each.name: each for each in able}, untuned)
        work.until_all_end(execute, reporter, advance)
        return unable | {
            each.name: reason
            for each in able
            if (reason := _chosen(folder, store, each)) is not None
        }


@dataclass(frozen=True, slots=True)
class _Work:
    folder: StudyFolder
    store: TrialStore
    searches: Mapping[str, Search]
    untuned: Mapping[str, PlannedRun]

    def until_all_end(self, execute: Executor, reporter: Reporter, advance: Advance) -> None:
        """Take trials while there are any, then wait for those that other processes are at."""
        while True:
            for run, state in execute(self.folder, self._claimed()):
                self._tell(run, state)
                if state.status == "failed":
                    reporter.warn(f"trial {run.name} failed: {state.reason}")
                advance(self._ended(), f"{run.name}, {state.seconds:.0f} s")
            if not sum(self.store.others_at_work(each) for each in self.searches.values()):
                return
            advance(self._ended(), "waiting for trials of other processes")
            sleep(PAUSE_S)

    def _claimed(self) -> Iterator[PlannedRun]:
        """The trials that nobody has, claimed one by one as they are asked for."""
        for search in self.searches.values():
            runs = list(search.runs(self.untuned[search.run]))
            for number in self.store.free(search):
                if not self.store.claim(search, number):
                    continue
                run = runs[number]
                state = self.folder.state(run.name)
                if state is not None and state.status == "done":  # killed before it was told
                    self._tell(run, state)
                else:
                    yield run

    def _tell(self, run: PlannedRun, state: State) -> None:
        assert run.trial is not None
        outcome = state.reason if state.status == "failed" else Outcome(state.score)
        self.store.tell(self.searches[run.tuned], run.trial, outcome)

    def _ended(self) -> int:
        return sum(len(self.store.outcomes(each)) for each in self.searches.values())


def _chosen(folder: StudyFolder, store: TrialStore, search: Search) -> str | None:
    """Keep the choice of a search; why there is none, if so.

    Arms are tuned by equal numbers of trials: where one is missing, nothing is chosen.
    """
    outcomes, wanted = store.outcomes(search), len(search.trials)
    if len(outcomes) < wanted:
        why = next(iter(store.reasons(search)), "they were stopped")
        return f"{wanted - len(outcomes)} of its {wanted} trials failed: {why}"
    choice = choose(search, tuple(outcomes[number].score for number in range(wanted)))
    if choice is None:
        return f"none of its {wanted} trials has a finite loss; choose a lower lr"
    folder.write_json(str(choice_name(search.name)), choice.model_dump(mode="json"))
    return None


def equal_runs(folder: StudyFolder, runs: Sequence[PlannedRun]) -> dict[str, str]:
    """Tuned run -> the untuned one that it equals, as no trial was better."""
    places = {(r.network, r.arm, r.budget, r.fold, r.seed): r.name for r in runs}
    origin = {arm.name: arm.tuned_from for arm in folder.plan.arms}
    found = {}
    for run in runs:
        choice = read_choice(folder.path, run.tuned) if run.tuned else None
        if choice is not None and choice.is_untuned:
            place = (run.network, origin[run.arm], run.budget, run.fold, run.seed)
            found[run.name] = places[place]
    return found
