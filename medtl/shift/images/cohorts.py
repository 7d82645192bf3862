"""The cohorts and the two domains of a request."""

from __future__ import annotations

from pathlib import Path

from medtl.data.case import Cohort
from medtl.data.cohort import open_cohort, refuse_series
from medtl.data.dicom.files import looks_like_dicom
from medtl.data.domain import parse_domain
from medtl.data.modality import parse_series
from medtl.data.task import Defaults, Task, bound, check_modalities
from medtl.errors import ConfigError
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.files import real_path
from medtl.shift.images.domains import DomainCases, check_apart, check_groups, read_domain
from medtl.shift.request import ShiftRequest


class Cohorts:
    """Cohorts by task and folder, each read once."""

    def __init__(self, request: ShiftRequest, catalog: Catalog, reporter: Reporter) -> None:
        self.request, self.catalog, self.reporter = request, catalog, reporter
        self.cohorts: dict[tuple[str, Path | None], Cohort] = {}
        self.tasks: dict[tuple[str, Path | None], Task] = {}

    def domains(self) -> tuple[DomainCases, DomainCases]:
        """Source and target; the same domain twice for a comparison across its groups."""
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
        parsed = parse_domain(source), parse_domain(target)
        for domain in parsed:
            folder = domain.data or self.request.data
            check_modalities(domain, self._task(domain.task or self.request.task, folder))
        if self.request.data is None and (parsed[0].data is None) != (parsed[1].data is None):
            raise ConfigError("only one of --src and --dst names a data set; give both data=")
        if not any(self._series(each.data or self.request.data) for each in parsed):
            refuse_series(self.request.series)
        first, second = (read_domain(domain, self.read) for domain in parsed)
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
        key = (task or self.request.task, real_path(chosen) if chosen else None)
        if key not in self.cohorts:
            self.cohorts[key] = open_cohort(
                self._task(*key),
                key[1],
                self.reporter,
                series=self._series(key[1]),
                labels=self.request.labels,
                need_target=False,
            )
        return self.cohorts[key]

    def _series(self, data: Path | None) -> dict[str, str]:
        """Those that are named, of data in DICOM; none of other data, which are not looked into
        unless some are named."""
        named = self.request.series
        return parse_series(named) if named and data and looks_like_dicom(data) else {}

    def _task(self, name: str, data: Path | None) -> Task:
        key = (name, data)
        if key in self.tasks:
            return self.tasks[key]
        offered, ignored = self.catalog.tasks[name].load()(), self.request.ignore_column
        if isinstance(offered, Task):  # if not, bound says so
            offered = offered.for_images()
        series = self._series(data)
        task = bound(offered, data, self.request.labels, ignored=ignored, series=series)
        if task.names is not None:  # bind by its own names, with the parts of training
            task = bound(offered, data, self.request.labels, task.names, ignored, series)
        self.tasks[key] = task
        return task
