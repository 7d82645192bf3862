"""Which patients of source and target train, validate and test when a site is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medtl.data.case import Case
from medtl.data.splits import Split, split_patients
from medtl.errors import ConfigError, DataError

#: With fewer sites there is no table of sites.
FEWEST_SITES = 3

#: The share of a site's patients who are tested; the others give unlabelled images.
TESTED = 0.5


@dataclass(frozen=True, slots=True)
class SiteSplit:
    """A site that is left out. ``split``: of all sites together, the target's among them."""

    site: str
    split: Split
    patients: frozenset[str]  #: of the site

    @property
    def tested(self) -> tuple[str, ...]:
        return tuple(p for p in self.split.test if p in self.patients)

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """The patients whose images an arm may see, without labels."""
        return tuple(p for p in self.split.train if p in self.patients)


def sites_of(cases: Iterable[Case]) -> tuple[str, ...]:
    """The sites, sorted.

    Raises:
        ConfigError: fewer than three, or a name that no domain can have.
        DataError: a case without a site, or a patient of two sites.
    """
    cases = tuple(cases)
    bare = [case.id for case in cases if not case.site]
    if bare:
        raise DataError(
            f"--leave-site-out: {len(bare)} of {len(cases)} cases ({bare[0]}, ...) have no site; "
            "name the site of every case, for example in a column `site` of the table"
        )
    home: dict[str, str] = {}
    for case in cases:
        if home.setdefault(case.patient, case.site) != case.site:
            raise DataError(
                f"--leave-site-out: patient {case.patient} has cases of the sites "
                f"{home[case.patient]} and {case.site}; leave one of them out"
            )
    sites = sorted(set(home.values()))
    for site in sites:
        if "+" in site or sum(site.casefold() == other.casefold() for other in sites) > 1:
            raise ConfigError(
                f"--leave-site-out: site {site!r} cannot be told from others in a domain; rename it"
            )
    if len(sites) < FEWEST_SITES:
        other = [*sites, "B"][1]
        raise ConfigError(
            f"--leave-site-out needs {FEWEST_SITES} sites or more, and there are "
            f"{', '.join(sites)}; compare these by --src site:{sites[0]} --dst site:{other}"
        )
    return tuple(sites)


def divided(
    cases: Sequence[Case],
    site: str,
    *,
    seed: int,
    test_fraction: float | None = None,
    val_fraction: float | None = None,
) -> SiteSplit:
    """Leave ``site`` out: half of its patients are tested, and one of them at least.

    Of the source, patients are held out to test and to validate on as in any run of training.

    Raises:
        ConfigError: the source has too few patients.
    """
    own = [case for case in cases if case.site == site]
    others = [case for case in cases if case.site != site]
    source = split_patients(
        others, seed=seed, test_fraction=test_fraction, val_fraction=val_fraction
    )
    patients = frozenset(case.patient for case in own)
    test: tuple[str, ...] = tuple(patients)
    unlabelled: tuple[str, ...] = ()
    if len(patients) > 1:
        half = split_patients(own, seed=seed, test_fraction=TESTED, val_fraction=0.0)
        test, unlabelled = half.test, half.train
    split = Split(
        train=tuple(sorted((*source.train, *unlabelled))),
        val=source.val,
        test=tuple(sorted((*source.test, *test))),
    )
    return SiteSplit(site, split, patients)
