"""The standard streams of the command: open, and stderr on a full disk ends nothing."""

from __future__ import annotations

import io
import os
import sys


class _Lossy(io.FileIO):
    """What cannot be written is dropped; a closed pipe is still an error."""

    def write(self, content: object, /) -> int:
        try:
            return super().write(content)  # type: ignore[arg-type]
        except BrokenPipeError:
            raise
        except OSError:
            return memoryview(content).nbytes  # type: ignore[arg-type]


def settle_streams() -> None:
    """Give each closed stream /dev/null, and drop what a full disk keeps from stderr.

    A file that is opened would take the number of a closed stream, and with it the messages that
    libraries write to that number. No-op for streams that a caller has replaced.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        buffered = io.BufferedWriter(_Lossy(2, "w", closefd=False))
        encoding = sys.stderr.encoding if sys.stderr else None
        sys.stderr = io.TextIOWrapper(buffered, encoding, "backslashreplace", line_buffering=True)
