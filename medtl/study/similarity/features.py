"""Features of the same examples in two networks, as centred rows.

Axes: N example, F G feature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.errors import DataError

Floats = NDArray[np.float64]


def centred_rows(features_NF: NDArray[Any]) -> Floats:
    """Features less their means in double precision; axes after the first become one.

    Raises:
        DataError: a single axis, fewer than 2 examples, or a value that is not finite.
    """
    if features_NF.ndim < 2 or len(features_NF) < 2:
        shape = features_NF.shape
        raise DataError(f"features have the shape {shape}; give at least 2 examples as rows")
    rows_NF = features_NF.reshape(len(features_NF), -1).astype(np.float64)
    if not np.isfinite(rows_NF).all():
        raise DataError("features have values that are not finite; leave these examples out")
    rows_NF -= rows_NF[0].copy()  # a constant feature is exactly 0 after this, its mean too
    rows_NF -= rows_NF.mean(0)
    return rows_NF


def check_same_examples(x_NF: NDArray[Any], y_NG: NDArray[Any]) -> None:
    """Raise DataError unless both have the same number of examples."""
    if len(x_NF) != len(y_NG):
        raise DataError(
            f"one network has {len(x_NF)} examples, the other {len(y_NG)}; give the same ones"
        )
