"""The trials of a study in a store of Optuna, which several processes and machines may share.

Nobody hands out trials: whoever is free claims the next one. A claim is a trial that runs. Claims
are numbered by the store, so that of two processes that claim the same trial at once, both see
which was first. Not so Optuna's own queue, of which two processes can take the same trial in
SQLite.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from medtl.errors import ConfigError, MedtlError, RunError
from medtl.study.trials.database import connected, first_line, hidden
from medtl.study.trials.records import Search
from medtl.study.trials.space import distributions_of, quiet

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

#: Seconds between two signs of life of a claim, and without any until it is given up.
BEAT_S, GIVEN_UP_S = 10.0, 120.0

#: Attributes of a claim: the trial's number, who claims it, its signs of life, why it failed.
_NUMBER, _OWNER, _BEAT, _REASON, _DIVERGED = "trial", "owner", "beat", "reason", "diverged"

#: Tells a claim from another one of the same trial.
_TOKEN = "token"


def default_url(study: Path) -> str:
    """A file of SQLite in the folder of the study."""
    return f"sqlite:///{study.resolve() / 'tuning.db'}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trial: its score, or that its loss was not finite."""

    score: float | None


@dataclass(slots=True)
class TrialStore:
    """``claims``: those of this process, by id in the store."""

    url: str
    owner: str
    _storage: Any
    _studies: dict[str, Study] = field(default_factory=dict)
    _claims: dict[tuple[str, int], FrozenTrial] = field(default_factory=dict)
    _forgiven: set[tuple[str, int]] = field(default_factory=set)
    _seen: dict[int, tuple[Any, float]] = field(default_factory=dict)

    def begin(self, search: Search) -> None:
        """Free what this study had claimed before it was stopped, and try what failed again."""
        import optuna

        with self._telling(), quiet():
            study = optuna.create_study(
                storage=self._storage,
                study_name=f"medtl-{search.key}-{search.name}",
                direction="maximize",
                load_if_exists=True,
            )
            self._studies[search.name] = study
            for trial in self._trials(search):
                if trial.state.name == "RUNNING" and trial.user_attrs.get(_OWNER) == self.owner:
                    self._free(trial)
                elif trial.state.name == "FAIL":
                    self._forgiven.add((search.name, trial.number))

    def free(self, search: Search) -> list[int]:
        """The trials that nobody is at, and that have neither ended nor failed meanwhile."""
        with self._telling():
            every = self._trials(search)
        taken = {t.user_attrs[_NUMBER] for t in every if self._is_taken(search, t)}
        return [number for number in range(len(search.trials)) if number not in taken]

    def claim(self, search: Search, number: int) -> bool:
        """Take a trial, unless it has ended or another process is at it."""
        if number not in self.free(search):
            return False
        with self._telling():
            token = uuid.uuid4().hex
            self._studies[search.name].add_trial(self._template(search, number, token))
            live = self._live(search, number)
            own = next(trial for trial in live if trial.user_attrs.get(_TOKEN) == token)
            if own is not live[0]:
                self._free(own)
                return False
            self._claims[search.name, number] = own
            return True

    def tell(self, search: Search, number: int, outcome: Outcome | str) -> None:
        """What became of a claimed trial; text says why it failed."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        own = self._claims.pop((search.name, number))
        with self._telling(), suppress(UpdateFinishedTrialError):
            if isinstance(outcome, str):
                self._storage.set_trial_user_attr(own._trial_id, _REASON, outcome)
                self._storage.set_trial_state_values(own._trial_id, TrialState.FAIL)
            elif outcome.score is None:
                self._storage.set_trial_user_attr(own._trial_id, _DIVERGED, True)
                self._storage.set_trial_state_values(own._trial_id, TrialState.PRUNED)
            else:
                values = [outcome.score]
                self._storage.set_trial_state_values(own._trial_id, TrialState.COMPLETE, values)

    def outcomes(self, search: Search) -> dict[int, Outcome]:
        """Of the trials that have ended; the first one counts, if there are two of a number."""
        found: dict[int, Outcome] = {}
        with self._telling():
            for trial in self._trials(search):
                if trial.state.name in ("COMPLETE", "PRUNED"):
                    score = trial.value if trial.state.name == "COMPLETE" else None
                    found.setdefault(trial.user_attrs[_NUMBER], Outcome(score))
        return found

    def reasons(self, search: Search) -> list[str]:
        """Why trials failed, the last one first."""
        with self._telling():
            texts = [trial.user_attrs.get(_REASON) for trial in self._trials(search)]
        return [text for text in reversed(texts) if text]

    def others_at_work(self, search: Search) -> int:
        """Trials that other processes are at; one that shows no sign of life is given up."""
        alive = 0
        with self._telling():
            for trial in self._trials(search):
                if trial.state.name != "RUNNING":
                    continue
                beat, now = trial.user_attrs.get(_BEAT), monotonic()
                last, since = self._seen.get(trial._trial_id, (None, now))
                if beat != last:
                    since = now
                self._seen[trial._trial_id] = beat, since
                if now - since > GIVEN_UP_S:
                    self._free(trial)
                else:
                    alive += 1
        return alive

    @contextmanager
    def working(self) -> Iterator[None]:
        """Give signs of life meanwhile; at the end, free what is still claimed."""
        stop = Event()
        beats = Thread(target=self._beat, args=(stop,), daemon=True)
        beats.start()
        try:
            yield
        finally:
            stop.set()
            beats.join()
            with suppress(MedtlError), self._telling():
                for trial in self._claims.values():
                    self._free(trial)
            self._claims.clear()

    def _beat(self, stop: Event) -> None:
        count = 0
        while not stop.wait(BEAT_S):
            count += 1
            for trial in list(self._claims.values()):
                with suppress(Exception):  # the next one may come through
                    self._storage.set_trial_user_attr(trial._trial_id, _BEAT, count)

    def _template(self, search: Search, number: int, token: str) -> FrozenTrial:
        import optuna
        from optuna.trial import TrialState

        settings = search.trials[number]
        every = distributions_of(search.trials)
        return optuna.create_trial(
            state=TrialState.RUNNING,
            params=dict(settings),
            distributions={name: every[name] for name in settings},
            user_attrs={_NUMBER: number, _OWNER: self.owner, _BEAT: 0, _TOKEN: token},
        )

    def _trials(self, search: Search) -> list[FrozenTrial]:
        """Every claim there is and was, the first one first."""
        study = self._studies[search.name]._study_id
        found: list[FrozenTrial] = self._storage.get_all_trials(study, deepcopy=False)
        return found

    def _live(self, search: Search, number: int) -> list[FrozenTrial]:
        """The claims of a trial that have not failed."""
        every = self._trials(search)
        return [t for t in every if t.user_attrs[_NUMBER] == number and t.state.name != "FAIL"]

    def _is_taken(self, search: Search, trial: FrozenTrial) -> bool:
        """Whether it keeps others from its number: it has not failed, or since this command began.

        One that was given up has failed without a reason.
        """
        if trial.state.name != "FAIL":
            return True
        return _REASON in trial.user_attrs and (search.name, trial.number) not in self._forgiven

    def _free(self, trial: FrozenTrial) -> None:
        """A claim that failed without a reason leaves its trial to the next one."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """A store that fails is an error in one line, without its password."""
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (StorageInternalError, SQLAlchemyError) as problem:
            raise RunError(
                f"the store of trials {hidden(self.url)} fails ({first_line(problem, self.url)}); "
                "the same command goes on"
            ) from None


def open_store(url: str, study: Path) -> TrialStore:
    """The store at ``url``, for the study in a folder.

    Raises:
        ConfigError: it cannot be reached, or is none.
    """
    place = f"{uuid.getnode()}:{study.resolve()}"
    return TrialStore(url, hashlib.sha256(place.encode()).hexdigest()[:16], connected(url))


def check_store(url: str, trials: int | None) -> None:
    """Refuse, before any work, a store that cannot be used, or without a use."""
    if trials is None:
        raise ConfigError("--storage is for the trials of --tune; add --tune, or drop it")
    connected(url)
