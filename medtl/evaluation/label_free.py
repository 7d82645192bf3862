"""Model-selection scores, with and without target labels; higher is better.

Scores without labels use a model's predictions on unlabelled images: rows_NL, the probability of
each of L classes for each of N images or voxels.

Axes: N row, L class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medtl.data.subset import stride
from medtl.errors import ConfigError

#: Selectors that use the labels of validation patients of the stage's own domain.
LABELLED = ("validation", "source-validation")


#: Temperature of the soft neighbourhoods (Saito et al. 2021).
TEMPERATURE = 0.05


#: Neighbours are searched among at most this many rows.
MOST_ROWS = 2048


def negative_entropy(rows_NL: Tensor) -> float:
    """Minus the mean entropy (Morerio et al. 2018)."""
    return -float(_entropy(rows_NL).mean())


def information(rows_NL: Tensor) -> float:
    """Entropy of the mean minus mean entropy: confident predictions of all classes ("IM" of
    Musgrave et al. 2022; the mutual information of Krause et al. 2010)."""
    return float(_entropy(rows_NL.mean(0)) - _entropy(rows_NL).mean())


def neighbourhood_density(rows_NL: Tensor) -> float:
    """Soft neighbourhood density (Saito et al. 2021): the mean entropy of each row's similarities
    (softmax of cosines / 0.05) to the other rows; high where rows lie in dense clusters.

    Raises:
        ConfigError: there is a single row, which has no neighbour.
    """
    if len(rows_NL) < 2:
        raise ConfigError("select_by snd compares images, and there is one: choose entropy")
    rows_NL = rows_NL[:: stride(len(rows_NL), MOST_ROWS)]
    unit_NL = functional.normalize(rows_NL)
    likeness_NN = unit_NL @ unit_NL.T / TEMPERATURE
    likeness_NN.fill_diagonal_(-torch.inf)
    return float(_entropy(likeness_NN.softmax(1)).mean())


#: Selectors that use no labels.
LABEL_FREE: dict[str, Callable[[Tensor], float]] = {
    "entropy": negative_entropy,
    "im": information,
    "snd": neighbourhood_density,
}


SELECTORS = (*LABELLED, *LABEL_FREE)


def check_selector(name: str, *, unlabelled: bool) -> None:
    """Raise ConfigError for a selector that is unknown, or whose unlabelled images are missing."""
    if name not in SELECTORS:
        raise ConfigError(f"select_by: must be {', '.join(SELECTORS)}, not {name!r}")
    if name in LABEL_FREE and not unlabelled:
        raise ConfigError(f"select_by {name} looks at unlabelled images; this stage sees none")


def select_score(name: str, tables: Sequence[Tensor]) -> dict[str, float]:
    """The score of a label-free selector: its mean over ``tables`` (rows_NL of each output)."""
    scores = [LABEL_FREE[name](rows_NL.double()) for rows_NL in tables]
    return {name: sum(scores) / len(scores)}


def _entropy(rows_NL: Tensor) -> Tensor:
    """In nats, along the last axis."""
    found: Tensor = torch.special.entr(rows_NL).sum(-1)
    return found
