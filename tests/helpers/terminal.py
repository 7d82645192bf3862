"""``medtl`` as it is typed: in this process, or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from forked import Forked, server

from medtl.cli.start import main


def exit_code(*words: object) -> int:
    """Run ``medtl WORDS`` in this process."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["medtl", *map(str, words)])
        main()
    return int(ended.value.code or 0)


class Streams(NamedTuple):
    """What a command printed."""

    out: str
    err: str


class Terminal:
    """The command line in this process, with its two streams."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture

    def __call__(self, *words: object, code: int = 0) -> Streams:
        self.capture.readouterr()
        found = exit_code(*words)
        streams = Streams(*self.capture.readouterr())
        assert found == code, streams.err
        return streams

    def refused(self, *words: object) -> str:
        """Run a command that must end with exit code 2 and one line on stderr; return the line.

        Warnings may stand before it.
        """
        out, err = self(*words, code=2)
        assert out == "" and "Traceback" not in err
        (line,) = (text for text in err.splitlines() if not text.startswith("warning: "))
        assert line.startswith("error: ")
        return line


def run_python(
    *words: object,
    code: int | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run ``python WORDS`` in a process of its own.

    Args:
        code: the exit code it must end with; None: any.
        environment: variables beside those of this process.
        options: of ``subprocess.run``.
    """
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
        **options,
    )
    assert code in (None, done.returncode), done.stderr + done.stdout
    return done


def start_forked(
    *words: object, environment: Mapping[str, str] | None = None, processes: int = 1
) -> Forked:
    """:func:`run_forked` that does not wait for the end."""
    every = {**os.environ, **(environment or {})}
    return server().start(list(map(str, words)), every, os.getcwd(), processes)


def run_forked(
    *words: object,
    code: int | None = None,
    environment: Mapping[str, str] | None = None,
    processes: int = 1,
) -> subprocess.CompletedProcess[str]:
    """:func:`run_python` for ``-m medtl`` or a script, without the seconds of the imports.

    Variables that libraries read when they are imported have no effect.

    Args:
        processes: as many, told of each other as torchrun does; their streams one after another.
    """
    done = start_forked(*words, environment=environment, processes=processes).ended()
    assert code in (None, done.returncode), done.stderr + done.stdout
    return done


def run_medtl(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``medtl WORDS`` in a process of its own; ``options`` as for :func:`run_python`."""
    return run_python("-m", "medtl", *words, **options)
