"""What a study compares: ``medtl compare``, or a YAML file of the same fields.

task: brats
strategies: [fine-tune, linear-probe]
budgets: [5, 10, all]
seeds: 3
primary: {strategy: fine-tune, budget: 5, output: WT}
settings: {src: "flair,t1ce", dst: "t1,t2", steps: 200}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from medtl.config import Natural, Patients, Positive, checked, read_settings
from medtl.errors import ConfigError, near_or_known, shown
from medtl.runtime.files import file_name, from_home, portable
from medtl.runtime.records import complaint
from medtl.study.sites.settings import check_sites_config
from medtl.transfer.strategies.base import CONTROL_B

#: All labelled target patients outside of the test set.
ALL: Literal["all"] = "all"

#: Strategies of the arms that every study has, where they are possible, and of the controls.
ADDED, SCRATCH = ("zero-shot", "joint"), "scratch"

SKIPPABLE = (*ADDED, CONTROL_B)

#: Settings of ``medtl train`` that only strategies have, not the controls.
OF_STRATEGIES = ("freeze", "depth", "initialiser", "alignment", "select_by")

#: Settings of how weights are trained, which a strategy may have for itself; so has a control.
OF_TRAINING = ("lr", "optimizer", "momentum", "weight_decay", "schedule", "warmup", "average")

#: The fewest and the most trials of an arm that is tuned.
FEWEST_TRIALS, MOST_TRIALS = 2, 1000

#: What the name of a tuned arm ends with.
TUNED = "-tuned"

#: Settings of how weights from outside are read.
OF_WEIGHTS = ("map", "allow_partial", "init_modalities", "weights", "weights_key")

#: Settings of ``medtl train`` that the study chooses for each run, and what says so, if anything.
CHOSEN = {
    "task": "task",
    "strategy": "strategies",
    "network": "networks",
    "init": "inits",
    "seed": "seeds",
    "train_patients": "budgets",
    "folds": "folds",
    "fold": "",
    "splits": "",
    "with_control": "",
    "skip_source": "",
    "out": "",
}


def _listed(value: Any) -> Any:
    """Text with commas is a list, too."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int | float | dict) else value


def _number(value: Any) -> Any:
    """Neither ``true``, nor anything else that is only nearly a number."""
    if isinstance(value, str) and value != ALL:
        return _as_number(value)
    return str(value) if isinstance(value, bool) else value


def _as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _spec(value: Any) -> Any:
    return {"strategy": value} if isinstance(value, str) else value


class ArmSpec(BaseModel):
    """A strategy to compare, with settings of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str
    name: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name in tables and folders."""
        return self.name or self.strategy.rpartition(":")[2]


class Primary(BaseModel):
    """The comparison that the study was made for; it is judged alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    strategy: str
    budget: str = ALL
    output: str
    network: str = ""


#: Labelled target patients: a number, a share below 1, or all outside of the test set.
Budget = Annotated[Patients | Literal["all"], BeforeValidator(_number)]

Specs = Annotated[tuple[Annotated[ArmSpec, BeforeValidator(_spec)], ...], BeforeValidator(_listed)]

Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class StudyConfig(BaseModel):
    """Every setting of a study but where it lies and how it is carried out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str = ""
    strategies: Specs = ()
    networks: Texts = ()
    inits: Texts = ()
    budgets: Annotated[tuple[Budget, ...], BeforeValidator(_listed), Field(min_length=1)] = (ALL,)
    seeds: Annotated[Natural, Field(le=100)] = 3
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    leave_site_out: bool = False  #: every site is the target in turn
    skip: Texts = ()  #: of the arms that are added: SKIPPABLE
    margin: Annotated[Positive, Field(lt=1)] | None = None
    target: Annotated[Positive, Field(lt=1)] | None = None  #: validation score to reach
    tune: Annotated[int, Field(ge=FEWEST_TRIALS, le=MOST_TRIALS)] | None = None  #: trials per arm
    primary: Primary | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


def resolve_study(file: Path | None, options: Mapping[str, Any]) -> StudyConfig:
    """The study of a file, with ``options`` over it; an option that is None was not given.

    Raises:
        ConfigError: a setting is unknown or cannot be used, or two contradict each other.
    """
    values: dict[str, Any] = dict(read_settings(file)) if file else {}
    given = {name: value for name, value in options.items() if value is not None}
    if empty := next((name for name in given if given[name] == "" and name != "task"), None):
        raise ConfigError(f"--{empty}: is empty; name one or more, or drop it")
    below = values.get("settings") or {}
    if isinstance(below, dict):
        values["settings"] = {**below, **given.pop("settings", {})}
    values |= given
    try:
        config = StudyConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, file)) from error
    _check(config, file)
    return config.model_copy(update={"settings": _placed(config.settings)})


def _placed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with whole paths: a study may be gone on with from another folder."""
    paths = {name: settings[name] for name in ("data", "groups") if settings.get(name)}
    return {**settings, **{name: portable(from_home(path)) for name, path in paths.items()}}


def _explain(error: ValidationError, file: Path | None) -> str:
    first = error.errors()[0]
    where, place = f"{file}: " if file else "", [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        kinds: dict[str, type[BaseModel]] = {"strategies": ArmSpec, "primary": Primary}
        kind = StudyConfig if len(place) == 1 else kinds[place[0]]
        known = near_or_known(place[-1], kind.model_fields)
        of_what = "a study" if len(place) == 1 else ".".join(place[:-1])
        return f"{where}there is no setting {shown(place[-1])} of {of_what}; {known}"
    if place[0] == "budgets":
        given = first["input"]
        said = f"{given:g}" if isinstance(given, int | float) else shown(given)
        known = "a whole number of patients above 0, a share below 1, or all"
        return f"{where}budgets: {said} is none; give {known}"
    if first["type"] == "model_type":
        return f"{where}{'.'.join(place)}: must be lines of settings, not {shown(first['input'])}"
    return f"{where}{complaint(first)}"


def _check(config: StudyConfig, file: Path | None) -> None:
    if not config.task:
        if file:
            raise ConfigError(f"{file}: names no task; add one, such as `task: brats`")
        raise ConfigError("name a task, for example medtl compare brats; see medtl list tasks")
    _check_settings(config)
    if config.leave_site_out:
        check_sites_config(dict(config))
    for name in config.skip:
        if name not in SKIPPABLE:
            raise ConfigError(f"skip {name}: no such arm is added; known: {', '.join(SKIPPABLE)}")
    labels = [spec.label for spec in config.strategies]
    budgets = [*map(budget_name, config.budgets)]
    rename = ", or give it a `name`"
    for what, names, how in (("strategy", labels, rename), ("budget", budgets, "")):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"{what} {twice} is named twice; drop one{how}")
    for spec in config.strategies:
        _check_spec(config, spec)
    primary = config.primary
    # Several --inits make several arms of a strategy, which only the plan knows.
    if config.tune:
        labels += [f"{label}{TUNED}" for label in labels]
    if primary and len(config.inits) < 2 and primary.strategy not in labels:
        known = near_or_known(primary.strategy, labels)
        raise ConfigError(f"primary: no strategy of the study is {primary.strategy!r}; {known}")
    if primary and primary.budget not in budgets:
        raise ConfigError(
            f"primary: budget {primary.budget} is none of the study's: {', '.join(budgets)}"
        )


def _check_settings(config: StudyConfig) -> None:
    """The settings that all arms have."""
    for name in CHOSEN:
        if name in config.settings:
            how = f"use {CHOSEN[name]}" if CHOSEN[name] else "drop it"
            raise ConfigError(f"settings.{name}: the study chooses it for each run; {how}")
    for name in OF_STRATEGIES:
        if name in config.settings:
            raise ConfigError(
                f"settings.{name}: the controls have none; give it to a strategy, for example "
                f"strategies: [{{strategy: fine-tune, settings: {{{name}: ...}}}}]"
            )
    checked({**config.settings, "task": config.task})


def _check_spec(config: StudyConfig, spec: ArmSpec) -> None:
    """A strategy, its name and its own settings."""
    strategy, label = spec.strategy.rpartition(":")[2], spec.label
    if strategy.lower() == SCRATCH:
        raise ConfigError("strategy scratch is a control, which every study has; drop it")
    if file_name(label) != label:
        raise ConfigError(f"strategy {label!r}: this name cannot be that of a folder")
    own = (*OF_STRATEGIES, *OF_TRAINING, *OF_WEIGHTS)
    for name in spec.settings:
        if name not in own:
            raise ConfigError(
                f"strategy {label}: {name} is the same in all arms; give it in the study's own "
                f"settings. A strategy may have {', '.join(own)}"
            )
    if label.startswith(("control-", "source")) or (label in ADDED and strategy != label):
        raise ConfigError(
            f"strategy {spec.strategy}: {label} names another arm; give another `name`"
        )
    try:
        checked(
            {**config.settings, **spec.settings, "task": config.task, "strategy": spec.strategy}
        )
    except ConfigError as problem:
        raise ConfigError(f"strategy {label}: {problem}") from problem


def budget_name(budget: Budget) -> str:
    """As tables and folders have it: ``5``, ``0.25`` or ``all``."""
    return budget if isinstance(budget, str) else f"{budget:g}"


def in_order(budgets: Sequence[Budget]) -> list[Budget]:
    """Smallest first; shares come after counts, ``all`` is the last."""

    def size(budget: Budget) -> tuple[int, float]:
        if isinstance(budget, str):
            return 2, 0
        return (1, budget) if budget < 1 else (0, budget)

    return sorted(budgets, key=size)
