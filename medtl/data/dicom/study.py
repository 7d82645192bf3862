"""Which series of a study show the modalities that are asked for.

Studies and patients bear made-up names, always the same for the same study or patient.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medtl.data.dicom.contrasts import NEITHER, contrast_of
from medtl.data.dicom.series import LEAST_SLICES, Found, Series, without_names
from medtl.data.dicom.stacks import Stack
from medtl.data.modality import CANONICAL, Modality
from medtl.errors import DataError, shortened


@dataclass(frozen=True, slots=True)
class Chosen:
    """The volume of a series that shows a modality."""

    series: Series
    stack: Stack


@dataclass(frozen=True, slots=True)
class Study:
    """A study by made-up names: its images, and why other series were set aside."""

    id: str
    patient: str
    images: Mapping[Modality, Chosen]
    set_aside: tuple[str, ...]
    unknown: bool  #: whether it has series of which nothing says what they show
    segmentations: tuple[Series, ...] = ()  #: series of SEG files
    grids: tuple[Chosen, ...] = ()  #: of all its images
    named: bool = True  #: whether a header says whose it is


def read_studies(
    found: Found, wanted: Sequence[str], named: Mapping[str, str] | None = None
) -> tuple[list[Study], dict[str, str]]:
    """Every study, with those of the ``wanted`` modalities that its series show.

    Args:
        named: modality -> description of its series, ``*`` for any characters.

    Returns:
        the studies, and by name why others cannot be used: two series show one modality, or a
        description fits none.
    """
    groups: dict[str, list[Series]] = defaultdict(list)
    for series in found.series:
        groups[series.origin.of_study].append(series)
    patients = made_up_patients(found)
    studies, failed = [], {}
    for those in groups.values():
        name = made_up("study", uid_of(those[0]))
        try:
            studies.append(_study(name, those, wanted, named or {}, patients))
        except DataError as error:
            failed[name] = str(error)
    return sorted(studies, key=lambda study: study.id), failed


def made_up(kind: str, uid: str) -> str:
    """A name that does not tell the identifier it stands for."""
    return f"{kind}-{hashlib.blake2b(uid.encode(), digest_size=6).hexdigest()}"


def made_up_patients(found: Found) -> dict[str, str]:
    """UID of each study -> a name for its patient.

    It is made of the UID of one of the patient's studies, as a hash of a number could be guessed.
    """
    patient_of = {uid_of(series): uid_of(series) for series in found.series}
    for series in found.series:  # a segmentation may not say whose it is
        if series.origin.patient:
            patient_of[uid_of(series)] = series.origin.patient
    studies_of: dict[str, set[str]] = defaultdict(set)
    for uid, patient in patient_of.items():
        studies_of[patient].add(uid)
    return {uid: made_up("patient", min(studies_of[own])) for uid, own in patient_of.items()}


def uid_of(series: Series) -> str:
    """The UID of its study, or the series' own."""
    return series.origin.study or series.origin.series


def _study(
    name: str,
    group: Sequence[Series],
    wanted: Sequence[str],
    named: Mapping[str, str],
    patients: Mapping[str, str],
) -> Study:
    patient = {series.origin.patient for series in group} - {""}
    if len(patient) > 1:
        raise DataError(f"{name}: holds series of several patients; part them")
    aside: list[str] = []
    words = tuple(sorted({word for series in group for word in series.origin.names}))
    segmentations = tuple(
        replace(each, origin=replace(each.origin, names=words))
        for each in group
        if each.is_segmentation
    )
    usable = []
    for series in (each for each in group if not each.is_segmentation):
        if why := _unusable(series):
            aside.append(f"{series.description}: {why}")
        else:
            usable.append(series)
    shown = _shown(usable, wanted, named, aside, name)
    images = {m: _only(shown[m], m, name) for m in map(Modality, wanted) if m in shown}
    return Study(
        name,
        patients[uid_of(group[0])],
        images,
        tuple(aside),
        any(NEITHER in text for text in aside),
        segmentations,
        tuple(Chosen(series, stack) for series in usable for stack in series.stacks),
        bool(patient),
    )


def usual_contrasts(studies: Sequence[Study]) -> tuple[Modality, ...]:
    """The modalities that half of the studies or more show; of those with segmentations where there
    are any."""
    counted = [study for study in studies if study.segmentations] or list(studies)
    count = Counter(name for study in counted for name in study.images)
    return tuple(sorted(name for name, number in count.items() if 2 * number >= len(counted)))


def _unusable(series: Series) -> str:
    if series.problem:
        return without_names(series.problem, series.origin.names)
    longest = max(len(stack.frames) for stack in series.stacks)
    if longest < LEAST_SLICES:
        return f"has {longest} slice{'s' if longest > 1 else ''}"
    return ""


def _shown(
    usable: Sequence[Series],
    wanted: Sequence[str],
    named: Mapping[str, str],
    aside: list[str],
    study: str,
) -> dict[Modality, list[Series]]:
    """The series that may show each modality."""
    candidates: dict[Modality, list[Series]] = defaultdict(list)
    left = list(usable)
    for modality, pattern in named.items():
        fitting = [series for series in usable if _fits(series, pattern)]
        if not fitting:
            raise DataError(
                f"{study}: no series fits --series {modality}={pattern}; there are "
                f"{shortened([series.description for series in usable], 12)}"
            )
        candidates[Modality(modality)] = fitting
        left = [series for series in left if series not in fitting]
    open_to = [name for name in wanted if name not in named]
    for series in left:
        modality, why = _by_header(series, open_to, left)
        if modality:
            candidates[Modality(modality)].append(series)
        else:
            aside.append(f"{series.description}: {why}")
    return candidates


def _by_header(series: Series, wanted: Sequence[str], others: Sequence[Series]) -> tuple[str, str]:
    """The wanted modality that a series shows, or "" and why it shows none."""
    kind = series.acquisition.modality.lower()
    for name in wanted:
        if kind in (name, {"pet": "pt"}.get(name)):
            return name, ""
    if set(wanted) & set(CANONICAL):
        name, why = contrast_of(series.acquisition)
        if name and name not in wanted:
            return "", f"shows {name}, which is not needed"
        return name, why
    if len(wanted) == 1 and len(others) == 1:
        return wanted[0], ""
    return "", NEITHER


def _fits(series: Series, pattern: str) -> bool:
    words = ".*".join(map(re.escape, pattern.lower().split("*")))
    return re.fullmatch(words, series.description.lower()) is not None


def _only(candidates: Sequence[Series], modality: str, study: str) -> Chosen:
    """The one series of a modality; an original comes before what was derived from it."""
    originals = [each for each in candidates if "DERIVED" not in each.acquisition.image_type]
    left = originals or list(candidates)
    stacks = [stack for series in left for stack in series.stacks]
    if len(stacks) > 1:
        names = shortened([series.description for series in left], 12)
        what = f"{names} all show" if len(left) > 1 else f"{names} holds {len(stacks)} volumes of"
        name = f"name one by --series {modality}=DESCRIPTION"
        advice = name if len(left) > 1 else "keep the files of one"
        raise DataError(f"{study}: {what} {modality}; {advice}")
    return Chosen(left[0], stacks[0])
