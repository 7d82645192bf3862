"""Protocols: the ways a task knows to divide its patients; some are there to show what leaks."""

from __future__ import annotations

from collections.abc import Mapping

from medtl.errors import ConfigError, nearest
from medtl.task import Task


def protocols_of(task: Task) -> Mapping[str, str]:
    """Name -> what it does, in a sentence; the first is the default. Most tasks have none."""
    found: Mapping[str, str] = getattr(task, "protocols", {})
    return found


def choose_protocol(task: Task, wanted: str | None) -> str | None:
    """The protocol asked for, or the task's default.

    Raises:
        ConfigError: the task does not have it.
    """
    known = protocols_of(task)
    if wanted is None:
        return next(iter(known), None)
    name = wanted.replace("_", "-").lower()
    if name in known:
        return name
    if not known:
        raise ConfigError(f"--protocol {wanted}: task {task.name} has no protocols; drop it")
    hint = nearest(name, known)
    raise ConfigError(f"task {task.name} has no protocol {wanted!r}{hint} (has {', '.join(known)})")
