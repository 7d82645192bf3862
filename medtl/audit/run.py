"""An audit from its settings to its findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl.audit.against import Against, read_against
from medtl.audit.checks.copies import (
    check_copies,
    check_neighbours,
    check_patients,
    find_pairs,
    groups_of_cases,
)
from medtl.audit.checks.files import check_files
from medtl.audit.checks.geometry import check_geometry
from medtl.audit.checks.images import check_images
from medtl.audit.checks.labels import check_labels
from medtl.audit.checks.measured import Measured, each_image, grouped
from medtl.audit.checks.predicted import predicted
from medtl.audit.checks.trained_on import check_trained_on, is_own_data
from medtl.audit.facts.cases import measure_cases
from medtl.audit.findings import Finding, in_order, once
from medtl.audit.inventory import take_inventory
from medtl.audit.report.result import Audit
from medtl.audit.request import AuditRequest
from medtl.audit.search.thumbnails import unpacked
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter


def audit_data(request: AuditRequest, catalog: Catalog, reporter: Reporter) -> Audit:
    """Look at all files below the folders.

    Raises:
        DataError: a folder holds no image.
        UnknownNameError: there is no such task.
    """
    against = read_against(request.against) if request.against else Against()
    inventory = take_inventory(request.roots, catalog, request.task)
    facts = measure_cases(inventory.cases, reporter)
    cohort = [
        Measured(case, own, inventory.sides[case.id])
        for case, own in zip(inventory.cases, facts, strict=True)
    ]
    pairs = find_pairs(cohort)
    groups = groups_of_cases(cohort, pairs)
    found = [
        *inventory.findings,
        *grouped([*check_files(cohort), *check_geometry(cohort), *check_images(cohort)], cohort),
        *grouped(check_labels(cohort), cohort),
        *check_copies(pairs),
        *check_patients(cohort),
        *check_neighbours(cohort),
        *once([*check_trained_on(cohort, against), *predicted(cohort, groups)]),
    ]
    return Audit(
        findings=tuple(in_order(found)),
        cases=tuple(case.id for case in inventory.cases),
        patients=len({case.patient for case in inventory.cases}),
        images=sum(len(case.images) for case in inventory.cases),
        groups=groups,
        notes=(*inventory.notes, *_notes(cohort, against)),
        synthetic=inventory.synthetic,
        looks=_looks(found, cohort),
        owners=_owners(found, cohort),
    )


def _notes(cohort: Sequence[Measured], against: Against) -> list[str]:
    if not is_own_data(cohort, against):
        return []
    return ["the run was made on these images: which of them it was trained on is not told"]


def _owners(found: Sequence[Finding], cohort: Sequence[Measured]) -> dict[Path, str]:
    """The case of each file that a finding is about."""
    wanted = {file for one in found for file in one.files}
    return {path: one.case.id for one in cohort for path in one.paths if path in wanted}


def _looks(found: Sequence[Finding], cohort: Sequence[Measured]) -> dict[Path, NDArray[np.uint8]]:
    """Thumbnails of the files that findings are about."""
    wanted = {file for one in found for file in one.files}
    return {
        one.path_of(name): unpacked(facts.thumbnail, facts.flat)
        for one, name, facts in each_image(cohort)
        if facts.thumbnail and one.path_of(name) in wanted
    }
