"""The preset abdomen-ct: Hounsfield units mean the same in every case, and stay as they are."""

from __future__ import annotations

from dataclasses import replace

from medtl.transforms.augment import FULL
from medtl.transforms.presets import Preset
from medtl_liver_ct.lits import CT

#: The window in which radiologists read soft tissue: level 50 HU, width 400 HU.
LOW_HU, HIGH_HU = -150.0, 250.0
#: Brings the window to -2 .. 2, about the range of a z-score.
CENTRE_HU, SCALE_HU = 50.0, 100.0

#: Hounsfield units are calibrated, so contrast and brightness hardly vary between scanners, and
#: there is no bias field. The liver is on the right: mirrored patients do not exist.
AUGMENTATION = replace(
    FULL,
    flip=False,
    fade_p=0.0,
    bias_p=0.0,
    gamma_p=0.0,
    contrast=(0.9, 1.1),
    shift=0.1,
)


def abdomen_ct() -> Preset:
    """CT of the abdomen: RAS, clipped to -150 .. 250 HU, scaled to -2 .. 2, resampled.

    The core's ``ct`` measures its window on the training cases; this one is fixed, so that weights
    of one data set see another one as they saw their own.
    """
    windows = ((CT, (LOW_HU, HIGH_HU, CENTRE_HU, SCALE_HU)),)
    return Preset("abdomen-ct", AUGMENTATION, whole=True, windowed=True, windows=windows)
