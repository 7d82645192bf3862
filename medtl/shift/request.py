"""What the user asked ``medtl shift`` for, and the cohorts that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from medtl.case import Cohort
from medtl.catalog import Catalog
from medtl.console import Reporter
from medtl.domain import parse_domain
from medtl.errors import ConfigError, UnknownNameError
from medtl.files import from_home
from medtl.planning import read_cohort
from medtl.plugins import canonical
from medtl.shift.contract import Settings
from medtl.shift.sides import Side, check_apart, check_groups, read_side
from medtl.task import Defaults, Named, Task, Unbound, bound, check_modalities

PRIMARY = "mmd"
METRICS = ("mmd", "energy", "frechet", "coral", "sliced-wasserstein", "ks", "domain-auroc")
FEATURES = ("appearance",)
DRAWS = 999
FEWEST_DRAWS, MOST_DRAWS = 19, 100_000


@dataclass(frozen=True, slots=True)
class Request:
    """None: the task's or this module's default."""

    task: str = "brats"
    data: Path | None = None
    src: str | None = None
    dst: str | None = None
    across: str | None = None  #: "site" or "part": all of them, instead of two domains
    features: tuple[str, ...] = FEATURES
    metrics: tuple[str, ...] = METRICS
    settings: Settings = field(default_factory=Settings)
    draws: int = DRAWS
    rows_per_image: int | None = None
    labels: str | None = None
    attribute: bool = True  #: also say what kind of shift it is
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in asdict(self).items()}


def build_request(options: Mapping[str, Any]) -> Request:
    """A Request from words: its fields and those of Settings by name, lists perhaps as text with
    commas; None leaves the default.

    Raises:
        ConfigError: a name is unknown, or two options contradict each other.
    """
    given = {name: value for name, value in options.items() if value is not None}
    known = {each.name for each in fields(Request)} - {"settings"} | {"run", "layer"}
    for name in given:
        if name not in known:
            raise UnknownNameError("setting of medtl shift", name, known)
    for name in ("features", "metrics"):
        given[name] = _listed(given.get(name))
        if not given[name]:
            del given[name]
    run, layer = given.pop("run", None), given.pop("layer", None)
    if (run or layer) and "activations" not in map(canonical, given.get("features", ())):
        raise ConfigError("--run and --layer are for --features activations; add that")
    for name, least in (("draws", 1), ("rows_per_image", 1), ("seed", 0)):
        number = given.get(name, least)
        if not isinstance(number, int) or number < least:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: must be a whole number, {least} or more, not {number!r}")
    if "data" in given:
        given["data"] = from_home(given["data"])
    return Request(settings=Settings(from_home(run) if run else None, layer), **given)


def _listed(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(part.strip() for part in parts if part.strip())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, Path) else value


class Cohorts:
    """Cohorts by task and folder, each read once."""

    def __init__(self, request: Request, catalog: Catalog, reporter: Reporter) -> None:
        self.request, self.catalog, self.reporter = request, catalog, reporter
        self.cohorts: dict[tuple[str, Path | None], Cohort] = {}
        self.tasks: dict[str, Task] = {}

    def sides(self) -> tuple[Side, Side]:
        """Source and target; twice the same where its groups are compared with each other."""
        source, target = self.request.src, self.request.dst
        if self.request.across:
            if self.request.across not in ("site", "part"):
                raise ConfigError(f"--across {self.request.across}: use site or part")
            if target:
                raise ConfigError("--across compares all groups of --src; leave out --dst")
            source = target = source or self._defaults().src
        elif (source is None) != (target is None):
            raise ConfigError(f"name --{'src' if source is None else 'dst'}, too")
        source, target = source or self._defaults().src, target or self._defaults().dst
        domains = parse_domain(source), parse_domain(target)
        for domain in domains:
            folder = domain.data or self.request.data
            check_modalities(domain, self._task(domain.task or self.request.task, folder))
        if self.request.data is None and (domains[0].data is None) != (domains[1].data is None):
            raise ConfigError("--src or --dst names a data set and the other none; give both data=")
        first, second = (read_side(domain, self.read) for domain in domains)
        check_apart(first, second)
        if self.request.across:
            check_groups(first, self.request.across)
        return first, second

    def _defaults(self) -> Defaults:
        return self._task(self.request.task, self.request.data).defaults

    def regions(self) -> tuple[str, ...]:
        return next(iter(self.tasks.values())).regions

    def read(self, task: str | None, data: Path | None) -> Cohort:
        chosen = data or self.request.data
        key = (task or self.request.task, chosen.resolve() if chosen else None)
        if key not in self.cohorts:
            self.cohorts[key] = read_cohort(
                self._task(*key), key[1], self.reporter,
                labels=self.request.labels, need_target=False,
            )  # fmt: skip
        return self.cohorts[key]

    def _task(self, name: str, data: Path | None) -> Task:
        offered = self.catalog.tasks[name].load()()
        task = bound(offered, data, self.request.labels)
        if isinstance(offered, Unbound):  # by its own names: with the parts kept apart in training
            task = bound(offered, data, self.request.labels, cast(Named, task).names)
        self.tasks.setdefault(name, task)
        return task
