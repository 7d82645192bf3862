"""How the best weights of a stage are told, also where the target has no labels.

Every score is higher where it is better. Those without labels look at what a model says of the
unlabelled images: rows_NL, the probability of each of L classes for each of N images, or voxels.

Axes: N row, L class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medtl.errors import ConfigError
from medtl.runtime.subset import stride

#: Selectors that look at labels: of validation patients of the stage's own domain.
LABELLED = ("validation", "source-validation")


#: Sharpness of the soft neighbourhoods (Saito et al. 2021).
TEMPERATURE = 0.05


#: Neighbours are sought among so many rows.
MOST_ROWS = 2048


def negative_entropy(rows_NL: Tensor) -> float:
    """Minus the mean entropy: how sure the model is (Morerio et al. 2018)."""
    return -float(_entropy(rows_NL).mean())


def information(rows_NL: Tensor) -> float:
    """Entropy of the mean less mean entropy: sure of each, and of every class some ("IM" of
    Musgrave et al. 2022; the mutual information of Krause et al. 2010)."""
    return float(_entropy(rows_NL.mean(0)) - _entropy(rows_NL).mean())


def neighbourhood_density(rows_NL: Tensor) -> float:
    """Soft neighbourhood density (Saito et al. 2021): the mean entropy of each row's similarities
    (softmax of cosines / 0.05) to the other rows; high where rows lie in dense clusters.

    Raises ConfigError for a row alone, which has no neighbour.
    """
    if len(rows_NL) < 2:
        raise ConfigError("select_by snd compares images, and there is one: choose entropy")
    rows_NL = rows_NL[:: stride(len(rows_NL), MOST_ROWS)]
    unit_NL = functional.normalize(rows_NL)
    likeness_NN = unit_NL @ unit_NL.T / TEMPERATURE
    likeness_NN.fill_diagonal_(-torch.inf)
    return float(_entropy(likeness_NN.softmax(1)).mean())


#: Selectors that look at no label.
LABEL_FREE: dict[str, Callable[[Tensor], float]] = {
    "entropy": negative_entropy,
    "im": information,
    "snd": neighbourhood_density,
}


SELECTORS = (*LABELLED, *LABEL_FREE)


def check_selector(name: str, *, unlabelled: bool) -> None:
    """Refuse a selector that is not known, or that misses the images it looks at."""
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
