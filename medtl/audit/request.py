"""The settings of ``medtl audit``. Wrong ones are refused before numpy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import permutations
from pathlib import Path
from typing import Any

from medtl.errors import ConfigError, UnknownNameError
from medtl.runtime.files import check_there, from_home, portable


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """What to look at.

    Args:
        roots: folders; of several, each is a side that must share no image with another.
        task: who reads them; None: whichever does.
        against: a run or a file of weights, whose training images must not be among them.
    """

    roots: tuple[Path, ...]
    task: str | None = None
    against: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of ``config.json``; paths are written without the user's name."""
        return {
            "roots": [portable(root) for root in self.roots],
            "task": self.task,
            "against": portable(self.against) if self.against else None,
        }


def build_request(roots: tuple[Path, ...], options: Mapping[str, Any]) -> AuditRequest:
    """Make an AuditRequest of settings by name; None leaves the default.

    Raises:
        ConfigError: no folder, one folder twice, or an unknown setting.
        DataError: a folder, or the run, is not there.
    """
    known = {column.name for column in fields(AuditRequest)} - {"roots"}
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known:
            raise UnknownNameError("setting of medtl audit", name, known)
    if not roots:
        raise ConfigError("name the folders to look at, as medtl audit DIR")
    own = tuple(from_home(root) for root in roots)
    for root in own:
        check_there(root)
    whole = {root: root.resolve() for root in own}
    if len(set(whole.values())) < len(own):
        raise ConfigError("a folder is named twice; name each once")
    for one, other in permutations(own, 2):
        if whole[one].is_relative_to(whole[other]):
            raise ConfigError(f"{one} lies in {other}; name folders that lie apart")
    if "against" in given:
        given["against"] = from_home(given["against"])
        check_there(given["against"])
    return AuditRequest(roots=own, **given)
