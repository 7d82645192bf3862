"""A budget limits the target and never the source, also where both are trained on together."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtl.data.case import Case, ImageFile
from medtl.data.domain import parse_domain
from medtl.data.splits import Budget, Split
from medtl.errors import ConfigError
from medtl.training.split import cases_for, sources_of
from medtl.transfer.strategies.base import Request
from medtl.transfer.strategies.compared import joint
from medtl.transfer.strategies.finetune import fine_tune

MODALITIES = ("flair", "t1", "t1ce", "t2")
CASES = [
    Case(
        f"p{n}",
        f"p{n}",
        {name: ImageFile(Path(f"p{n}_{name}.nii")) for name in MODALITIES},
        site=f"S{n % 2 + 1}",
    )
    for n in range(12)
]
SPLIT = Split(tuple(f"p{n}" for n in range(8)), ("p8",), ("p10", "p9"), Budget(("p1", "p3"), ()))


def counts(src: str, dst: str, strategy) -> list[int]:
    """Training cases of each domain that a stage trains on with labels."""
    request = Request(parse_domain(src), parse_domain(dst), steps=4, batch_size=2, rate=0.1)
    stages = strategy(request)
    sources = sources_of(request, stages)
    domains = [d for stage in stages for d in (stage.domain, stage.beside) if d]
    return [len(cases_for(sources, SPLIT, domain, "train", CASES)) for domain in domains]


@pytest.mark.parametrize(
    ("src", "dst", "of_source"),
    [
        ("flair,t1ce", "t1,t2", 8),
        ("mod:t1+t2,site:S1", "mod:t1+t2,site:S2", 4),
        ("mod:flair+t1ce,site:S1", "mod:t1+t2,site:S2", 4),
    ],
)
def test_the_source_keeps_all_its_patients(src: str, dst: str, of_source: int) -> None:
    assert counts(src, dst, fine_tune) == [of_source, 2]
    assert counts(src, dst, joint) == [2, of_source]


def test_the_target_is_limited_where_it_is_the_source_too() -> None:
    assert counts("t1", "t1", fine_tune) == [2, 2]


def test_joint_of_the_same_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="has the images of --dst"):
        counts("t1,t2,flair", "t1,t2", joint)


def test_test_patients_are_those_of_the_split() -> None:
    domain = parse_domain("t1")
    tested = cases_for(frozenset(), SPLIT, domain, "test", CASES)
    assert [case.patient for case in tested] == ["p9", "p10"]
