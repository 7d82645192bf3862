"""Faults that are planted in a copy of a data set, each of one kind that ``medtl audit`` knows.

Axes: I J K voxels, as stored.
"""

# nibabel is typed in part only.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from medtl.data.case import Case
from medtl.data.io.grids import nearest_slices, resample_array

#: Plants a fault in the files of the first case; others may be read. Returns the cases to name.
Plant = Callable[[Sequence[Case], np.random.Generator], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault, and what plants it.

    Args:
        several: whether it needs two contrasts of each case.
        structures: whether it needs two structures that lie alike in every case.
    """

    kind: str
    plant: Plant
    several: bool = False
    structures: bool = False
    stripped: bool = False


def read(path: Path) -> tuple[NDArray[Any], Any]:
    """The voxels of a file, and its image as nibabel has it."""
    image = nib.load(path)
    return np.asanyarray(image.dataobj), image


def write(path: Path, array_IJK: NDArray[Any], image: Any, affine: Any = None) -> None:
    """Write voxels with the header of ``image``, or at another affine."""
    kept = image.header.copy()
    kept.set_data_dtype(array_IJK.dtype)
    kept.set_slope_inter(1, 0)
    made = type(image)(array_IJK, image.affine if affine is None else affine, kept)
    if affine is not None:
        made.set_sform(affine, 1)
        made.set_qform(affine, 1)
    nib.save(made, path)


def first_of(case: Case) -> Path:
    return next(iter(case.images.values())).path


def label_of(case: Case) -> Path:
    assert case.target is not None
    return case.target.path


def changed(edit: Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]) -> Plant:
    """A fault of the voxels of the first image."""

    def plant(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
        array_IJK, image = read(first_of(cases[0]))
        write(first_of(cases[0]), edit(array_IJK, random), image)
        return (cases[0].id,)

    return plant


def relabelled(edit: Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]) -> Plant:
    """A fault of the labels."""

    def plant(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
        array_IJK, image = read(label_of(cases[0]))
        write(label_of(cases[0]), edit(array_IJK, random), image)
        return (cases[0].id,)

    return plant


def moved(edit: Callable[[NDArray[Any]], NDArray[Any]], every: bool = True) -> Plant:
    """A fault of the affine, of all images and labels or of the first image alone."""

    def plant(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
        case = cases[0]
        paths = [file.path for file in case.images.values()] if every else [first_of(case)]
        if every and case.target:
            paths.append(case.target.path)
        for path in paths:
            array_IJK, image = read(path)
            write(path, array_IJK, image, edit(image.affine.copy()))
        return (case.id,)

    return plant


def reshaped(edit: Callable[[NDArray[Any], bool], NDArray[Any]], scale: float = 1.0) -> Plant:
    """A fault of the shape of all images and labels; ``scale``: of the edges of the voxels."""

    def plant(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
        case = cases[0]
        paths = [(file.path, False) for file in case.images.values()]
        paths += [(case.target.path, True)] if case.target else []
        for path, label in paths:
            array_IJK, image = read(path)
            affine = image.affine.copy()
            affine[:3, :3] *= scale
            write(path, edit(array_IJK, label), image, affine)
        return (case.id,)

    return plant


def _unreadable(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    first_of(cases[0]).write_bytes(bytes(random.integers(0, 256, 5000, dtype=np.uint8)))
    return (cases[0].id,)


def _truncated(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    path = first_of(cases[0])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return (cases[0].id,)


def _no_image(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    first_of(cases[0]).unlink()
    return (cases[0].id,)


def _no_label(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    label_of(cases[0]).unlink()
    return (cases[0].id,)


def _copied(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    for name, file in cases[0].images.items():
        shutil.copyfile(cases[1].images[name].path, file.path)
    shutil.copyfile(label_of(cases[1]), label_of(cases[0]))
    return cases[0].id, cases[1].id


def _nearly_copied(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    """Mirrored, at three quarters of the voxels' number along each axis, and brighter."""
    for name, file in cases[0].images.items():
        array_IJK, image = read(cases[1].images[name].path)
        shape, affine = _coarser(array_IJK.shape, image.affine)
        smaller = resample_array(np.flip(array_IJK, 0), shape)
        write(file.path, np.rint(smaller * 1.3).astype(np.int32), image, affine)
    array_IJK, image = read(label_of(cases[1]))
    shape, affine = _coarser(array_IJK.shape, image.affine)
    places = np.ix_(*(nearest_slices(a, b) for a, b in zip(array_IJK.shape, shape, strict=True)))
    write(label_of(cases[0]), np.flip(array_IJK, 0)[places], image, affine)
    return cases[0].id, cases[1].id


def _coarser(shape: Sequence[int], affine: NDArray[Any]) -> tuple[tuple[int, ...], NDArray[Any]]:
    """Three quarters of the voxels along each axis, and their affine."""
    fewer = tuple(round(0.75 * edge) for edge in shape)
    coarser = affine.copy()
    coarser[:3, :3] *= np.divide(shape, fewer)
    return fewer, coarser


def _conflict(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    for name, file in cases[0].images.items():
        shutil.copyfile(cases[1].images[name].path, file.path)
    array_IJK, image = read(label_of(cases[1]))
    other = array_IJK.copy()
    other[binary_erosion(other > 0)] = 0
    write(label_of(cases[0]), other, image)
    return cases[0].id, cases[1].id


def _forms(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    array_IJK, image = read(first_of(cases[0]))
    array_IJK = np.array(array_IJK)
    affine = image.affine.copy()
    affine[:3, 3] += (0, 12, 5)
    image.set_sform(image.affine, 1)
    image.set_qform(affine, 1)
    made = type(image)(array_IJK, None, image.header)
    nib.save(made, first_of(cases[0]))
    return (cases[0].id,)


def _field(**fields: int) -> Plant:
    """A fault of fields of the header, of all images and labels."""

    def plant(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
        case = cases[0]
        places = {"qform_code": (252, 2), "sform_code": (254, 2), "xyzt_units": (123, 1)}
        paths = [file.path for file in case.images.values()]
        paths += [case.target.path] if case.target else []
        for path in paths:
            zipped = path.name.endswith(".gz")
            content = bytearray(gzip.decompress(path.read_bytes()) if zipped else path.read_bytes())
            for name, value in fields.items():
                place, size = places[name]
                content[place : place + size] = value.to_bytes(size, "little")
            path.write_bytes(gzip.compress(bytes(content), 1) if zipped else bytes(content))
        return (case.id,)

    return plant


def _identical(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    files = list(cases[0].images.values())
    shutil.copyfile(files[0].path, files[1].path)
    return (cases[0].id,)


def _exchanged(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    flair, t1 = cases[0].images["flair"].path, cases[0].images["t1"].path  # type: ignore[index]
    kept = flair.read_bytes()
    shutil.copyfile(t1, flair)
    t1.write_bytes(kept)
    return (cases[0].id,)


def _label_of_other(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    array_IJK, _ = read(label_of(cases[1]))
    own, image = read(label_of(cases[0]))
    if array_IJK.shape == own.shape:
        shutil.copyfile(label_of(cases[1]), label_of(cases[0]))
    else:  # on the grid of the image, as a careless script would write it
        shown = np.zeros_like(own)
        common = tuple(slice(0, min(a, b)) for a, b in zip(own.shape, array_IJK.shape, strict=True))
        shown[common] = array_IJK[common]
        write(label_of(cases[0]), shown, image)
        write(label_of(cases[1]), shown, image)
    return cases[0].id, cases[1].id


def _middle(array_IJK: NDArray[Any]) -> int:
    return array_IJK.shape[2] // 2


def _doubled(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    edited = array_IJK.copy()
    edited[..., _middle(edited)] = edited[..., _middle(edited) - 1]
    return edited


def _without_slices(array_IJK: NDArray[Any], label: bool) -> NDArray[Any]:
    middle, gone = _middle(array_IJK), max(6, array_IJK.shape[2] // 6)
    return np.delete(array_IJK, range(middle - gone // 2, middle + gone // 2), axis=2)


def _not_finite(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    edited = array_IJK.astype(np.float32)
    edited.flat[random.integers(0, edited.size, 20)] = np.nan
    return edited


def _saturated(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    limit = np.percentile(array_IJK[array_IJK > array_IJK.min()], 85)
    return np.minimum(array_IJK, limit).astype(array_IJK.dtype)


def _blank(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    edited = array_IJK.copy()
    edited[..., _middle(edited) : _middle(edited) + 3] = 0
    return edited


def _extrapolated(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    edited = array_IJK.copy()
    edited[..., -4:] = edited[..., _middle(edited)][..., None]
    return edited


def _noise_around(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """A background of noise, and a ring around the head, as where the skull is not stripped."""
    edited = array_IJK.astype(np.float32)
    top = float(np.percentile(edited, 99))
    outside = edited == 0
    ring = outside & (gaussian_filter((~outside).astype(np.float32), 2) > 0.1)
    noise = np.abs(random.normal(0, 0.03 * top, edited.shape))
    edited = np.where(outside, noise + 1, edited)
    edited[ring] = top * (0.6 + 0.3 * random.random(int(ring.sum())))
    return edited.astype(array_IJK.dtype)


def _noisy(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    inside = array_IJK != 0
    deviation = 1.5 * float(array_IJK[inside].std())
    noisy = array_IJK + np.where(inside, random.normal(0, deviation, array_IJK.shape), 0)
    return np.clip(noisy, 1 * inside, None).astype(array_IJK.dtype)


def _other_value(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    edited = array_IJK.copy()
    edited[edited == edited.max()] = 7
    return edited


def _smoothed(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    return gaussian_filter(array_IJK.astype(np.float32), 0.7)


def _specks(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    edited, value = (
        array_IJK.copy(),
        1 + int(np.bincount(array_IJK.ravel().astype(int))[1:].argmax()),
    )
    free = np.argwhere(gaussian_filter((array_IJK > 0).astype(np.float32), 2) < 1e-4)
    for i, j, k in free[random.choice(len(free), 12, replace=False)]:
        edited[i, j, k] = value
    return edited


def _hole(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """27 voxels less in the middle of a structure."""
    edited = array_IJK.copy()
    depth = distance_transform_edt(edited > 0)
    i, j, k = np.unravel_index(int(depth.argmax()), depth.shape)
    edited[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = 0
    return edited


def _second_part(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """A part of the first structure once more, as far from all labels as can be."""
    edited = array_IJK.copy()
    value = int(edited[edited > 0].min())
    room = distance_transform_edt(edited == 0)
    edge = max(2, round(float(np.count_nonzero(edited == value)) ** (1 / 3) * 0.4))
    for axis, length in enumerate(edited.shape):
        inner = np.arange(length)
        shape = [length if n == axis else 1 for n in range(3)]
        room = np.where(((inner >= edge) & (inner < length - edge)).reshape(shape), room, 0)
    i, j, k = np.unravel_index(int(room.argmax()), room.shape)
    part = (slice(i - edge, i + edge), slice(j - edge, j + edge), slice(k - edge, k + edge))
    edited[part] = np.where(edited[part] == 0, value, edited[part])
    return edited


def _outside(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """The labels in the corner of the image, where nothing is shown."""
    box = np.argwhere(array_IJK > 0)
    low, high = box.min(axis=0), box.max(axis=0) + 1
    part = array_IJK[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    edited = np.zeros_like(array_IJK)
    edited[tuple(slice(0, edge) for edge in part.shape)] = part
    return edited


def _shifted(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    step = max(4, array_IJK.shape[1] // 5)
    return np.roll(array_IJK, step, axis=1)


def _mirrored(axis: int) -> Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]:
    return lambda array_IJK, random: np.flip(array_IJK, axis).copy()


def _swapped(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    edited = array_IJK.copy()
    edited[array_IJK == 1], edited[array_IJK == 2] = 2, 1
    return edited


def _misplaced(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """One structure at the end of the image that is farthest from it."""
    edited = np.where(array_IJK == 2, 0, array_IJK)
    there = np.argwhere(array_IJK == 2)
    low, high = there.min(axis=0), there.max(axis=0)
    room = [(-int(low[n]), n) for n in range(3)]
    room += [(array_IJK.shape[n] - 1 - int(high[n]), n) for n in range(3)]
    step, axis = max(room, key=lambda one: abs(one[0]))
    other = np.roll(array_IJK == 2, step, axis=axis)
    return np.where(other, 2, edited).astype(array_IJK.dtype)


def _one_value_less(array_IJK: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    return np.where(array_IJK == 2, 0, array_IJK).astype(array_IJK.dtype)


def _scaled_affine(factor: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def edit(affine: NDArray[Any]) -> NDArray[Any]:
        affine[:3, :3] *= factor
        return affine

    return edit


def _origin(affine: NDArray[Any]) -> NDArray[Any]:
    affine[:3, 3] += (0, 15, 0)
    return affine


def _turned(cases: Sequence[Case], random: np.random.Generator) -> tuple[str, ...]:
    """Stored with its first two axes reversed: the same image, another order of the voxels."""
    case = cases[0]
    paths = [file.path for file in case.images.values()]
    paths += [case.target.path] if case.target else []
    for path in paths:
        array_IJK, image = read(path)
        affine = image.affine.copy()
        for axis in (0, 1):
            affine[:3, 3] += affine[:3, axis] * (array_IJK.shape[axis] - 1)
            affine[:3, axis] *= -1
        write(path, np.flip(array_IJK, (0, 1)), image, affine)
    return (case.id,)


#: The faults of volumes.
VOLUMES = (
    Fault("unreadable", _unreadable),
    Fault("truncated", _truncated),
    Fault("missing-image", _no_image, several=True),
    Fault("missing-label", _no_label),
    Fault("exact-duplicate", _copied),
    Fault("near-duplicate", _nearly_copied),
    Fault("label-conflict", _conflict),
    Fault("sform-qform", _forms),
    Fault("spacing", moved(_scaled_affine(40.0))),
    Fault("lost-geometry", _field(qform_code=0, sform_code=0)),
    Fault("units", _field(xyzt_units=1)),
    Fault("odd-orientation", _turned),
    Fault("odd-grid", reshaped(lambda array, label: array[::2, ::2, ::2], 2.0)),
    Fault("mixed-grids", moved(_origin, every=False), several=True),
    Fault("label-grid", relabelled(lambda array, random: array[:-3])),
    Fault("doubled-slices", changed(_doubled)),
    Fault("slice-gap", reshaped(_without_slices)),
    Fault("identical-channels", _identical, several=True),
    Fault("swapped-channels", _exchanged, several=True),
    Fault("constant", changed(lambda array, random: np.zeros_like(array))),
    Fault("not-finite", changed(_not_finite)),
    Fault("saturated", changed(_saturated)),
    Fault("blank-slices", changed(_blank)),
    Fault("extrapolated-border", changed(_extrapolated)),
    Fault("intensity-scale", changed(lambda array, random: (array * 60.0).astype(np.float32))),
    Fault("skull", changed(_noise_around), stripped=True),
    Fault("outlier", changed(_noisy)),
    Fault("label-values", relabelled(_other_value)),
    Fault("fractional-label", relabelled(_smoothed)),
    Fault("empty-label", relabelled(lambda array, random: np.zeros_like(array))),
    Fault("missing-structure", relabelled(_one_value_less), structures=True),
    Fault("specks", relabelled(_specks)),
    Fault("holes", relabelled(_hole)),
    Fault("disconnected", relabelled(_second_part), structures=True),
    Fault("label-outside", relabelled(_outside), stripped=True),
    Fault("label-shifted", relabelled(_shifted)),
    Fault("label-mirrored", relabelled(_mirrored(1))),
    Fault("label-swapped", relabelled(_swapped), structures=True),
    Fault("label-copied", _label_of_other),
    Fault("label-place", relabelled(_misplaced), structures=True),
)
