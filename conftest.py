"""Test files run in as many processes as there are cores; each keeps to one of them."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A forked worker may spin for ever in the books that MKL's fast allocator keeps by thread.
os.environ.setdefault("MKL_DISABLE_FAST_MM", "1")
