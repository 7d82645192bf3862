"""What a plan says that its test set and its labels cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from medtl.config import TrainConfig
from medtl.data.case import Case
from medtl.data.domain import parse_domain
from medtl.errors import ConfigError
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Reporter
from medtl.training.checks import few_tested, untold_regions
from medtl.training.plan import draft_stages
from medtl.training.stages import unused
from medtl.transfer.strategies.base import Stage

CONTROLLED = {"task": "brats", "with_control": True}


@pytest.mark.parametrize(
    ("tested", "patients", "settings", "said"),
    [
        (5, 25, CONTROLLED, ""),
        (
            1,
            8,
            CONTROLLED,
            "1 test patient: a verdict .* 5 or more .*use more data \\(8 are labelled\\)",
        ),
        (2, 12, CONTROLLED, r"use --folds 2 --fold 0 \(6 of 12\), or more data"),
        (4, 60, CONTROLLED, r"use --folds 5 --fold 0 \(12 of 60\)"),
        (4, 60, {"task": "brats"}, "4 test patients: an interval needs 5"),
        (4, 60, {**CONTROLLED, "protocol": "official"}, "use more data$"),
    ],
)
def test_too_few_test_patients_are_told_in_the_plan(tested, patients, settings, said) -> None:
    import re

    text = few_tested(tested, patients, "patients", TrainConfig(**settings))
    assert re.search(said, text) if said else text == ""


def test_what_the_labels_cannot_tell_is_told_once_per_scheme() -> None:
    def told(values, *, nested=False, exclusive=False) -> list[str]:
        task = SimpleNamespace(regions=tuple(values), nested=nested, exclusive=exclusive)
        return untold_regions(task, [Case(n, n, {}, regions=values) for n in "ab"])

    assert not told({"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}, nested=True)
    assert not told({"liver": (1,), "spleen": (2,)}, exclusive=True)
    assert not told({"A": (1, 3), "B": (2, 3)})
    (sentence,) = told({"WT": (1, 2), "NET": (1,), "ED": (2,)})
    assert "hold 2 of the 7 combinations of WT, NET, ED: WT+NET, WT+ED; " in sentence
    (sentence,) = told({"WT": (1, 2), "TC": (2, 1)}, nested=True)
    assert "1 of the 3 combinations" in sentence


def test_a_domain_without_modalities_has_those_of_the_task_s_own(
    small_phantom: Callable[..., Path],
) -> None:
    data = small_phantom(cases=6, size=32, sites=2, seed=3)
    asked = {"data": data, "strategy": "modality-transfer", "src": "site:S1", "dst": "site:S2"}
    draft = draft_stages(TrainConfig(task="brats", **asked), load_catalog(), Reporter(quiet=True))
    assert str(draft.request.source) == "mod:flair+t1ce,site:S1"
    assert str(draft.request.target) == "mod:t1+t2,site:S2"


@pytest.mark.parametrize("asked", [{"src": "t1"}, {"with_control": True}])
def test_from_scratch_by_default_takes_neither_source_nor_control(tmp_path: Path, asked) -> None:
    for name in ("i.nii.gz", "l.nii.gz"):
        (tmp_path / name).touch()
    table = tmp_path / "cases.csv"
    table.write_text("case,t1,label\na,i.nii.gz,l.nii.gz\n")
    config = TrainConfig(task="segmentation", data=table, labels="a=1", **asked)
    with pytest.raises(ConfigError, match="name a --strategy, for example"):
        draft_stages(config, load_catalog(), Reporter(quiet=True))


def test_momentum_without_sgd_is_told() -> None:
    config = TrainConfig(task="brats", momentum=0.5)
    stage = Stage("scratch", parse_domain("t1"), 2)
    request = SimpleNamespace(source=stage.domain, init=None)
    (line,) = unused(config, request, [stage])
    assert line == "momentum 0.5 is not used: it is that of sgd, and the stages take adamw"
    assert not list(unused(config, request, [replace(stage, optimizer="sgd")]))
    assert not list(unused(TrainConfig(task="brats"), request, [stage]))
