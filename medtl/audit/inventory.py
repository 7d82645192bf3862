"""The cases below some folders, as far as names and tasks tell, whatever is wrong with them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medtl.audit.dicom import read_dicom
from medtl.audit.findings import Finding
from medtl.audit.names import BRAIN_MASK, IMAGE, Name, classes_of, read_name
from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.dicom.files import looks_like_dicom
from medtl.data.formats.case_list import is_nifti
from medtl.data.formats.folders import walk
from medtl.data.formats.masks import stem_of
from medtl.data.info import is_listed
from medtl.data.io.pictures import SUFFIXES
from medtl.data.modality import Modality
from medtl.data.phantom import read_index
from medtl.data.task import bound
from medtl.errors import DataError, MedtlError
from medtl.plugins.catalog import Catalog
from medtl.runtime.files import real_path


@dataclass(frozen=True, slots=True)
class Inventory:
    """The cases of all folders, each id once.

    Args:
        sides: of each case, what it must not share an image with another side's: the folder that
            it was found in, and its part (training, validation or testing).
    """

    cases: tuple[Case, ...]
    sides: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    synthetic: bool = False


#: The task of data that list their cases.
LISTED = ":segmentation"


def take_inventory(roots: Sequence[Path], catalog: Catalog, task: str | None = None) -> Inventory:
    """Find the cases below ``roots``.

    Names say which they are. What a task says of patients, sites and labels is taken over where
    one reads the folder.

    Raises:
        DataError: a root is no folder, or holds no image.
    """
    cases: list[Case] = []
    sides: dict[str, str] = {}
    findings: list[Finding] = []
    notes: list[str] = []
    synthetic = False
    taken: Counter[str] = Counter()
    homes = homes_of(roots)
    for root in roots:
        found = _below(root, catalog, task)
        findings += found.findings
        notes += found.notes
        synthetic = synthetic or found.synthetic
        for case in found.cases:
            taken[case.id] += 1
            unique = case.id if taken[case.id] == 1 else f"{case.id} of {root.name}"
            if unique in sides:
                unique = f"{unique} ({taken[case.id]})"
            unknown = case.patient == case.id and case.target is None and not case.regions
            patient = f"{root.name}/{unique}" if unknown else case.patient
            cases.append(replace(case, id=unique, patient=patient))
            home = homes[root] if len(roots) > 1 else ""
            sides[unique] = "/".join(filter(None, (home, case.part)))
    return Inventory(tuple(cases), sides, tuple(findings), tuple(notes), synthetic)


def homes_of(roots: Sequence[Path]) -> dict[Path, str]:
    """A name of each folder that no other one has: its last parts."""
    parts = {root: real_path(root).parts for root in roots}
    count = 1
    while len({own[-count:] for own in parts.values()}) < len(roots):
        count += 1
    return {root: "/".join(own[-count:]) for root, own in parts.items()}


def _below(root: Path, catalog: Catalog, task: str | None) -> Inventory:
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}; name a folder of images")
    if looks_like_dicom(root):
        cohort, findings = read_dicom(root)
        cases, notes = (cohort.cases, cohort.notes) if cohort else ((), ())
        return Inventory(cases, {}, tuple(findings), notes)
    findings = []
    paths = _images(root, findings)
    if not paths and findings:
        raise DataError(findings[0].seen)
    if not paths:
        raise DataError(f"{root}: holds no image (NIfTI, PNG, JPEG, TIFF or BMP)")
    named = _by_name(root, paths)
    cohort = None
    if task or is_listed(root) or any(case.target or len(case.images) > 1 for case in named):
        masks = {case.target.path for case in named if case.target}
        cohort = _read(root, catalog, task, masks, findings)
    synthetic = bool(read_index(root).get("synthetic"))
    if cohort is None:
        return Inventory(tuple(named), {}, tuple(findings), (), synthetic)
    cases = tuple(_together(named, cohort.cases))
    return Inventory(cases, {}, tuple(findings), cohort.notes, cohort.synthetic or synthetic)


def _images(root: Path, findings: list[Finding]) -> list[Path]:
    paths: list[Path] = []
    try:
        for held in walk(root):
            paths += [
                held.path / name
                for name in held.files
                if (is_nifti(name) or name.lower().endswith(SUFFIXES))
                and not BRAIN_MASK.fullmatch(stem_of(name))
            ]
    except DataError as error:
        text = f"{error}; the folders after it were not looked at"
        findings.append(Finding("unreadable", (), text))
    return paths


def _read(
    root: Path, catalog: Catalog, task: str | None, masks: set[Path], findings: list[Finding]
) -> Cohort | None:
    """What a task reads, the one named or the first of segmentations that takes no mask for an
    image."""
    problems: list[str] = []
    if task:
        catalog.tasks[task]  # raises UnknownNameError
    last = LISTED if is_listed(root) else ""  # whose reason is told
    names = sorted(catalog.tasks, key=lambda name: name.endswith(last))
    for name in [task] if task else names:
        try:
            reader = bound(catalog.tasks[name].load()(), root)
            if not task and reader.kind != "segmentation":
                continue
            cohort = reader.cases(root, need_target=False)
        except MedtlError as error:
            problems.append(str(error))
            continue
        if not masks & {file.path for case in cohort.cases for file in case.images.values()}:
            return cohort
    if task or (is_listed(root) and problems):
        findings.append(Finding("layout", (), problems[-1] if problems else "it takes no masks"))
    return None


def _by_name(root: Path, paths: Iterable[Path]) -> list[Case]:
    """Cases by the names of their files, sorted by id."""
    groups: dict[tuple[str, str], list[tuple[Name, Path]]] = defaultdict(list)
    classes = classes_of([path.relative_to(root) for path in paths])
    for path in paths:
        name = read_name(path.relative_to(root))
        groups[name.key].append((name, path))
    ids = Counter(group[0][0].id for group in groups.values())
    cases = []
    for group in groups.values():
        case = _case(group)
        if case is None:
            continue
        where = group[0][1].relative_to(root)
        if case.target is None and not is_nifti(where.name):  # as class folders are read
            own = "_".join(where.parts)
            whose = own if case.patient == case.id else case.patient
            case = replace(case, id=own, patient=whose, class_name=classes[where])
        elif ids[case.id] > 1:
            unique = where.with_suffix("").as_posix()
            patient = unique if case.patient == case.id else case.patient
            case = replace(case, id=unique, patient=patient)
        cases.append(case)
    return sorted(cases, key=lambda case: case.id)


def _case(group: Sequence[tuple[Name, Path]]) -> Case | None:
    """The case of the files that share a key; None where all of them are masks."""
    images: dict[Modality, ImageFile] = {}
    target = None
    for name, path in group:
        if name.mask and len(group) > 1:
            target = target or ImageFile(path)
            continue
        wanted = Modality(name.channel) if name.channel else name.modality
        while wanted in images:  # the same contrast twice: both are looked at
            wanted = Modality(f"{wanted}-again")
        images[wanted] = ImageFile(path)
    if not images:
        return None
    first = next(name for name, path in group if not name.mask or len(group) == 1)
    return Case(
        id=first.id,
        patient=first.patient,
        images=dict(sorted(images.items(), key=lambda item: item[0] != IMAGE)),
        target=target,
        site=first.site,
        part=first.part,
    )


def _together(named: Sequence[Case], read: Sequence[Case]) -> list[Case]:
    """The cases that a task reads, and those that it leaves out, by their names."""
    by_path = {file.path: case for case in named for file in case.images.values()}
    kept: list[Case] = []
    used: set[Path] = set()
    for case in read:
        twins = [by_path[file.path] for file in case.images.values() if file.path in by_path]
        if twins and not case.class_name:
            case = replace(case, class_name=twins[0].class_name)
        kept.append(case)
        used |= {file.path for file in case.images.values()}
        used |= {file.path for file in (case.target, case.mask) if file}
    channels = _channels(read)
    for case in named:
        if not any(file.path in used for file in case.images.values()):
            path = next(iter(case.images.values())).path
            if channels and list(case.images) == [IMAGE]:
                own = {name: ImageFile(path, number) for name, number in channels.items()}
                case = replace(case, images=own)
            kept.append(case)
    return kept


def _channels(read: Sequence[Case]) -> dict[Modality, int]:
    """Modality -> channel, where each case's modalities are the channels of one file."""
    images = read[0].images
    if len({file.path for file in images.values()}) > 1:
        return {}
    return {name: file.channel for name, file in images.items() if file.channel is not None}
