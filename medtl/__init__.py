"""medtl: will transfer learning help on my medical images, how, and did it really help?

Only the plugin contract lives here, and nothing heavy is imported: a plugin's ``plugin.py`` needs
no more than ``from medtl import Component, hookimpl``, and says ``PLUGIN_API = 1``: the version it
was written for, as a number.
"""

from __future__ import annotations

import sys


def _interrupted(kind: Any, error: Any, trace: Any) -> None:
    if kind is KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Ctrl-C while the command line itself is still imported; nothing could catch it yet.
_NAMED = "".join(sys.argv[:1]).endswith(("/medtl", "\\medtl", "medtl.exe"))
if _NAMED or sys.orig_argv[1:3] == ["-m", "medtl"]:
    sys.excepthook = _interrupted

from collections.abc import Mapping  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from importlib import import_module  # noqa: E402
from typing import Any  # noqa: E402

import pluggy  # noqa: E402

__version__ = "0.1.0"


#: Version of the plugin contract in :mod:`medtl.plugins.hookspecs`. Plugins state the one they
#: speak.
PLUGIN_API = 1


#: The oldest version that is still read (docs/decisions/0027-plugin-kit.md).
OLDEST_PLUGIN_API = 1


hookimpl = pluggy.HookimplMarker("medtl")


@dataclass(frozen=True, slots=True)
class Component:
    """A named thing that a plugin offers; its code is imported only by :meth:`load`.

    ``renamed``: words that were given other names -> what to write now: the component's former name
    (``{"old-name": "new-name"}``), or a value of an option (``{"head=old": "head=new"}``). The
    catalog still finds a component by its former names; ``medtl train`` says what to write instead.
    """

    name: str
    target: str
    summary: str
    renamed: Mapping[str, str] = field(default_factory=dict, hash=False)

    def load(self) -> Any:
        """Import and return what ``target`` ("package.module:attribute") points at."""
        module_name, _, attribute = self.target.partition(":")
        return getattr(import_module(module_name), attribute)


def components(
    module: str, summaries: Mapping[str, str], renamed: Mapping[str, str] | None = None
) -> list[Component]:
    """A component per name of ``summaries``; ``a-name`` is the attribute ``a_name`` of ``module``.

    ``renamed`` is that of each of them; see :class:`Component`.
    """
    return [
        Component(name, f"{module}:{name.replace('-', '_')}", summary, renamed or {})
        for name, summary in summaries.items()
    ]


__all__ = [
    "OLDEST_PLUGIN_API",
    "PLUGIN_API",
    "Component",
    "__version__",
    "components",
    "hookimpl",
]
