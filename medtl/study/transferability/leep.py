"""LEEP and NCE: how well the classes of a source task predict those of the target.

Both need the source network's own head, and no features. Logarithms are natural; both scores are at
most 0, and 0 where source classes determine the target's.

Axes: N example, Z source class, C target class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medtl.errors import DataError
from medtl.study.transferability.inputs import Floats, class_numbers, finite_rows

#: The most by which probabilities of an example may miss a sum of 1 (single precision).
SUM_TOLERANCE = 1e-3


def leep(probabilities_NZ: NDArray[Any], labels_N: ArrayLike) -> float:
    """Log expected empirical prediction (Nguyen et al. 2020).

    The mean log probability of the target's labels, predicted from the source network's
    probabilities through the empirical distribution of labels given source classes.

    Raises:
        DataError: probabilities below 0 or of a sum other than 1, values that are not finite, a
            single class, or not one label per example.
    """
    source_NZ = finite_rows(probabilities_NZ, "source probabilities")
    if (source_NZ < 0).any() or (abs(source_NZ.sum(1) - 1) > SUM_TOLERANCE).any():
        raise DataError("source probabilities of an example do not add up to 1; apply softmax")
    class_N = class_numbers(labels_N, len(source_NZ))
    given_CZ = _target_given_source(source_NZ, class_N)
    return float(np.log((given_CZ[class_N] * source_NZ).sum(1)).mean())


def nce(source_labels_N: ArrayLike, labels_N: ArrayLike) -> float:
    """Negative conditional entropy of the target's labels given source labels (Tran et al. 2019).

    It is LEEP for source probabilities of 0 and 1.

    Raises:
        DataError: fewer than 2 examples, a label that is not finite, a single target class, or not
            one label per example.
    """
    source_N = class_numbers(source_labels_N, np.size(source_labels_N), fewest=1)
    return leep(np.eye(source_N.max() + 1)[source_N], labels_N)


def _target_given_source(source_NZ: Floats, class_N: NDArray[np.intp]) -> Floats:
    """Empirical probability of target classes given each source class (0: one never predicted)."""
    joint_CZ = np.eye(class_N.max() + 1)[class_N].T @ source_NZ
    total_Z = joint_CZ.sum(0)
    return np.asarray(joint_CZ / np.where(total_Z > 0, total_Z, 1))
