"""Signals to stop: SIGINT (Ctrl-C), SIGTERM, and SIGUSR1, which SLURM can send in advance."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

#: Ends the job and queues it again. ``#SBATCH --signal=USR1@120`` sends it to the processes of
#: ``srun``, two minutes before the time limit.
REQUEUE = getattr(signal, "SIGUSR1", None)


@dataclass(slots=True)
class Stop:
    """The signal that ended the process, if one did; see :func:`stoppable`."""

    number: int | None = None
    _process: int = 0

    @property
    def text(self) -> str:
        return "terminated" if self.number == signal.SIGTERM else "interrupted"

    @property
    def code(self) -> int:
        """The exit code: 128 and the number of the signal."""
        return 128 + (self.number or signal.SIGINT)

    def say(self) -> int:
        """Print the line of a command that ends here; returns its exit code."""
        print("error:", self.text, file=sys.stderr, flush=True)
        return self.code

    def notice(self, number: int, _frame: Any) -> None:
        """Handle a signal."""
        if os.getpid() != self._process:  # a process that was forked from this one
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.number = number
        raise KeyboardInterrupt


@contextmanager
def stoppable() -> Iterator[Stop]:
    """SIGINT and SIGTERM become a KeyboardInterrupt, and are kept; restores former handlers."""
    stop = Stop(_process=os.getpid())
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    # One that was ignored (nohup), or not set from Python, stays as it is.
    former = {n: signal.getsignal(n) for n in numbers}
    former = {n: old for n, old in former.items() if old not in (None, signal.SIG_IGN)}
    try:
        for number in former:
            signal.signal(number, stop.notice)
        yield stop
    finally:
        for number, old in former.items():
            signal.signal(number, old)


@dataclass(slots=True)
class Interruption:
    """Whether a signal asked to stop; see :func:`watching` and :meth:`deferred`."""

    asked: bool = False
    requeue: bool = False
    _deferring: bool = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within it, the first signal only sets ``asked``, which the code within has to check."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self.asked:
            raise KeyboardInterrupt

    def requeue_job(self) -> bool:
        """Have SLURM queue this job again, if its signal came; True if that was done."""
        job = os.environ.get("SLURM_JOB_ID")
        if not (self.requeue and job):
            return False
        import subprocess  # the first code of `medtl` imports this module

        return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0

    def notice(self, number: int, _frame: Any) -> None:
        """Handle a signal."""
        self.requeue = self.requeue or number == REQUEUE
        if self.asked or not self._deferring:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def watching() -> Iterator[Interruption]:
    """Turn the signals into a KeyboardInterrupt, or defer them; restores the former handlers."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption  # only the main thread can handle signals
        return
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, REQUEUE) if n is not None]
    # A handler that was not set from Python could not be restored.
    former = {n: handler for n in numbers if (handler := signal.getsignal(n)) is not None}
    for number in former:
        signal.signal(number, interruption.notice)
    try:
        yield interruption
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def leave_signals_to_parent(_worker: int) -> None:
    """Run first in a worker process: Ctrl-C reaches it too, but the parent handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if REQUEUE is not None:
        signal.signal(REQUEUE, signal.SIG_IGN)
