"""What a task must keep, on a tiny synthetic cohort that it reads.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.config import TrainConfig
from medtl.data.case import Case
from medtl.data.cohort import check_case, region_masks
from medtl.data.domain import parse_domain
from medtl.data.io.images import read_labels, read_volume
from medtl.data.io.nifti import write_nifti
from medtl.data.splits import cases_of, split_patients
from medtl.data.task import Defaults, Task, bound
from medtl.data.voxel_size import axes_mm
from medtl.errors import ConfigError, MedtlError
from medtl.inference.task_types import task_type_named
from medtl.networks.options import check_accepted
from medtl.testing.check import CheckFailed, Tried, require
from medtl.testing.cohorts import Tiny, empty_folder, own_cache, read, tiny
from medtl.testing.smallest import Small, smallest
from medtl.training.checks import check_suited
from medtl.transforms.preprocessor import Preprocessor

SEEDS = 3


Masks = NDArray[np.bool_]


def phantom_is_read(tried: Tried) -> None:
    """It finds cases in a synthetic cohort, and marks the cohort as synthetic."""
    found = tiny(tried.target())
    require(found.cohort.cases, "it finds no case in its synthetic cohort")
    remedy = "set Cohort(synthetic=...) as medtl.data.phantom.cohort.read_index(root) says"
    require(found.cohort.synthetic, f"its synthetic cohort is not marked as synthetic; {remedy}")
    require(found.task.name == tried.name, f"its name is {found.task.name!r}; use {tried.name!r}")
    task_type_named(found.task.kind, f"task {tried.name}")


def _read(tried: Tried) -> Tiny:
    try:
        return tiny(tried.target())
    except CheckFailed as error:
        raise CheckFailed("it reads no synthetic cohort: see phantom-is-read") from error


def reading_is_repeatable(tried: Tried) -> None:
    """The same folder gives the same cases in the same order."""
    found = _read(tried)
    with own_cache():
        again = read(found.task, found.cohort.root)
    require(again.cases == found.cohort.cases, "read again, its cases differ; sort what is found")


def cases_without_a_target_can_be_read(tried: Tried) -> None:
    """As ``medtl predict`` reads them; where all have a target, they are the same cases."""
    found = _read(tried)
    with own_cache():
        every = read(found.task, found.cohort.root, need_target=False)
    lost = {case.id for case in found.cohort.cases} - {case.id for case in every.cases}
    require(not lost, f"without need_target, {', '.join(sorted(lost)[:3])} is not found; keep it")


def case_ids_are_unique(tried: Tried) -> None:
    """No two cases have one id."""
    ids = [case.id for case in _read(tried).cohort.cases]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    require(twice is None, f"two cases are called {twice}; make ids unique")
    require(all(ids), "a case has no id")


def patients_are_known_or_said_unknown(tried: Tried) -> None:
    """Every case names its patient, with one spelling; ``leak`` states unknown patients."""
    cases = _read(tried).cohort.cases
    nameless = next((case.id for case in cases if not case.patient.strip()), None)
    remedy = "if patients are unknown, give the case's id, and say so in Cohort.leak"
    require(nameless is None, f"case {nameless} has no patient; {remedy}")
    spellings: dict[str, str] = {}
    for case in cases:
        one = spellings.setdefault(case.patient.strip().casefold(), case.patient)
        require(one == case.patient, f"patients {one!r} and {case.patient!r} differ in spelling")


def declared_labels_occur_and_no_other(tried: Tried) -> None:
    """Each region or class is seen in some case, and no label that was not declared."""
    found = _read(tried)
    cases, regions = found.cohort.cases, found.task.regions
    require(len(set(regions)) == len(regions) > 0, "its regions must be named, each for itself")
    if found.task.kind == "classification":
        seen = {case.class_name for case in cases}
        odd = sorted(seen - set(regions))
        require(not odd, f"classes {', '.join(map(repr, odd))} occur, but are not in regions")
    else:
        seen = set()
        for case, masks_LIJK in _masks(cases, regions):
            seen |= {name for name, mask in zip(regions, masks_LIJK, strict=True) if mask.any()}
            _check_relations(found.task, case, masks_LIJK)
    missing = ", ".join(name for name in regions if name not in seen)
    require(not missing, f"{missing} occurs in no case; drop it, or add it to the synthetic cohort")


def _masks(cases: tuple[Case, ...], regions: tuple[str, ...]) -> Iterator[tuple[Case, Masks]]:
    for case in cases:
        require(case.target is not None, f"{case.id} has no target, though need_target was true")
        lacking = [name for name in regions if name not in case.regions]
        require(not lacking, f"{case.id} knows no region {', '.join(lacking)}; add it to regions")
        assert case.target is not None
        odd = {v for values in case.regions.values() for v in values} - set(case.labels)
        require(not odd, f"{case.id}: regions hold {sorted(odd)}, which labels do not; add them")
        _check_partial(case)
        labels_IJK, _ = read_labels(case.target, case.labels)
        yield case, region_masks(labels_IJK, case, regions)


def _check_partial(case: Case) -> None:
    """What a case says of labels that are known only in part must be of its own labels."""
    unknown = sorted(set(case.unannotated) - set(case.regions))
    what = f"{case.id}: unannotated names {', '.join(unknown)}"
    require(not unknown, f"{what}, which regions does not; name regions of the case")
    odd = sorted(set(case.ignored) - set(case.labels))
    require(not odd, f"{case.id}: ignored holds {odd}, which labels do not; add them")
    used = {v for values in case.regions.values() for v in values} & set(case.ignored)
    require(not used, f"{case.id}: {sorted(used)} are ignored and of a region; drop them from one")


def _check_relations(task: Task, case: Case, masks_LIJK: Masks) -> None:
    if task.nested:
        for outer, inner in pairwise(masks_LIJK):
            problem = f"{case.id}: nested is true, but a region lies outside the one before it"
            within = not (inner & ~outer).any()
            require(within, f"{problem}; order them from the outermost, or set nested to False")
    if task.exclusive:
        for one, other in combinations(masks_LIJK, 2):
            problem = f"{case.id}: exclusive is true, but two regions overlap"
            require(not (one & other).any(), f"{problem}; set it to False")


def images_can_be_read(tried: Tried) -> None:
    """Every file that a case names is there, on one grid and finite."""
    found = _read(tried)
    for case in found.cohort.cases:
        require(case.images, f"{case.id} has no image")
        odd = sorted(set(case.images) - set(found.task.modalities))
        require(not odd, f"{case.id} has {', '.join(odd)}, which modalities does not name")
        check_case(case, tuple(case.images))
    first = found.cohort.cases[0]
    for modality, file in first.images.items():
        volume_IJK, _ = read_volume(file)
        require(np.isfinite(volume_IJK).all(), f"{first.id}: {modality} is not finite")


def no_patient_is_in_two_splits(tried: Tried) -> None:
    """Split by patient, no image lies on two sides, not even under another name."""
    cohort = _read(tried).cohort
    contents = {case.id: _contents(case) for case in cohort.cases}
    for seed in range(SEEDS):
        split = split_patients(cohort.cases, seed=seed, test=cohort.test or None)
        sides = [cases_of(part, cohort.cases) for part in (split.train, split.val, split.test)]
        held: dict[str, Case] = {}
        for number, side in enumerate(sides):
            for case in side:
                for content in contents[case.id]:
                    other = held.setdefault(content, case)
                    same = f"{other.id} and {case.id} hold the same image, but name the patients"
                    patients = f"{other.patient} and {case.patient}; give them one patient"
                    require(other in sides[number], f"{same} {patients}")


def _contents(case: Case) -> set[str]:
    files = {(image.path, image.channel) for image in case.images.values()}
    return {f"{hashlib.sha256(path.read_bytes()).hexdigest()}:{channel}" for path, channel in files}


def defaults_can_be_used(tried: Tried) -> None:
    """Network, transforms, strategy and loss of its defaults are there and suit its images."""
    found, catalog = _read(tried), tried.catalog()
    task = found.task
    kind = task_type_named(task.kind, f"task {task.name}")
    for which in ("defaults", "phantom_defaults"):
        defaults: Defaults = getattr(task, which)
        try:
            builder = catalog.networks[defaults.network].load()
            check_accepted(defaults.network, builder, defaults.options)
            preset = catalog.transforms[defaults.transforms].load()()
            catalog.strategies.full_name(defaults.strategy)
            catalog.losses.full_name(defaults.loss)
            for text in (defaults.src, defaults.dst):
                odd = set(parse_domain(text).modalities) - set(task.modalities)
                require(not odd, f"{which}: {text} names {', '.join(sorted(odd))}, it has none")
        except ConfigError as error:
            raise CheckFailed(f"{which}: {error}") from error
        small = smallest(partial(builder, **defaults.options), len(defaults.patch_size))
        require(isinstance(small, Small), f"{which}: {defaults.network}: {small}")
        assert isinstance(small, Small)
        try:
            check_suited(kind, task, small.network, preset, defaults, TrainConfig(task=task.name))
        except ConfigError as error:
            raise CheckFailed(f"{which}: {error}") from error


def a_case_can_be_prepared(tried: Tried) -> None:
    """By the preset of its defaults, a case becomes a finite array with its regions."""
    found = _read(tried)
    defaults = found.task.phantom_defaults
    preset = tried.catalog().transforms[defaults.transforms].load()()
    if not preset.fits:
        preset = preset.with_spacing(max(6.0, *axes_mm(defaults.spacing_mm)))
    case = found.cohort.cases[0]
    regions = () if found.task.kind == "classification" else found.task.regions
    modalities = parse_domain(defaults.src).modalities
    preprocessor = Preprocessor(modalities, regions, preset.with_size(defaults.patch_size))
    with own_cache():
        prepared = preprocessor(case, with_target=bool(regions))
    require(prepared["image"].isfinite().all(), f"{case.id} is not finite once it is prepared")


def what_is_made_of_dicom_is_read(tried: Tried) -> None:
    """Images and label maps that medtl makes of DICOM are found, with the values that it declares.

    Tasks of one data set that say by ``image_path`` where such images lie.
    """
    made = tried.target()()
    modalities = getattr(made, "modalities", ())
    if not modalities or made.dicom_list or made.image_path("study", modalities[0], 0) is None:
        return
    folder, values = empty_folder(), made.segment_values
    label_IJK: NDArray[Any] = np.resize(
        sorted({0, *(v for own in values.values() for v in own)}), (16, 16, 16)
    )
    random = np.random.default_rng(0)
    for name in ("study-1", "study-2"):
        paths = [made.image_path(name, each, n) for n, each in enumerate(modalities)]
        images: dict[str | None, NDArray[Any]] = {
            path: random.normal(100, 9, label_IJK.shape).astype(np.float32) for path in paths
        }
        if values:
            images[made.target_path(name)] = label_IJK.astype(np.int16)
        for path, image_IJK in images.items():
            if path is None:
                raise CheckFailed("its image_path or target_path is None for some; give each one")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_nifti(folder / path, image_IJK, np.eye(4))
    try:
        with own_cache():
            cases = read(bound(made, folder), folder, need_target=bool(values)).cases
    except MedtlError as error:
        raise CheckFailed(f"it does not read what lies at its image_path: {error}") from error
    ids = sorted(case.id for case in cases)
    require(ids == ["study-1", "study-2"], f"it finds {ids} there; keep the ids of the studies")
    for region, own in values.items():
        found = all(set(case.regions.get(region, ())) == set(own) for case in cases)
        require(found, f"region {region} has other values in its cases than in segment_values")


def a_folder_without_data_is_refused(tried: Tried) -> None:
    """An empty folder is an error of one line that names it."""
    _read(tried)
    folder, made = empty_folder(), tried.target()()
    try:
        with own_cache():
            read(bound(made, folder), folder)
    except MedtlError as error:
        text = str(error)
        require("\n" not in text, "its error for an empty folder has several lines; write one")
        require(str(folder) in text, f"its error for an empty folder does not name it: {text}")
        return
    raise CheckFailed("it reads an empty folder without an error; raise a DataError naming it")
