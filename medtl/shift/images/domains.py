"""The two domains of a comparison: their cases, images and patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medtl.data.case import Case, Cohort
from medtl.data.domain import Domain, select
from medtl.data.modality import Modality
from medtl.data.subset import stride
from medtl.errors import ConfigError
from medtl.runtime.files import real_path

#: task name, folder (None: those of the command) -> the cohort
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
        """The data set's absolute path, however it was written."""
        return real_path(self.cohort.root)

    def named(self, modalities: tuple[Modality, ...], folders: int = 1) -> str:
        """``flair+t1ce``, or the whole selector if it selects by more than modalities.

        A data set is named by the last ``folders`` parts of its path.
        """
        domain = replace(self.domain, modalities=modalities)
        if not (domain.data or domain.task or domain.sites or domain.part):
            return "+".join(modalities)
        data = Path(*self.root.parts[-folders:]) if domain.data else None
        return str(replace(domain, data=data))

    def patient(self, case: Case) -> str:
        """A unique name: equal patient names of two data sets are different patients."""
        return f"{self.root}:{case.patient}"

    def key(self, case: Case) -> str:
        return f"{self.root}:{case.id}"


def domain_names(
    source: DomainCases,
    target: DomainCases,
    ours: tuple[Modality, ...],
    theirs: tuple[Modality, ...],
) -> tuple[str, str]:
    """Names of source and target, with the fewest folders that make them different."""
    for folders in range(1, len(source.root.parts) + 1):
        names = source.named(ours, folders), target.named(theirs, folders)
        if names[0] != names[1]:
            break
    return names


def read_domain(domain: Domain, read: ReadCohort) -> DomainCases:
    """The cases of ``domain``; if it names no modalities, it has those that all its cases share.

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
    """One modality of a case, or all of a domain's modalities for joint features."""

    case: Case
    patient: str
    key: str
    modalities: tuple[Modality, ...]
    in_source: bool
    in_target: bool
    group: str = ""  #: site or part, if groups are compared


def check_groups(domain: DomainCases, across: str) -> None:
    """Raises ConfigError if the cases have fewer than two sites or parts."""
    names = sorted({getattr(case, across) for case in domain.cases} - {""})
    if len(names) < 2:
        known = f"only {across} {names[0]!r}" if names else f"no {across}"
        raise ConfigError(f"--across {across}: the cases have {known}; it needs two or more")


def check_apart(source: DomainCases, target: DomainCases) -> None:
    """Raises ConfigError for domains that overlap in part: shared images hide a shift.

    Domains of the same cases are allowed.
    """
    ours = {source.key(case) for case in source.cases}
    theirs = {target.key(case) for case in target.cases}
    shared = ours & theirs
    if shared and ours != theirs and set(source.modalities) & set(target.modalities):
        raise ConfigError(
            f"{len(shared)} cases are in both {source.domain} and {target.domain} with the same "
            "modality; choose domains that do not overlap"
        )


def images_of(
    source: DomainCases, target: DomainCases, *, joint: bool, across: str | None = None
) -> list[Image]:
    """Every image once, with the domains it is in, ordered by patient and modality.

    Args:
        joint: one image holds all modalities of a case.
        across: "site" or "part": also record each image's group.
    """
    images: dict[tuple[str, str, tuple[Modality, ...]], Image] = {}
    for domain in (source, target):
        groups = [domain.modalities] if joint else [(name,) for name in domain.modalities]
        for case in domain.cases:
            for modalities in groups:
                key = (domain.patient(case), domain.key(case), modalities)
                group = getattr(case, across) if across else ""
                image = images.get(key) or Image(case, *key, False, False, group)
                images[key] = replace(
                    image,
                    in_source=image.in_source or domain is source,
                    in_target=image.in_target or domain is target,
                )
    return [images[key] for key in sorted(images)]


def grid_cells(source: DomainCases, target: DomainCases) -> list[tuple[Modality, Modality]]:
    """The pairs of modalities to compare separately.

    These are all source with all target modalities, or each modality with itself if both domains
    have the same ones; empty for a single pair.
    """
    if set(source.modalities) == set(target.modalities):
        return [(name, name) for name in source.modalities] if len(source.modalities) > 1 else []
    cells = [(a, b) for a in source.modalities for b in target.modalities]
    return cells if len(cells) > 1 else []


def some_patients(images: Sequence[Image], most: int) -> list[Image]:
    """The images of at most ``most`` evenly spaced patients of each domain."""
    chosen: set[str] = set()
    for domain in ("in_source", "in_target"):
        patients = sorted({image.patient for image in images if getattr(image, domain)})
        chosen.update(patients[:: stride(len(patients), most)])
    return [image for image in images if image.patient in chosen]
