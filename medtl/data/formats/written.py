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

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.formats.bids import DESCRIPTION, PARTICIPANTS
from medtl.data.formats.parts import kept_apart
from medtl.data.io.images import read_header, read_labels, read_volume
from medtl.data.io.nifti import write_nifti
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
    index: Callable[[Cohort, Sequence[Placed], Path], None]


def write_cohort(
    cohort: Cohort, layout: Layout, folder: Path, advance: Callable[[int], None]
) -> None:
    """Write the images and labels of every case below an empty folder, and what lists them.

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
            write_nifti(_made(folder / place.target), labels_IJK, case.target.path)
        advance(done)
    layout.index(cohort, places, folder)


def _copy(image: ImageFile, path: Path) -> None:
    values_IJK, _ = read_volume(image, allow_constant=True)
    stored = read_header(image).dtype
    whole = stored.kind in "iu" and (values_IJK == values_IJK.round()).all()
    write_nifti(_made(path), values_IJK.astype(stored) if whole else values_IJK, image.path)


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


def _write_table(cohort: Cohort, places: Sequence[Placed], folder: Path) -> None:
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
        rows.append([case.id, *images, truth, case.patient, case.site, case.part])
    write_csv(folder / "cases.csv", columns, rows)


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


def _write_nnunet(cohort: Cohort, places: Sequence[Placed], folder: Path) -> None:
    trained = sum(place.target.startswith("labelsTr") for place in places)
    regions = cohort.cases[0].regions
    labels: dict[str, Any] = {"background": 0}
    nested = any(len(values) > 1 for values in regions.values())
    labels |= {name: list(v) if len(v) > 1 else v[0] for name, v in regions.items()}
    if ignored := cohort.cases[0].ignored:
        labels["ignore"] = ignored[0]
    content: dict[str, Any] = {
        "channel_names": {str(n): name for n, name in enumerate(_modalities(cohort))},
        "labels": labels,
        "numTraining": trained,
        "file_ending": ".nii.gz",
    }
    if nested:
        content["regions_class_order"] = [values[0] for values in regions.values()]
    _write_json(folder / "dataset.json", content)


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


def _write_bids(cohort: Cohort, places: Sequence[Placed], folder: Path) -> None:
    description = {"Name": "converted by medtl", "BIDSVersion": _BIDS_VERSION}
    _write_json(folder / DESCRIPTION, description)
    text = "Images converted by medtl, and their segmentations in derivatives/labels.\n"
    (folder / "README").write_text(text, encoding="utf-8")
    rows = dict.fromkeys(
        (f"sub-{subject}", case.site or "n/a", case.class_name or "n/a")
        for (subject, _), case in zip(_subjects(cohort), cohort.cases, strict=True)
    )
    lines = ["participant_id\tsite\tclass", *("\t".join(row) for row in rows)]
    (folder / PARTICIPANTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    told = {"site": {"Description": "Hospital"}, "class": {"Description": "Class of the images"}}
    _write_json(folder / "participants.json", told)
    if any(case.target for case in cohort.cases):
        derived = folder / "derivatives" / "labels"
        made = {"DatasetType": "derivative", "GeneratedBy": [{"Name": "medtl"}]}
        _write_json(derived / DESCRIPTION, {**description, **made})
        names = "".join(f"{value}\t{name}\n" for name, value in _label_names(cohort.cases))
        (derived / "dseg.tsv").write_text(f"index\tname\n{names}", encoding="utf-8")


def _label_names(cases: Sequence[Case]) -> Iterator[tuple[str, int]]:
    """Each value with the name of the innermost region that holds it."""
    named: dict[int, str] = {}
    for case in cases:
        for name, values in case.regions.items():  # the ones that hold others first
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
    "nnunet": Layout(_nnunet_places, _write_nnunet),
    "bids": Layout(_bids_places, _write_bids),
}
