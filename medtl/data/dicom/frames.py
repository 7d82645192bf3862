"""The frames of DICOM files: where each lies, and how it was acquired. No pixels are read.

Vectors are x, y, z in mm as DICOM has them: x to the left, y to the back, z up (LPS).
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom import Dataset
from pydicom.multival import MultiValue

from medtl.data.dicom.files import DicomFile
from medtl.errors import DataError

Vector = tuple[float, float, float]

#: No scanner reaches so far.
FARTHEST_MM = 1e5

#: Compression makes images at most this many times smaller.
MOST_COMPRESSED = 4000

#: What is read of a header. The patient's name and number are read so that they can be removed from
#: messages.
_TAGS = (
    *("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Modality"),
    *("SeriesDescription", "ProtocolName", "ImageType", "InstanceNumber", "AcquisitionNumber"),
    *("TemporalPositionIdentifier", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle"),
    *("ScanningSequence", "ContrastBolusAgent", "DiffusionBValue", "TriggerTime"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("PatientID", "PatientName"),
)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How a frame was acquired; times in ms, None or "" where its header does not say."""

    modality: str
    description: str
    protocol: str
    image_type: tuple[str, ...]
    sequence: tuple[str, ...]
    echo_ms: float | None
    repetition_ms: float | None
    inversion_ms: float | None
    flip_degrees: float | None
    b_value: float | None
    agent: str


@dataclass(frozen=True, slots=True)
class Frame:
    """A slice of a series; ``index`` counts from 0 in a file of several frames."""

    file: DicomFile
    index: int | None
    of: int  #: frames of the file
    number: int | None  #: as the header counts the slices of the series
    rows: int
    columns: int
    samples: int
    position: Vector | None  #: centre of the first pixel
    directions: tuple[Vector, Vector] | None  #: of growing columns, and of growing rows
    spacing_mm: tuple[float, float] | None  #: between rows, and between columns
    thickness_mm: float | None
    apart_mm: float | None  #: between the centres of slices, as the header has it
    slope: float
    intercept: float
    scaled: bool  #: whether the header states slope or intercept
    acquisition: Acquisition
    #: what else tells volumes of one series apart: acquisition, time, stack
    volume: tuple[float | str | None, ...]

    def __str__(self) -> str:
        return self.file.name if self.index is None else f"{self.file.name}, frame {self.index + 1}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Which series, study and patient a file is of. These never leave the process."""

    study: str
    series: str
    number: str  #: as the scanner counts the series of the study
    patient: str
    names: tuple[str, ...]  #: words that name the patient

    @property
    def of_study(self) -> str:
        """What its study has in common, also where that has no UID."""
        return self.study or f"studies without a UID of {self.patient}"


@contextmanager
def reading(file: DicomFile) -> Iterator[None]:
    """Whatever pydicom raises for a broken file is a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{file}: too large for the memory; leave it out") from error
    except Exception as error:  # a parser of untrusted bytes: any type can come out
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise DataError(f"{file}: broken DICOM ({reason}); fetch it again") from error


# pydicom logs what it finds odd; medtl checks what it uses, and says it in one line.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"pydicom\.")


def read_frames(file: DicomFile) -> tuple[Origin, list[Frame]]:
    """The frames of a file.

    Raises:
        DataError: its header cannot be read, or has impossible values.
    """
    with reading(file), file.opened() as stream:
        header = pydicom.dcmread(
            stream, stop_before_pixels=True, force=True, specific_tags=list(_TAGS)
        )
        if "SOPClassUID" not in header and "Rows" not in header:
            raise DataError(f"{file}: has no DICOM image; leave it out")
        return _origin(header), list(_frames(header, file))


def _origin(header: Dataset) -> Origin:
    patient = _text(header, "PatientID") or _text(header, "PatientName")
    names = f"{_text(header, 'PatientName')} {_text(header, 'PatientID')}"
    words = {names.split()[-1] if names.split() else "", *re.split(r"[\W_]+", names)}
    return Origin(
        study=_text(header, "StudyInstanceUID"),
        series=_text(header, "SeriesInstanceUID"),
        number=_text(header, "SeriesNumber"),
        patient=patient.casefold(),
        names=tuple(sorted(word for word in words if len(word) > 1)),
    )


def _frames(header: Dataset, file: DicomFile) -> Iterator[Frame]:
    rows, columns = (_whole(header, name) or 0 for name in ("Rows", "Columns"))
    frames = _whole(header, "NumberOfFrames") or 1
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    bits = rows * columns * (_whole(header, "BitsAllocated") or 0)
    if frames < 1 or frames * bits > 8 * MOST_COMPRESSED * file.size() or frames > file.size():
        raise DataError(f"{file}: declares {frames} frames, which it cannot hold; fetch it again")
    if per_frame and len(per_frame) != frames:
        raise DataError(
            f"{file}: declares {frames} frames and describes {len(per_frame)}; fetch it again"
        )
    several = bool(per_frame) or frames > 1
    for index in range(frames):
        own = per_frame[index] if per_frame else Dataset()
        places = (own, shared, header)
        yield Frame(
            file=file,
            index=index if several else None,
            of=frames,
            number=index + 1 if several else _whole(header, "InstanceNumber"),
            rows=rows,
            columns=columns,
            samples=_whole(header, "SamplesPerPixel") or 1,
            position=_position(places, file),
            directions=_directions(places, file),
            spacing_mm=_spacing(places, file),
            thickness_mm=_positive(_within(places, "PixelMeasuresSequence", "SliceThickness")),
            apart_mm=_positive(_within(places, "PixelMeasuresSequence", "SpacingBetweenSlices")),
            slope=_scale(places, "RescaleSlope", 1.0, file),
            intercept=_scale(places, "RescaleIntercept", 0.0, file),
            scaled=_is_scaled(places),
            acquisition=_acquisition(places, header),
            volume=_volume(places, header),
        )


def _acquisition(places: Sequence[Dataset], header: Dataset) -> Acquisition:
    timing = "MRTimingAndRelatedParametersSequence"
    kinds = _within(places, "MRImageFrameTypeSequence", "FrameType") or header.get("ImageType")
    return Acquisition(
        modality=_text(header, "Modality"),
        description=_text(header, "SeriesDescription"),
        protocol=_text(header, "ProtocolName"),
        image_type=tuple(str(word).upper() for word in _several(kinds)),
        sequence=tuple(str(word).upper() for word in _several(header.get("ScanningSequence"))),
        echo_ms=_number(
            _within(places, "MREchoSequence", "EffectiveEchoTime") or header.get("EchoTime")
        ),
        repetition_ms=_number(_within(places, timing, "RepetitionTime")),
        inversion_ms=_number(
            _within(places, "MRModifierSequence", "InversionTimes") or header.get("InversionTime")
        ),
        flip_degrees=_number(_within(places, timing, "FlipAngle")),
        b_value=_number(_within(places, "MRDiffusionSequence", "DiffusionBValue")),
        agent=_text(header, "ContrastBolusAgent"),
    )


def _volume(places: Sequence[Dataset], header: Dataset) -> tuple[float | str | None, ...]:
    content = "FrameContentSequence"
    return (
        _number(header.get("AcquisitionNumber")),
        _number(
            _within(places, content, "TemporalPositionIndex")
            or header.get("TemporalPositionIdentifier")
        ),
        str(_within(places, content, "StackID") or ""),
        _number(header.get("TriggerTime")),
    )


def _position(places: Sequence[Dataset], file: DicomFile) -> Vector | None:
    found = _within(places, "PlanePositionSequence", "ImagePositionPatient")
    return None if found is None else _vector(found, 3, "its position", file)


def _directions(places: Sequence[Dataset], file: DicomFile) -> tuple[Vector, Vector] | None:
    found = _within(places, "PlaneOrientationSequence", "ImageOrientationPatient")
    if found is None:
        return None
    six = _vector(found, 6, "its orientation", file)
    along, down = six[:3], six[3:]
    lengths = math.hypot(*along), math.hypot(*down)
    across = sum(a * b for a, b in zip(along, down, strict=True))
    if max(abs(length - 1) for length in lengths) > 1e-2 or abs(across) > 1e-2:
        raise DataError(f"{file}: its orientation has no two perpendicular unit vectors; repair it")
    return along, down


def _spacing(places: Sequence[Dataset], file: DicomFile) -> tuple[float, float] | None:
    found = _within(places, "PixelMeasuresSequence", "PixelSpacing")
    if found is None:
        return None
    rows, columns = _vector(found, 2, "its pixel spacing", file)
    if min(rows, columns) <= 0:
        raise DataError(f"{file}: pixels of {rows:g} x {columns:g} mm are not possible; repair it")
    return rows, columns


def _within(places: Sequence[Dataset], sequence: str, name: str) -> Any:
    """A value of a frame's functional group, of the shared one, or of the header."""
    *groups, header = places
    for group in groups:
        items = group.get(sequence)
        if items and items[0].get(name) not in (None, ""):
            return items[0].get(name)
    found = header.get(name)
    return None if found == "" else found


def _vector(values: Any, count: int, what: str, file: DicomFile) -> Any:
    found = tuple(float(value) for value in _several(values))
    if len(found) != count or not all(abs(value) < FARTHEST_MM for value in found):
        raise DataError(f"{file}: {what} is not {count} numbers; repair the header")
    return found


def _several(values: Any) -> Sequence[Any]:
    if values is None or values == "":
        return ()
    return tuple(values) if isinstance(values, (list, tuple, MultiValue)) else (values,)


def _text(header: Dataset, name: str) -> str:
    return " ".join(str(word) for word in _several(header.get(name))).strip()


def _number(value: Any) -> float | None:
    found = _several(value)
    number = float(found[0]) if found else math.nan
    return number if math.isfinite(number) else None


def _scale(places: Sequence[Dataset], name: str, other: float, file: DicomFile) -> float:
    """Slope or intercept; ``other`` where the header has none."""
    value = _within(places, "PixelValueTransformationSequence", name)
    if value is None:
        return other
    number = _number(value)
    if number is None:
        raise DataError(f"{file}: its {name} is no number; repair the header")
    return number


def _is_scaled(places: Sequence[Dataset]) -> bool:
    sequence = "PixelValueTransformationSequence"
    names = ("RescaleSlope", "RescaleIntercept")
    return any(_within(places, sequence, name) is not None for name in names)


def _positive(value: Any) -> float | None:
    found = _number(value)
    return found if found is not None and found > 0 else None


def _whole(header: Dataset, name: str) -> int | None:
    found = _number(header.get(name))
    return None if found is None else int(found)
