"""Centred kernel alignment (CKA) with the linear kernel (Kornblith et al. 2019).

CKA is ``HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y))``. The usual estimate of the Hilbert-Schmidt
independence criterion (HSIC) is biased: with more features than examples, features that have
nothing in common have a CKA near 1 (Murphy et al. 2024). The default is therefore the unbiased
estimate HSIC_1 of Song et al. 2012. It may be below 0, and CKA then too.

Averages of the unbiased estimate over batches are unbiased as well, so feature maps of many
examples need not be in memory at once (Nguyen et al. 2020). The biased estimate depends
on the size of the batches.

Axes: N example, F G feature, A layer of one network, B layer of the other, K pair of examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.errors import DataError
from medtl.study.similarity.features import Floats, centred_rows, check_same_examples

#: Layers of features (N, F); further axes, such as those of a feature map, count as features.
Layers = Sequence[NDArray[Any]]

#: The unbiased estimate divides by N - 3.
FEWEST_EXAMPLES = 4

#: A layer's own HSIC below this share of its squared variance is 0.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Hsic:
    """HSIC of all pairs of layers, summed over batches with their examples as weights.

    The sum of two is that of all their batches.
    """

    cross_AB: Floats
    own_A: Floats
    own_B: Floats

    def __add__(self, other: Hsic) -> Hsic:
        if self.cross_AB.shape != other.cross_AB.shape:
            one, two = self.cross_AB.shape, other.cross_AB.shape
            raise DataError(f"batches have {one} and {two} layers; give the same layers of each")
        return Hsic(
            self.cross_AB + other.cross_AB, self.own_A + other.own_A, self.own_B + other.own_B
        )

    @property
    def cka_AB(self) -> Floats:
        """CKA of each layer of one network with each layer of the other.

        Raises:
            DataError: a layer whose features are the same, or equally far apart, for all examples.
        """
        for network, own in (("first", self.own_A), ("second", self.own_B)):
            if not own.all():
                layer = int(np.argmin(own)) + 1
                raise DataError(
                    f"layer {layer} of the {network} network does not tell the examples apart; "
                    "leave it out"
                )
        return np.asarray(self.cross_AB / np.sqrt(np.outer(self.own_A, self.own_B)))


def linear_cka(x_NF: NDArray[Any], y_NG: NDArray[Any], *, debiased: bool = True) -> float:
    """CKA of two layers: 1 if they are equal up to rotation and scale, about 0 if unrelated.

    For more than some thousand examples, :func:`minibatch_cka` needs less memory.

    >>> import numpy as np
    >>> from medtl.study.similarity.cka import linear_cka
    >>> rows_NF = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 0.0], [4.0, 1.0], [5.0, 5.0]])
    >>> round(linear_cka(rows_NF, 3 * rows_NF[:, ::-1]), 6)
    1.0

    Args:
        x_NF: features of one network; further axes count as features.
        y_NG: features of the same examples, in the same order, in the other network.
        debiased: whether HSIC is unbiased (Song et al. 2012) or biased (Kornblith et al. 2019).

    Raises:
        DataError: as for :func:`batch_hsic`, or a layer that does not tell the examples apart.
    """
    return float(batch_hsic([x_NF], [y_NG], debiased=debiased).cka_AB[0, 0])


def minibatch_cka(batches: Iterable[tuple[Layers, Layers]]) -> Floats:
    """Debiased CKA_AB of all pairs of layers, from batches of the layers of both networks.

    HSIC is averaged over batches before it is divided (Nguyen et al. 2020). Batches
    have their number of examples as weights: with equal batches, this is the plain average.

    Raises:
        DataError: as for :func:`linear_cka`, no batch, or batches with different layers.
    """
    parts = [batch_hsic(x_A, y_B) for x_A, y_B in batches]
    if not parts:
        raise DataError("there is no batch of features; give at least one")
    return reduce(add, parts).cka_AB


def batch_hsic(x_A: Layers, y_B: Layers, *, debiased: bool = True) -> Hsic:
    """HSIC of all pairs of layers in one batch, times its number of examples.

    Raises:
        DataError: fewer than 4 examples (biased: 2), layers with different numbers of them, or
            values that are not finite.
    """
    layers = (*x_A, *y_B)
    for layer in layers[1:]:
        check_same_examples(layers[0], layer)
    examples = len(layers[0])
    if debiased and examples < FEWEST_EXAMPLES:
        raise DataError(f"{examples} examples; debiased CKA needs at least {FEWEST_EXAMPLES}")
    kernel_AK = np.stack([_centred_kernel(layer, debiased) for layer in x_A])
    kernel_BK = np.stack([_centred_kernel(layer, debiased) for layer in y_B])
    pairs = examples * (examples - 3) if debiased else (examples - 1) ** 2
    scale = examples / pairs
    return Hsic(
        scale * kernel_AK @ kernel_BK.T,
        scale * (kernel_AK**2).sum(1),
        scale * (kernel_BK**2).sum(1),
    )


def _centred_kernel(features_NF: NDArray[Any], debiased: bool) -> Floats:
    """Products of rows (N x N, as one axis), whose inner products over layers give HSIC.

    Debiased: without products of an example with itself, and centred so that rows still sum to 0
    (Szekely and Rizzo 2014). Inner products are then those of Song et al. 2012.
    """
    rows_NF = centred_rows(features_NF)
    kernel_NN = rows_NF @ rows_NF.T
    variance = float(np.trace(kernel_NN)) / len(rows_NF)
    if debiased:
        n = len(rows_NF)
        np.fill_diagonal(kernel_NN, 0)
        sum_N = kernel_NN.sum(0) / (n - 2)
        kernel_NN -= sum_N + sum_N[:, None] - sum_N.sum() / (n - 1)
        np.fill_diagonal(kernel_NN, 0)
    if (kernel_NN**2).mean() <= ROUNDING * variance**2:
        kernel_NN[:] = 0
    return kernel_NN.ravel()
