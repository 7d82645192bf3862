"""Finding cases under every public layout. Only names are read, no image is opened."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medtl.data.case import ImageFile
from medtl.data.formats.folders import dicom_advice, held_in, walk
from medtl.data.modality import Modality, parse_modality
from medtl.data.phantom import INDEX
from medtl.errors import ConfigError, DataError, shortened

UNDERSTOOD = (
    "BraTS 2013-2021 (X_flair, X_t1, X_t1ce, X_t2, X_seg), "
    "BraTS 2023+ (X-t2f, X-t1n, X-t1c, X-t2w, X-seg), "
    "MSD Task01_BrainTumour (dataset.json) and DeepMedic (Flair_subtrMeanDivStd)"
)
MODALITIES = tuple(map(Modality, ("flair", "t1", "t1ce", "t2")))


@dataclass(frozen=True, slots=True)
class _Names:
    """How one layout names its files; without an ``id`` in the name, the folder is the case."""

    layout: str
    image: re.Pattern[str]
    target: re.Pattern[str]
    expected: str
    words: dict[str, str]


def _pattern(stem: str) -> re.Pattern[str]:
    return re.compile(stem + r"\.nii(\.gz)?", re.IGNORECASE)


_NAMES = (
    _Names(
        "raw",
        _pattern(r"raw_native_(?P<modality>fla|t1|t1c|t2)"),
        _pattern(r"raw_native_seg"),
        "raw_native_{word}.nii.gz",
        {"flair": "fla", "t1": "t1", "t1ce": "t1c", "t2": "t2"},
    ),
    _Names(
        "DeepMedic",
        _pattern(r"(?P<modality>flair|t1|t1c|t2)_subtrmeandivstd"),
        _pattern(r"otmulticlass"),
        "{word}_subtrMeanDivStd.nii.gz",
        {"flair": "Flair", "t1": "T1", "t1ce": "T1c", "t2": "T2"},
    ),
    _Names(
        "2023+",
        _pattern(r"(?P<id>.+)-(?P<modality>t2f|t1n|t1c|t2w)"),
        _pattern(r"(?P<id>.+)-seg"),
        "{id}-{word}.nii.gz",
        {"flair": "t2f", "t1": "t1n", "t1ce": "t1c", "t2": "t2w"},
    ),
    _Names(
        "2013-2021",
        _pattern(r"(?P<id>.+)_(?P<modality>flair|t1|t1ce|t1gd|t2)"),
        _pattern(r"(?P<id>.+)_seg"),
        "{id}_{word}.nii.gz",
        dict(zip(MODALITIES, MODALITIES, strict=True)),
    ),
)
_ANY_NIFTI = _pattern(r".+")
_ODD_SEGMENTATION = _pattern(r".*seg.*")


@dataclass(slots=True)
class Found:
    """One case by its file names. ``part`` is its folder, relative to the root."""

    id: str
    layout: str
    folder: Path
    part: str
    images: dict[Modality, ImageFile] = field(default_factory=dict)
    target: ImageFile | None = None

    def expected(self, modality: str) -> str:
        """What a missing image should be called."""
        for names in _NAMES:
            if names.layout == self.layout:
                return names.expected.format(id=self.id, word=names.words[modality])
        return f"{modality} among the modalities of dataset.json"


@dataclass(slots=True)
class Survey:
    """What a folder holds: cases by id, and notes for the user."""

    cases: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    name_mappings: list[Path] = field(default_factory=list)
    phantoms: list[Path] = field(default_factory=list)


def survey(root: Path) -> Survey:
    """Find every case under ``root``, sorted by id. Links are followed.

    Raises:
        DataError: no folder, no case, two files for one image, one case in two places, or a link
            that leads nowhere or in a circle.
    """
    if root.is_file():
        raise DataError(f"{root}: is a file; brats reads a folder of cases")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = Survey()
    doubles, lone = 0, 0
    unread: list[str] = []
    for held in walk(root, {"dataset.json": ("imagesTr", "imagesTs", "labelsTr")}):
        folder, files = held.path, {name: held.path / name for name in held.files}
        if "dataset.json" in files and (folder / "imagesTr").is_dir():
            found.cases += _read_msd(folder)
        if INDEX in files:
            found.phantoms.append(folder)
        found.name_mappings += [files[n] for n in files if n.lower() == "name_mapping.csv"]
        cases, two_forms, unknown = _group(root, folder, files)
        doubles += two_forms
        kept = [case for case in cases.values() if case.images]
        lone += len(cases) - len(kept)
        if len(kept) == 1 and kept[0].target is None:
            kept[0].target = odd = _odd_target(kept[0], files)
            if odd:
                lone -= any(case.target == odd for case in cases.values() if not case.images)
                found.notes.append(f"{kept[0].id}: {odd.path.name} is taken as its segmentation")
            unknown = [name for name in unknown if not odd or name != odd.path.name]
        found.cases += kept
        unread += [str((folder / name).relative_to(root)) for name in unknown]
    if not found.cases:
        advice = dicom_advice(root) or f"understood layouts: {UNDERSTOOD}"
        raise DataError(f"{root}: no cases found; {advice}")
    _check_unique(found.cases)
    found.cases.sort(key=lambda case: case.id)
    found.notes += _left_out(doubles, lone, unread)
    # A case folder of a phantom cohort is still a phantom.
    above = root.resolve().parents[:2]
    found.phantoms += [folder for folder in above if (folder / INDEX).is_file()]
    return found


def _left_out(doubles: int, lone: int, unread: Sequence[str]) -> list[str]:
    """Notes of what is there and is not read."""
    counted = (
        (doubles, "images lie there as .nii and as .nii.gz; the .nii is read"),
        (lone, "segmentations without images were left out"),
    )
    notes = [f"{count} {text}" for count, text in counted if count]
    if unread:
        notes.append(f"warning: files of no known name are not read: {shortened(unread)}")
    return notes


def _group(
    root: Path, folder: Path, files: dict[str, Path]
) -> tuple[dict[str, Found], int, list[str]]:
    """Cases of one folder by id, with images and properly named segmentations; how many images
    have two forms; the NIfTI files of no known name."""
    cases: dict[str, Found] = {}
    two_forms = 0
    unknown: list[str] = []
    for name, path in files.items():
        for names in _NAMES:
            match = names.image.fullmatch(name) or names.target.fullmatch(name)
            if match:
                break
        else:
            unknown += [name] if _ANY_NIFTI.fullmatch(name) else []
            continue
        parts = match.groupdict()
        case_id = parts.get("id") or folder.resolve().name
        if not case_id.isprintable():
            raise DataError(f"{folder}: {case_id!r} cannot be the name of a case; rename it")
        case = cases.setdefault(
            case_id, Found(case_id, names.layout, folder, _part(root, folder, case_id))
        )
        modality = parse_modality(parts["modality"]) if "modality" in parts else None
        known = case.images.get(modality) if modality else case.target
        if known is not None:
            _check_same_image(case_id, known.path, path)
            two_forms += 1
            path = min(known.path, path, key=lambda p: p.suffix.lower() == ".gz")
        if modality:
            case.images[modality] = ImageFile(path)
        else:
            case.target = ImageFile(path)
    return cases, two_forms, unknown


def _check_same_image(case_id: str, a: Path, b: Path) -> None:
    if a.name.removesuffix(".gz") != b.name.removesuffix(".gz"):
        raise DataError(f"{case_id}: both {a} and {b.name} could be meant; remove one of them")


def _part(root: Path, folder: Path, case_id: str) -> str:
    holder = folder.parent if case_id in folder.resolve().name else folder
    if not holder.is_relative_to(root):
        return ""
    part = holder.relative_to(root).as_posix()
    return "" if part == "." else part


def _odd_target(case: Found, files: dict[str, Path]) -> ImageFile | None:
    """The one oddly named segmentation in the folder of one case (2020's case 355)."""
    used = {image.path for image in case.images.values()}
    odd = [f for n, f in files.items() if _ODD_SEGMENTATION.fullmatch(n) and f not in used]
    return ImageFile(odd[0]) if len(odd) == 1 else None


def _read_msd(folder: Path) -> list[Found]:
    """Cases of a Medical Segmentation Decathlon folder: 4-D images, channels named in a JSON."""
    channels = _msd_modalities(folder / "dataset.json")
    labels = held_in(folder / "labelsTr").files if (folder / "labelsTr").is_dir() else []
    cases = []
    for images, part in (("imagesTr", "Training"), ("imagesTs", "Test")):
        for name in held_in(folder / images).files if (folder / images).is_dir() else ():
            if not _ANY_NIFTI.fullmatch(name):
                continue
            path = folder / images / name
            case_id = re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
            case = Found(case_id, "MSD", path.parent, part)
            case.images = {word: ImageFile(path, number) for number, word in channels.items()}
            if images == "imagesTr" and name in labels:
                case.target = ImageFile(folder / "labelsTr" / name)
            cases.append(case)
    return cases


def _msd_modalities(path: Path) -> dict[int, Modality]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        channels = {int(n): parse_modality(str(word)) for n, word in content["modality"].items()}
        labels = {int(n): str(word).lower() for n, word in content["labels"].items()}
    except (
        OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError, ConfigError,
    ) as error:  # fmt: skip
        raise DataError(f"{path}: not the dataset.json of MSD Task01 ({error})") from error
    names, odd = list(channels.values()), ""
    if not set(names) <= set(MODALITIES) or len(set(names)) < len(names):
        odd = f"modalities {', '.join(names)}"
    elif not ("edema" in labels.get(1, "") and labels.get(3, "").startswith("enhancing")):
        odd = "its labels"
    if odd:
        raise DataError(
            f"{path}: {odd} are not those of MSD Task01_BrainTumour; see task segmentation"
        )
    return channels


def _check_unique(cases: list[Found]) -> None:
    places: dict[str, Path] = {}
    for case in cases:
        other = places.setdefault(case.id, case.folder)
        if other != case.folder:
            raise DataError(f"{case.id}: found in {other} and in {case.folder}; remove one of them")
