"""medtl: will transfer learning help on my medical images, how, and did it really help?

Only the plugin contract lives here, and nothing heavy is imported: a plugin's ``plugin.py`` needs
no more than ``from medtl import Component, hookimpl``, and says ``PLUGIN_API = 1``: the version it
was written for, as a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pluggy

__version__ = "0.1.0"


#: Version of the plugin contract in :mod:`medtl.plugins.hookspecs`. Plugins state the one they
#: speak.
PLUGIN_API = 1


#: The oldest version that is still read (docs/decisions/0027-plugin-kit.md).
OLDEST_PLUGIN_API = 1


hookimpl = pluggy.HookimplMarker("medtl")


@dataclass(frozen=True, slots=True)
class Component:
    """A named thing a plugin offers; its code is imported only when :meth:`load` is called."""

    name: str
    target: str
    summary: str

    def load(self) -> Any:
        """Import and return what ``target`` ("package.module:attribute") points at."""
        module_name, _, attribute = self.target.partition(":")
        return getattr(import_module(module_name), attribute)


__all__ = ["OLDEST_PLUGIN_API", "PLUGIN_API", "Component", "__version__", "hookimpl"]
