"""Kernel sums between units, block by block: memory grows with the rows, not with their pairs.

Norms are folded into the matrix product by two more columns, so that a block costs one product
into the same small buffer, an elementwise function in place, and a sum.

Axes: N M row, F feature, E column of the product, U V unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medtl.errors import DataError
from medtl.shift.chunks import Floats

#: Rows of a block: in single precision a block of pairs takes 16 MB.
BLOCK = 2048
#: With more rows than this, kernels are computed in single precision by default: their means then
#: are off by about 1e-7.
EXACT_ROWS = 10_000
#: The median distance is that of at most so many rows.
MEDIAN_ROWS = 2000

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Kernel:
    """``apply`` turns products of embedded rows into kernel values, in place where it can.

    ``norms``: the embedding ends in (1, minus squared norm), which the other side sees swapped, so
    that the product is minus the squared distance. ``self_value``: k(x, x), where it is the same
    for all x.
    """

    name: str
    apply: Callable[[Tensor], Tensor]
    norms: bool
    scale: float = 1.0  #: rows are multiplied by it
    constant: float = 0.0  #: added to the product of two rows
    self_value: float | None = None


def rbf(gammas: Sequence[float]) -> Kernel:
    """exp(-gamma |x - y|^2), averaged over the gammas. Gretton et al. 2012 take gamma = 1 / (2 h^2)
    with h the median distance (:func:`median_gamma`)."""
    base, *others = gammas

    def apply(block: Tensor) -> Tensor:
        if not others:
            return block.exp_()
        total = torch.exp(block)
        for gamma in others:
            total += torch.exp(block * (gamma / base))
        return total.div_(len(gammas))

    return Kernel("rbf", apply, norms=True, scale=base**0.5, self_value=1.0)


def distance() -> Kernel:
    """-|x - y|: MMD-squared with it is the energy distance (Sejdinovic et al. 2013)."""
    return Kernel(
        "distance",
        lambda block: block.clamp_(max=0).neg_().sqrt_().neg_(),
        norms=True,
        self_value=0.0,
    )


def linear() -> Kernel:
    """x . y"""
    return Kernel("linear", lambda block: block, norms=False)


def polynomial(features: int) -> Kernel:
    """(x . y / F + 1)^3, as in the kernel inception distance (Binkowski et al. 2018, section 4)."""
    return Kernel(
        "polynomial",
        lambda block: block.mul_(block * block),
        norms=False,
        scale=features**-0.5,
        constant=1.0,
    )


def median_gamma(values_NF: Floats, *, seed: int = 0) -> float:
    """1 / (2 h^2), with h the median of the distances between pooled rows that are not 0.

    Of more than 2,000 rows, as many are taken at equal steps from a seeded start: each unit, whose
    rows are contiguous, by its share.

    Raises:
        DataError: all rows are equal.
    """
    from scipy.spatial.distance import pdist

    rows = len(values_NF)
    if rows > MEDIAN_ROWS:
        start = np.random.default_rng(seed).random()
        steps = (np.arange(MEDIAN_ROWS) + start) * rows / MEDIAN_ROWS
        values_NF = values_NF[steps.astype(np.intp)]
    distances = pdist(values_NF)
    distances = distances[distances > 0]
    if not len(distances):
        raise DataError("all rows of features are equal: there is no distance between them")
    return float(1 / (2 * np.median(distances) ** 2))


def unit_sums(
    values_NF: Floats,
    unit_N: Indices,
    kernel: Kernel,
    *,
    block: int = BLOCK,
    dtype: torch.dtype | None = None,
    device: str | None = None,
) -> Floats:
    """Sums of the kernel over all pairs of rows of two units, each row with itself included.

    Args:
        unit_N: of each row, 0 to U - 1, in any order.
        block: rows of a block.
        dtype: single or double precision; None: double for up to 10,000 rows.
        device: None: a CUDA device where there is one.

    Returns:
        G_UU, symmetric.
    """
    place = _place(len(values_NF), dtype, device)
    rows_NE = _embedded(values_NF, values_NF.mean(0), kernel, place)
    members = _members(unit_N, block, place)
    units = int(unit_N.max()) + 1
    sums_UU = torch.zeros(units, units, dtype=torch.float64, device=place.device)
    for one, two, values in _blocks(rows_NE, rows_NE, kernel, block, within=True):
        if one == two and kernel.self_value is not None:
            values.fill_diagonal_(kernel.self_value)
        _add(sums_UU, values, members[one], members[two])
        if one != two:
            _add(sums_UU, values.T, members[two], members[one])
    found: Floats = ((sums_UU + sums_UU.T) / 2).cpu().numpy()
    return found


def cross_sums(
    one_NF: Floats,
    unit_N: Indices,
    two_MF: Floats,
    unit_M: Indices,
    kernel: Kernel,
    *,
    block: int = BLOCK,
    dtype: torch.dtype | None = None,
    device: str | None = None,
) -> Floats:
    """As :func:`unit_sums`, between the units of two sets of rows: G_UV."""
    rows = len(one_NF) + len(two_MF)
    place = _place(rows, dtype, device)
    centre_F = (one_NF.sum(0) + two_MF.sum(0)) / rows
    rows_NE = _embedded(one_NF, centre_F, kernel, place)
    rows_ME = _embedded(two_MF, centre_F, kernel, place)
    members_N, members_M = _members(unit_N, block, place), _members(unit_M, block, place)
    shape = int(unit_N.max()) + 1, int(unit_M.max()) + 1
    sums_UV = torch.zeros(shape, dtype=torch.float64, device=place.device)
    for one, two, values in _blocks(rows_NE, rows_ME, kernel, block, within=False):
        _add(sums_UV, values, members_N[one], members_M[two])
    found: Floats = sums_UV.cpu().numpy()
    return found


def self_sums(values_NF: Floats, unit_N: Indices, kernel: Kernel) -> Floats:
    """Sums of k(x, x) over the rows of each unit (U): what an unbiased estimate leaves out."""
    if kernel.self_value is not None:
        return np.bincount(unit_N).astype(np.float64) * kernel.self_value
    squares_N = torch.from_numpy(np.einsum("nf,nf->n", values_NF, values_NF))
    values_N = kernel.apply(squares_N * kernel.scale**2 + kernel.constant)
    return np.bincount(unit_N, weights=values_N.numpy()).astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Place:
    dtype: torch.dtype
    device: str


def _place(rows: int, dtype: torch.dtype | None, device: str | None) -> _Place:
    if dtype is None:
        dtype = torch.float64 if rows <= EXACT_ROWS else torch.float32
    return _Place(dtype, device or ("cuda" if torch.cuda.is_available() else "cpu"))


@dataclass(frozen=True, slots=True)
class _Members:
    """The units in a block of rows, and for each row which of them it belongs to."""

    units: Tensor
    of: Tensor


def _members(unit_N: Indices, block: int, place: _Place) -> list[_Members]:
    found = []
    for part in _slices(len(unit_N), block):
        units, of = np.unique(unit_N[part], return_inverse=True)
        found.append(_Members(*(torch.from_numpy(index).to(place.device) for index in (units, of))))
    return found


def _embedded(values_NF: Floats, centre_F: Floats, kernel: Kernel, place: _Place) -> Tensor:
    """Rows as the right-hand side of the product sees them; filled block by block.

    Distances do not depend on the centre, but what rounding loses in them does.
    """
    rows, features = values_NF.shape
    columns = features + (2 if kernel.norms else 1 if kernel.constant else 0)
    rows_NE = torch.empty(rows, columns, dtype=place.dtype, device=place.device)
    for part in _slices(rows, BLOCK):
        values = values_NF[part] - centre_F if kernel.norms else values_NF[part]
        scaled = torch.from_numpy(values * kernel.scale).to(place.device)
        rows_NE[part, :features] = scaled * 2**0.5 if kernel.norms else scaled
        if kernel.norms:
            rows_NE[part, -2] = 1
            rows_NE[part, -1] = -(scaled**2).sum(1)
        elif kernel.constant:
            rows_NE[part, -1] = kernel.constant**0.5
    return rows_NE


def _blocks(
    rows_NE: Tensor, rows_ME: Tensor, kernel: Kernel, block: int, *, within: bool
) -> Iterator[tuple[int, int, Tensor]]:
    """The numbers of two blocks of rows, and the kernel values between them, overwritten by the
    next; ``within``: only the blocks on and above the diagonal."""
    buffer = rows_NE.new_empty(min(block, len(rows_NE)) * min(block, len(rows_ME)))
    for one, part in enumerate(_slices(len(rows_NE), block)):
        left_NE = rows_NE[part]
        if kernel.norms:
            left_NE = left_NE.clone()
            left_NE[:, -2:] = rows_NE[part, -2:].flip(1)
        first = one if within else 0
        for two, other in enumerate(_slices(len(rows_ME), block, first * block), first):
            right_ME = rows_ME[other]
            values = buffer[: len(left_NE) * len(right_ME)].view(len(left_NE), len(right_ME))
            torch.mm(left_NE, right_ME.T, out=values)
            yield one, two, kernel.apply(values)


def _slices(rows: int, block: int, start: int = 0) -> Iterator[slice]:
    return (slice(first, min(first + block, rows)) for first in range(start, rows, block))


def _add(sums_UV: Tensor, values_NM: Tensor, rows: _Members, columns: _Members) -> None:
    """Add a block's values to the sums of the units that its rows and columns belong to."""
    if len(rows.units) == len(columns.units) == 1:
        sums_UV[rows.units, columns.units] += values_NM.sum(dtype=torch.float64)
        return
    parts_UM = values_NM.new_zeros(len(rows.units), values_NM.shape[1])
    parts_UM.index_add_(0, rows.of, values_NM)
    parts_VU = parts_UM.new_zeros(len(columns.units), len(rows.units), dtype=torch.float64)
    parts_VU.index_add_(0, columns.of, parts_UM.T.double())
    sums_UV[rows.units[:, None], columns.units] += parts_VU.T
