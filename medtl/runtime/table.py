"""Tables as text: on a terminal, in a file, as Markdown or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING

from medtl.errors import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

_GAP = "  "


#: What starts a tag of HTML, which Markdown passes on.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def percentage(share: float) -> str:
    """``98.8%``; what is not quite nothing or all is not shown as 0.0% or 100.0%.

    >>> from medtl.runtime.table import percentage
    >>> percentage(0.988), percentage(0.0001), percentage(0.9999), percentage(0)
    ('98.8%', '<0.1%', '>99.9%', '0.0%')
    """
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout without rich: listings start fast and are easy to grep.

    Columns are aligned on the left; the last one may be as long as it likes.
    """
    for line in _aligned([headers, *rows]):
        print(*line, sep="\n")


def _aligned(lines: Sequence[Sequence[str]], width: int | None = None) -> list[list[str]]:
    """The lines of text of each row; cells wider than ``width`` allows are wrapped between
    words."""
    lines = [[visible(cell) for cell in line] for line in lines]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [
        max(len(word) for cell in column for word in cell.split() or [""]) for column in columns
    ]
    while width is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        slack = [own - fewest for own, fewest in zip(widths, least, strict=True)]
        if not any(slack):
            break
        widest = max(range(len(widths)), key=lambda n: (slack[n] > 0, widths[n]))
        widths[widest] -= 1
    return [_wrapped(line, widths) for line in lines]


def _wrapped(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = [
        wrap(cell, max(1, width), break_long_words=False, break_on_hyphens=False)
        if len(cell) > width
        else [cell]
        for cell, width in zip(line, widths, strict=True)
    ]
    return [
        _GAP.join(map(str.ljust, parts, widths)).rstrip()
        for parts in zip_longest(*cells, fillvalue="")
    ]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text. ``grouped``: a text shows the first column as headings over its rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    grouped: bool = False

    def plain(self, width: int | None = None) -> str:
        """The table as text, in lines of at most ``width`` characters where its words allow it."""
        notes = (visible(note, keep="\n") for note in self.notes)
        return "\n".join([visible(self.title), *self._body(width), *notes])

    def _body(self, width: int | None) -> Iterator[str]:
        if not self.grouped:
            for line in _aligned([self.columns, *self.rows], width):
                yield from line
            return
        inner = width - len(_GAP) if width else None
        head, *lines = _aligned([row[1:] for row in (self.columns, *self.rows)], inner)
        yield from (_GAP + text for text in head)
        for group, pairs in groupby(zip(self.rows, lines, strict=True), lambda pair: pair[0][0]):
            yield visible(group)
            yield from (_GAP + text for _, line in pairs for text in line)

    def markdown(self) -> str:
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        body = [
            "| " + " | ".join(_in_markdown(cell).replace("|", "\\|") for cell in line) + " |"
            for line in lines
        ]
        notes = (_in_markdown(note, keep="\n") for note in self.notes)
        title = _in_markdown(self.title)
        return "\n\n".join([f"**{title}**", "\n".join(body), *notes]) + "\n"

    def latex(self) -> str:
        """For a paper: a ``tabular`` of ``booktabs``, with title and notes as comments."""
        head, *lines = [
            " & ".join(map(_in_latex, line)) + r" \\" for line in (self.columns, *self.rows)
        ]
        comments = [f"% {visible(text)}" for text in (self.title, *self.notes)]
        spec = "l" * len(self.columns)
        body = [r"\toprule", head, r"\midrule", *lines, r"\bottomrule"]
        parts = [*comments, rf"\begin{{tabular}}{{{spec}}}", *body, r"\end{tabular}"]
        return "\n".join(parts) + "\n"

    def html(self) -> str:
        """For a notebook; whatever a name holds is shown as text."""
        head = "".join(f"<th>{in_html(name)}</th>" for name in self.columns)
        lines = ("".join(f"<td>{in_html(cell)}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        notes = "".join(f"<p>{in_html(note)}</p>" for note in self.notes)
        return (
            f"<table><caption>{in_html(self.title)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>{notes}"
        )

    _repr_html_ = html

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        from rich.text import Text

        width = console.width
        yield Text(_folded(self.title, width, console), style="bold")
        for line in self._body(width):
            yield Text(line)
        for note in self.notes:
            yield Text(_folded(note, width, console))


#: What LaTeX takes for commands.
_LATEX = str.maketrans(
    {**{sign: rf"\{sign}" for sign in "&%$#_{}"}, "\\": r"\textbackslash{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _in_latex(text: str) -> str:
    return visible(text).translate(_LATEX)


def in_html(text: str) -> str:
    """Text for a page, whatever it holds."""
    return escape(visible(text, keep="\n"))


def _in_markdown(text: str, keep: str = "") -> str:
    """Text that starts no tag and no link."""
    return _TAG.sub("&lt;", visible(text, keep)).replace("](", "]\\(")


def _folded(text: str, width: int, console: Console) -> str:
    """A sentence in lines of a terminal; in a file it stays one line, which is easy to search."""
    text = visible(text, keep="\n")
    return "\n".join(wrap(text, width)) if console.is_terminal else text
