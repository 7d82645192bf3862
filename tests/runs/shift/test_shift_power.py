"""``medtl shift --power`` as it is typed, on a small phantom."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import exit_code

from medtl import api


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=8, size=24, sites=2, seed=3)


def test_power_is_told_after_the_verdict_and_written(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = ("--data", phantom, "--src", "flair", "--dst", "t1", "--metrics", "mmd,ks")
    words = ("shift", *ends, "--no-attribute", "--power")
    assert exit_code(*words, "--out", tmp_path / "out") == 0
    told = "".join(capsys.readouterr())
    assert "Patients that find a shift with a power of 80%; synthetic phantom" in told
    assert "8, 8 (pilot)" in told
    assert "patients in both domains for a power of 80%" in told
    written = json.loads((tmp_path / "out" / "power.json").read_text())
    assert written["metric"] == "mmd" and written["design"] == "paired"
    assert written["found"] and written["synthetic"] and 6 <= written["patients"] <= 8
    assert exit_code(*words, "--json", "-q") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["power"] == written
    assert printed["rows"] == json.loads((tmp_path / "out" / "shift.json").read_text())


def test_power_from_python(phantom: Path) -> None:
    wanted = {"data": phantom, "src": "mod:t2,site:S1", "dst": "mod:t2,site:S2"}
    found = api.shift(**wanted, metrics="mmd", attribute=False, power=True)
    assert found.power is not None
    assert found.power.pilot.design.name == "unpaired"
    assert found.power.tables()[0] in found.tables()
    assert api.shift(**wanted, metrics="mmd", attribute=False).power is None


def test_pilots_that_tell_nothing_leave_the_rest(
    phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", phantom, "--src", "flair", "--dst", "flair", "--metrics", "mmd", "--power")
    assert exit_code("shift", *words, "--no-attribute", "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["power"] is None
    assert "--power: nothing can be planned from this pilot" in told.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--across", "site"), "--power plans a test of two domains"),
        (("--metrics", "ks"), "put mmd among --metrics"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], said: str, phantom: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("shift", "--data", phantom, "--json", "--power", *words) == 2
    told = capfd.readouterr().err.strip().splitlines()
    assert said in told[-1]
    assert len(told) == 1
