"""Intensities of a case's channels: z-scores, grey levels, bias fields, blur.

Axes: C modality, I J K voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from medtl.data.io.grids import resample
from medtl.errors import DataError
from medtl.transforms.histogram import CLIP_PERCENTILES

#: N4 runs on a grid this many times coarser, as the bias field is smooth and the filter slow.
N4_SHRINK = 4


#: N4's B-spline mesh doubles from level to level; one level leaves half of a strong field.
N4_LEVELS = 4


#: N4 takes logarithms, so values are shifted to at least this share of their range.
POSITIVE_SHARE = 0.01


#: White in 8 and 16 bits.
WHITE = (255.0, 65535.0)


#: Mean and standard deviation of red, green and blue in ImageNet, of 0 to 1 (torchvision).
IMAGENET_STATISTICS = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))


#: Sigma of the blur that hides a picture's resolution, as a share of the head's longest edge.
HEAD_BLUR = 1 / 96


def zscore_in_brain(
    image_IJK: NDArray[np.float32],
    brain_IJK: NDArray[np.bool_],
    window: tuple[float, ...] | None = None,
) -> NDArray[np.float32]:
    """Clip to the brain's percentiles and z-score; 0 outside, and everywhere if all are equal.

    A ``window`` (low, high, mean, deviation) replaces the measured values.
    """
    every = bool(brain_IJK.all())
    values = image_IJK.flatten() if every else image_IJK[brain_IJK]
    if window is None:
        values = np.clip(values, *np.percentile(values, CLIP_PERCENTILES))  # in double precision
        mean, deviation = values.mean(), float(values.std())
    else:
        low, high, mean, deviation = window
        np.clip(values, low, high, out=values)
    if deviation:  # in place, as the image may be large
        values -= mean
        values /= deviation
    else:
        values[:] = 0
    if every:
        return values.reshape(image_IJK.shape).astype(np.float32, copy=False)
    scored = np.zeros(image_IJK.shape, dtype=np.float32)
    scored[brain_IJK] = values
    return scored


def white_of(stored: np.dtype[Any], image_IJK: NDArray[np.float32]) -> float:
    """White by the ``stored`` type, so that a dark picture of 16 bits stays dark.

    Of other types it is the least of 1 (floating point alone), 8 and 16 bits that no level exceeds.

    Raises:
        DataError: levels below 0 or above 16 bits do not say what is black and what is white.
    """
    eight, sixteen = WHITE
    if stored in (np.uint8, np.uint16):
        return eight if stored == np.uint8 else sixteen
    low, high = float(image_IJK.min()), float(image_IJK.max())
    if low < 0 or high > sixteen:
        raise DataError(
            f"levels of {low:g} to {high:g} do not say what is black and what is white; save the "
            "image with 8 or 16 bits, or choose transforms that standardise, such as picture"
        )
    whites = (1.0, eight, sixteen) if stored.kind == "f" else (eight, sixteen)
    return next(white for white in whites if high <= white)


def scale_levels(
    image_IJK: NDArray[np.float32], white: float, statistics: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """Levels of a picture -> 0 (black) to 1 (``white``), standardised by mean and deviation if
    given."""
    unit_IJK = image_IJK / np.float32(white)
    if statistics is None:
        return np.asarray(unit_IJK)
    mean, deviation = statistics
    return np.asarray((unit_IJK - np.float32(mean)) / np.float32(deviation))


def imagenet_levels(channel: int, channels: int) -> tuple[float, float]:
    """ImageNet's mean and deviation of a channel: red, green or blue of three, else their mean."""
    if channels == len(IMAGENET_STATISTICS):
        return IMAGENET_STATISTICS[channel]
    mean, deviation = np.mean(IMAGENET_STATISTICS, axis=0).tolist()
    return mean, deviation


def blurred(image_CIJK: Tensor) -> Tensor:
    """Blur in proportion to the head's size, which hides the picture's resolution."""
    sigma = HEAD_BLUR * max(image_CIJK.shape[1:])
    widths = [sigma if n > 1 else 0.0 for n in image_CIJK.shape[1:]]
    return torch.from_numpy(gaussian_filter(image_CIJK.numpy(), [0.0, *widths]))


def n4_correct(
    image_IJK: NDArray[np.float32], brain_IJK: NDArray[np.bool_], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Divide by the bias field that ITK's N4 finds on a coarser grid (Tustison et al. 2010).

    The bias is a factor, so values are shifted only as far as is needed to make them positive. The
    result is 0 outside the brain.
    """
    inside = image_IJK[brain_IJK]
    shift = max(0.0, POSITIVE_SHARE * float(np.ptp(inside)) - float(inside.min()))
    positive_IJK = np.where(brain_IJK, image_IJK + shift, 0.0)
    shape = tuple(max(8, n // N4_SHRINK) for n in image_IJK.shape)
    pair = torch.from_numpy(np.stack([positive_IJK, brain_IJK]).astype(np.float32))
    total, share = resample(pair, shape).numpy()
    mask = share > 0.5
    coarse = np.where(mask, total / np.maximum(share, 0.5), 1.0).astype(np.float32)
    corrected = _n4_filtered(coarse, mask, spacing_mm * N4_SHRINK)
    # The filter finds the field in the mask only; at its rim known values are extrapolated.
    known = np.where(mask, coarse / np.where(mask, corrected, 1.0), 0.0)
    pair = torch.from_numpy(np.stack([known, mask]).astype(np.float32))
    field, weight = functional.interpolate(
        pair[None], size=image_IJK.shape, mode="trilinear", align_corners=False
    )[0].numpy()
    known_IJK = brain_IJK & (weight > 0)
    result_IJK = positive_IJK.astype(np.float32)
    result_IJK[known_IJK] *= weight[known_IJK] / field[known_IJK]
    return result_IJK


def _n4_filtered(
    image_IJK: NDArray[np.float32], mask_IJK: NDArray[np.bool_], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The image that ITK's N4 has corrected within the mask."""
    import itk
    from itk import itkN4BiasFieldCorrectionImageFilterPython as n4

    source = itk.image_from_array(np.ascontiguousarray(image_IJK))
    source.SetSpacing([float(mm) for mm in spacing_mm[::-1]])
    region = itk.image_from_array(np.ascontiguousarray(mask_IJK.astype(np.uint8)))
    region.CopyInformation(source)
    # By its own name: itk.N4BiasFieldCorrectionImageFilter loads ten seconds of other filters, and
    # the function of that name gives whole numbers.
    correction = n4.itkN4BiasFieldCorrectionImageFilterIF3IUC3IF3.New()
    correction.SetInput(source)
    correction.SetMaskImage(region)
    correction.SetNumberOfFittingLevels([N4_LEVELS] * 3)
    correction.SetMaximumNumberOfIterations([50] * N4_LEVELS)
    correction.Update()
    corrected: NDArray[np.float32] = itk.array_from_image(correction.GetOutput())
    return corrected
