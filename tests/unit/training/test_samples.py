"""From cases to batches: what a patch shows depends on (seed, domain, sample) alone.

Axes: B batch, C modality, L region, I J K voxels.
"""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from torch.utils.data import Dataset

from medtl.data.case import Case
from medtl.data.cohort import check_case, region_masks
from medtl.data.content_hash import check_content, fingerprint
from medtl.data.io.nifti import read_header
from medtl.errors import DataError, RunError
from medtl.runtime.memory import free_memory_bytes
from medtl.runtime.signals import leave_signals_to_parent
from medtl.training.samples.augmented import Patches
from medtl.training.samples.loader import SampleRange, build_loader
from medtl.training.samples.prepared import (
    cached_cases,
    choose_cache,
    choose_workers,
    prepared_bytes,
)
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import brain_mr
from medtl_brats.task import Brats

REGIONS = ("WT", "TC", "ET")
RECIPE = Preprocessor(("flair", "t1ce"), REGIONS, brain_mr().with_spacing(8.0))
PATCH = (16, 16, 16)


@pytest.fixture(scope="module")
def cohort(small_phantom: Callable[..., Path]) -> tuple[Case, ...]:
    return Brats().cases(small_phantom(cases=3, size=24, sites=1, seed=2)).cases


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path / "cache"))


def batches(
    cases: tuple[Case, ...],
    *,
    cache: str = "memory",
    workers: int = 0,
    steps: int = 4,
    batch_size: int = 2,
    patch: tuple[int, ...] = PATCH,
    key: str = "0/flair",
) -> list[dict[str, torch.Tensor]]:
    cached = cached_cases(cases, RECIPE, cache, workers)
    patches = Patches(cached, len(cases), RECIPE, patch, key)
    return list(build_loader(patches, 0, steps, batch_size, workers, pin_memory=False))


def same(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> bool:
    assert len(one) == len(other)
    return all(
        torch.equal(a[name], b[name])
        for a, b in zip(one, other, strict=True)
        for name in ("image", "target")
    )


@pytest.mark.parametrize(
    ("cache", "workers"), [("memory", 2), ("disk", 0), ("disk", 2), ("none", 0)]
)
def test_patches_depend_on_neither_cache_nor_workers(cohort, cache: str, workers: int) -> None:
    assert same(batches(cohort), batches(cohort, cache=cache, workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_it_is_told_how_many_cases_are_prepared(cohort, workers: int) -> None:
    reported: list[int] = []

    @contextmanager
    def progress(total: int) -> Iterator[Callable[..., None]]:
        assert total == len(cohort)
        yield lambda done, note="": reported.append(done)

    cached_cases(cohort, RECIPE, "memory", workers, progress=progress)
    assert sorted(reported) == list(range(1, len(cohort) + 1))


def test_second_run_reads_the_disk_cache_and_gives_the_same(cohort, tmp_path: Path) -> None:
    first = batches(cohort, cache="disk")
    files = sorted(p for p in (tmp_path / "cache" / "prepared").rglob("*") if p.is_file())
    stamps = [file.stat().st_mtime_ns for file in files]
    assert len(files) == len(cohort)
    assert same(first, batches(cohort, cache="disk"))
    assert stamps == [file.stat().st_mtime_ns for file in files]


def test_runs_that_differ_in_augmentation_share_the_disk_cache(cohort, tmp_path: Path) -> None:
    for share in (0.0, 0.5):
        preprocessor = replace(RECIPE, preset=RECIPE.preset.with_modality_dropout(share))
        cached = cached_cases(cohort, preprocessor, "disk", 0)
        for index in range(len(cohort)):
            cached[index]
    assert len(list((tmp_path / "cache" / "prepared").rglob("*.safetensors"))) == len(cohort)


def test_memory_cache_needs_the_files_only_once(cohort, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(cohort[0].images["flair"].path.parents[1], root)
    cases = Brats().cases(root).cases
    cached = cached_cases(cases, RECIPE, "memory", 0)
    shutil.rmtree(root)
    patches = Patches(cached, len(cases), RECIPE, PATCH, "0/flair")
    assert same(list(build_loader(patches, 0, 4, 2, 0, pin_memory=False)), batches(cohort))


def test_disk_cache_sees_that_a_file_has_changed(cohort, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    source = cohort[0].images["flair"].path.parent
    shutil.copytree(source, folder / source.name)
    (case,) = Brats().cases(folder).cases
    before = cached_cases([case], RECIPE, "disk", 0)[0]["image"].clone()
    path = case.images["flair"].path
    image = nib.load(path)
    voxels = np.asanyarray(image.dataobj)[::-1].copy()
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    after = cached_cases([case], RECIPE, "disk", 0)[0]["image"]
    assert not torch.equal(before[0], after[0])


def test_seed_and_domain_change_the_patches(cohort) -> None:
    assert not same(batches(cohort, key="0/flair"), batches(cohort, key="1/flair"))
    assert not same(batches(cohort, key="0/flair"), batches(cohort, key="0/t1"))


def test_batch_size_does_not_change_the_samples(cohort) -> None:
    by_two = torch.cat([b["image"] for b in batches(cohort, steps=3, batch_size=2)])
    by_three = torch.cat([b["image"] for b in batches(cohort, steps=2, batch_size=3)])
    assert torch.equal(by_two, by_three)


def test_two_processes_share_the_samples_of_one() -> None:
    alone = list(SampleRange(0, 12))
    shares = [list(SampleRange(0, 12, process, 2)) for process in (0, 1)]
    assert sorted(shares[0] + shares[1]) == alone
    assert len(SampleRange(0, 12, 1, 2)) == len(shares[1]) == 6


def test_every_pass_shows_every_case_once() -> None:
    class Numbered(torch.utils.data.Dataset):
        def __getitem__(self, index: int):
            image = torch.full((2, 4, 4, 4), float(index + 1))
            empty = {name: torch.empty(0, dtype=torch.long) for name in REGIONS}
            return {"image": image, "target": torch.zeros(3, 4, 4, 4), "centres": empty}

    from medtl.transforms.presets import brain_mr_plain

    preprocessor = Preprocessor(("flair", "t1ce"), REGIONS, brain_mr_plain())
    patches = Patches(Numbered(), 5, preprocessor, (1, 1, 1), "0/x")
    shown = [round(float(patches[n]["image"].max())) for n in range(20)]
    turns = [shown[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(turn) == [1, 2, 3, 4, 5] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_batches_have_the_promised_shapes(cohort) -> None:
    (batch, *_) = batches(cohort)
    assert batch["image"].shape == (2, 2, *PATCH) and batch["image"].dtype == torch.float32
    assert batch["target"].shape == (2, 3, *PATCH)
    assert set(batch["target"].unique().tolist()) <= {0.0, 1.0}
    (flat, *_) = batches(cohort, patch=(16, 16))
    assert flat["image"].shape == (2, 2, 16, 16) and flat["target"].shape == (2, 3, 16, 16)


def rewritten(
    case: Case,
    folder: Path,
    change,
    *,
    images: bool = True,
    target: bool = False,
) -> Case:
    """A copy of ``case`` whose NIfTI images went through ``change(image) -> image``."""
    folder = folder / case.id
    folder.mkdir(parents=True)
    files = dict(case.images) | {"seg": case.target}
    for name, file in files.items():
        image = nib.load(file.path)
        if (images and name != "seg") or (target and name == "seg"):
            image = change(image)
        nib.save(image, folder / file.path.name)
    (found,) = Brats().cases(folder.parent).cases
    return found


def prepared_alike(one: Case, other: Case) -> None:
    a, b = RECIPE(one), RECIPE(other)
    torch.testing.assert_close(a["image"], b["image"], rtol=0, atol=1e-4)
    assert torch.equal(a["target"], b["target"])


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SAR", "PIL"])
def test_stored_orientation_does_not_matter(cohort, tmp_path: Path, axes: str) -> None:
    def turn(image):
        return image.as_reoriented(
            ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(axes)))
        )

    prepared_alike(cohort[0], rewritten(cohort[0], tmp_path, turn, target=True))


@pytest.mark.parametrize("background", [-7.5, -1000.0])
def test_constant_background_other_than_0_does_not_matter(cohort, tmp_path, background) -> None:
    def shift(image):
        values = image.get_fdata(dtype=np.float32)
        return nib.Nifti1Image(np.where(values == 0, background, values), image.affine)

    prepared_alike(cohort[0], rewritten(cohort[0], tmp_path, shift))


def test_labels_stored_as_floating_point_numbers_are_the_same(cohort, tmp_path: Path) -> None:
    def floating(image):
        values = np.asanyarray(image.dataobj).astype(np.float32)
        return nib.Nifti1Image(values + np.float32(1e-5) * (values > 0), image.affine)

    case = rewritten(cohort[0], tmp_path, floating, images=False, target=True)
    prepared_alike(cohort[0], case)


def test_regions_follow_the_cases_own_label_scheme() -> None:
    labels = np.arange(5).reshape(5, 1, 1)
    old = Case("a", "a", {}, regions={"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)})
    new = Case("b", "b", {}, regions={"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)})
    expected = {"a": [[1, 2, 4], [1, 4], [4]], "b": [[1, 2, 3], [1, 3], [3]]}
    for case in (old, new):
        masks = region_masks(labels, case, REGIONS)
        assert [np.flatnonzero(mask).tolist() for mask in masks] == expected[case.id]


def test_channels_come_in_the_recipes_order(cohort) -> None:
    swapped = Preprocessor(("t1ce", "flair"), REGIONS, RECIPE.preset)
    one, other = RECIPE(cohort[0])["image"], swapped(cohort[0])["image"]
    assert torch.equal(one.flip(0), other)


def test_memory_estimate_bounds_what_is_cached(cohort) -> None:
    header = read_header(cohort[0].images["flair"])
    prepared = RECIPE(cohort[0])
    used = prepared["image"].nbytes + prepared["target"].nbytes
    assert used <= prepared_bytes(header, RECIPE)


def test_cache_goes_to_disk_where_memory_would_not_do() -> None:
    assert choose_cache(1, "auto") == "memory"
    assert choose_cache(100 * free_memory_bytes(), "auto") == "disk"
    assert choose_cache(100 * free_memory_bytes(), "memory") == "memory"


def test_missing_modality_names_the_case(cohort) -> None:
    with pytest.raises(DataError, match=f"{cohort[0].id}.*pd"):
        check_case(cohort[0], ("flair", "pd"))


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_case_that_cannot_be_prepared_is_told_as_it_is(cohort, tmp_path: Path, cache: str) -> None:
    def mask(image):
        values = (image.get_fdata() > 0).astype(np.uint8)
        return nib.Nifti1Image(values, image.affine)

    case = rewritten(cohort[0], tmp_path, mask)
    with pytest.raises(DataError, match=f"{case.id}: every voxel in the brain has the same value"):
        cached_cases([case], RECIPE, cache, 0)[0]


def test_constant_images_say_nothing_about_the_patient(cohort, tmp_path: Path) -> None:
    def blank(image):
        return nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine)

    path = cohort[0].images["t2"].path
    case = rewritten(cohort[0], tmp_path, lambda image: image)
    copy = case.images["t2"].path
    nib.save(blank(nib.load(path)), copy)
    assert set(fingerprint(case)) < set(fingerprint(cohort[0])) and len(fingerprint(case)) == 3
    check_content(case, ("flair", "t1", "t1ce"))
    with pytest.raises(DataError, match=f"{copy}: all-zero"):
        check_content(case, ("t2",))


def test_a_later_stage_goes_on_where_the_earlier_one_stopped(cohort: tuple[Case, ...]) -> None:
    cached = cached_cases(cohort, RECIPE, "memory", 0)
    patches = Patches(cached, len(cohort), RECIPE, PATCH, "0/flair")
    whole = list(build_loader(patches, 0, 4, 2, 0, pin_memory=False))
    halves = [
        batch
        for first in (0, 4)
        for batch in build_loader(patches, first, 2, 2, 0, pin_memory=False)
    ]
    assert same(whole, halves)


def test_workers_are_chosen_for_gpus_only() -> None:
    cores = len(os.sched_getaffinity(0))
    assert choose_workers("cpu", 1) == 0
    assert 1 <= choose_workers("cuda", 1) <= max(1, cores - 1)
    assert choose_workers("cuda", 2 * cores) == 1


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_patches_go_to_processes_that_share_no_memory(cohort, cache: str) -> None:
    """As on macOS and Windows, where a worker starts anew."""
    cached = cached_cases(cohort, RECIPE, cache, 0)
    patches = Patches(cached, len(cohort), RECIPE, PATCH, "0/flair")
    there = pickle.loads(pickle.dumps((patches, leave_signals_to_parent)))[0]
    assert same([there[1]], [patches[1]])


class Failing(Dataset[Any]):
    """Samples that end the process that makes them, or make it fail."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __len__(self) -> int:
        return 8

    def __getitem__(self, _index: int) -> dict[str, torch.Tensor]:
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "full":
            raise RuntimeError(
                "unable to write to file </torch_7_8_9>: No space left on device (28)"
            )
        if self.how == "bug":
            raise RuntimeError("shapes differ")
        if self.how == "cut":
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("killed", "a data worker was killed.*lower --workers"),
        ("cut", "a data worker was killed.*lower --workers"),
        ("full", r"shared memory \(/dev/shm\) is full; use --workers 0.*--shm-size"),
        ("open", "too many open files; lower --workers"),
    ],
)
def test_what_ended_a_worker_is_said(how: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        list(build_loader(Failing(how), 0, 2, 2, 1, pin_memory=False))
    assert not active_children()  # else torch complains of the others at exit


def test_other_errors_of_a_worker_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(build_loader(Failing("bug"), 0, 2, 2, 1, pin_memory=False))
