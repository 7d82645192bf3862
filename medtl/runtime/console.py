"""What a command prints: results on stdout, notes and progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from medtl.errors import visible

if TYPE_CHECKING:
    from rich.console import Console

    from medtl.runtime.table import Table

#: Without a terminal, progress becomes a plain line at most this often.
PLAIN_SECONDS = 15.0


class Advance(Protocol):
    """Report that ``done`` of the total are done."""

    def __call__(self, done: int, note: str = "") -> None: ...


def print_json(body: Any) -> None:
    """Print one JSON value on stdout, the last that goes there."""
    import atexit
    import json

    # Of what a terminal obeys, JSON in ASCII leaves this one character.
    print(json.dumps(body, indent=2).replace("\x7f", "\\u007f"))
    atexit.register(_leave_stdout)


def _leave_stdout() -> None:
    """What a plugin prints when Python ends goes to stderr."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        os.dup2(2, 1)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)


@dataclass(slots=True)
class Reporter:
    """Notes, warnings and progress on ``console``, tables of results on ``results``.

    ``quiet`` keeps back all but warnings. ``silent`` prints nothing: where another process prints
    the same. ``warnings`` holds the texts of :meth:`warn`, each once, printed or not.
    """

    quiet: bool = False
    console: Console = field(default_factory=partial(_console, stderr=True))
    results: Console = field(default_factory=partial(_console, stderr=False))
    warnings: list[str] = field(default_factory=list)
    silent: bool = False

    @property
    def _brief(self) -> bool:
        return self.quiet or self.silent

    def say(self, text: str) -> None:
        if not self._brief:
            self._print(text)

    def warn(self, text: str, kept: str = "") -> None:
        """A ``warning:`` line, which the results of the command repeat (``summary.json``).

        The same text is printed once, and also if the reporter is ``quiet``: a result may be wrong.

        Args:
            kept: what the results repeat instead, where ``text`` names files of patients.
        """
        if (kept or text) not in self.warnings:
            self.warnings.append(kept or text)
            if not self.silent:
                self._print(f"warning: {text}")

    def _print(self, text: str) -> None:
        self.console.print(visible(text, keep="\n"), markup=False, emoji=False)

    def show(self, table: Table) -> None:
        """A table of results."""
        if not self._brief:
            self.results.print(table)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """Yield ``advance(done, note)``: a bar with ETA on a terminal, plain lines elsewhere."""
        if self._brief:
            yield lambda done, note="": None
        # Colour may be forced onto a file; a bar that redraws itself is for terminals alone.
        elif self.console.file.isatty() and not self.console.is_dumb_terminal:
            with self._bar() as bar:
                task = bar.add_task(visible(label), total=total, note="")

                def advance(done: int, note: str = "") -> None:
                    bar.update(task, completed=done, note=visible(note))

                yield advance
        else:
            yield self._plain(label, total)

    def _bar(self) -> Any:
        from rich import progress

        return progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
        )

    def _plain(self, label: str, total: int) -> Advance:
        started = last = monotonic()

        def advance(done: int, note: str = "") -> None:
            nonlocal last
            now = monotonic()
            if done < total and now - last < PLAIN_SECONDS:
                return
            last = now
            left = (now - started) / max(done, 1) * (total - done)
            remaining = f", {left:.0f} s left" if done < total else f" in {now - started:.0f} s"
            self.say(f"{label}: {done}/{total}{remaining}{'  ' + note if note else ''}")

        return advance


@dataclass(slots=True)
class Recorder(Reporter):
    """A Reporter that also keeps every note, warning and table, printed or not."""

    lines: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)
        Reporter.say(self, text)

    def warn(self, text: str, kept: str = "") -> None:
        if (kept or text) not in self.warnings:
            self.lines.append(f"warning: {text}")
        Reporter.warn(self, text, kept)

    def show(self, table: Table) -> None:
        self.tables.append(table)
        Reporter.show(self, table)
