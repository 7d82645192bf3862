"""From a fingerprint to settings, each with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from medtl.data.case import Case
from medtl.data.modality import CANONICAL, Modality
from medtl.data.sides import ENDS, sided_axes
from medtl.data.task import Advice, Defaults
from medtl.data.tasks.fingerprint import Fingerprint, window
from medtl.data.voxel_size import Spacing, as_spacing, axes_mm, thick_axis

#: Voxels of a training step that two cores and a small GPU can afford: also those of ``brats``.
VOXELS = 80 * 96 * 80


#: Voxels that a median structure of the smallest region keeps.
LEAST_VOXELS = 64


#: The coarsest spacing, as a multiple of the data's own.
MOST_COARSENING = 3.0


MULTIPLE = 16  # patch edges, as planning rounds them


#: Voxels of all patches of a step: more steps of few patches learn faster than few of many.
STEP_VOXELS = 200_000


#: With fewer cases, stronger augmentation than nnU-Net's is better.
MANY_CASES = 24


#: Ratio of the longest to the shortest edge of voxels that are called anisotropic.
ANISOTROPIC = 2.0

_CT = re.compile(r"(cb)?ct(a|[_-].*)?\d*")


def advice(
    cases: Sequence[Case],
    fingerprint: Fingerprint,
    defaults: Defaults,
    given_mm: Spacing | None = None,
) -> Advice:
    """Spacing, patch, batch, network and preset for the training ``cases``.

    Where the user gave the spacing, the other settings are chosen to fit it.
    """
    modalities = [Modality(name) for name in fingerprint.intensities]
    spacing_mm, why_spacing = plan_spacing(fingerprint)
    patch, why_patch = choose_patch(fingerprint, given_mm or spacing_mm)
    tomographic = [name for name in modalities if _CT.fullmatch(name)]
    preset, why_preset = choose_preset(fingerprint, modalities, tomographic)
    for axis in sided_axes(tuple(fingerprint.volumes_ml)):
        why_preset += f"; its flips mix up {ENDS[axis]}, which the labels name: they are off"
    return Advice(
        replace(
            defaults,
            transforms=preset,
            spacing_mm=spacing_mm,
            patch_size=patch,
            step_voxels=STEP_VOXELS,
        ),
        tuple(describe(fingerprint)),
        {
            "spacing_mm": why_spacing,
            "patch_size": why_patch,
            "batch_size": f"as many patches as fit into {STEP_VOXELS / 1e6:.1f} million voxels",
            "network": "nnU-Net's U-Net, narrow: `--width 32` is the published one",
            "transforms": why_preset,
        },
        {name: window(cases, name) for name in tomographic},
    )


def choose_spacing(fingerprint: Fingerprint, voxels: int = VOXELS) -> tuple[float, str]:
    """The edge of cubes: the data's own spacing (anisotropic: the cube of the same volume),
    coarsened until a patch holds what the images show, but not so far that small structures vanish.
    """
    native_mm = math.prod(fingerprint.spacing_mm) ** (1 / 3)
    whole_mm = (math.prod(fingerprint.extent_mm) / voxels) ** (1 / 3)
    smallest = min((median(v) for v in fingerprint.volumes_ml.values() if v), default=math.inf)
    fine_mm = (1000 * smallest / LEAST_VOXELS) ** (1 / 3)
    limits = {
        "a patch then holds all that the images show": whole_mm,
        f"coarser, a median structure of the smallest region ({smallest:.2g} ml) would have fewer "
        f"than {LEAST_VOXELS} voxels": fine_mm,
        f"{MOST_COARSENING:g} times the data's own, at most": MOST_COARSENING * native_mm,
    }
    why, coarse_mm = min(limits.items(), key=lambda item: item[1])
    if coarse_mm <= native_mm:
        why = "the data's own"
        if max(fingerprint.spacing_mm) > min(fingerprint.spacing_mm) * 1.05:
            why = "a cube of the data's own voxel volume"
    up = why.startswith("a patch")
    chosen_mm = _rounded(max(native_mm, coarse_mm), up) if coarse_mm > native_mm else native_mm
    thickness_mm = max(fingerprint.spacing_mm)
    if thickness_mm > ANISOTROPIC * min(fingerprint.spacing_mm):
        why += (
            f"; slices {thickness_mm:g} mm apart are resampled to cubes: between them nothing is "
            "gained"
        )
    return round(max(chosen_mm, native_mm), 2), why


def plan_spacing(fingerprint: Fingerprint, voxels: int = VOXELS) -> tuple[Spacing, str]:
    """The spacing per axis: the data's median; of slices that are far apart, a spacing that one
    in ten is below. The finest axes are coarsened until a patch holds what the images show, but not
    so far that small structures vanish."""
    native_mm, why = _native_spacing(fingerprint)
    smallest = min((median(v) for v in fingerprint.volumes_ml.values() if v), default=math.inf)
    limits = {
        "a patch then holds all that the images show": _least_edge(
            native_mm, math.prod(fingerprint.extent_mm) / voxels
        ),
        f"coarser, a median structure of the smallest region ({smallest:.2g} ml) would have fewer "
        f"than {LEAST_VOXELS} voxels": _least_edge(native_mm, 1000 * smallest / LEAST_VOXELS),
        f"{MOST_COARSENING:g} times the data's own, at most": MOST_COARSENING * min(native_mm),
    }
    limit, coarse_mm = min(limits.items(), key=lambda item: item[1])
    if coarse_mm > min(native_mm):
        coarse_mm, why = _rounded(coarse_mm, limit.startswith("a patch")), limit
    return as_spacing([round(max(mm, coarse_mm), 2) for mm in native_mm]), why


def _native_spacing(fingerprint: Fingerprint) -> tuple[list[float], str]:
    """The spacing that most cases have, per axis; nearly equal edges are one number."""
    edges_mm = list(fingerprint.spacing_mm)
    if max(edges_mm) < 1.05 * min(edges_mm):
        return [math.prod(edges_mm) ** (1 / 3)] * 3, "the data's own"
    thick = thick_axis(edges_mm)
    if thick is None:
        return edges_mm, "the data's own, per axis"
    others = max(mm for axis, mm in enumerate(edges_mm) if axis != thick)
    # So that the cases with thinner slices keep most of their detail (Isensee et al. 2021).
    edges_mm[thick] = max(fingerprint.thin_mm[thick], others)
    return edges_mm, (
        f"the data's own, per axis; of the slices' distance, {edges_mm[thick]:g} mm, "
        "that of the thinnest tenth"
    )


def _least_edge(native_mm: Sequence[float], cubic_mm: float) -> float:
    """The length that the shortest edges must grow to for a voxel of this volume."""
    *_, longest = edges = sorted(native_mm)
    for count in range(1, len(edges)):
        edge_mm: float = (cubic_mm / math.prod(edges[count:])) ** (1 / count)
        if edge_mm <= edges[count]:
            return edge_mm
    return max(longest, float(cubic_mm ** (1 / len(edges))))


def _rounded(mm: float, up: bool) -> float:
    """To half millimetres, below 1 mm to twentieths: ``up`` or down."""
    step = 0.5 if mm >= 1 else 0.05
    return step * (math.ceil(mm / step) if up else max(1, math.floor(mm / step)))


def choose_patch(
    fingerprint: Fingerprint, spacing_mm: Spacing, voxels: int = VOXELS
) -> tuple[tuple[int, int, int], str]:
    """All that is shown, cut along the longest edges until a step can afford it."""
    pairs = zip(fingerprint.extent_mm, axes_mm(spacing_mm), strict=True)
    needed = [extent / mm for extent, mm in pairs]
    edges = [MULTIPLE * max(1, math.ceil(edge / MULTIPLE)) for edge in needed]
    while math.prod(edges) > voxels:
        edges[edges.index(max(edges))] -= MULTIPLE
    share = math.prod(min(1.0, e / n) for e, n in zip(edges, needed, strict=True))
    shown = "x".join(f"{mm:.0f}" for mm in fingerprint.extent_mm)
    why = f"holds {share:.0%} of what the images show ({shown} mm in nine of ten)"
    return (edges[0], edges[1], edges[2]), why


def choose_preset(
    fingerprint: Fingerprint, modalities: Sequence[Modality], tomographic: Sequence[Modality]
) -> tuple[str, str]:
    if tomographic:
        return "ct", (
            f"{', '.join(tomographic)} clipped to the labelled voxels' 0.5 and 99.5 percentiles, "
            "scaled alike in every case"
        )
    if fingerprint.uniform and all(name in CANONICAL for name in modalities):
        return "brain-mr", "MR contrasts, and one value surrounds what the images show"
    why = (
        "one value surrounds what the images show: it is cut away"
        if fingerprint.uniform
        else "no uniform background: the whole image counts, z-scored"
    )
    if fingerprint.cases >= MANY_CASES:
        return "mr-usual", f"{why}; nnU-Net's augmentation, as there are {MANY_CASES} cases or more"
    return "mr", why


def describe(fingerprint: Fingerprint) -> Iterator[tuple[str, str]]:
    """Rows of the printed fingerprint."""
    yield "training cases", f"{fingerprint.cases}; the images of {fingerprint.sampled} were read"
    yield "median shape", "x".join(map(str, fingerprint.shape_ras))
    spacing = "x".join(f"{mm:g}" for mm in fingerprint.spacing_mm)
    ratio = max(fingerprint.spacing_mm) / min(fingerprint.spacing_mm)
    kind = "isotropic" if ratio < 1.05 else f"anisotropic, 1:{ratio:.1f}"
    yield "median spacing", f"{spacing} mm ({kind})"
    extent = "x".join(f"{mm:.0f}" for mm in fingerprint.extent_mm)
    around = (
        "the background has one value" if fingerprint.uniform else "there is no uniform background"
    )
    yield "without background", f"{extent} mm, {fingerprint.shown_ml:.0f} ml; {around}"
    for name, (low, middle, high) in fingerprint.intensities.items():
        yield f"intensities of {name}", f"median {middle:.4g}, 0.5% {low:.4g}, 99.5% {high:.4g}"
    for region, volumes in fingerprint.volumes_ml.items():
        if volumes:
            share = median(volumes) / fingerprint.shown_ml
            yield (
                f"region {region}",
                f"median {median(volumes):.3g} ml ({share:.2%} of the foreground), smallest "
                f"{min(volumes):.3g} ml, in {len(volumes)} of {fingerprint.cases} cases",
            )
        else:
            yield f"region {region}", "in no training case"
