"""A cohort as a data set: NIfTI with a table, nnU-Net raw, or BIDS.

Images keep their voxels and their place. Nothing else of their headers is taken over: free text in
a header may name a patient.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medtl.data.case import Cohort, ImageFile
from medtl.data.formats.bids import DESCRIPTION, PARTICIPANTS
from medtl.data.formats.parts import kept_apart
from medtl.data.io.images import read_labels
from medtl.data.io.nifti import read_stored, write_nifti
from medtl.data.io.pictures import is_picture
from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.runtime.files import check_apart, file_name, write_csv

#: The names of contrasts in BIDS.
_SUFFIXES = {"t1": "T1w", "t2": "T2w", "flair": "FLAIR", "t1ce": "ce-gadolinium_T1w", "pd": "PDw"}

#: A dataset_description.json must name one.
_BIDS_VERSION = "1.10.0"


@dataclass(frozen=True, slots=True)
class Placed:
    """Where each image and label map of a case goes, below the folder."""

    images: Mapping[Modality, str]
    target: str


@dataclass(slots=True)
class Layout:
    """How a data set is laid out: a place per file, and what is written beside them."""

    places: Callable[[Cohort], list[Placed]]
    index: Callable[[Cohort, Sequence[Placed], Path], Sequence[str]]
    #: label value of the data -> value that is written; None: as they are
    values: Callable[[Cohort], Mapping[int, int]] | None = None


def write_cohort(
    cohort: Cohort, layout: Layout, folder: Path, advance: Callable[[int], None]
) -> Sequence[str]:
    """Write the images and labels of every case below an empty folder, and what lists them.

    Returns:
        what the user should know of the data set.

    Raises:
        DataError: pictures, or a case that cannot be read.
        RunError: the folder cannot be written.
    """
    for case in cohort.cases:
        for image in case.images.values():
            if is_picture(image.path):
                raise DataError(f"{image.path}: is a picture; only volumes are converted")
    places = layout.places(cohort)
    check_apart(path for place in places for path in (*place.images.values(), place.target))
    for done, (case, place) in enumerate(zip(cohort.cases, places, strict=True), 1):
        for name, image in case.images.items():
            _copy(image, folder / place.images[name])
        if case.target is not None:
            labels_IJK, _ = read_labels(case.target, case.labels)
            new = layout.values(cohort) if layout.values else {}
            table = np.arange(max(case.labels) + 1, dtype=np.int16)
            for value, other in new.items():
                table[value] = other
            write_nifti(_made(folder / place.target), table[labels_IJK], case.target.path)
        advance(done)
    return layout.index(cohort, places, folder)


def _copy(image: ImageFile, path: Path) -> None:
    values_IJK, _ = read_stored(image)
    write_nifti(_made(path), values_IJK, image.path)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# --- NIfTI with a table -----------------------------------------------------------------------


def _table_places(cohort: Cohort) -> list[Placed]:
    found = []
    for case in cohort.cases:
        name = file_name(case.id)
        images = {each: f"{name}/{name}_{each}.nii.gz" for each in case.images}
        found.append(Placed(images, f"{name}/{name}_seg.nii.gz"))
    return found


def _write_table(cohort: Cohort, places: Sequence[Placed], folder: Path) -> list[str]:
    modalities = _modalities(cohort)
    classes = any(case.class_name for case in cohort.cases)
    columns: list[str] = [
        "case",
        *modalities,
        "class" if classes else "label",
        "patient",
        "site",
        "part",
    ]
    rows = []
    for case, place in zip(cohort.cases, places, strict=True):
        images = [place.images.get(name, "") for name in modalities]
        truth = case.class_name if classes else place.target if case.target else ""
        looked_for = [name for name in case.regions if name not in case.unannotated]
        known = "+".join(looked_for) if case.unannotated else ""
        rows.append([case.id, *images, truth, case.patient, case.site, case.part, known])
    columns.append("annotated")
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    write_csv(folder / "cases.csv", columns, rows)
    regions, ignored = _shared_labels(cohort)
    named = {**regions, **({"ignore": ignored} if ignored else {})}
    text = ",".join(f"{name}={'+'.join(map(str, values))}" for name, values in named.items())
    return [f"a table names no labels: train with --labels {text}"] if regions else []


def _shared_labels(cohort: Cohort) -> tuple[Mapping[str, tuple[int, ...]], tuple[int, ...]]:
    """The label values of each region, and those to ignore, of all labelled cases.

    Raises:
        DataError: cases differ in them.
    """
    first: tuple[Mapping[str, tuple[int, ...]], tuple[int, ...]] | None = None
    ignored: set[int] = set()
    for case in cohort.cases:
        if case.target is None:
            continue
        first = first or (case.regions, ())
        if dict(first[0]) != dict(case.regions):
            raise DataError(f"{case.id}: its label values have other meanings than those of others")
        ignored |= set(case.ignored)
    return (first[0] if first else {}), tuple(sorted(ignored))


# --- nnU-Net raw ------------------------------------------------------------------------------


def _nnunet_places(cohort: Cohort) -> list[Placed]:
    modalities = _modalities(cohort)
    for case in cohort.cases:
        if lacking := [name for name in modalities if name not in case.images]:
            raise DataError(
                f"{case.id}: has no {lacking[0]} image, as others do; nnU-Net needs all"
            )
    found = []
    for case in cohort.cases:
        name = file_name(case.id)
        test = case.target is None or kept_apart(case.part)
        end = "Ts" if test else "Tr"
        images = {
            each: f"images{end}/{name}_{modalities.index(each):04}.nii.gz" for each in case.images
        }
        found.append(Placed(images, f"labels{end}/{name}.nii.gz"))
    return found


def _nnunet_values(cohort: Cohort) -> dict[int, int]:
    """nnU-Net's values run from 0 without gaps, and the one to ignore is the last."""
    regions, ignored = _shared_labels(cohort)
    named = {value for values in regions.values() for value in values}
    order = [0, *sorted(named - {0}), *ignored]
    new = {value: n for n, value in enumerate(order)}
    return new | dict.fromkeys(ignored, len(order) - len(ignored))


def _write_nnunet(cohort: Cohort, places: Sequence[Placed], folder: Path) -> list[str]:
    regions, ignored = _shared_labels(cohort)
    new = _nnunet_values(cohort)
    values = {name: [new[value] for value in own] for name, own in regions.items()}
    labels: dict[str, Any] = {"background": 0}
    labels |= {name: own if len(own) > 1 else own[0] for name, own in values.items()}
    if ignored:
        labels["ignore"] = new[ignored[0]]
    content: dict[str, Any] = {
        "channel_names": {str(n): name for n, name in enumerate(_modalities(cohort))},
        "labels": labels,
        "numTraining": sum(place.target.startswith("labelsTr") for place in places),
        "file_ending": ".nii.gz",
    }
    if any(len(own) > 1 for own in values.values()):
        content["regions_class_order"] = _class_order(values, cohort)
    if partly := [case for case in cohort.cases if case.unannotated]:
        content["annotated"] = {
            case.id: [name for name in case.regions if name not in case.unannotated]
            for case in partly
        }
    _write_json(folder / "dataset.json", content)
    patients = {case.patient for case in cohort.cases}
    if len(patients) == len(cohort.cases):
        return []
    several = f"{len(cohort.cases)} cases are of {len(patients)} patients"
    return [f"warning: {several}, which nnU-Net does not name: keep them on one side of a split"]


def _class_order(values: Mapping[str, Sequence[int]], cohort: Cohort) -> list[int]:
    """The value that paints each region over those before it: one of its own."""
    order, regions = [], list(values.values())
    for n, (name, own) in enumerate(values.items()):
        inner = {value for other in regions[n + 1 :] for value in other}
        left = [value for value in own if value not in inner]
        if not left:
            raise DataError(f"{cohort.root}: region {name} has no value of its own to paint it by")
        order.append(left[0])
    return order


# --- BIDS -------------------------------------------------------------------------------------


def _subjects(cohort: Cohort) -> list[tuple[str, str]]:
    """Subject and session ("" where a patient has one) of each case, in letters and digits."""
    patients = list(dict.fromkeys(case.patient for case in cohort.cases))
    plain = [re.sub(r"[^A-Za-z0-9]", "", patient.removeprefix("sub-")) for patient in patients]
    if "" in plain or len(set(map(str.lower, plain))) < len(plain):
        plain = [f"{n:04}" for n in range(1, len(patients) + 1)]
    names = dict(zip(patients, plain, strict=True))
    counts: dict[str, int] = {}
    found = []
    for case in cohort.cases:
        counts[case.patient] = counts.get(case.patient, 0) + 1
        found.append((names[case.patient], str(counts[case.patient])))
    return [(name, n if counts[case.patient] > 1 else "")
            for (name, n), case in zip(found, cohort.cases, strict=True)]  # fmt: skip


def _bids_places(cohort: Cohort) -> list[Placed]:
    found = []
    for (subject, session), case in zip(_subjects(cohort), cohort.cases, strict=True):
        stem = f"sub-{subject}" + (f"_ses-{session}" if session else "")
        folder = stem.replace("_", "/") + "/anat"
        images = {
            each: f"{folder}/{stem}_{_SUFFIXES.get(each, _suffix(each))}.nii.gz"
            for each in case.images
        }
        found.append(Placed(images, f"derivatives/labels/{folder}/{stem}_dseg.nii.gz"))
    return found


def _suffix(modality: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", modality)


def _write_bids(cohort: Cohort, places: Sequence[Placed], folder: Path) -> list[str]:
    description = {"Name": "converted by medtl", "BIDSVersion": _BIDS_VERSION}
    _write_json(folder / DESCRIPTION, description)
    text = "Images converted by medtl, and their segmentations in derivatives/labels.\n"
    (folder / "README").write_text(text, encoding="utf-8")
    notes = []
    rows: dict[str, tuple[str, str]] = {}
    for (subject, _), case in zip(_subjects(cohort), cohort.cases, strict=True):
        told = case.site or "n/a", case.class_name or "n/a"
        if rows.setdefault(f"sub-{subject}", told) != told:
            notes.append(f"warning: sub-{subject} has several sites or classes; the first is kept")
    lines = ["participant_id\tsite\tclass", *("\t".join((n, *row)) for n, row in rows.items())]
    (folder / PARTICIPANTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = {"site": {"Description": "Hospital"}, "class": {"Description": "Class of the images"}}
    _write_json(folder / "participants.json", columns)
    if any(case.target for case in cohort.cases):
        derived = folder / "derivatives" / "labels"
        made = {"DatasetType": "derivative", "GeneratedBy": [{"Name": "medtl"}]}
        _write_json(derived / DESCRIPTION, {**description, **made})
        regions, ignored = _shared_labels(cohort)
        named = [*_label_names(regions), *(("ignore", value) for value in ignored[:1])]
        names = "".join(f"{value}\t{name}\n" for name, value in named)
        (derived / "dseg.tsv").write_text(f"index\tname\n{names}", encoding="utf-8")
    if partly := [case.id for case in cohort.cases if case.unannotated]:
        raise DataError(f"{partly[0]}: is annotated in part, which BIDS cannot say; use --to nifti")
    return notes


def _label_names(regions: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, int]]:
    """Each value with the name of the innermost region that holds it."""
    named: dict[int, str] = {}
    for name, values in sorted(regions.items(), key=lambda item: -len(item[1])):
        named |= dict.fromkeys(values, name)
    for value, name in sorted(named.items()):
        several = [v for v, other in named.items() if other == name]
        yield (name if len(several) == 1 else f"{name}{value}"), value


def _modalities(cohort: Cohort) -> list[Modality]:
    return list(dict.fromkeys(name for case in cohort.cases for name in case.images))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


#: ``--to`` -> the layout.
LAYOUTS = {
    "nifti": Layout(_table_places, _write_table),
    "nnunet": Layout(_nnunet_places, _write_nnunet, _nnunet_values),
    "bids": Layout(_bids_places, _write_bids),
}
