"""Maximum mean discrepancy and energy distance (Gretton et al. 2012; Szekely and Rizzo 2013).

Kernel values are summed once over pairs of units; every permutation is then a quadratic form.

The unbiased estimates average over pairs of rows *of different patients* in all three terms. All
pairs of patients have the same weight, whatever their number of images. Rows of one patient
resemble each other: pairs within a patient would increase the distance between two random halves
of a cohort, and reduce that between two modalities of the same patients. With one row per patient,
this is the usual unbiased estimate (Gretton et al. 2012, equation 3). It can be below 0.

Axes: N M row, F feature, U unit, R permutation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from medtl.errors import ConfigError, DataError
from medtl.shift.contract import Rows, Scorer, ShiftMetric
from medtl.shift.metrics import kernel_sums as sums
from medtl.shift.metrics import kernels
from medtl.shift.metrics.base import Chosen, Floats, Patients, equalise_rows, patients_of
from medtl.shift.metrics.kernel_sums import BLOCK, Indices
from medtl.shift.metrics.kernels import Kernel

#: Bandwidths of ``mmd-bandwidths``, in medians.
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def mmd() -> ShiftMetric:
    """Unbiased MMD-squared with an RBF kernel; its bandwidth is the median distance of rows."""
    return _metric("mmd", lambda values_NF: _rbf(values_NF, (1.0,)))


def mmd_biased() -> ShiftMetric:
    """MMD-squared as for ``mmd``, over all pairs: never below 0 (Gretton et al. 2012, eq. 5)."""
    return _metric("mmd-biased", lambda values_NF: _rbf(values_NF, (1.0,)), biased=True)


def mmd_bandwidths() -> ShiftMetric:
    """Unbiased MMD-squared, the mean over RBF kernels of 1/4 to 4 times the median distance."""
    return _metric("mmd-bandwidths", lambda values_NF: _rbf(values_NF, BANDWIDTHS))


def mmd_linear() -> ShiftMetric:
    """Unbiased MMD-squared with the linear kernel: the squared distance of the means."""
    return _metric("mmd-linear", lambda values_NF: kernels.linear())


def mmd_polynomial() -> ShiftMetric:
    """Unbiased MMD-squared with a cubic kernel, as in Binkowski et al. 2018 (KID)."""
    return _metric("mmd-polynomial", lambda values_NF: kernels.polynomial(values_NF.shape[1]))


def energy() -> ShiftMetric:
    """Energy distance over pairs of rows of different patients (Szekely and Rizzo 2013)."""
    return _metric("energy", lambda values_NF: kernels.distance())


def mmd2(
    x_NF: Floats,
    y_MF: Floats,
    *,
    kernel: str = "rbf",
    bandwidths: tuple[float, ...] | None = None,
    biased: bool = False,
    block: int = BLOCK,
    dtype: torch.dtype | None = None,
    device: str | None = None,
) -> float:
    """MMD-squared of two samples with independent rows.

    For several rows per patient, use the metrics above, which take patients into account.

    >>> import numpy as np
    >>> from medtl.shift.metrics.mmd import mmd2
    >>> rows_NF = np.array([[0.0], [1.0], [3.0]])
    >>> mmd2(rows_NF, rows_NF + 4, kernel="linear", biased=True)  # the means are 4 apart
    16.0

    Args:
        kernel: ``rbf``, ``linear``, ``polynomial`` or ``distance`` (the energy distance).
        bandwidths: h of ``exp(-|x - y|^2 / (2 h^2))``; the kernel is their mean. None: the median
            distance between pooled rows that are not equal.
        biased: the V-statistic, which is never below 0 (Gretton et al. 2012, equation 5).
        block: rows of a block.
        dtype: single or double precision; None: double for up to 10,000 rows.
        device: None: a CUDA device if there is one.

    Raises:
        ConfigError: unknown kernel.
        DataError: the samples do not have the same columns, too few rows, or values that are not
            finite.
    """
    if x_NF.ndim != 2 or y_MF.ndim != 2 or x_NF.shape[1] != y_MF.shape[1]:
        raise DataError(f"samples of shapes {x_NF.shape} and {y_MF.shape} cannot be compared")
    n, m = len(x_NF), len(y_MF)
    if min(n, m) < (1 if biased else 2):
        raise DataError(f"samples of {n} and {m} rows are too few")
    values_NF = np.concatenate([x_NF, y_MF], dtype=np.float64)
    if not np.isfinite(values_NF).all():
        raise DataError("samples hold values that are not finite")
    unit_N = np.repeat(np.arange(2), [n, m])
    chosen = _named(kernel, values_NF, bandwidths)
    sums_UU = sums.unit_sums(values_NF, unit_N, chosen, block=block, dtype=dtype, device=device)
    across = float(sums_UU[0, 1]) / (n * m)
    if biased:
        return float(sums_UU[0, 0]) / n**2 + float(sums_UU[1, 1]) / m**2 - 2 * across
    self_U = sums.self_sums(values_NF, unit_N, chosen)
    within = np.diagonal(sums_UU) - self_U
    return float(within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * across)


@dataclass(frozen=True, slots=True)
class _Quadratic:
    """Mean within source + mean within target - 2 x mean across, over the pairs included."""

    sums_UU: Floats  #: 0 for pairs that are not included
    patients: Patients
    biased: bool  #: whether pairs within a patient are included

    def __call__(self, source_RU: Chosen, target_RU: Chosen) -> Floats:
        if self.biased:
            source_RU, target_RU = self.patients.balanced(source_RU, target_RU)
        weights = self.patients.weights(source_RU), self.patients.weights(target_RU)
        forms = _forms(self.sums_UU, *weights)
        source_R, target_R, across_R = (
            np.divide(form_R, pairs_R, out=np.full(len(form_R), np.nan), where=pairs_R > 0)
            for form_R, pairs_R in zip(forms, self._pairs(source_RU, target_RU), strict=True)
        )
        return np.asarray(source_R + target_R - 2 * across_R)

    def _pairs(self, source_RU: Chosen, target_RU: Chosen) -> tuple[Indices, Indices, Indices]:
        """The number of pairs of patients: within the source, within the target, across."""
        source_RP, target_RP = (self.patients.rows(x_RU) > 0 for x_RU in (source_RU, target_RU))
        n_R, m_R = source_RP.sum(1), target_RP.sum(1)
        if self.biased:
            return n_R**2, m_R**2, n_R * m_R
        both_R = (source_RP & target_RP).sum(1)
        return n_R**2 - n_R, m_R**2 - m_R, n_R * m_R - both_R


def _forms(
    matrix_UU: Floats, source_RU: Floats, target_RU: Floats
) -> tuple[Floats, Floats, Floats]:
    """s'As, t'At and s'At of each permutation's weights s and t.

    If all permutations give each unit the same weight, in one domain only, t is the rest of s: one
    matrix product suffices instead of two.
    """
    by_source_RU = source_RU @ matrix_UU
    within_R = np.einsum("ru,ru->r", by_source_RU, source_RU)
    used_RU = source_RU + target_RU
    if (used_RU == used_RU[:1]).all() and not ((source_RU > 0) & (target_RU > 0)).any():
        by_used_U = matrix_UU @ used_RU[0]
        across_R = source_RU @ by_used_U - within_R
        return within_R, used_RU[0] @ by_used_U - within_R - 2 * across_R, across_R
    across_R = np.einsum("ru,ru->r", by_source_RU, target_RU)
    return within_R, np.einsum("ru,ru->r", target_RU @ matrix_UU, target_RU), across_R


def _metric(name: str, choose: Callable[[Floats], Kernel], *, biased: bool = False) -> ShiftMetric:
    def prepare(rows: Rows) -> Scorer:
        rows = equalise_rows(rows)
        sums_UU = sums.unit_sums(rows.values_NF, rows.unit_N, choose(rows.values_NF))
        if not biased:
            for unit, patient in enumerate(rows.patient_U):
                sums_UU[unit, rows.patient_U == patient] = 0
        return _Quadratic(sums_UU, patients_of(rows), biased)

    return ShiftMetric(name, prepare, jackknife=True)


def _named(kernel: str, values_NF: Floats, bandwidths: tuple[float, ...] | None) -> Kernel:
    if kernel == "rbf" and bandwidths is not None:
        return kernels.rbf([1 / (2 * bandwidth**2) for bandwidth in bandwidths])
    known: dict[str, Callable[[], Kernel]] = {
        "rbf": lambda: _rbf(values_NF, (1.0,)),
        "linear": kernels.linear,
        "polynomial": lambda: kernels.polynomial(values_NF.shape[1]),
        "distance": kernels.distance,
    }
    if kernel not in known:
        raise ConfigError(f"unknown kernel {kernel!r}; known: {', '.join(known)}")
    return known[kernel]()


def _rbf(values_NF: Floats, medians: tuple[float, ...]) -> Kernel:
    gamma = kernels.median_gamma(values_NF)
    return kernels.rbf([gamma / factor**2 for factor in medians])
