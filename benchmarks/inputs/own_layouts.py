"""The same cases as nnU-Net raw, MSD, a MONAI datalist and a table: for tests and `own_data.py`.

Axes: I J K voxels, C modality.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medtl.data.case import Case

#: What the lists call the contrasts; medtl knows them as flair, t1, t1ce and t2.
CHANNELS = {"flair": "FLAIR", "t1": "T1w", "t1ce": "T1Gd", "t2": "T2w"}
LAYOUTS = ("nnunet", "msd", "datalist", "table")


def rearrange(cases: Sequence[Case], folder: Path) -> dict[str, tuple[str, ...]]:
    """Write every layout under ``folder``; layout -> the words after ``medtl train``.

    Images are links to the cases' own files, but for MSD, which has four in one.
    """
    regions = region_values(cases)
    labels = {"background": 0, **{name: list(values) for name, values in regions.items()}}
    named = {"channel_names": dict(enumerate(CHANNELS.values())), "labels": labels}
    named["regions_class_order"] = first_values(regions)
    shown = {
        "nnunet": _nnunet(cases, folder / "nnunet", named),
        "msd": _msd(cases, folder / "msd", named),
        "datalist": _datalist(cases, folder / "cases.json", named),
        "table": _table(cases, folder / "cases.csv"),
    }
    words = {layout: ("segmentation", "--data", str(path)) for layout, path in shown.items()}
    scheme = ",".join(f"{n}={'+'.join(map(str, values))}" for n, values in regions.items())
    return {**words, "table": (*words["table"], "--labels", scheme)}


def region_values(cases: Sequence[Case]) -> dict[str, tuple[int, ...]]:
    """Values of each region; cases of several years together hold all of theirs."""
    return {
        name: tuple(sorted({value for case in cases for value in case.regions[name]}))
        for name in cases[0].regions
    }


def first_values(regions: Mapping[str, Sequence[int]]) -> list[int]:
    """A value of each region that the later ones do not have."""
    sets = [set(values) for values in regions.values()]
    return [min(own - set().union(*sets[n + 1 :])) for n, own in enumerate(sets)]


def _nnunet(cases: Sequence[Case], folder: Path, named: Mapping[str, Any]) -> Path:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case in cases:
        for number, modality in enumerate(CHANNELS):
            link = folder / "imagesTr" / f"{case.id}_{number:04}.nii.gz"
            link.symlink_to(case.images[modality].path.resolve())
        (folder / "labelsTr" / f"{case.id}.nii.gz").symlink_to(_target(case))
    content = {**named, "numTraining": len(cases), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def _msd(cases: Sequence[Case], folder: Path, named: Mapping[str, Any]) -> Path:
    (folder / "imagesTr").mkdir(parents=True)
    for case in cases:
        files = [nib.load(case.images[modality].path) for modality in CHANNELS]
        stacked = np.stack([np.asanyarray(f.dataobj, dtype=np.float32) for f in files], axis=-1)
        nib.save(nib.Nifti1Image(stacked, files[0].affine), folder / f"imagesTr/{case.id}.nii.gz")
    training = [
        {"image": f"./imagesTr/{case.id}.nii.gz", "label": str(_target(case))} for case in cases
    ]
    content = {**named, "modality": named["channel_names"], "training": training}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def _datalist(cases: Sequence[Case], path: Path, named: Mapping[str, Any]) -> Path:
    training = [
        {
            "image": [str(case.images[modality].path.resolve()) for modality in CHANNELS],
            "label": str(_target(case)),
            "fold": number % 2,
        }
        for number, case in enumerate(cases)
    ]
    path.write_text(json.dumps({**named, "training": training}))
    return path


def _table(cases: Sequence[Case], path: Path) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "patient", "label", *CHANNELS.values()])
        for case in cases:
            images = [case.images[modality].path.resolve() for modality in CHANNELS]
            writer.writerow([case.id, case.patient, _target(case), *images])
    return path


def _target(case: Case) -> Path:
    assert case.target is not None
    return case.target.path.resolve()
