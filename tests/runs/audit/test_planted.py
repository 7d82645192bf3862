"""Faults planted in volumes are found under their own names, and nothing in untouched ones."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from places import ROOT
from structures import write_structures

from medtl import api
from medtl.audit.inventory import take_inventory
from medtl.plugins.catalog import load_catalog

sys.path.insert(0, str(ROOT / "benchmarks"))

from damage.planted import VOLUMES, Fault


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=14, size=64, sites=2, seed=0)


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_structures(tmp_path_factory.mktemp("structures") / "data")


def check_found(fault: Fault, data: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(data, tmp_path / "data"))
    cases = take_inventory((copied,), load_catalog()).cases
    random = np.random.default_rng(0)
    order = [cases[int(n)] for n in random.permutation(len(cases))]
    named = fault.plant([case for case in order if case.target], random)
    found = api.audit(copied)
    about = {case for one in found.findings if one.kind == fault.kind for case in one.cases}
    assert set(named) & about, [(one.kind, one.cases, one.seen) for one in found.findings]


@pytest.mark.parametrize("kind", [fault.kind for fault in VOLUMES if not fault.structures])
def test_a_planted_fault_is_found_by_its_name(kind: str, phantom: Path, tmp_path: Path) -> None:
    check_found(next(fault for fault in VOLUMES if fault.kind == kind), phantom, tmp_path)


@pytest.mark.parametrize(
    "kind", [fault.kind for fault in VOLUMES if not fault.several and not fault.stripped]
)
def test_and_among_structures_that_lie_alike(kind: str, structures: Path, tmp_path: Path) -> None:
    check_found(next(fault for fault in VOLUMES if fault.kind == kind), structures, tmp_path)


@pytest.mark.parametrize("seed", [1, 2])
def test_untouched_phantoms_have_no_error_and_no_warning(
    seed: int, small_phantom: Callable[..., Path]
) -> None:
    found = api.audit(small_phantom(cases=20, size=64, sites=2, seed=seed))
    assert found.synthetic and "synthetic phantom" in found.verdict
    assert not found.errors
    assert len(found.flagged) <= 0.02 * len(found.cases), found.warnings


def test_untouched_structures_have_neither(structures: Path) -> None:
    found = api.audit(structures)
    assert not found.errors and not found.warnings, found.findings
