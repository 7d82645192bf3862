"""Splits by patient: stratified, seeded, and readable as nnU-Net's ``splits_final.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl.data.case import Case
from medtl.errors import ConfigError, RunError, nearest
from medtl.runtime.files import read_regular, replacing

if TYPE_CHECKING:
    from medtl.runtime.records import SplitFold

PARTS = ("train", "val", "test")


#: A file of splits of a million cases is smaller.
MOST_BYTES = 512_000_000


TEST_FRACTION = 0.2


VAL_FRACTION = 0.2


#: Intervals are bootstrapped from this many patients on (``medtl.evaluation.intervals``).
FEWEST_FOR_BOOTSTRAP = 20


#: With fewer patients than this outside the test set, there is no validation by default.
MIN_PATIENTS_FOR_VALIDATION = 10


@dataclass(frozen=True, slots=True)
class Budget:
    """The labelled patients of the target that may be used, if not all: ids, sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.train) + len(self.val)


@dataclass(frozen=True, slots=True)
class Split:
    """Patient ids, sorted. Raises ConfigError for a patient in two parts.

    ``budget``: the part of ``train`` and ``val`` that stages on the target are limited to.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    budget: Budget | None = None

    def __post_init__(self) -> None:
        sides = (("train", self.train), ("val", self.val), ("test", self.test))
        seen: dict[str, str] = {}
        for side, patients in sides:
            for patient in patients:
                if patient in seen:
                    where = f"{seen[patient]} and {side}" if seen[patient] != side else side
                    raise ConfigError(f"patient {patient} is in {where} of the split; keep one")
                seen[patient] = side


def cases_of(patients: Iterable[str], cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases of these patients, in the order of ``cases``."""
    wanted = set(patients)
    return tuple(case for case in cases if case.patient in wanted)


def split_patients(
    cases: Iterable[Case],
    *,
    seed: int,
    test_fraction: float | None = None,
    val_fraction: float | None = None,
    test: Iterable[str] | None = None,
) -> Split:
    """Split by patient, balanced over strata, and over sites within them.

    The result depends on the patients and the seed, not on the order of the cases. At least one
    patient remains for training.

    Args:
        test: the test patients (or any of their cases), instead of a fraction.
        val_fraction: of the patients outside the test set. None: no validation if they are fewer
            than ``MIN_PATIENTS_FOR_VALIDATION``.

    Raises:
        ConfigError: too few patients, a fraction outside [0, 1), or an unknown test patient.
    """
    cases = tuple(cases)
    groups = strata_and_sites(cases)
    if test is None:
        held = _spread(groups, _test_count(len(groups), test_fraction), f"{seed}:test")
    else:
        held = _named_patients(test, cases)
    rest = {patient: group for patient, group in groups.items() if patient not in held}
    if not rest:
        raise ConfigError(
            f"all {len(groups)} patients are test patients; none is left to train on; choose fewer"
        )
    if val_fraction is None:
        val_fraction = VAL_FRACTION if len(rest) >= MIN_PATIENTS_FOR_VALIDATION else 0.0
    n_val = _count(len(rest), val_fraction, "val")
    val = _spread(rest, n_val, f"{seed}:val")
    return Split(
        train=tuple(sorted(set(rest) - val)), val=tuple(sorted(val)), test=tuple(sorted(held))
    )


def fold_patients(cases: Iterable[Case], *, folds: int, fold: int, seed: int) -> tuple[str, ...]:
    """The patients of one of ``folds`` parts, balanced over strata, and over sites within them.

    Every patient is in exactly one part. The parts depend only on the patients and the seed.

    Raises:
        ConfigError: fewer patients than folds, or no such fold.
    """
    groups = strata_and_sites(cases)
    if not 0 <= fold < folds:
        raise ConfigError(f"--fold {fold}: the {folds} folds are numbered from 0 to {folds - 1}")
    if len(groups) < folds:
        raise ConfigError(
            f"{len(groups)} patients cannot be divided into {folds} folds; choose fewer"
        )
    return tuple(sorted(_ordered(groups, f"{seed}:folds")[fold::folds]))


def listed_fold(cases: Iterable[Case], fold: int) -> tuple[str, ...]:
    """The patients of ``fold`` in the data set's own list.

    Raises:
        ConfigError: the list has no folds, or not this one, or has a patient in two of them.
    """
    folds: dict[str, int | None] = {}
    for case in cases:
        if folds.setdefault(case.patient, case.fold) != case.fold:
            raise ConfigError(
                f"the data's own list puts patient {case.patient} into two folds; keep one"
            )
    known = sorted({number for number in folds.values() if number is not None})
    if not known:
        raise ConfigError(
            f"--fold {fold}: the number of folds is open; add --folds 5, or --splits FILE"
        )
    if fold not in known:
        listed = ", ".join(map(str, known))
        raise ConfigError(f"--fold {fold}: the data's own list has folds {listed}")
    return tuple(sorted(patient for patient, number in folds.items() if number == fold))


def draw_budget(split: Split, cases: Iterable[Case], wanted: float, *, seed: int) -> Budget:
    """``wanted`` of the patients outside of the test set: a count, or a share below 1.

    Budgets of one seed are nested: the patients of a smaller one are among those of a larger one,
    in training and in validation. Each is balanced over strata and sites. There is no validation in
    budgets of fewer than ``MIN_PATIENTS_FOR_VALIDATION`` patients.

    Args:
        cases: the labelled ones of the target.

    Raises:
        ConfigError: the target has fewer patients.
    """
    groups = strata_and_sites(cases)
    sides = [
        _balanced({p: groups[p] for p in side if p in groups}, f"{seed}:budget:{name}")
        for name, side in (("train", split.train), ("val", split.val))
    ]
    train, val = sides
    total = len(train) + len(val)
    count = max(1, floor(wanted * total + 0.5)) if wanted < 1 else int(wanted)
    if not total or count > total:
        raise ConfigError(
            f"--train-patients {wanted:g}: the target has {total} labelled patients outside of the "
            "test set; choose fewer"
        )
    at_most = max(0, count - (MIN_PATIENTS_FOR_VALIDATION - 1))
    for_val = max(count - len(train), min(floor(count * len(val) / total + 0.5), at_most))
    chosen = train[: count - for_val], val[:for_val]
    return Budget(*(tuple(sorted(side)) for side in chosen))


def _balanced(groups: Mapping[str, tuple[str, ...]], key: str) -> list[str]:
    """Order the patients so that the first N hold each group's share, for every N."""
    sizes = Counter(groups.values())
    taken: Counter[tuple[str, ...]] = Counter()
    places = {}
    for patient in _ordered(groups, key):
        group = groups[patient]
        places[patient] = (taken[group] + 0.5) / sizes[group]
        taken[group] += 1
    return sorted(groups, key=lambda patient: (places[patient], _draw(f"{key}:{patient}")))


def _test_count(patients: int, fraction: float | None) -> int:
    """By default 20%, and enough for a bootstrap if that leaves two thirds to train on."""
    if fraction is not None:
        return _count(patients, fraction, "test")
    few = FEWEST_FOR_BOOTSTRAP if patients >= 3 * FEWEST_FOR_BOOTSTRAP else 0
    return max(_count(patients, TEST_FRACTION, "test"), few)


def strata_and_sites(cases: Iterable[Case]) -> dict[str, tuple[str, ...]]:
    """Patient -> its stratum and its site, several joined by "+"; splits are balanced over both."""
    strata: dict[str, set[str]] = {}
    sites: dict[str, set[str]] = {}
    for case in cases:
        strata.setdefault(case.patient, set()).add(case.stratum)
        sites.setdefault(case.patient, set()).add(case.site)
    return {
        patient: ("+".join(sorted(s)), "+".join(sorted(sites[patient])))
        for patient, s in strata.items()
    }


def _count(patients: int, fraction: float, side: str) -> int:
    """A positive fraction gives at least one patient, and leaves at least one."""
    if not 0 <= fraction < 1:
        raise ConfigError(f"{side}_fraction is {fraction:g}; it must be at least 0 and below 1")
    if fraction and patients < 2:
        raise ConfigError(
            f"{patients} patient(s) cannot be divided; give more, or set {side}_fraction to 0"
        )
    return min(max(1, floor(patients * fraction + 0.5)), patients - 1) if fraction else 0


def _spread(groups: Mapping[str, tuple[str, ...]], count: int, key: str) -> set[str]:
    """Systematic sampling: every n-th patient after sorting by group, at random within a group.

    So each stratum, and each site within it, contributes its share to within one patient.
    """
    if not count:
        return set()
    ordered = _ordered(groups, key)
    start = _draw(key)
    marks = [floor(i * count / len(ordered) + start) for i in range(len(ordered) + 1)]
    return {patient for i, patient in enumerate(ordered) if marks[i + 1] > marks[i]}


def _ordered(groups: Mapping[str, tuple[str, ...]], key: str) -> list[str]:
    """Patients by group, at random within a group."""
    draws = {patient: _draw(f"{key}:{patient}") for patient in groups}
    return sorted(groups, key=lambda patient: (groups[patient], draws[patient], patient))


def _draw(key: str) -> float:
    """A number in [0, 1) that depends only on the key, on every machine."""
    return int.from_bytes(sha256(key.encode()).digest()[:6], "big") / 2**48


def _named_patients(names: Iterable[str], cases: Sequence[Case]) -> set[str]:
    known = {case.id: case.patient for case in cases}
    known |= {case.patient: case.patient for case in cases}
    names = list(names)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--test-cases: no patient or case is called {name!r}{nearest(name, known)}"
            )
    return {known[name] for name in names}


def listed(split: Split, cases: Iterable[Case]) -> dict[str, Any]:
    """Case ids per part, the patients of the budget, and the patient of each case."""
    cases = sorted(cases, key=lambda case: case.id)
    fold: dict[str, Any] = {
        side: [case.id for case in cases_of(getattr(split, side), cases)] for side in PARTS
    }
    if split.budget is not None:
        fold["budget"] = asdict(split.budget)
    return fold | {"patients": {case.id: case.patient for case in cases}}


def write_splits(path: Path, split: Split, cases: Iterable[Case]) -> None:
    """Write case ids per part as nnU-Net does (one fold), with test cases and patients."""
    with replacing(path) as temporary:
        text = json.dumps([listed(split, cases)], indent=1) + "\n"
        temporary.write_text(text, encoding="utf-8", newline="")


def read_splits(path: Path, cases: Iterable[Case] = (), *, fold: int = 0) -> Split:
    """Read one fold of :func:`write_splits` or of a plain nnU-Net ``splits_final.json``.

    A plain file has no patients, so they are looked up in ``cases``. Cases that the file does not
    list are in no part.

    Raises:
        ConfigError: the file is unreadable, lists a case that is not among ``cases``, or has a
            patient in two parts.
    """
    content = read_fold(path, fold)
    patients = {case.id: case.patient for case in cases} or content.patients
    sides = {}
    for side in PARTS:
        ids = getattr(content, side) or ()
        unknown = [name for name in ids if name not in patients]
        if unknown:
            raise ConfigError(
                f"{path}: case {unknown[0]!r} in {side!r} is not among the cases; is it the list "
                "of these data?"
            )
        sides[side] = tuple(sorted({patients[name] for name in ids}))
    kept = content.budget
    budget = Budget(kept.train, kept.val) if kept else None
    if budget and not {*budget.train, *budget.val} <= {*sides["train"], *sides["val"]}:
        raise ConfigError(f"{path}: its budget has patients that are in neither train nor val")
    try:
        return Split(**sides, budget=budget)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def is_plain(path: Path) -> bool:
    """Whether a file of splits is nnU-Net's own, which lists no test cases."""
    return read_fold(path, 0).test is None


def read_run_fold(path: Path) -> SplitFold:
    """The split that a run keeps. Raises RunError where it is damaged."""
    try:
        return read_fold(path, 0)
    except ConfigError as error:
        raise RunError(f"{error}; the run is damaged") from error


def read_fold(path: Path, fold: int) -> SplitFold:
    """One fold of a file of splits.

    Raises:
        ConfigError: the file is unreadable, or has no such fold, or nobody to train on in it.
    """
    from medtl.runtime.records import (  # pydantic is slow to import
        FOLDS,
        checked,
        parse_json,
    )

    try:
        content = parse_json(read_regular(path, MOST_BYTES))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror or error}); fetch it again, or name another"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON ({error}); correct it") from error
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ConfigError(f'{path}: must be a list of {{"train": [...], "val": [...]}}')
    try:
        folds = checked(FOLDS, content, path)
    except RunError as error:
        raise ConfigError(str(error)) from error
    if not 0 <= fold < len(folds):
        raise ConfigError(f"{path}: has {len(folds)} folds, numbered from 0; there is no {fold}")
    if not folds[fold].train:
        raise ConfigError(f"{path}: fold {fold} has no training cases; choose another --fold")
    return folds[fold]
