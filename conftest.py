"""Test files run in as many processes as there are cores; each keeps to one of them."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
