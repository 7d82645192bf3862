"""Split the patients as the settings say: by a file, a fold, names or a fraction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from medtl.config import TrainConfig
from medtl.data.case import Case, Cohort
from medtl.data.domain import Domain, select
from medtl.data.splits import (
    Split,
    cases_of,
    draw_budget,
    fold_patients,
    is_plain,
    listed_fold,
    read_splits,
    split_patients,
)
from medtl.errors import ConfigError
from medtl.runtime.console import Reporter
from medtl.transfer.strategies.base import Request, Stage


def split_as_asked(config: TrainConfig, cohort: Cohort, reporter: Reporter) -> Split:
    """The split as asked for: the protocol's, a file's, one fold, named test cases, or a fraction.

    Raises ConfigError where a protocol's own test set or folds are contradicted, or none is named.
    """
    cases: Sequence[Case] = cohort.cases
    test: Sequence[str] | None = config.test_cases
    if cohort.test or cohort.folds:
        _check_protocol(config, cohort)
        test = cohort.test or None
    folded = config.folds is not None or config.fold is not None
    if folded and (test or config.test_fraction is not None):
        raise ConfigError("--fold says who is tested on; drop --test-cases and test_fraction")
    if config.splits is not None:
        if config.folds is not None:
            raise ConfigError("--splits has folds of its own: drop --folds, and name one by --fold")
        split = read_splits(config.splits, cases, fold=config.fold or 0)
        if not is_plain(config.splits):
            _check_tested(split, config, cohort)
            return split
        if cohort.test or cohort.folds:
            protocol = f"--protocol {config.protocol}"
            raise ConfigError(f"{protocol} says who is tested on; drop --splits, or the protocol")
        # nnU-Net's validation patients become the test set; others are held out to validate on.
        reporter.say(
            f"fold {config.fold or 0} of {config.splits.name}: its {len(split.val)} val patients "
            "are the locked test set"
        )
        test = split.val
        cases = cases_of((*split.train, *split.val), cases)
    elif config.folds is not None:
        if config.fold is None:
            last = config.folds - 1
            raise ConfigError(f"--folds {config.folds}: name one by --fold, from 0 to {last}")
        test = fold_patients(cases, folds=config.folds, fold=config.fold, seed=config.seed)
        reporter.say(f"fold {config.fold} of {config.folds} is the locked test set")
    elif config.fold is not None:
        test = listed_fold(cases, config.fold)
        sites = sorted({case.site for case in cases if case.patient in test})
        of = f", {sites[0]}," if len(sites) == 1 and sites[0] else ""
        whose = f"--protocol {config.protocol}" if cohort.folds else "the data's own list"
        reporter.say(f"fold {config.fold}{of} of {whose} is the locked test set")
    return split_patients(
        cases,
        test_fraction=config.test_fraction,
        val_fraction=config.val_fraction,
        seed=config.seed,
        test=test,
    )


def with_budget(split: Split, config: TrainConfig, target: Domain, cohort: Cohort) -> Split:
    """The split with the ``--train-patients`` of the target; that of a file is not kept.

    Raises:
        ConfigError: the target has fewer, or none of these has another class.
    """
    wanted = config.train_patients
    if wanted is None:
        return replace(split, budget=None)
    cases = [case for case in select(target, cohort.cases) if case.labelled]
    budget = draw_budget(split, cases, wanted, seed=config.seed)
    chosen = cases_of((*budget.train, *budget.val), cases)
    classes = {case.class_name for case in cases}
    if len(classes) > 1 and len({case.class_name for case in chosen}) == 1:
        raise ConfigError(
            f"--train-patients {wanted:g}: all of them are {chosen[0].class_name}; choose more"
        )
    return replace(split, budget=budget)


def sources_of(request: Request, stages: Sequence[Stage]) -> frozenset[Domain]:
    """The domains that a budget does not limit: the source, also in the target's channels."""
    beside = [stage.beside for stage in stages if stage.beside is not None]
    return frozenset({request.source, *beside} - {request.target})


def cases_for(
    sources: Collection[Domain], split: Split, domain: Domain, part: str, cases: Sequence[Case]
) -> tuple[Case, ...]:
    """The domain's cases of the patients in "train", "val" or "test".

    A budget limits every domain but ``sources``.
    """
    whole = part == "test" or domain in sources
    side = split if whole else split.budget or split
    return cases_of(getattr(side, part), select(domain, cases))


def _check_protocol(config: TrainConfig, cohort: Cohort) -> None:
    """Raises ConfigError where the settings choose other test patients, or no fold.

    A list of medtl's own may be that of a run that goes on; :func:`_check_tested` looks into it.
    """
    given = {
        "--test-cases": config.test_cases,
        "test_fraction": config.test_fraction,
        "--folds": config.folds,
        "--fold": config.fold if cohort.test else None,
    }
    protocol = f"--protocol {config.protocol}"
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{protocol} says who is tested on; drop {name}, or the protocol")
    if config.splits is not None:
        return
    if cohort.folds and config.fold is None:
        raise ConfigError(f"{protocol}: name one fold by --fold; there are {cohort.folds}")
    if cohort.folds and config.fold not in {case.fold for case in cohort.cases}:
        raise ConfigError(f"--fold {config.fold}: the folds of {protocol} are {cohort.folds}")


def _check_tested(split: Split, config: TrainConfig, cohort: Cohort) -> None:
    """Raises ConfigError where a list tests on others than the protocol does."""
    folds = {case.fold for case in cohort.cases if case.fold is not None} if cohort.folds else ()
    sets = [set(cohort.test)] if cohort.test else []
    sets += [set(listed_fold(cohort.cases, fold)) for fold in folds]
    seen = {*split.train, *split.val}
    if sets and not any(set(split.test) <= test and not test & seen for test in sets):
        raise ConfigError(
            f"{config.splits}: its test patients are not those of --protocol {config.protocol}; "
            "drop --splits, or the protocol"
        )
