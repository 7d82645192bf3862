"""The series of a folder of DICOM files, each with its volumes or what is wrong with it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medtl.data.dicom.files import DicomFile, find_files
from medtl.data.dicom.frames import Acquisition, Frame, Origin, read_frames
from medtl.data.dicom.stacks import Stack, stacked
from medtl.errors import DataError, shortened, visible
from medtl.runtime.parallel import in_threads

#: What comes from scanners, as volumes of slices; segmentations, reports and plans do not.
_SCANS = ("MR", "CT", "PT", "NM", "XA", "US", "CR", "DX", "MG", "OT", "SC", "")

#: Series of fewer slices are localisers or single pictures.
LEAST_SLICES = 3


#: Names of this many letters are replaced within longer words, too.
LEAST_LETTERS = 4

#: Of the slices of a localiser fewer than this share are parallel.
MOSTLY = 2 / 3


@dataclass(frozen=True, slots=True)
class Series:
    """A series: the volumes in it, or the reason why there are none.

    ``repeated``: another series of the study has the same description.
    """

    origin: Origin
    acquisition: Acquisition
    frames: tuple[Frame, ...] = field(repr=False)
    stacks: tuple[Stack, ...] = ()
    problem: str = ""
    repeated: bool = False

    @property
    def is_segmentation(self) -> bool:
        """Whether its files are SEG."""
        return self.acquisition.modality == "SEG"

    @property
    def description(self) -> str:
        """As the scanner named it, without words that name the patient; with its number where it
        has no name of its own."""
        text = visible(without_names(self.acquisition.description, self.origin.names))
        number = f"#{self.origin.number}" if self.repeated or not text else ""
        return f"{text} {number}".strip()


@dataclass(frozen=True, slots=True)
class Found:
    """The series of a folder, and the files that are no image."""

    series: tuple[Series, ...]
    unread: tuple[str, ...] = ()


def find_series(root: Path) -> Found:
    """Read the headers of every DICOM file below a folder, or in an archive.

    Raises:
        DataError: the folder cannot be walked, or holds no DICOM.
    """
    files, unread = find_files(root)
    if not files:
        why = f" ({shortened(unread)})" if unread else ""
        raise DataError(f"{root}: holds no DICOM{why}; check the path")
    groups: dict[tuple[str, str], list[tuple[Origin, list[Frame]]]] = defaultdict(list)
    for read in in_threads(_read, files):
        if isinstance(read, str):
            unread.append(read)
        else:
            groups[read[0].of_study, read[0].series].append(read)
    series = [_series([origin for origin, _ in those], [f for _, fs in those for f in fs])
              for those in groups.values()]  # fmt: skip
    count = Counter((each.origin.of_study, each.description) for each in series)
    told = [
        replace(each, repeated=count[each.origin.of_study, each.description] > 1)
        for each in sorted(series, key=_order)
    ]
    return Found(tuple(told), tuple(unread))


def _read(file: DicomFile) -> tuple[Origin, list[Frame]] | str:
    try:
        return read_frames(file)
    except DataError as error:
        return str(error)


def _series(origins: Sequence[Origin], frames: Sequence[Frame]) -> Series:
    origin, first = origins[0], frames[0]
    problem, stacks = _refusal(frames), list[Stack]()
    if len({each.patient for each in origins}) > 1:
        problem = "holds slices of several patients"
    if not problem:
        try:
            stacks = stacked(frames)
        except DataError as error:
            problem = str(error)
    return Series(origin, first.acquisition, tuple(frames), tuple(stacks), problem)


def _refusal(frames: Sequence[Frame]) -> str:
    """Why frames are not even tried as slices of a volume; "" if they are."""
    first = frames[0]
    if first.acquisition.modality == "SEG":
        return "is a segmentation"
    if first.acquisition.modality not in _SCANS or not first.rows:
        kind = first.acquisition.modality or "no modality"
        return f"holds no pictures ({kind})"
    if first.samples != 1:
        return "holds colour pictures"
    if "LOCALIZER" in first.acquisition.image_type:
        return "is a localiser"
    directions = Counter(tuple(map(_rounded, frame.directions or ())) for frame in frames)
    if max(directions.values()) < MOSTLY * len(frames):
        return f"is a localiser: its {len(frames)} slices have {len(directions)} orientations"
    return ""


def _rounded(vector: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 1) + 0.0 for value in vector)


def _order(series: Series) -> tuple[str, str, str]:
    return series.origin.study, series.origin.number.zfill(9), series.origin.series


def without_names(text: str, names: Sequence[str]) -> str:
    """The text with words of the patient's name or number replaced."""
    for name in sorted(names, key=len, reverse=True):
        word = re.escape(name)
        whole = word if len(name) >= LEAST_LETTERS else rf"(?<![^\W_]){word}(?![^\W_])"
        text = re.sub(whole, "***", text, flags=re.IGNORECASE)
    return text
