"""BIDS: ``sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz``, ``participants.tsv``, masks in derivatives.

Source: Brain Imaging Data Structure 1.10, https://bids-specification.readthedocs.io
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtl.data.formats.case_list import Entry, Listing, read_object
from medtl.data.formats.cells import stated
from medtl.data.formats.columns import PATIENT, SITE, Facts, facts_in, without_ignored
from medtl.data.formats.folders import held_in
from medtl.data.formats.label_names import Regions, channel_name, dataset_regions
from medtl.data.formats.table import Row, read_rows
from medtl.errors import DataError, shortened

DESCRIPTION, PARTICIPANTS = "dataset_description.json", "participants.tsv"

#: Folders of a session that hold images of one volume.
_KINDS = ("anat", "ct", "pet", "perf")

_NAME = re.compile(
    r"(?P<entities>sub-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)\.nii(\.gz)?"
)

#: What segmentations are called, the more telling one first.
_MASKS = ("dseg", "mask")

#: Masks of the brain, or of what was filled, are no segmentation.
_NO_LABELS = ("brain", "head", "defaced", "fov")

#: Spaces of an image itself.
_OWN_SPACES = ("orig", "native", "individual", "t1w", "t2w", "flair")

_CLASS = ("class", "diagnosis", "group")


@dataclass(frozen=True, slots=True)
class _File:
    """A file by its name."""

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @property
    def session(self) -> tuple[str, str]:
        """Whose it is, and of which session ("" without any)."""
        return self.entities["sub"], self.entities.get("ses", "")

    @property
    def channel(self) -> str:
        """``T1w`` -> ``t1``; with a contrast agent ``t1ce``."""
        name = self.suffix + ("ce" if "ce" in self.entities else "")
        return {"T1wce": "t1ce"}.get(name, name)

    @property
    def others(self) -> int:
        """How many entities say more than the subject, the session and the contrast."""
        return len(self.entities.keys() - {"sub", "ses", "ce"})


def is_bids(root: Path) -> bool:
    """Whether a folder describes itself as BIDS, or holds subjects with images in BIDS."""
    if not root.is_dir():
        return False
    path = root / DESCRIPTION
    if path.is_file():
        try:
            return "BIDSVersion" in json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, TypeError, RecursionError):
            return True  # the reader says what is wrong with it
    return (root / PARTICIPANTS).is_file() and any(root.glob("sub-*/**/anat"))


def read_bids(root: Path, *, classes: bool = False, ignored: Sequence[str] = ()) -> Listing:
    """The sessions of a BIDS data set; a subject is a patient.

    Segmentations are ``*_dseg.nii.gz`` or ``*_mask.nii.gz`` below ``derivatives``; a ``dseg.tsv``
    beside them names the labels. Sites, and with ``classes`` a column ``class``, ``diagnosis`` or
    ``group``, come from ``participants.tsv``.

    Args:
        ignored: columns of ``participants.tsv`` to leave out.

    Raises:
        DataError: no images, a table that does not fit them, or two masks of one session.
    """
    path = root / DESCRIPTION
    if path.is_file():
        read_object(path)
    notes: list[str] = []
    images = _images(root, notes)
    if not images:
        raise DataError(f"{root}: no sub-*/anat/sub-*_T1w.nii.gz or the like; check the path")
    channels = sorted({each.channel for files in images.values() for each in files})
    names = [channel_name(each, root) for each in channels]
    rows, facts, class_column = _participants(root, images, classes, ignored, notes)
    masks = {} if classes else _masks(root, images, notes)

    def entry(subject: str, session: str) -> Entry:
        row, mask = rows.get(subject, {}), masks.get((subject, session))
        return Entry(
            f"sub-{subject}" + (f"_ses-{session}" if session else ""),
            {channels.index(each.channel): each.path for each in images[subject, session]},
            str(root),
            mask.path if mask else None,
            packed=classes and len(channels) == 1,
            patient=f"sub-{subject}",
            site=facts.of(row, SITE) if row else "",
            class_name=stated(row[class_column]) if class_column and row else "",
        )

    entries = tuple(entry(*session) for session in images)
    regions = _regions(root, list(masks.values())) if masks else None
    lacking = f"{PARTICIPANTS} names no class" if classes else "derivatives hold no masks"
    return Listing(root, entries, tuple(names), regions, tuple(notes), unlabelled=lacking)


def _images(root: Path, notes: list[str]) -> dict[tuple[str, str], list[_File]]:
    """Session -> its images, one per channel: the one whose name says least beside the contrast."""
    found: dict[tuple[str, str], dict[str, list[_File]]] = defaultdict(lambda: defaultdict(list))
    for file in _files(root):
        if not file.suffix.lower().endswith(("mask", "seg")):
            found[file.session][file.channel].append(file)
    chosen = {}
    left_out = []
    for session, channels in found.items():
        own = []
        for files in channels.values():
            first, *more = sorted(files, key=lambda file: (file.others, file.path.name))
            own.append(first)
            left_out += [file.path.name for file in more]
        chosen[session] = own
    if left_out:
        notes.append(f"warning: further images of a contrast are left out: {shortened(left_out)}")
    return chosen


def _files(root: Path) -> list[_File]:
    """The volumes of every subject and session."""
    found = []
    for subject in held_in(root).folders:
        if not subject.startswith("sub-"):
            continue
        own = held_in(root / subject).folders
        sessions = [name for name in own if name.startswith("ses-")]
        for folder in [root / subject, *(root / subject / name for name in sessions)]:
            for kind in held_in(folder).folders:
                if kind in _KINDS:
                    paths = (folder / kind / name for name in held_in(folder / kind).files)
                    found += [file for path in paths if (file := _named(path))]
    return found


def _named(path: Path) -> _File | None:
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    pairs = (part.split("-", 1) for part in match["entities"].split("_"))
    return _File(path, dict(pairs), match["suffix"])


def _participants(
    root: Path,
    images: Mapping[tuple[str, str], Sequence[_File]],
    classes: bool,
    ignored: Sequence[str],
    notes: list[str],
) -> tuple[dict[str, dict[str, str]], Facts, str | None]:
    """Subject -> its row, what its columns say, and the column of the class."""
    path = root / PARTICIPANTS
    if not path.is_file():
        return {}, Facts(), None
    every, lines = read_rows(path)
    names = without_ignored(path, every, ignored)
    if "participant_id" not in names:
        raise DataError(f"{path}: has no column participant_id")
    rows = {row["participant_id"].removeprefix("sub-"): row for _, row in lines}
    if len(rows) < len(lines):
        raise DataError(f"{path}: lists a participant twice")
    lost = sorted({subject for subject, _ in images} - rows.keys())
    if lost:
        notes.append(f"warning: {path.name} does not list {shortened([f'sub-{n}' for n in lost])}")
    class_column = next((name for name in _CLASS if classes and name in names), None)
    taken = [name for name in ("participant_id", class_column) if name]
    facts = facts_in(path, _plain_columns(names, lines), [row for _, row in lines], taken)
    facts.columns.pop(PATIENT, None)
    notes += [note for note in facts.notes if "patient" not in note]
    return rows, facts, class_column


def _plain_columns(names: Sequence[str], lines: Sequence[Row]) -> list[str]:
    """The columns that may say a site; groups of a study are no parts of a split."""
    return [name for name in names if name not in _CLASS[1:]]


def _masks(
    root: Path, images: Mapping[tuple[str, str], Sequence[_File]], notes: list[str]
) -> dict[tuple[str, str], _File]:
    """Session -> its segmentation, in the data set itself or in its derivatives."""
    folder = root / "derivatives"
    places = [root]
    if folder.is_dir():
        places += [folder, *(folder / name for name in held_in(folder).folders)]
    found: dict[tuple[str, str], list[_File]] = defaultdict(list)
    others: list[str] = []
    for place in places:
        for file in _files(place):
            words = {file.entities.get(key, "").lower() for key in ("desc", "label")}
            if file.suffix not in _MASKS or words & set(_NO_LABELS):
                continue
            if file.session in images and not _fits(file, images[file.session]):
                others.append(file.path.name)
            else:
                found[file.session].append(file)
    if others:
        notes.append(f"warning: masks of other runs or spaces are left out: {shortened(others)}")
    lone = [f"sub-{subject}" for subject, session in found if (subject, session) not in images]
    if lone:
        notes.append(f"warning: masks without images, left out: {shortened(lone)}")
    return {session: _one_mask(files) for session, files in found.items() if session in images}


def _fits(mask: _File, images: Sequence[_File]) -> bool:
    """Whether a mask is of the run of one of the images, and in its space."""
    if mask.entities.get("space", "orig").lower() not in _OWN_SPACES:
        return False
    said = {key: mask.entities[key] for key in ("run", "acq", "rec") if key in mask.entities}
    return any(said.items() <= image.entities.items() for image in images) or not said


def _one_mask(files: Sequence[_File]) -> _File:
    best = min(_MASKS.index(file.suffix) for file in files)
    left = [file for file in files if _MASKS.index(file.suffix) == best]
    if len(left) > 1:
        raise DataError(
            f"{left[0].path} and {left[1].path} are both segmentations of one session; keep one, "
            "or name the right one in a table"
        )
    return left[0]


def _regions(root: Path, masks: Sequence[_File]) -> Regions | None:
    """The names of the labels: of a ``dseg.tsv``, or of masks that are called by one label."""
    called = {file.entities.get("label", "") for file in masks if file.suffix == "mask"}
    if len(called) == 1 and called != {""} and all(file.suffix == "mask" for file in masks):
        return dataset_regions({"labels": {"background": 0, called.pop(): 1}}, root)
    for folder in masks[0].path.parents:
        for path in (masks[0].path.with_name(_stem(masks[0].path) + ".tsv"), folder / "dseg.tsv"):
            if path.is_file():
                return _named_labels(path)
        if folder == root:
            break
    return None


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _named_labels(path: Path) -> Regions | None:
    """``index`` and ``name`` of each label."""
    names, lines = read_rows(path)
    if not {"index", "name"} <= set(names):
        raise DataError(f"{path}: needs the columns index and name")
    wrong = [row["index"] for _, row in lines if not re.fullmatch(r"[0-9]{1,9}", row["index"])]
    if wrong:
        raise DataError(f"{path}: index {wrong[0]!r} is no value of a label")
    labels = {row["name"]: int(row["index"]) for _, row in lines}
    return dataset_regions({"labels": {"background": 0} | labels}, path)
