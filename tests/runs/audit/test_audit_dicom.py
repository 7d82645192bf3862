"""``medtl audit`` on DICOM: what headers tell, without a patient's name."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from dicom_files import Scan, write_scan

from medtl import api


def study(folder: Path, **changes: tuple[float, float] | None) -> Path:
    """A study of series by their descriptions, with slope and intercept, or with none."""
    scan = Scan()
    for number, (name, scale) in enumerate(changes.items()):
        header = {"SeriesDescription": name, "PatientName": "Doe^Jane", "SeriesNumber": number + 1}
        own = Scan(study=scan.study, frame_of_reference=scan.frame_of_reference, header=header)
        write_scan(folder / name, own)
        for path in (folder / name).iterdir():
            dataset = pydicom.dcmread(path)
            del dataset.RescaleSlope, dataset.RescaleIntercept
            if scale:
                dataset.RescaleSlope, dataset.RescaleIntercept = scale
            dataset.save_as(path)
    return folder


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ({"T1": (1.0, 0.0), "T2": (2.0, 0.0)}, "2 scales (slope and intercept) in 2 series"),
        ({"T1": (1.0, 0.0), "T2": None}, "1 of 2 series state slope and intercept"),
        ({"T1": (1.0, 0.0), "T2": (1.0, 0.0)}, ""),
        ({"T1": None, "T2": None}, ""),
    ],
)
def test_unequal_scales_of_series_are_told(
    scales: dict[str, tuple[float, float] | None], said: str, tmp_path: Path
) -> None:
    found = api.audit(study(tmp_path / "study", **scales))
    seen = [one.seen for one in found.findings if one.kind == "rescaled"]
    assert len(seen) == bool(said) and all(text.startswith(said) for text in seen)
    assert not any("Doe" in text for one in found.findings for text in (one.seen, *one.cases))
