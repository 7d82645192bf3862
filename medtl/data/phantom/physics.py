"""Tissue constants, scanners and the MR signal equations.

Axes: L tissue, I J K the voxel grid. Times in ms, contrast agent in mmol/l, field in tesla.

Sources. Grey and white matter and blood: Stanisz et al. 2005 (Magn Reson Med 54:507), 1.5 T and
3 T; moving blood loses about half of its signal. CSF: Rooney et al. 2007 (T1), Spijkerman et al.
2018 (T2). Proton densities: BrainWeb (Kwan et al. 1999). The ranges of oedema, tumour and
white-matter lesions are wide and overlap in quantitative studies (Just and Thelen 1988); the values
here were chosen so that intensity alone does not separate them. Agent
relaxivity: Rohrer et al. 2005. Spin echo and inversion recovery: Haacke et al., Magnetic Resonance
Imaging, 1999.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medtl.data.phantom.fields import FloatArray, random_field

#: A number or an array of numbers, one per voxel.
Quantity = FloatArray | float


RELAXIVITY_PER_MMOL_S = 4.0


CONTRASTS = ("flair", "t1", "t1ce", "t2")


#: Bias field of each contrast over that of a spin echo: inversion also feels the transmit field.
#: Stronger than in practice, for the same reason.
UNEVENNESS = {"flair": 2.5, "t1": 1.2, "t1ce": 2.0, "t2": 1.5}


@dataclass(frozen=True, slots=True)
class Tissue:
    """Relaxation times at (1.5 T, 3 T), proton density (CSF = 1) and mean agent uptake."""

    t1_ms: tuple[float, float]
    t2_ms: tuple[float, float]
    density: float
    agent_mmol: float = 0.0


TISSUES = {
    "white": Tissue((884, 1084), (72, 69), 0.77),
    "grey": Tissue((1124, 1820), (95, 99), 0.86),
    "csf": Tissue((4300, 4300), (2000, 2000), 1.0),
    "vessel": Tissue((1441, 1932), (290, 275), 0.5, 1.2),
    "choroid": Tissue((1250, 1750), (150, 140), 0.88, 0.4),
    "gliosis": Tissue((1350, 1750), (175, 165), 0.86),
    "oedema": Tissue((1350, 1750), (165, 155), 0.86),
    "necrosis": Tissue((2100, 2600), (260, 240), 0.95),
    "enhancing": Tissue((1200, 1650), (125, 115), 0.88, 0.35),
    "solid": Tissue((1250, 1700), (135, 125), 0.88),
}


TISSUE_NAMES = tuple(TISSUES)


@dataclass(frozen=True, slots=True)
class Sequence:
    """Timing of one contrast; ``ti_ms`` 0 means spin echo without inversion."""

    tr_ms: float
    te_ms: float
    ti_ms: float = 0.0


NOMINAL_SEQUENCES = {
    "flair": Sequence(9000, 115, 2480),
    "t1": Sequence(600, 12),
    "t1ce": Sequence(600, 12),
    "t2": Sequence(4500, 95),
}


@dataclass(frozen=True, slots=True)
class Scanner:
    """How one site images. Noise is relative to the mean signal of the brain."""

    field_t: float
    sequences: dict[str, Sequence]
    gains: dict[str, float]
    blur_mm: float
    noise: float
    bias: float


def draw_scanner(rng: np.random.Generator, shift: float) -> Scanner:
    """One site's settings. ``shift`` scales all deviations: 0 is the nominal scanner, 1 usual."""
    low_field = rng.random() < 0.4

    def vary(log_std: float) -> float:
        return float(np.exp(shift * np.clip(rng.normal(0, log_std), -2 * log_std, 2 * log_std)))

    sequences = {
        name: Sequence(s.tr_ms * vary(0.10), s.te_ms * vary(0.10), s.ti_ms * vary(0.02))
        for name, s in NOMINAL_SEQUENCES.items()
    }
    return Scanner(
        field_t=3.0 - 1.5 * min(shift, 1.0) * low_field,
        sequences=sequences,
        gains={name: 900.0 * vary(0.5) for name in CONTRASTS},
        blur_mm=1.2 * vary(0.25),
        noise=0.04 * vary(0.3),
        bias=0.16 * vary(0.3),
    )


def spin_echo(
    density: Quantity, t1_ms: Quantity, t2_ms: Quantity, sequence: Sequence
) -> FloatArray:
    """S = PD (1 - exp(-TR/T1)) exp(-TE/T2)."""
    recovered = 1 - np.exp(-sequence.tr_ms / np.asarray(t1_ms))
    return np.asarray(density * recovered * np.exp(-sequence.te_ms / np.asarray(t2_ms)))


def inversion_recovery(
    density: Quantity, t1_ms: Quantity, t2_ms: Quantity, sequence: Sequence
) -> FloatArray:
    """S = PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2), magnitude reconstruction."""
    t1 = np.asarray(t1_ms)
    recovered = np.abs(1 - 2 * np.exp(-sequence.ti_ms / t1) + np.exp(-sequence.tr_ms / t1))
    return np.asarray(density * recovered * np.exp(-sequence.te_ms / np.asarray(t2_ms)))


def shorten_t1(t1_ms: Quantity, agent_mmol: Quantity) -> FloatArray:
    """1/T1' = 1/T1 + r1 C."""
    per_ms = 1 / np.asarray(t1_ms) + RELAXIVITY_PER_MMOL_S * np.asarray(agent_mmol) / 1000
    return np.asarray(1 / per_ms)


def contrast_IJK(
    name: str,
    fractions_LIJK: FloatArray,
    agent_IJK: FloatArray,
    scanner: Scanner,
    variation_L2: FloatArray,
) -> FloatArray:
    """Noise-free signal of one contrast: tissue signals weighted by their share of each voxel.

    ``agent_IJK`` scales each tissue's agent uptake and acts on T1ce only. ``variation_L2`` holds a
    patient's factors on T1 and T2 per tissue.
    """
    sequence = scanner.sequences[name]
    high = (scanner.field_t - 1.5) / 1.5
    equation = inversion_recovery if sequence.ti_ms > 0 else spin_echo
    signal = np.zeros(agent_IJK.shape)
    for share, tissue, factor in zip(fractions_LIJK, TISSUES.values(), variation_L2, strict=True):
        t1 = (tissue.t1_ms[0] + high * (tissue.t1_ms[1] - tissue.t1_ms[0])) * factor[0]
        t2 = (tissue.t2_ms[0] + high * (tissue.t2_ms[1] - tissue.t2_ms[0])) * factor[1]
        agent = agent_IJK * tissue.agent_mmol if name == "t1ce" and tissue.agent_mmol else 0.0
        signal += share * equation(tissue.density, shorten_t1(t1, agent), t2, sequence)
    return signal


def rician(signal: FloatArray, sigma: float, rng: np.random.Generator) -> FloatArray:
    """Magnitude of a complex signal with Gaussian noise of ``sigma`` in both channels."""
    real = signal + rng.normal(0, sigma, signal.shape)
    return np.asarray(np.hypot(real, rng.normal(0, sigma, signal.shape)))


def acquire_IJK(
    signal_IJK: FloatArray,
    brain_IJK: NDArray[np.bool_],
    scanner: Scanner,
    spacing_mm: float,
    gain: float,
    unevenness: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Blur, receive-coil bias, Rician noise and gain: what the site's scanner makes of a signal.

    The blur is normalised by the brain, so that air does not darken its edge; air is set to 0
    afterwards, as skull stripping does.
    """
    sigma = scanner.blur_mm / spacing_mm
    weight = ndimage.gaussian_filter(brain_IJK.astype(float), sigma)
    image = ndimage.gaussian_filter(signal_IJK * brain_IJK, sigma) / np.maximum(weight, 1e-3)
    field = 1.5 * np.tanh(random_field(rng, image.shape[0], 62.0) / 1.5)
    image *= np.exp(scanner.bias * unevenness * field)
    image = rician(image, scanner.noise * float(image[brain_IJK].mean()), rng)
    return np.asarray(np.where(brain_IJK, gain * image, 0.0))
