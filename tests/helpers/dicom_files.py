"""DICOM files of a scan whose every voxel is known, written in the ways that scanners do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

#: Turns by 20 degrees about x, then by 10 about z.
_X, _Z = np.radians(20), np.radians(10)
OBLIQUE = (
    np.array([[np.cos(_Z), -np.sin(_Z), 0], [np.sin(_Z), np.cos(_Z), 0], [0, 0, 1]])
    @ np.array([[1, 0, 0], [0, np.cos(_X), -np.sin(_X)], [0, np.sin(_X), np.cos(_X)]])
)  # fmt: skip


def pattern(shape: Sequence[int] = (40, 48, 7), seed: int = 0) -> NDArray[np.int16]:
    """Voxels (IJK) that no flip or exchange of axes leaves as they are."""
    random = np.random.default_rng(seed)
    return random.integers(0, 1000, shape).astype(np.int16)


@dataclass(frozen=True)
class Scan:
    """Voxels (IJK: columns, rows, slices) and where they lie, in x, y, z of DICOM (LPS), in mm."""

    values_IJK: NDArray[Any] = field(default_factory=pattern)
    turn: NDArray[np.float64] = field(default_factory=lambda: OBLIQUE)  #: columns: I, J, K
    spacing_mm: tuple[float, float, float] = (0.8, 1.1, 3.0)  #: of I, J, K
    origin: tuple[float, float, float] = (-30.0, 40.0, -25.0)
    tilt_degrees: float = 0.0  #: of the gantry, which shifts slices along J
    header: Mapping[str, Any] = field(default_factory=dict)
    slope: float = 1.0
    intercept: float = 0.0
    study: str = field(default_factory=generate_uid)
    series: str = field(default_factory=generate_uid)
    frame_of_reference: str = field(default_factory=generate_uid)

    @property
    def steps(self) -> NDArray[np.float64]:
        """The steps of I, J and K in mm (columns)."""
        steps = self.turn * np.array(self.spacing_mm)
        shift = np.tan(np.radians(self.tilt_degrees)) * self.spacing_mm[2]
        steps[:, 2] += self.turn[:, 1] * shift
        return steps

    @property
    def affine(self) -> NDArray[np.float64]:
        """Of voxels to mm (RAS)."""
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = self.steps, self.origin
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine

    def of(self, **header: Any) -> Scan:
        """Another series of the study, with these words of the header."""
        return replace(self, header={**self.header, **header}, series=generate_uid())


def datasets(scan: Scan) -> list[Dataset]:
    """A data set per slice, in order."""
    return [_slice(scan, k) for k in range(scan.values_IJK.shape[2])]


def write_scan(
    folder: Path, scan: Scan, *, syntax: str = ExplicitVRLittleEndian, names: str = "{k:03}.dcm"
) -> list[Path]:
    """A file per slice."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, dataset in enumerate(datasets(scan)):
        path = folder / names.format(k=k)
        save(dataset, path, syntax)
        paths.append(path)
    return paths


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a data set, compressed where the transfer syntax says so."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if syntax != ExplicitVRLittleEndian:
        if getattr(syntax, "is_compressed", False) and not syntax.is_deflated:
            dataset.compress(syntax, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)


def enhanced(scan: Scan, order: Sequence[int] = ()) -> Dataset:
    """All slices as the frames of one file, in any order; left out, the last one first."""
    dataset = _common(scan)
    dataset.SOPClassUID = EnhancedMRImageStorage
    order = list(order) or list(reversed(range(scan.values_IJK.shape[2])))
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = b"".join(_bytes(scan, k) for k in order)
    measures = Dataset()
    measures.PixelSpacing = [scan.spacing_mm[1], scan.spacing_mm[0]]
    measures.SliceThickness = scan.spacing_mm[2]
    orientation = Dataset()
    orientation.ImageOrientationPatient = _directions(scan)
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([orientation])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for k in order:
        position, values, own = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = _position(scan, k)
        values.RescaleSlope, values.RescaleIntercept = scan.slope, scan.intercept
        own.PlanePositionSequence = Items([position])
        own.PixelValueTransformationSequence = Items([values])
        frames.append(own)
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    return dataset


def _slice(scan: Scan, k: int) -> Dataset:
    dataset = _common(scan)
    dataset.InstanceNumber = k + 1
    dataset.ImagePositionPatient = _position(scan, k)
    dataset.ImageOrientationPatient = _directions(scan)
    dataset.PixelSpacing = [scan.spacing_mm[1], scan.spacing_mm[0]]
    dataset.SliceThickness = scan.spacing_mm[2]
    dataset.RescaleSlope, dataset.RescaleIntercept = scan.slope, scan.intercept
    dataset.PixelData = _bytes(scan, k)
    return dataset


def _common(scan: Scan) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = scan.study, scan.series
    dataset.FrameOfReferenceUID = scan.frame_of_reference
    dataset.PatientName, dataset.PatientID = "Surname^Given", "ID-4711"
    dataset.PatientBirthDate, dataset.InstitutionName = "19700102", "Hospital of Somewhere"
    dataset.Modality, dataset.SeriesDescription = "MR", "AX T1"
    columns, rows, _ = scan.values_IJK.shape
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(scan.values_IJK.dtype.kind == "i")
    for name, value in scan.header.items():
        setattr(dataset, name, value)
    return dataset


def _bytes(scan: Scan, k: int) -> bytes:
    return np.ascontiguousarray(scan.values_IJK[:, :, k].T).astype("<i2").tobytes()


def _position(scan: Scan, k: int) -> list[float]:
    return [float(mm) for mm in np.array(scan.origin) + k * scan.steps[:, 2]]


def _directions(scan: Scan) -> list[float]:
    return [float(cosine) for cosine in (*scan.turn[:, 0], *scan.turn[:, 1])]
