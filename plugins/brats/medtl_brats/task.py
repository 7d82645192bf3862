"""The BraTS task: a folder in any public layout -> a Cohort with one label scheme per layout."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medtl.data.case import Case, Cohort
from medtl.data.phantom import notes_of, read_index
from medtl.data.task import Defaults, Task
from medtl.errors import DataError
from medtl.runtime.parallel import in_threads
from medtl_brats.labels import SCHEMES, USUAL, Scheme, check_values, decide, named_scheme
from medtl_brats.layouts import MODALITIES, Found, Survey, survey

#: A patient's scans share the patient: the last number counts the scans of these releases.
_SCAN_OF_PATIENT = re.compile(
    r"(?P<patient>BraTS-[A-Z]+(?:-[A-Z]+)?-\d+)-\d{1,3}"  # 2023+: BraTS-GLI-00000-000
    r"|(?P<release>brats1[789]_.+)_\d+"  # 2017-2019: Brats18_TCIA01_131_1
    r"|(?P<vsd>brats_(?:2013|tcia)_pat\d+)_\d+",  # 2013-2016: brats_tcia_pat105_0001
    re.IGNORECASE,
)
#: Some names hold the hospital: Brats18_CBICA_AAM_1, TCGA-FG-6692.
_SITE = re.compile(r"brats1[789]_(?P<centre>[A-Z0-9]+)_.+|TCGA[-_](?P<tcga>\w\w)[-_]\w{4}.*", re.I)
_GRADES = {"hgg": "HGG", "hg": "HGG", "lgg": "LGG", "lg": "LGG"}


class Brats(Task):
    """Glioma segmentation: whole tumour, tumour core, enhancing tumour."""

    name = "brats"
    kind = "segmentation"
    regions = ("WT", "TC", "ET")
    modalities = MODALITIES
    nested = True
    segment_values = SCHEMES[USUAL["2013-2021"]].regions
    #: ``benchmarks/real_brats.py`` measures them on real cases.
    #: A patch holds a whole brain at 2 mm, as inference does: see decision 0004.
    defaults = Defaults(src="flair,t1ce", dst="t1,t2", patch_size=(80, 96, 80), batch_size=1)
    phantom_defaults = replace(
        defaults,
        network="plain-unet",
        width=16,
        options={"blocks": [1, 2], "decoder_blocks": [2, 1]},
        transforms="brain-mr-light",
        rate=4e-3,
        steps=720,
        patch_size=(32, 32, 32),
        batch_size=2,
    )

    def image_path(self, case: str, modality: str, number: int) -> str:
        """See :meth:`medtl.data.task.Task.image_path`: the layout of 2021."""
        return f"{case}/{case}_{modality}.nii"

    def target_path(self, case: str) -> str:
        """See :meth:`medtl.data.task.Task.target_path`."""
        return f"{case}/{case}_seg.nii"

    def cases(
        self,
        root: Path,
        labels: str | None = None,
        required: Sequence[str] | None = None,
        need_target: bool = True,
    ) -> Cohort:
        """Find the cases under ``root``, in any layout.

        Args:
            labels: name of the label scheme (``--labels``) instead of deciding by the values.
            required: modalities that every case must have.
            need_target: leave out unlabelled cases, and count them in the notes.

        Raises:
            DataError: no cases, none labelled, a missing modality, label values that fit no scheme
                or more than one; always naming the file.
            ConfigError: an unknown ``labels``.
        """
        root = Path(root)
        chosen = named_scheme(labels) if labels else None
        listing = survey(root)
        notes = list(listing.notes)
        kept = [case for case in listing.cases if case.target or not need_target]
        if not kept:
            raise DataError(
                f"{root}: none of its {len(listing.cases)} cases has a segmentation; "
                "they can be predicted, not trained or evaluated on"
            )
        if len(kept) < len(listing.cases):
            notes.append(f"{len(listing.cases) - len(kept)} unlabelled cases were left out")
        for case in kept:
            _check_modalities(case, required or ())
        values = _read_values(kept)
        schemes = _schemes(kept, values, chosen, notes)
        sites, grades, synthetic = _side_facts(listing)
        notes[:0] = notes_of(synthetic)
        return Cohort(
            root=root,
            cases=tuple(
                _case(case, schemes[case.layout], values.get(case.id), sites, grades)
                for case in kept
            ),
            notes=tuple(notes),
            synthetic=synthetic,
        )


def patient_of(case_id: str) -> str:
    """``BraTS-GLI-00000-001`` -> ``BraTS-GLI-00000``; other names stay as they are."""
    match = _SCAN_OF_PATIENT.fullmatch(case_id)
    return next(filter(None, match.groups())) if match else case_id


def _check_modalities(case: Found, required: Iterable[str]) -> None:
    for modality in required:
        if modality not in case.images:
            raise DataError(
                f"{case.id}: no {modality} file in {case.folder}; "
                f"expected {case.expected(modality)}"
            )


def _read_values(cases: Sequence[Found]) -> dict[str, tuple[int, ...]]:
    """Label values by case id. The first time every segmentation is read, in threads."""
    from medtl.data.io.nifti import label_values

    labelled = {case.id: case.target for case in cases if case.target is not None}
    return dict(zip(labelled, in_threads(label_values, labelled.values()), strict=True))


def _schemes(
    cases: Sequence[Found],
    values: Mapping[str, tuple[int, ...]],
    chosen: Scheme | None,
    notes: list[str],
) -> dict[str, Scheme]:
    """One scheme per layout; each is added to ``notes``."""
    schemes = {}
    for layout in dict.fromkeys(case.layout for case in cases):
        by_file = {
            case.target.path: values[case.id]
            for case in cases
            if case.layout == layout and case.target is not None
        }
        if not by_file:
            schemes[layout] = chosen or SCHEMES[USUAL[layout]]
            continue
        _refuse_paediatric(cases, layout, chosen)
        if chosen:
            check_values(chosen, by_file)
        schemes[layout] = chosen or decide(layout, by_file)
        number = f"{len(by_file)} case{'s' if len(by_file) > 1 else ''}"
        notes.append(f"labels: {schemes[layout]} for {number} in {layout} layout")
    return schemes


def _refuse_paediatric(cases: Sequence[Found], layout: str, chosen: Scheme | None) -> None:
    # Their releases number the same tissues differently under the same names.
    for case in cases:
        if case.layout == layout and case.target and "-ped-" in case.id.lower() and not chosen:
            raise DataError(
                f"{case.target.path}: the paediatric releases disagree on their label values; "
                f"name their scheme with --labels ({', '.join(SCHEMES)})"
            )


def _side_facts(listing: Survey) -> tuple[dict[str, str], dict[str, str], bool]:
    """Sites and grades by case id, from files beside the cases; whether they are synthetic."""
    sites: dict[str, str] = {}
    grades: dict[str, str] = {}
    for path in listing.name_mappings:
        _read_name_mapping(path, sites, grades)
    synthetic = False
    for folder in listing.phantoms:
        index = read_index(folder)
        sites.update({str(name): str(site) for name, site in index.get("sites", {}).items()})
        synthetic = synthetic or bool(index.get("synthetic"))
    return sites, grades, synthetic


def _read_name_mapping(path: Path, sites: dict[str, str], grades: dict[str, str]) -> None:
    """2018-2020's ``name_mapping.csv``: a patient per row, a column per release, and the grade."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table; remove or repair it") from error
    for row in rows:
        names = [v for k, v in row.items() if k and isinstance(v, str) and "subject" in k.lower()]
        site = next(filter(None, map(_site_in_name, reversed(names))), "")
        for name in names:
            sites[name] = site
            grades[name] = _GRADES.get((row.get("Grade") or "").lower(), "")


def _site_in_name(case_id: str) -> str:
    match = _SITE.fullmatch(case_id)
    return next(filter(None, match.groups())).upper() if match else ""


def _case(
    files: Found,
    scheme: Scheme,
    values: tuple[int, ...] | None,
    sites: Mapping[str, str],
    grades: Mapping[str, str],
) -> Case:
    folders = (_GRADES.get(word.lower(), "") for word in files.part.split("/"))
    grade = next(filter(None, folders), "") or grades.get(files.id, "")
    return Case(
        id=files.id,
        patient=patient_of(files.id),
        images={name: files.images[name] for name in MODALITIES if name in files.images},
        target=files.target,
        regions=scheme.regions,
        labels=scheme.allowed,
        site=sites.get(files.id) or _site_in_name(files.id),
        part=files.part,
        stratum=grade or _tumour(scheme, values),
    )


def _tumour(scheme: Scheme, values: tuple[int, ...] | None) -> str:
    if values is None:
        return ""
    if set(values) & set(scheme.enhancing):
        return "ET"
    return "no ET" if set(values) & set(scheme.regions["WT"]) else "no tumour"
