"""Sums of a kernel between units, block by block.

Memory grows with the rows and with the square of the number of units (8 bytes per pair: 0.5 GB for
8,000), not with the pairs of rows. Two more columns hold the norms in the matrix product, so that a
block costs one product, an elementwise function in place, and a sum.

Axes: N M row, F feature, E column of the product, U V unit (V of the second block).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medtl.shift.metrics.base import Floats
from medtl.shift.metrics.kernels import Kernel

#: Rows of a block: in single precision a block of pairs takes 16 MB.
BLOCK = 2048

#: With more rows, kernels are in single precision by default: their means are off by about 1e-7.
EXACT_ROWS = 10_000

Indices = NDArray[np.intp]


def unit_sums(
    values_NF: Floats,
    unit_N: Indices,
    kernel: Kernel,
    *,
    block: int = BLOCK,
    dtype: torch.dtype | None = None,
    device: str | None = None,
) -> Floats:
    """Sums of the kernel over all pairs of rows of two units, pairs of a row with itself included.

    Args:
        unit_N: the unit of each row, 0 to U - 1, in any order.
        block: rows of a block.
        dtype: single or double precision; None: double for up to 10,000 rows.
        device: None: a CUDA device if there is one.

    Returns:
        G_UU, symmetric.
    """
    dtype = dtype or (torch.float64 if len(values_NF) <= EXACT_ROWS else torch.float32)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    rows_NE = _embedded(values_NF, values_NF.mean(0), kernel, dtype, device)
    pairs = (np.unique(unit_N[s], return_inverse=True) for s in _slices(len(unit_N), block))
    members = [_Members(*(torch.from_numpy(x).to(device) for x in pair)) for pair in pairs]
    units = int(unit_N.max()) + 1
    sums_UU = torch.zeros(units, units, dtype=torch.float64, device=device)
    for one, two, values in _blocks(rows_NE, kernel, block):
        if one == two:
            if kernel.self_value is not None:
                values.fill_diagonal_(kernel.self_value)
            values /= 2  # this block holds every pair in both orders
        _add(sums_UU, values, members[one], members[two])
    total_UU: Floats = sums_UU.cpu().numpy()
    _add_transpose(total_UU)
    return total_UU


def self_sums(values_NF: Floats, unit_N: Indices, kernel: Kernel) -> Floats:
    """Sums of k(x, x) over the rows of each unit (U), which unbiased estimates leave out."""
    if kernel.self_value is not None:
        return np.bincount(unit_N).astype(np.float64) * kernel.self_value
    squares_N = torch.from_numpy(np.einsum("nf,nf->n", values_NF, values_NF))
    values_N = kernel.apply(squares_N * kernel.scale**2 + kernel.constant)
    return np.bincount(unit_N, weights=values_N.numpy()).astype(np.float64)


def matrix_product(like: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """rows_NE, rows_ME -> rows_NE rows_ME', for rows of the type and on the device of ``like``.

    On processors that are not Intel's, oneDNN takes half the time of torch's BLAS.
    """
    if like.dtype == torch.float32 and like.device.type == "cpu" and torch._C._has_mkldnn:
        onednn: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
        return lambda rows_NE, rows_ME: onednn(rows_NE, rows_ME, None, "none", [], "")
    return lambda rows_NE, rows_ME: rows_NE @ rows_ME.T


@dataclass(frozen=True, slots=True)
class _Members:
    """The units in a block of rows, and the index of each row's unit among them."""

    units: Tensor
    of: Tensor


def _embedded(
    values_NF: Floats, centre_F: Floats, kernel: Kernel, dtype: torch.dtype, device: str
) -> Tensor:
    """Rows as the right-hand side of the product, filled block by block.

    Distances do not depend on the centre, but their rounding errors do.
    """
    rows, features = values_NF.shape
    columns = features + (2 if kernel.norms else 1 if kernel.constant else 0)
    rows_NE = torch.empty(rows, columns, dtype=dtype, device=device)
    for part in _slices(rows, BLOCK):
        values = values_NF[part] - centre_F if kernel.norms else values_NF[part]
        scaled = torch.from_numpy(values * kernel.scale).to(device)
        rows_NE[part, :features] = scaled * 2**0.5 if kernel.norms else scaled
        if kernel.norms:
            rows_NE[part, -2] = 1
            rows_NE[part, -1] = -(scaled**2).sum(1)
        elif kernel.constant:
            rows_NE[part, -1] = kernel.constant**0.5
    return rows_NE


def _blocks(rows_NE: Tensor, kernel: Kernel, block: int) -> Iterator[tuple[int, int, Tensor]]:
    """Pairs of blocks, the second not before the first, with the kernel values between them."""
    product = matrix_product(rows_NE)
    for one, part in enumerate(_slices(len(rows_NE), block)):
        left_NE = rows_NE[part]
        if kernel.norms:
            left_NE = left_NE.clone()
            left_NE[:, -2:] = rows_NE[part, -2:].flip(1)
        for two, other in enumerate(_slices(len(rows_NE), block, one * block), one):
            yield one, two, kernel.apply(product(left_NE, rows_NE[other]))


def _slices(rows: int, block: int, start: int = 0) -> Iterator[slice]:
    return (slice(first, min(first + block, rows)) for first in range(start, rows, block))


def _add(sums_UV: Tensor, values_NM: Tensor, rows: _Members, columns: _Members) -> None:
    """Add a block's values to the sums of the units that its rows and columns belong to."""
    if len(rows.units) == len(columns.units) == 1:
        sums_UV[rows.units, columns.units] += values_NM.sum(1).double().sum()
        return
    parts_UM = values_NM.new_zeros(len(rows.units), values_NM.shape[1])
    parts_UM.index_add_(0, rows.of, values_NM)
    parts_VU = parts_UM.new_zeros(len(columns.units), len(rows.units), dtype=torch.float64)
    parts_VU.index_add_(0, columns.of, parts_UM.T.double())
    sums_UV[rows.units[:, None], columns.units] += parts_VU.T


def _add_transpose(values_UU: Floats) -> None:
    """In place, block by block: a copy would double the memory."""
    for part in _slices(len(values_UU), BLOCK):
        values_UU[part, part] += values_UU[part, part].T.copy()
        for other in _slices(len(values_UU), BLOCK, part.stop):
            values_UU[part, other] += values_UU[other, part].T
            values_UU[other, part] = values_UU[part, other].T
