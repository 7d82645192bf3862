"""Augmented patches: :func:`draw` draws all random numbers, :func:`apply` is deterministic.

Axes: C modality, L region, I J K voxels. The spatial part (centre, rotation, scale, flips) is one
resampling of the patch; the intensity part follows nnU-Net's list (Isensee et al. 2021), and the
lesion's contrast varies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from medtl.data.io.grids import bounding_box
from medtl.transforms.affine import Affine, Window

#: No signal is about this many standard deviations below the mean of a z-scored brain.
AIR = 3.0


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Ranges and probabilities; ``NONE`` leaves patches as they are."""

    overhang: float = 0.2  #: share of a patch's edge that may lie outside the image
    rotation_deg: float = 20.0
    scale: tuple[float, float] = (0.75, 1.3)
    spatial_p: float = 0.6
    flip: bool | tuple[bool, bool, bool] = True  #: mirroring, of all axes or of each
    fade: tuple[float, float] = (-0.3, 0.7)  #: share of the first region's contrast removed
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
    coarse: tuple[float, float] = (0.5, 1.0)  #: voxels kept per axis, of simulated low resolution
    coarse_p: float = 0.0
    modality_dropout: float = 0.0  #: share of patches that lack modalities; a setting of the run

    def scaled(self, factor: float) -> Augmentation:
        """All changes ``factor`` times as often, at most always; with 0 no flips either."""
        if factor == 0:
            return replace(NONE, modality_dropout=self.modality_dropout)
        often = {
            f.name: min(1.0, factor * getattr(self, f.name))
            for f in fields(self)
            if f.name.endswith("_p")
        }
        return replace(self, **often)

    @property
    def flips(self) -> tuple[bool, bool, bool]:
        """Whether each axis (right, front, up) is mirrored."""
        return (self.flip,) * 3 if isinstance(self.flip, bool) else self.flip


FULL = Augmentation()


#: As often as nnU-Net (Isensee et al. 2021), for tens of cases and more; patches that hold a whole
#: image stay centred on it.
USUAL = Augmentation(
    overhang=0.0,
    rotation_deg=30.0,
    scale=(0.7, 1.4),
    spatial_p=0.2,
    fade_p=0.0,
    noise_p=0.1,
    blur_p=0.2,
    bias_p=0.0,
    intensity_p=0.15,
    gamma_p=0.3,
    coarse_p=0.125,
)


LIGHT = Augmentation(
    overhang=0.0, spatial_p=0.0, fade_p=0.0, noise_p=0.0, blur_p=0.0, gamma_p=0.0, bias_p=0.0
)


NONE = replace(LIGHT, flip=False, intensity_p=0.0)


#: For whole pictures: nothing is faded, little leaves the frame, sharpness and illumination stay.
#: Chosen on validation patients of kaggle-mri.
PICTURE = Augmentation(
    overhang=0.1,
    rotation_deg=30.0,
    scale=(0.85, 1.2),
    fade_p=0.0,
    noise=0.1,
    blur_p=0.0,
    bias_p=0.0,
    gamma_p=0.2,
)


@dataclass(frozen=True, slots=True)
class ChannelDraw:
    """Changes of one channel's intensities; 0 or 1 for none."""

    fade: float
    noise: float
    blur_voxels: float
    bias: float
    contrast: float
    shift: float
    gamma: float
    gamma_inverted: bool
    coarse: float = 1.0


@dataclass(frozen=True, slots=True)
class Draw:
    """All random numbers of a patch. ``matrix`` maps its offsets to the image's (voxels)."""

    centre: Tensor
    matrix: Tensor
    channels: tuple[ChannelDraw, ...]
    noise_seed: int
    missing: tuple[int, ...] = ()  #: channels set to 0, never all of them


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
    """Draw the random numbers of one patch.

    Half of the patches are centred near a voxel of a randomly chosen region, the others anywhere,
    within the ``overhang`` beyond the image.

    Args:
        centres: region -> flat voxel indices (may be empty).
        whole: the patch shows the whole image, off the centre by ``overhang`` at most.
    """
    random, a = _Random(seed), augmentation
    centre = _centre(random, a, centres, shape, patch, whole=whole)
    angles = [
        random.uniform(-1, 1) * a.rotation_deg if random.happens(a.spatial_p) else 0.0
        for _ in range(3)
    ]
    zoom = random.uniform(*a.scale) if random.happens(a.spatial_p) else 1.0
    signs = [-1.0 if flip and random.happens(0.5) else 1.0 for flip in a.flips]
    if patch[2] == 1:  # a 2-D patch stays in its slice
        angles[0] = angles[1] = 0.0
        signs[2] = 1.0
    drawn = tuple(_channel(random, a) for _ in range(channels))
    if zoom == 1.0 and not any(angles):
        # Centred on the image's voxels, the patch needs no interpolation.
        centre = [
            math.floor(c - (edge - 1) / 2 + 0.5) + (edge - 1) / 2
            for c, edge in zip(centre, patch, strict=True)
        ]
    matrix = _rotation(angles) @ torch.diag(torch.tensor(signs) * zoom)
    noise_seed = random.pick(2**31 - 1)
    # Drawn last, so that the patch is the same without dropout. The bits of ``lost`` are the
    # channels; all sets of them but none and all are equally likely.
    dropping = a.modality_dropout > 0 and channels > 1 and random.happens(a.modality_dropout)
    lost = 1 + random.pick(2**channels - 2) if dropping else 0
    missing = tuple(channel for channel in range(channels) if lost >> channel & 1)
    return Draw(torch.tensor(centre), matrix, drawn, noise_seed, missing)


class _Random:
    """Random numbers that depend on the seed alone."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=self.generator))

    def happens(self, probability: float) -> bool:
        return self.uniform(0, 1) < probability

    def pick(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self.generator))


def _centre(
    random: _Random,
    a: Augmentation,
    centres: dict[str, Tensor],
    shape: tuple[int, int, int],
    patch: tuple[int, int, int],
    *,
    whole: bool,
) -> list[float]:
    """The centre of a patch (voxels of the image); see :func:`draw`."""
    centre: list[float]
    present = [voxels for voxels in centres.values() if len(voxels)]
    if present and random.happens(0.5):
        voxels = present[random.pick(len(present))]
        flat = int(voxels[random.pick(len(voxels))])
        _, j, k = shape
        position = (flat // (j * k), flat // k % j, flat % k)
        centre = [
            p + random.uniform(-0.25, 0.25) * edge if edge > 1 else p
            for p, edge in zip(position, patch, strict=True)
        ]
    else:
        centre = [
            random.uniform(0, n - 1) if edge > 1 else random.pick(n)
            for n, edge in zip(shape, patch, strict=True)
        ]
    if whole:
        return [
            (n - 1) / 2 + (random.uniform(-1, 1) * a.overhang * edge if edge > 1 else 0.0)
            for n, edge in zip(shape, patch, strict=True)
        ]
    return [
        _inside(c, n, edge, a.overhang * edge)
        for c, n, edge in zip(centre, shape, patch, strict=True)
    ]


def _channel(random: _Random, a: Augmentation) -> ChannelDraw:
    uniform, happens = random.uniform, random.happens
    return ChannelDraw(
        fade=uniform(*a.fade) if happens(a.fade_p) else 0.0,
        noise=uniform(0, a.noise) if happens(a.noise_p) else 0.0,
        blur_voxels=uniform(*a.blur_voxels) if happens(a.blur_p) else 0.0,
        bias=uniform(0, a.bias) if happens(a.bias_p) else 0.0,
        contrast=uniform(*a.contrast) if happens(a.intensity_p) else 1.0,
        shift=uniform(-a.shift, a.shift) if happens(a.intensity_p) else 0.0,
        gamma=uniform(*a.gamma) if happens(a.gamma_p) else 1.0,
        gamma_inverted=happens(0.3),
        # Nothing is drawn for presets without it: their patches stay the same.
        coarse=uniform(*a.coarse) if a.coarse_p and happens(a.coarse_p) else 1.0,
    )


def _inside(centre: float, size: int, edge: int, outside: float) -> float:
    """The nearest centre at which at most ``outside`` voxels of the edge leave the image."""
    lowest = (edge - 1) / 2 - outside
    if lowest >= (size - 1) / 2:
        return (size - 1) / 2
    return min(max(centre, lowest), size - 1 - lowest)


def apply(
    drawn: Draw,
    image_CIJK: Tensor,
    target_LIJK: Tensor,
    patch: tuple[int, int, int],
    unknown_LIJK: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The patch of a draw: image float32 CIJK, target float32 LIJK of 0 and 1.

    The target is NaN where it takes anything from a voxel that is ``unknown``. A missing modality
    is 0 everywhere, like the background.
    """
    affine = Affine(drawn.centre, drawn.matrix, patch)
    window = affine.window(image_CIJK.shape[1:])
    shown_CIJK = affine.sample(image_CIJK, window)
    target = torch.zeros((len(target_LIJK), *patch))
    box = bounding_box(target_LIJK.amax(0))
    if box is not None:
        marked = _meet(affine.within(box).window([side.stop - side.start for side in box]), window)
        share_LIJK = affine.within(box).sample(target_LIJK[(slice(None), *box)], marked)
        target[(slice(None), *marked)] = (share_LIJK > 0.5).float()
        inner = tuple(
            slice(side.start - outer.start, side.stop - outer.start)
            for side, outer in zip(marked, window, strict=True)
        )
        for channel_IJK, settings in zip(shown_CIJK, drawn.channels, strict=True):
            _fade(channel_IJK, channel_IJK[inner], share_LIJK[0], settings.fade)
    if unknown_LIJK is not None:
        hidden_LIJK = affine.sample(unknown_LIJK, window) > 0
        target[(slice(None), *window)].masked_fill_(hidden_LIJK, torch.nan)
    return _shown(drawn, shown_CIJK, window, patch), target


def apply_to_image(drawn: Draw, image_CIJK: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """:func:`apply` for an image without regions."""
    affine = Affine(drawn.centre, drawn.matrix, patch)
    window = affine.window(image_CIJK.shape[1:])
    return _shown(drawn, affine.sample(image_CIJK, window), window, patch)


def _shown(drawn: Draw, shown_CIJK: Tensor, window: Window, patch: tuple[int, int, int]) -> Tensor:
    """The patch (CIJK) with changed intensities, from the values in its window."""
    noise_source = torch.Generator().manual_seed(drawn.noise_seed)
    patch_CIJK = torch.zeros((len(shown_CIJK), *patch))
    if shown_CIJK.numel() == 0:
        return patch_CIJK
    for channel, (values_IJK, settings) in enumerate(zip(shown_CIJK, drawn.channels, strict=True)):
        shaded_IJK = shaded(values_IJK, settings, noise_source, window, patch)
        if channel not in drawn.missing:
            patch_CIJK[(channel, *window)] = shaded_IJK
    return patch_CIJK


def _meet(one: Window, other: Window) -> Window:
    """The intersection of two windows; it may be empty."""
    i, j, k = (
        slice(max(a.start, b.start), max(min(a.stop, b.stop), a.start, b.start))
        for a, b in zip(one, other, strict=True)
    )
    return i, j, k


def _fade(channel_IJK: Tensor, marked_IJK: Tensor, share_IJK: Tensor, amount: float) -> None:
    """Move a lesion (``share_IJK`` of each voxel) towards the mean of the brain around it.

    This varies the contrast between lesion and brain, which differs little among few patients, and
    keeps the lesion's texture. ``marked_IJK``, the part of the channel that holds all lesions, is
    changed in place.
    """
    if not amount:
        return
    brain = marked_IJK != 0
    lesion = brain & (share_IJK > 0.5)
    touched = brain & (share_IJK > 0)
    lesion_voxels = torch.count_nonzero(lesion)
    around_voxels = torch.count_nonzero(channel_IJK) - torch.count_nonzero(touched)
    if not lesion_voxels or not around_voxels:
        return
    inside = (marked_IJK * lesion).sum() / lesion_voxels
    outside = (channel_IJK.sum() - (marked_IJK * touched).sum()) / around_voxels
    marked_IJK -= amount * (inside - outside) * share_IJK * brain


def shaded(
    values_IJK: Tensor,
    settings: ChannelDraw,
    random: torch.Generator,
    window: Window,
    patch: tuple[int, int, int],
) -> Tensor:
    """Noise, blur, bias field, contrast, shift, gamma and low resolution in the brain; the
    background stays 0.

    ``values_IJK``, the window of the patch, is changed in place.
    """
    brain_IJK = values_IJK.sign().square_()  # 1, and 0 where the value is 0
    if settings.noise:
        noise_IJK = torch.randn(values_IJK.shape, generator=random)
        values_IJK.add_(noise_IJK, alpha=settings.noise)
    if settings.blur_voxels:
        values_IJK = _blur(values_IJK, settings.blur_voxels)
    if settings.bias:
        field_IJK = _bias_field(settings.bias, random, window, patch)
        values_IJK = values_IJK.add_(AIR).mul_(field_IJK).sub_(AIR)
    if settings.contrast != 1.0:
        values_IJK.mul_(settings.contrast)
    if settings.shift:
        values_IJK.add_(settings.shift)
    if settings.gamma != 1.0:
        low, high = values_IJK.aminmax()
        span = (high - low).clamp_min(1e-6)
        unit_IJK = values_IJK.sub_(low).div_(span)
        if settings.gamma_inverted:
            unit_IJK.neg_().add_(1).clamp_min_(0).pow_(settings.gamma).neg_().add_(1)
        else:
            unit_IJK.pow_(settings.gamma)
        values_IJK = unit_IJK.mul_(span).add_(low)
    if settings.coarse != 1.0:
        values_IJK = _coarse(values_IJK, settings.coarse)
    return values_IJK.mul_(brain_IJK)


def _bias_field(
    strength: float, random: torch.Generator, window: Window, patch: tuple[int, int, int]
) -> Tensor:
    """exp of a smooth field: normal deviates of ``strength`` on 3 points per axis of the patch,
    interpolated."""
    field = strength * torch.randn((3, 3, 3), generator=random)
    for side, edge in zip(window, patch, strict=True):
        at = torch.arange(side.start, side.stop) * (2 / max(edge - 1, 1))
        near = (1 - (at[:, None] - torch.arange(3)).abs()).clamp_min(0)
        field = torch.tensordot(field, near, ([0], [1]))  # this axis goes last, the next is first
    return field.exp_()


def _blur(values_IJK: Tensor, sigma_voxels: float) -> Tensor:
    """A Gaussian of 5 voxels along every axis of more than one voxel; 0 beyond the edge."""
    near, next_, far = (math.exp(-0.5 * (step / sigma_voxels) ** 2) for step in range(3))
    total = near + 2 * next_ + 2 * far
    for axis, length in enumerate(values_IJK.shape):
        if length == 1:
            continue
        blurred = values_IJK * (near / total)
        for step, weight in ((1, next_ / total), (2, far / total)):
            count = length - step
            if count > 0:
                first, last = (
                    values_IJK.narrow(axis, 0, count),
                    values_IJK.narrow(axis, step, count),
                )
                blurred.narrow(axis, step, count).add_(first, alpha=weight)
                blurred.narrow(axis, 0, count).add_(last, alpha=weight)
        values_IJK = blurred
    return values_IJK


def _coarse(values_IJK: Tensor, share: float) -> Tensor:
    """What is left of the values on ``share`` of the voxels per axis: nearest, then linear."""
    size = [max(1, round(share * n)) for n in values_IJK.shape]
    fewer = functional.interpolate(values_IJK[None, None], size=size, mode="nearest")
    shape, linear = list(values_IJK.shape), "trilinear"
    return functional.interpolate(fewer, size=shape, mode=linear, align_corners=False)[0, 0]


def _rotation(angles_deg: list[float]) -> Tensor:
    # One by one: torch's cosine of several numbers hangs in forked processes (MKL, torch 2.13).
    x, y, z = ((float(a.cos()), float(a.sin())) for a in torch.deg2rad(torch.tensor(angles_deg)))
    about_z = torch.tensor([[z[0], -z[1], 0.0], [z[1], z[0], 0.0], [0.0, 0.0, 1.0]])
    if not any(angles_deg[:2]):
        return about_z
    about_x = torch.tensor([[1.0, 0.0, 0.0], [0.0, x[0], -x[1]], [0.0, x[1], x[0]]])
    about_y = torch.tensor([[y[0], 0.0, y[1]], [0.0, 1.0, 0.0], [-y[1], 0.0, y[0]]])
    return about_x @ about_y @ about_z
