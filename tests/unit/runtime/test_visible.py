"""What others wrote reaches no terminal, page or figure as more than text."""

from __future__ import annotations

import io
import sys
import unicodedata
import warnings
from pathlib import Path

import pytest
from matplotlib.text import Text
from rich.console import Console

from medtl.cli.errors import guarded
from medtl.errors import ConfigError, DataError, shortened, visible
from medtl.runtime.console import Reporter, print_json
from medtl.runtime.figure_style import attempted, new_grid, save, styled
from medtl.runtime.shown import Picture
from medtl.runtime.table import Table, print_table

#: A colour, a window's title, a link, a direction, nothing to see, a line of its own.
HOSTILE = (
    "\x1b[31mred\x1b]0;owned\x07 \x1b]8;;http://x\x1b\\ \x9b1m \x7f \u202eabc\u2066 a\u200bb\n"
)
HOSTILE += "[/x] [link=http://x]y[/link] :smile: \udc80"


def obeyed(text: str) -> set[str]:
    return {
        letter
        for letter in text
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and letter != "\n"
    }


def test_every_control_and_format_character_is_an_escape() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = visible(every)
    assert not obeyed(shown) and "\n" not in shown
    kept = [c for c in every if unicodedata.category(c)[0] in "LNPS"]
    assert sum(visible(c) == c for c in kept) >= len(kept) - 11
    assert visible("Ärztin 患者 é \n", keep="\n") == "Ärztin 患者 é \n"
    assert visible("a\x1b\x85\u202e\U000e0041\n\t") == r"a\x1b\x85\u202e\U000e0041\n\t"


def test_messages_lists_and_tables_are_text() -> None:
    assert not obeyed(str(DataError(HOSTILE)))
    assert "\n" not in shortened([HOSTILE, "b"])
    table = Table(HOSTILE, ("name", HOSTILE), ((HOSTILE, "1"), ("b", "<2")), (HOSTILE,))
    for text in (table.plain(), table.plain(40), table.markdown(), table.html()):
        assert not obeyed(text)
    assert "[link=http://x]y" in table.plain()
    page = Table("<img src=x>", ("a|b",), (("</td><script>x</script>",), ("[a](javascript:b)",)))
    assert "<script" not in page.html() and "<img" not in page.html()
    assert "<script" not in page.markdown() and "<img" not in page.markdown()
    assert "](javascript" not in page.markdown()
    picture = Picture(HOSTILE + '"><script>', b"")
    assert not obeyed(repr(picture) + picture.html()) and "<script" not in picture.html()


@pytest.mark.parametrize("terminal", [True, False])
def test_notes_tables_and_progress_are_text(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    console = Console(
        file=stream, force_terminal=terminal, color_system=None, soft_wrap=True, width=2000
    )
    reporter = Reporter(False, console, console)
    reporter.say(HOSTILE)
    reporter.warn(HOSTILE)
    reporter.show(Table(HOSTILE, ("name",), ((HOSTILE,),), (HOSTILE,)))
    before = stream.getvalue()
    assert not obeyed(before) and before.count("[/x]") == 5 and before.count(":smile:") == 5
    with reporter.progress(HOSTILE, 1) as advance:
        advance(1, HOSTILE)
    text = stream.getvalue()
    assert "\x1b]" not in text and "\x1b[31m" not in text and "\u202e" not in text
    assert text.count(":smile:") > 5


def test_listings_errors_and_json_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME",), [(HOSTILE,)])
    print_json({"name": HOSTILE.replace("\n", "")})

    def command() -> None:
        raise ConfigError(HOSTILE)

    def bug() -> None:
        raise ValueError(HOSTILE)

    for raising in (command, bug):
        assert guarded(raising, debug=True) in (1, 2)
    printed = capsys.readouterr()
    assert not obeyed(printed.out) and not obeyed(printed.err)
    assert printed.err.count("error: ") >= 2


def test_names_in_figures_are_neither_formulas_nor_controls(tmp_path: Path) -> None:
    name = r"x$y_$1 \frac{" + HOSTILE.replace("\n", "")
    with styled():
        figure, [[axis]] = new_grid(1, 1, (3, 3))
        axis.plot([0, 1], label=name)
        axis.set_xticks([0, 1], labels=[name, "b"])
        axis.legend()
        axis.set_title(name)
        with warnings.catch_warnings(record=True) as caught:
            save(figure, tmp_path / "a.png", name, synthetic=False)
    assert not [one for one in caught if "missing from" in str(one.message)]
    shown = [text.get_text() for text in figure.findobj(Text)]
    assert not any(map(obeyed, shown)) and sum("x$y_$1" in text for text in shown) >= 4
    assert (tmp_path / "a.png").stat().st_size


def test_a_figure_that_fails_is_a_warning() -> None:
    reporter = Reporter(quiet=True)
    with attempted("scores.png", reporter.warn):
        raise ValueError("no\nfont")
    assert reporter.warnings == [
        "scores.png is not drawn (ValueError: no font); scores and other files are complete"
    ]
    with pytest.raises(KeyboardInterrupt), attempted("scores.png", reporter.warn):
        raise KeyboardInterrupt
