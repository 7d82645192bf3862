"""``python -m medtl`` is ``medtl``."""

from __future__ import annotations

from medtl.cli.start import main

main()
