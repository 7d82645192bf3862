"""A data set in BIDS, made of the phantom."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

#: The phantom's contrasts, as BIDS names them.
SUFFIXES = {"flair": "FLAIR", "t1": "T1w", "t1ce": "ce-gadolinium_T1w", "t2": "T2w"}


def write_bids(phantom: Path, root: Path, modalities: Sequence[str] = tuple(SUFFIXES)) -> Path:
    """One session per case; two sites, two diagnoses; segmentations in a derivative."""
    root.mkdir(parents=True)
    description = {"Name": "Phantom", "BIDSVersion": "1.10.0", "License": "CC0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / "README").write_text("Synthetic heads with tumours, to test readers of BIDS.\n")
    derived = root / "derivatives" / "lesions"
    derived.mkdir(parents=True)
    by = [{"Name": "lesions", "Version": "1"}]
    more = {
        "Name": "Lesions",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": by,
    }
    (derived / "dataset_description.json").write_text(json.dumps(more))
    (derived / "dseg.tsv").write_text("index\tname\n1\tcore\n2\tedema\n4\tenhancing\n")
    lines = ["participant_id\tage\tsex\tsite\tdiagnosis"]
    for n, case in enumerate(sorted(path for path in phantom.iterdir() if path.is_dir()), start=1):
        name = f"sub-{n:02}"
        folder, labels = root / name / "anat", derived / name / "anat"
        folder.mkdir(parents=True)
        labels.mkdir(parents=True)
        for modality in modalities:
            (image,) = case.glob(f"*_{modality}.nii*")
            _write(image, folder / f"{name}_{SUFFIXES[modality]}.nii.gz")
        (mask,) = case.glob("*_seg.nii*")
        _write(mask, labels / f"{name}_dseg.nii.gz")
        grade = "high" if n % 2 else "low"
        lines.append(f"{name}\t{40 + n}\t{'MF'[n % 2]}\t{'AB'[n % 2]}\t{grade}")
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")
    columns = {"diagnosis": {"Description": "Grade"}, "site": {"Description": "Hospital"}}
    (root / "participants.json").write_text(json.dumps(columns))
    return root


def _write(image: Path, path: Path) -> None:
    content = image.read_bytes()
    path.write_bytes(content if image.suffix == ".gz" else gzip.compress(content))
