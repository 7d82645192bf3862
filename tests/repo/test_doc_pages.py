"""Figures of the concept pages have a function that draws them; Python in the pages runs."""

from __future__ import annotations

import ast
import csv
import re
from pathlib import Path

import pytest
from places import ROOT

DOCS = ROOT / "docs"


def drawn() -> set[str]:
    """Names in ``FIGURES`` of every script, read without importing it."""
    names = set()
    for script in DOCS.glob("make_*_figures.py"):
        for node in ast.parse(script.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FIGURES":
                names |= set(map(ast.literal_eval, node.value.keys))
    return names


def python_of(page: str) -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def test_every_figure_is_shown_and_every_one_shown_is_drawn() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("concepts/*.md"))
    assert set(re.findall(r"\.\./_figures/([a-z-]+)\.png", pages)) == drawn()


def test_paired_differences_of_the_page_on_controls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A constant gain of .25 over A, none over B; two cases of a patient are averaged."""
    scores = {"unfreeze": 0.75, "control-a": 0.5, "control-b": 0.75}
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    with (run / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["stage", "case", "patient", "region", "dice"])
        for stage, dice in scores.items():
            for n in range(8):
                writer.writerow([stage, f"c{n}", f"p{n // 2}", "WT", dice + (n % 2) / 8])
                writer.writerow([stage, f"c{n}", f"p{n // 2}", "TC", 0.0])
    monkeypatch.chdir(tmp_path)
    exec(python_of("concepts/controls.md"), {})
    a, b = capsys.readouterr().out.splitlines()
    assert a.startswith("control-a Interval(mean=0.25, n=4")
    assert b.startswith("control-b Interval(mean=0.0, n=4")


def test_shift_of_arrays_as_on_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    exec(python_of("howto/shift.md"), {})
    assert 0.05 < float(capsys.readouterr().out) < 0.5
