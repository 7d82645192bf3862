"""Augmented patches: all randomness is drawn in one place, applying the draw is pure.

Axes: C modality, L region, I J K voxels. The spatial part (centre, rotation, scale, flips) is one
resampling of the patch; the intensity part follows nnU-Net's list (Isensee et al. 2021), and the
lesion's contrast varies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: Zero signal lies about this many deviations below the mean of a z-scored brain.
AIR = 3.0


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Ranges and probabilities; ``NONE`` leaves patches as they are."""

    overhang: float = 0.2  #: share of a patch's edge that may lie outside the image
    rotation_deg: float = 20.0
    scale: tuple[float, float] = (0.75, 1.3)
    spatial_p: float = 0.6
    flip: bool = True
    fade: tuple[float, float] = (-0.3, 0.7)  #: share of the first region's contrast taken away
    fade_p: float = 0.6
    noise: float = 0.15
    noise_p: float = 0.3
    blur_voxels: tuple[float, float] = (0.5, 1.0)
    blur_p: float = 0.2
    bias: float = 0.3
    bias_p: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.3)
    shift: float = 0.3
    intensity_p: float = 0.5
    gamma: tuple[float, float] = (0.7, 1.5)
    gamma_p: float = 0.4
    modality_dropout: float = 0.0  #: share of the patches that lack modalities; a run's setting


FULL = Augmentation()
LIGHT = Augmentation(
    overhang=0.0, spatial_p=0.0, fade_p=0.0, noise_p=0.0, blur_p=0.0, gamma_p=0.0, bias_p=0.0
)
NONE = Augmentation(
    overhang=0.0,
    spatial_p=0.0,
    flip=False,
    fade_p=0.0,
    noise_p=0.0,
    blur_p=0.0,
    bias_p=0.0,
    intensity_p=0.0,
    gamma_p=0.0,
)

#: For pictures shown whole: no region to fade, and little leaves the frame.
PICTURE = Augmentation(overhang=0.1, fade_p=0.0, noise=0.1, blur_p=0.1, scale=(0.85, 1.2))


@dataclass(frozen=True, slots=True)
class ChannelDraw:
    """What happens to one channel's intensities; 0 or 1 where nothing does."""

    fade: float
    noise: float
    blur_voxels: float
    bias: float
    contrast: float
    shift: float
    gamma: float
    gamma_inverted: bool


@dataclass(frozen=True, slots=True)
class Draw:
    """Everything random about a patch. ``matrix`` maps its offsets to the image's (voxels)."""

    centre: Tensor
    matrix: Tensor
    channels: tuple[ChannelDraw, ...]
    noise_seed: int
    missing: tuple[int, ...] = ()  #: channels that are blanked, never all of them


def draw(
    augmentation: Augmentation,
    centres: dict[str, Tensor],
    shape: tuple[int, int, int],
    patch: tuple[int, int, int],
    channels: int,
    seed: int,
    *,
    whole: bool = False,
) -> Draw:
    """Draw one patch. ``centres``: region -> flat voxel indices (may be empty); half of the
    patches are centred near a voxel of a randomly chosen region, the others anywhere, as far as
    ``overhang`` lets a patch reach beyond the image. ``whole``: the patch shows all of the image,
    off the centre by ``overhang`` at most."""
    random = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=random))

    def happens(probability: float) -> bool:
        return uniform(0, 1) < probability

    def pick(count: int) -> int:
        return int(torch.randint(count, (1,), generator=random))

    present = [voxels for voxels in centres.values() if len(voxels)]
    if present and happens(0.5):
        voxels = present[pick(len(present))]
        flat = int(voxels[pick(len(voxels))])
        _, j, k = shape
        position = (flat // (j * k), flat // k % j, flat % k)
        centre = [
            p + uniform(-0.25, 0.25) * edge if edge > 1 else p
            for p, edge in zip(position, patch, strict=True)
        ]
    else:
        centre = [
            uniform(0, n - 1) if edge > 1 else pick(n) for n, edge in zip(shape, patch, strict=True)
        ]

    a = augmentation
    if whole:
        centre = [
            (n - 1) / 2 + (uniform(-1, 1) * a.overhang * edge if edge > 1 else 0.0)
            for n, edge in zip(shape, patch, strict=True)
        ]
    else:
        centre = [
            _inside(c, n, edge, a.overhang * edge)
            for c, n, edge in zip(centre, shape, patch, strict=True)
        ]
    angles = [uniform(-1, 1) * a.rotation_deg if happens(a.spatial_p) else 0.0 for _ in range(3)]
    zoom = uniform(*a.scale) if happens(a.spatial_p) else 1.0
    signs = [-1.0 if a.flip and happens(0.5) else 1.0 for _ in range(3)]
    if patch[2] == 1:  # a 2-D patch stays in its slice
        angles[0] = angles[1] = 0.0
        signs[2] = 1.0
    drawn = tuple(
        ChannelDraw(
            fade=uniform(*a.fade) if happens(a.fade_p) else 0.0,
            noise=uniform(0, a.noise) if happens(a.noise_p) else 0.0,
            blur_voxels=uniform(*a.blur_voxels) if happens(a.blur_p) else 0.0,
            bias=uniform(0, a.bias) if happens(a.bias_p) else 0.0,
            contrast=uniform(*a.contrast) if happens(a.intensity_p) else 1.0,
            shift=uniform(-a.shift, a.shift) if happens(a.intensity_p) else 0.0,
            gamma=uniform(*a.gamma) if happens(a.gamma_p) else 1.0,
            gamma_inverted=happens(0.3),
        )
        for _ in range(channels)
    )
    if zoom == 1.0 and not any(angles):
        # On the image's own voxels nothing has to be interpolated.
        centre = [
            math.floor(c - (edge - 1) / 2 + 0.5) + (edge - 1) / 2
            for c, edge in zip(centre, patch, strict=True)
        ]
    matrix = _rotation(angles) @ torch.diag(torch.tensor(signs) * zoom)
    noise_seed = pick(2**31 - 1)
    # Drawn last: the patch is the one that would be seen without dropout. The bits of ``lost`` are
    # the channels; any set of them but none and all is as likely.
    dropping = a.modality_dropout > 0 and channels > 1 and happens(a.modality_dropout)
    lost = 1 + pick(2**channels - 2) if dropping else 0
    missing = tuple(channel for channel in range(channels) if lost >> channel & 1)
    return Draw(torch.tensor(centre), matrix, drawn, noise_seed, missing)


def _inside(centre: float, size: int, edge: int, outside: float) -> float:
    """The nearest centre of a patch, ``outside`` voxels of whose edge may leave the image."""
    lowest = (edge - 1) / 2 - outside
    if lowest >= (size - 1) / 2:
        return (size - 1) / 2
    return min(max(centre, lowest), size - 1 - lowest)


def apply(
    drawn: Draw, image_CIJK: Tensor, target_LIJK: Tensor, patch: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """The patch that ``drawn`` describes: image float32 CIJK, target float32 LIJK of 0 and 1.

    A missing modality is 0 throughout, as the background is.
    """
    image, share = _sampled(drawn, (image_CIJK, target_LIJK), patch)
    faded = [
        _fade(channel, share[0], settings.fade)
        for channel, settings in zip(image, drawn.channels, strict=True)
    ]
    return _shaded(drawn, faded), (share > 0.5).float()


def apply_to_image(drawn: Draw, image_CIJK: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """:func:`apply` for an image without regions."""
    (image,) = _sampled(drawn, (image_CIJK,), patch)
    return _shaded(drawn, list(image))


def _shaded(drawn: Draw, channels: list[Tensor]) -> Tensor:
    noise_source = torch.Generator().manual_seed(drawn.noise_seed)
    shaded = [
        _intensity(channel, settings, noise_source)
        for channel, settings in zip(channels, drawn.channels, strict=True)
    ]
    for channel in drawn.missing:
        shaded[channel] = torch.zeros_like(shaded[channel])
    return torch.stack(shaded)


def _sampled(drawn: Draw, volumes: tuple[Tensor, ...], patch: tuple[int, int, int]) -> list[Tensor]:
    """Each volume's channels in the patch, float32; 0 where it leaves the image."""
    corner = [float(c) - (n - 1) / 2 for c, n in zip(drawn.centre, patch, strict=True)]
    on_voxels = all(start.is_integer() for start in corner)
    if on_voxels and torch.equal(drawn.matrix.abs(), torch.eye(3)):
        start = [round(value) for value in corner]
        flipped = [1 + axis for axis in range(3) if drawn.matrix[axis, axis] < 0]
        return [_cut(volume, start, patch).float().flip(flipped) for volume in volumes]
    stacked = torch.cat([volume.float() for volume in volumes])
    grid = _grid(drawn, stacked.shape[1:], patch)
    sampled = functional.grid_sample(stacked[None], grid, align_corners=True)[0]
    return list(torch.split(sampled, [len(volume) for volume in volumes]))


def _cut(volume_CIJK: Tensor, corner: list[int], patch: tuple[int, int, int]) -> Tensor:
    """The patch that begins at ``corner``, filled up with 0 where it leaves the volume."""
    inside: list[slice] = []
    margins: list[int] = []  # as pad() takes them, the last axis first
    for start, edge, size in zip(corner, patch, volume_CIJK.shape[1:], strict=True):
        first, last = (min(max(at, 0), size) for at in (start, start + edge))
        before = min(max(-start, 0), edge)
        inside.append(slice(first, last))
        margins = [before, edge - before - (last - first), *margins]
    return functional.pad(volume_CIJK[(slice(None), *inside)], margins)


def _grid(drawn: Draw, shape: torch.Size, patch: tuple[int, int, int]) -> Tensor:
    """Where each voxel of the patch lies in the image, as ``grid_sample`` takes it."""
    last = torch.tensor([max(n - 1, 1) for n in shape], dtype=torch.float32)
    steps = 2 * drawn.matrix.T / last  # what one voxel along each axis of the patch adds
    i, j, k = (
        ((torch.arange(n) - (n - 1) / 2)[:, None] * step).flip(-1)
        for n, step in zip(patch, steps, strict=True)
    )
    centre = (2 * drawn.centre / last - 1).flip(-1)
    grid: Tensor = (centre + i[:, None, None] + j[None, :, None]) + k
    return grid[None]


def _fade(channel_IJK: Tensor, share_IJK: Tensor, amount: float) -> Tensor:
    """Move a lesion (``share_IJK`` of each voxel) towards the mean of the brain around it.

    Few patients show few contrasts between lesion and brain; this makes fainter and stronger ones
    of them, and leaves the lesion's texture.
    """
    if not amount:
        return channel_IJK
    brain = channel_IJK != 0
    lesion = brain & (share_IJK > 0.5)
    around = brain & (share_IJK == 0)
    if not lesion.any() or not around.any():
        return channel_IJK
    inside, outside = (
        (channel_IJK * part).sum() / torch.count_nonzero(part) for part in (lesion, around)
    )
    return (channel_IJK - amount * (inside - outside) * share_IJK) * brain


def _intensity(channel_IJK: Tensor, settings: ChannelDraw, random: torch.Generator) -> Tensor:
    """Noise, blur, bias field, contrast, shift and gamma in the brain; the background stays 0."""
    brain = channel_IJK != 0
    values = channel_IJK
    if settings.noise:
        values = values + settings.noise * torch.randn(values.shape, generator=random)
    if settings.blur_voxels:
        values = _blur(values, settings.blur_voxels)
    if settings.bias:
        values = (values + AIR) * _bias_field(settings.bias, values.shape, random) - AIR
    values = values * settings.contrast + settings.shift
    if settings.gamma != 1.0:
        low, high = values.min(), values.max()
        span = (high - low).clamp_min(1e-6)
        unit = (values - low) / span
        unit = 1 - (1 - unit) ** settings.gamma if settings.gamma_inverted else unit**settings.gamma
        values = unit * span + low
    return values * brain


def _bias_field(strength: float, shape: torch.Size, random: torch.Generator) -> Tensor:
    """exp of a smooth field: normal deviates of ``strength`` on 3 points per axis, interpolated."""
    points = strength * torch.randn((1, 1, 3, 3, 3), generator=random)
    field = functional.interpolate(points, size=shape, mode="trilinear", align_corners=True)
    return field[0, 0].exp()


def _blur(values_IJK: Tensor, sigma_voxels: float) -> Tensor:
    kernel = torch.exp(-0.5 * (torch.arange(-2, 3) / sigma_voxels) ** 2)
    kernel = kernel / kernel.sum()
    blurred = values_IJK[None, None]
    for axis in range(3):
        if values_IJK.shape[axis] == 1:
            continue
        shape, padding = [1] * 5, [0] * 3
        shape[2 + axis], padding[axis] = 5, 2
        blurred = functional.conv3d(blurred, kernel.view(shape), padding=padding)
    return blurred[0, 0]


def _rotation(angles_deg: list[float]) -> Tensor:
    x, y, z = torch.deg2rad(torch.tensor(angles_deg))
    one, zero = torch.ones(()), torch.zeros(())

    def rows(*values: Tensor) -> Tensor:
        return torch.stack(values).view(3, 3)

    about_x = rows(one, zero, zero, zero, x.cos(), -x.sin(), zero, x.sin(), x.cos())
    about_y = rows(y.cos(), zero, y.sin(), zero, one, zero, -y.sin(), zero, y.cos())
    about_z = rows(z.cos(), -z.sin(), zero, z.sin(), z.cos(), zero, zero, zero, one)
    return about_x @ about_y @ about_z
