"""Options: named groups, former names, and names that other programs use."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from terminal import exit_code
from typer.main import get_command

from medtl.api.settings import renamed
from medtl.cli.main import RENAMED, app
from medtl.config import TrainConfig, option_name, option_of

Told = Callable[..., tuple[int, str, str]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """The exit code and both streams of ``medtl WORDS``, run here."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")

    def run(*words: str) -> tuple[int, str, str]:
        code = exit_code(*words)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def given(*words: str) -> dict[str, Any]:
    """What the parser makes of a command's words; nothing runs."""
    root = get_command(app)
    context = root.make_context("medtl", [*words])
    name, command, rest = root.resolve_command(context, [*words])  # type: ignore[attr-defined]
    return dict(command.make_context(name, rest, parent=context).params)


def test_help_of_train_stands_in_named_groups_of_80_columns(told: Told) -> None:
    _, page, _ = told("train", "--help")
    panels = re.findall(r"^╭─ (\w+) ", page, re.MULTILINE)
    named = ["Data", "Transfer", "Training", "Split", "Hardware", "Output"]
    assert panels == ["Arguments", "Options", *named]
    assert max(map(len, page.splitlines())) == 80 and "…" not in page
    of = dict(zip(panels, re.split(r"^╭─", page, flags=re.MULTILINE)[1:], strict=True))
    for name, field in TrainConfig.model_fields.items():
        if group := option_of(field)["group"]:
            assert option_name(name) in of[group]


def test_every_option_of_train_reaches_its_setting() -> None:
    words = ("train", "brats", "--spacing", "2", "--lr", "0.1", "--allow-partial", "-o", "x")
    found = given(*words, "--map", "t1=t1ce,t2=flair", "--map", "ct=t1", "--test-cases", "a,b")
    values = {name: found[name] for name in TrainConfig.model_fields if found.get(name)}
    config = TrainConfig.model_validate(values)
    assert (config.task, config.spacing_mm, config.lr) == ("brats", 2, 0.1)
    assert config.map == {"t1": "t1ce", "t2": "flair", "ct": "t1"}
    assert config.allow_partial and config.test_cases == ("a", "b") and str(config.out) == "x"
    options = [
        name for name, field in TrainConfig.model_fields.items() if option_of(field)["group"]
    ]
    assert {"task", *options} <= set(found)


@pytest.mark.parametrize("words", [("-h",), ("train", "-h"), ("data", "phantom", "-h")])
def test_h_is_help(told: Told, words: tuple[str, ...]) -> None:
    code, page, _ = told(*words)
    assert code == 0 and "--help" in page and "-h" in page


ELSEWHERE = {
    "--learning-rate": "use --lr",
    "--epochs": "use --steps",
    "--source": "use --src",
    "--target": "use --dst",
    "--gpu": "use --device cuda; of several, CUDA_VISIBLE_DEVICES chooses one",
    "--output": "use --out",
    "--model": "use --network",
}


@pytest.mark.parametrize(("option", "hint"), ELSEWHERE.items())
def test_options_of_other_programs_are_answered_by_ours(told: Told, option: str, hint: str) -> None:
    expected = f"error: medtl train has no option {option}; {hint}\n"
    assert told("train", "brats", option, "1") == (2, "", expected)


@pytest.mark.parametrize("command", RENAMED)
def test_former_options_work_with_a_line_of_notice(told: Told, command: str) -> None:
    for former, present in RENAMED[command].items():
        _, _, error = told(command, former, "1", "--no-such-option")
        note, refused = error.splitlines()
        assert note == f"note: {former} is now {present}" and "--no-such-option" in refused
        assert present in {name for each in _options(command) for name in each.opts}
    assert given("train", "brats", "--rate", "0.5")["lr"] == 0.5
    assert given("predict", "run", "-i", "x", "-o", "y", "--flips")["tta"] is True


def _options(command: str) -> list[Any]:
    root = get_command(app)
    context = root.make_context("medtl", [command], resilient_parsing=True)
    return root.resolve_command(context, [command])[1].params  # type: ignore[attr-defined]


def test_a_former_name_in_set_is_told(told: Told) -> None:
    _, _, error = told("train", "--set", "rate=0.1", "--set", "steps=x")
    assert error.startswith("note: --set rate is now --set lr\nerror: --set steps=x")


def test_calls_take_former_keywords_with_a_warning() -> None:
    @renamed(rate="lr")
    def call(*, lr: float = 0.0) -> float:
        return lr

    with pytest.warns(FutureWarning, match="^rate is now lr$"):
        assert call(rate=0.5) == 0.5  # type: ignore[call-arg]
    assert call(lr=0.25) == 0.25
