"""The listings print every component, each kind under its heading."""

from __future__ import annotations

import json

import pytest
from terminal import Terminal


@pytest.fixture
def medtl(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def test_one_kind_and_all_are_listed(medtl: Terminal) -> None:
    one, every = medtl("list", "networks").out, medtl("list").out
    assert one.startswith("NETWORKS") and one.strip() in every
    assert "STRATEGIES" in every and "STRATEGIES" not in one


def test_json_holds_the_kinds_asked_for(medtl: Terminal) -> None:
    assert list(json.loads(medtl("list", "--json", "tasks").out)) == ["tasks"]
    assert {"tasks", "networks"} < json.loads(medtl("list", "--json").out).keys()


def test_doctor_shows_what_its_json_holds(medtl: Terminal) -> None:
    facts = json.loads(medtl("doctor", "--json").out)
    shown = medtl("doctor").out
    assert facts and "torch" in shown and "medtl" in shown
