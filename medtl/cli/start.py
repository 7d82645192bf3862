"""The first code of ``medtl``: it can be stopped from here on, while the rest is imported."""

from __future__ import annotations

import sys

from medtl.runtime.signals import stoppable


def main() -> None:
    """Run ``medtl`` and exit."""
    with stoppable() as stop:
        try:
            from medtl.cli.errors import guarded
            from medtl.cli.main import prepare

            command, debug = prepare()
            code = guarded(command, debug=debug, stop=stop)
        except KeyboardInterrupt:
            code = stop.say()
        except Exception:
            if stop.number is None:
                raise
            code = stop.say()  # an import that is interrupted may raise anything
    sys.exit(code)
