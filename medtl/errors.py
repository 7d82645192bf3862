"""What the user is shown: one line that names what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable


class MedtlError(Exception):
    """A known failure. The command line prints its message as one line and exits with 2."""

    exit_code = 2


class ConfigError(MedtlError):
    """An option or a configuration file that cannot be used."""


class UnknownNameError(ConfigError):
    """A task, network, strategy or other component that nobody offers."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        from difflib import get_close_matches

        names = sorted(known)
        near = get_close_matches(name.lower().replace("_", "-"), names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'flair'?``, where one of the ``known`` names is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class DataError(MedtlError):
    """A file or cohort that cannot be used; the message names the file."""


class WeightsError(MedtlError):
    """Weights that cannot be read or do not fit."""


class RunError(MedtlError):
    """A run folder that cannot be written, read or continued."""


class Interrupted(MedtlError):
    """Training was asked to stop, and has kept what it needs to go on."""

    exit_code = 130
