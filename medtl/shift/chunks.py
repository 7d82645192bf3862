"""Arrangements a few at a time, so that memory does not grow with their number.

Axes: U unit, R arrangement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtl.shift.contract import Scorer

#: Numbers held at once by a scorer.
HELD = 4_000_000

Floats = NDArray[np.float64]
Chosen = NDArray[np.bool_]


def in_chunks(score: Scorer, held: int) -> Scorer:
    """``score``, given as many arrangements at a time as fit; each holds ``held`` numbers."""
    most = max(1, HELD // held)

    def chunked(source_RU: Chosen, target_RU: Chosen) -> Floats:
        starts = range(0, len(source_RU), most)
        parts = [score(source_RU[s : s + most], target_RU[s : s + most]) for s in starts]
        return np.concatenate(parts)

    return chunked
