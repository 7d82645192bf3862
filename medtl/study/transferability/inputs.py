"""Checks of the features and labels that transferability is estimated from.

Axes: N example, F feature, C class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medtl.errors import DataError

Floats = NDArray[np.float64]


def finite_rows(features_NF: NDArray[Any], what: str = "features") -> Floats:
    """Features in double precision; ``what`` they are called in errors.

    Raises:
        DataError: not two axes, fewer than 2 examples, or a value that is not finite.
    """
    if features_NF.ndim != 2 or len(features_NF) < 2:
        shape = features_NF.shape
        raise DataError(f"{what} have the shape {shape}; give at least 2 examples as rows")
    rows_NF = features_NF.astype(np.float64)
    if not np.isfinite(rows_NF).all():
        raise DataError(f"{what} have values that are not finite; leave these examples out")
    return rows_NF


def class_numbers(labels_N: ArrayLike, examples: int, fewest: int = 2) -> NDArray[np.intp]:
    """The class of each example, 0 to C - 1 in the order of the labels.

    Raises:
        DataError: not one label per example, a label that is not finite, or fewer than ``fewest``
            classes.
    """
    label_N = np.asarray(labels_N)
    check_length(label_N, examples)
    if label_N.dtype.kind == "f" and not np.isfinite(label_N).all():
        raise DataError("labels have values that are not finite; leave these examples out")
    class_C, number_N = np.unique(label_N, return_inverse=True)
    if len(class_C) < fewest:
        raise DataError(f"all {examples} examples have the label {class_C[0]}; give two classes")
    return np.asarray(number_N, dtype=np.intp)


def check_length(label_N: NDArray[Any], examples: int) -> None:
    """Raise DataError unless there is one label for each of the examples."""
    if label_N.shape != (examples,):
        shape = label_N.shape
        raise DataError(f"labels have the shape {shape} for {examples} examples; give one of each")
