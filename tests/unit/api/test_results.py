"""What results look like, and that their words are those of the command line."""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
from places import ROOT

from medtl import api
from medtl.config import TrainConfig
from medtl.runtime.table import Table
from medtl.shift.request import ShiftRequest
from medtl.transfer.receipt import ReceiptRow

SCRIPT = "<script>alert('x')</script>"
GALLERY = sorted((ROOT / "examples").glob("plot_*.py"))


class Tags(HTMLParser):
    """The elements of a page; they must be closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.seen.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def scores(stage: str, synthetic: bool) -> api.Scores:
    interval = {"mean": 0.5, "n": 9, "low": 0.4, "high": 0.6, "method": "Student-t"}
    found = {metric: interval for metric in ("dice", "hd95_mm", "lesion_f1")}
    data = {"synthetic": synthetic, "leak": SCRIPT, "patients": 9}
    return api.Scores(data, {stage: {SCRIPT: found}}, [])


TENSOR = ReceiptRow("a", SCRIPT, "loaded", (2,), 2, note=SCRIPT)
RECEIPT = api.Receipt("file", (TENSOR,), whose=SCRIPT)
RESULTS = [
    scores(SCRIPT, True),
    RECEIPT,
    api.Split((SCRIPT,), (), ("b",), {SCRIPT: SCRIPT}),
    api.Listing(SCRIPT, ({"name": SCRIPT},)),
    api.Phantom(Path(SCRIPT), SCRIPT, 1, 16, 1, 0, 1.0),
    api.WeightsFile(
        {"path": SCRIPT, "parameters": 3, "format": "medtl", "synthetic": True}, None, ""
    ),
    api.Pictures((api.Picture(f'"{SCRIPT}', b"\x89PNG"),)),
    Table(SCRIPT, (SCRIPT,), ((SCRIPT,),), (SCRIPT,)),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_names_are_shown_as_text_never_as_html(result: object) -> None:
    assert "script" not in Tags(result._repr_html_()).seen  # type: ignore[attr-defined]


def test_synthetic_data_are_called_so_wherever_they_are_shown() -> None:
    for result in (scores("a", True), api.Phantom(Path("p"), "brats", 1, 16, 1, 0, 1.0)):
        assert "synthetic phantom" in repr(result)
        assert "synthetic phantom" in result._repr_html_()
    assert "synthetic" not in repr(scores("a", False)) + scores("a", False)._repr_html_()


@pytest.mark.parametrize("result", RESULTS[:-1], ids=lambda result: type(result).__name__)
def test_a_repr_is_one_short_line(result: object) -> None:
    assert "\n" not in repr(result) and len(repr(result)) < 200
    assert repr(result).startswith(f"<{type(result).__name__}: ")


def test_results_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        RESULTS[0].summary = {}  # type: ignore[attr-defined]


def test_the_machine_and_what_is_installed_as_the_command_line_lists_them(
    command, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    command("list", "networks", "--json")
    listed = json.loads(capsys.readouterr().out)["networks"]
    rows = api.components("networks").rows()
    assert [{key: row[key] for key in listed[0]} for row in rows] == listed
    command("plugins", "list", "--json")
    assert api.plugins().to_json() == json.loads(capsys.readouterr().out)
    command("doctor", "--json")
    theirs, ours = json.loads(capsys.readouterr().out), api.doctor().to_json()
    for report in (theirs, ours):
        report["memory_gb"].pop("free"), report["cache"].pop("free_gb")
    assert ours == theirs
    assert "Python" in repr(api.doctor()) and "<table>" in api.doctor()._repr_html_()


def test_settings_are_those_of_the_command_line() -> None:
    assert set(api.TrainSettings.__annotations__) == set(TrainConfig.model_fields) - {"task"}
    known = {field.name for field in fields(ShiftRequest)} - {"task", "settings"} | {"run", "layer"}
    assert set(api.ShiftSettings.__annotations__) == known


def readme() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Python\n")[2].partition("\n## ")[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL))


SOURCES = {path.name: path.read_text(encoding="utf-8") for path in GALLERY} | {
    "README.md": readme()
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_call_that_is_shown_exists_with_these_words(name: str) -> None:
    calls = [node for node in ast.walk(ast.parse(SOURCES[name])) if isinstance(node, ast.Call)]
    shown = [
        call
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "api"
    ]
    assert shown
    for call in shown:
        function = getattr(api, call.func.attr)  # type: ignore[attr-defined]
        words = [word.arg for word in call.keywords if word.arg]
        settings = {
            "train": api.TrainSettings,
            "plan": api.TrainSettings,
            "shift": api.ShiftSettings,
        }
        known = settings.get(function.__name__)
        unknown = [word for word in words if known and word in known.__annotations__]
        bound = {word: None for word in words if word not in unknown}
        inspect.signature(function).bind_partial(*call.args, **bound)
        if known:
            own = set(inspect.signature(function).parameters) - {"settings"}
            assert set(words) <= own | set(known.__annotations__)


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_gallery_scripts_are_gallery_scripts(path: Path) -> None:
    """A title, cells, a temporary folder that goes, and a word on what it is worth."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    title, line, *_ = (ast.get_docstring(tree) or "").splitlines()
    assert set(line) == {"="} and len(line) == len(title)
    assert text.count("# %%") > 2 and text.rstrip().endswith("work.cleanup()")
    assert "plt.show()" in text and re.search("prove|nothing|no evidence", text)
