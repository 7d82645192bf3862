"""The run folder: numbered, never overwritten, never half-written; and what the user is told."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from medtl.errors import RunError
from medtl.runtime.console import Recorder, Reporter
from medtl.runtime.records import read_json, read_lines
from medtl.runtime.run_folder import append_line, environment, open_run, start_run


def test_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [str(start_run("brats", "scratch", None).path) for _ in range(2)]
    assert names == ["runs/brats-scratch-01", "runs/brats-scratch-02"]
    assert str(start_run("brats", "fine-tune", None).path) == "runs/brats-fine-tune-01"


def test_named_run_may_be_new_or_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "deep" / "new"):
        assert {path.name for path in start_run("brats", "scratch", out).path.iterdir()} == {
            "environment.json"
        }
    (tmp_path / "empty" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not an empty folder"):
        start_run("brats", "scratch", tmp_path / "empty")


def test_folder_below_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=f"cannot write to {tmp_path}.*--out"):
        start_run("brats", "scratch", tmp_path / "file" / "run")


def test_environment_names_versions_but_no_user_or_host() -> None:
    import getpass
    import platform

    found = environment()
    assert {"torch", "monai", "medtl"} <= set(found["packages"])
    text = json.dumps({key: value for key, value in found.items() if key != "command"})
    assert platform.node() not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text("[{")
    with pytest.raises(RunError, match=r"splits\.json is not valid JSON"):
        read_json(tmp_path / "splits.json")
    with pytest.raises(RunError, match=r"stages\.json"):
        read_json(tmp_path / "stages.json")


def test_only_a_run_folder_is_opened_as_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no config\.yaml"):
        open_run(tmp_path)
    (tmp_path / "config.yaml").write_text("task: brats\n")
    assert open_run(tmp_path).path == tmp_path
    (tmp_path / "source").mkdir()
    for part in ("source", "config.yaml"):
        with pytest.raises(RunError, match=re.escape(f"did you mean {str(tmp_path)!r}")):
            open_run(tmp_path / part)


def test_lines_are_appended(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "validation": {"WT": 0.1}}]
    for row in rows:
        append_line(tmp_path / "metrics.jsonl", row)
    assert read_lines(tmp_path / "metrics.jsonl") == rows


@pytest.mark.parametrize("how", ["quiet", "silent"])
def test_quiet_reporter_says_nothing(how: str) -> None:
    stream = io.StringIO()
    reporter = Reporter(console=Console(file=stream), **{how: True})
    reporter.say("hello")
    reporter.show("table")
    with reporter.progress("training", 2) as advance:
        advance(2, "")
    assert stream.getvalue() == ""


def test_a_warning_is_printed_once_and_kept() -> None:
    stream = io.StringIO()
    reporter = Reporter(False, Console(file=stream, soft_wrap=True))
    for _ in range(2):
        reporter.warn("c1: odd")
    assert stream.getvalue() == "warning: c1: odd\n"


def test_a_quiet_reporter_warns_and_a_silent_one_keeps_it() -> None:
    stream = io.StringIO()
    quiet = Reporter(True, Console(file=stream, soft_wrap=True))
    silent = Recorder(console=Console(file=stream), silent=True)
    for reporter in (quiet, silent):
        reporter.warn("c2: odd")
        assert reporter.warnings == ["c2: odd"]
    assert stream.getvalue() == "warning: c2: odd\n"
    assert silent.lines == ["warning: c2: odd"]


def test_brackets_in_messages_are_no_markup() -> None:
    stream = io.StringIO()
    Reporter(False, Console(file=stream, soft_wrap=True)).say("[red] case [1] of x[/red]")
    assert stream.getvalue() == "[red] case [1] of x[/red]\n"


def test_progress_without_a_terminal_is_plain_lines() -> None:
    stream = io.StringIO()
    with Reporter(False, Console(file=stream, soft_wrap=True)).progress("source", 3) as advance:
        for step in (1, 2, 3):
            advance(step, f"loss {step}")
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("source: 3/3 in ") and line.endswith("loss 3")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar() -> None:
    stream = Screen()
    console = Console(file=stream, width=100, _environ={"TERM": "xterm"})
    with Reporter(False, console).progress("source", 3) as advance:
        advance(3, "loss 0.1")
    assert "3/3" in stream.getvalue() and "loss 0.1" in stream.getvalue()


def test_reports_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().say("a note")
    assert capsys.readouterr() == ("", "a note\n")


def test_a_misspelt_run_is_answered_by_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "brats-scratch-01").mkdir()
    near = f"no such run folder; did you mean {str(tmp_path / 'brats-scratch-01')!r}?"
    with pytest.raises(RunError, match=re.escape(near)):
        open_run(tmp_path / "brats-scrtach-01")
    with pytest.raises(RunError, match="name a folder that medtl train wrote"):
        open_run(tmp_path / "brats-scratch-01")
