"""The two domains of a comparison: which images are on which side, and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medtl.data.case import Case, Cohort
from medtl.data.domain import Domain, select
from medtl.data.modality import Modality
from medtl.errors import ConfigError
from medtl.runtime.subset import stride

#: task name (None: the command's), folder (None: the command's) -> its cases
ReadCohort = Callable[[str | None, Path | None], Cohort]


@dataclass(frozen=True, slots=True)
class DomainCases:
    """A domain with its cases."""

    domain: Domain
    cohort: Cohort
    cases: tuple[Case, ...]

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return self.domain.modalities

    @property
    def root(self) -> Path:
        """One path for each data set, however it was spelt."""
        return Path(self.cohort.root).resolve()

    def named(self, modalities: tuple[Modality, ...], folders: int = 1) -> str:
        """``flair+t1ce``, or the selector where more than modalities tells the domain; of the data
        set's path the last ``folders``."""
        domain = replace(self.domain, modalities=modalities)
        if not (domain.data or domain.task or domain.sites or domain.part):
            return "+".join(modalities)
        data = Path(*self.root.parts[-folders:]) if domain.data else None
        return str(replace(domain, data=data))

    def patient(self, case: Case) -> str:
        """Patients of two data sets are different ones, whatever they are called."""
        return f"{self.root}:{case.patient}"

    def key(self, case: Case) -> str:
        return f"{self.root}:{case.id}"


def domain_names(
    source: DomainCases,
    target: DomainCases,
    ours: tuple[Modality, ...],
    theirs: tuple[Modality, ...],
) -> tuple[str, str]:
    """What the two ends of a comparison are called: with as many folders as tell them apart."""
    for folders in range(1, len(source.root.parts) + 1):
        names = source.named(ours, folders), target.named(theirs, folders)
        if names[0] != names[1]:
            break
    return names


def read_domain(domain: Domain, read: ReadCohort) -> DomainCases:
    """The cases of ``domain``; without modalities in its selector all that every case has.

    Raises:
        ConfigError: no case, or no modality that all cases have.
        DataError: a case lacks one of the domain's modalities.
    """
    cohort = read(domain.task, domain.data)
    cases = select(domain, cohort.cases)
    if not domain.modalities:
        shared = [name for name in cases[0].images if all(name in c.images for c in cases)]
        if not shared:
            raise ConfigError(f"domain {str(domain)!r}: its cases share no modality; name one")
        domain = replace(domain, modalities=tuple(shared))
    return DomainCases(domain, cohort, cases)


@dataclass(frozen=True, slots=True)
class Image:
    """One modality of one case, or all of a domain's modalities where features are joint."""

    case: Case
    patient: str
    key: str
    modalities: tuple[Modality, ...]
    in_source: bool
    in_target: bool
    group: str = ""  #: site or part, where these are compared


def check_groups(side: DomainCases, across: str) -> None:
    """Raises ConfigError for cases that name fewer than two sites or parts."""
    names = sorted({getattr(case, across) for case in side.cases} - {""})
    if len(names) < 2:
        named = f"{names[0]!r} alone" if names else f"no {across} at all"
        raise ConfigError(f"--across {across}: these cases name {named}; two or more are needed")


def check_apart(source: DomainCases, target: DomainCases) -> None:
    """Refuse domains of different cases that share images: those say nothing about a shift.

    Domains of the same cases (other modalities, or the very same) are fine.
    """
    ours = {source.key(case) for case in source.cases}
    theirs = {target.key(case) for case in target.cases}
    shared = ours & theirs
    if shared and ours != theirs and set(source.modalities) & set(target.modalities):
        raise ConfigError(
            f"{len(shared)} cases lie in both {source.domain} and {target.domain} with the same "
            "modality; choose domains that do not overlap"
        )


def images_of(
    source: DomainCases, target: DomainCases, *, joint: bool, across: str | None = None
) -> list[Image]:
    """Every image once, and on which sides it is, ordered by patient and modality.

    ``across`` ("site" or "part") names the group that each comes from.
    """
    found: dict[tuple[str, str, tuple[Modality, ...]], Image] = {}
    for side in (source, target):
        groups: Iterable[tuple[Modality, ...]]
        groups = [side.modalities] if joint else [(name,) for name in side.modalities]
        for case in side.cases:
            for modalities in groups:
                key = (side.patient(case), side.key(case), modalities)
                group = getattr(case, across) if across else ""
                image = found.get(key) or Image(case, *key, False, False, group)
                found[key] = replace(
                    image,
                    in_source=image.in_source or side is source,
                    in_target=image.in_target or side is target,
                )
    return [found[key] for key in sorted(found)]


def grid_cells(source: DomainCases, target: DomainCases) -> list[tuple[Modality, Modality]]:
    """Cells of the grid beside the pooled row: source by target modalities, or like with like where
    both sides have the same ones."""
    if set(source.modalities) == set(target.modalities):
        return [(name, name) for name in source.modalities] if len(source.modalities) > 1 else []
    cells = [(a, b) for a in source.modalities for b in target.modalities]
    return cells if len(cells) > 1 else []


def some_patients(images: Sequence[Image], most: int) -> list[Image]:
    """The images of at most ``most`` patients of each domain, evenly chosen."""
    chosen: set[str] = set()
    for side in ("in_source", "in_target"):
        patients = sorted({image.patient for image in images if getattr(image, side)})
        chosen.update(patients[:: stride(len(patients), most)])
    return [image for image in images if image.patient in chosen]
