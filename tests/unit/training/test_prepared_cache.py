"""Prepared cases on disk: their keys follow every input, their entries hold what was written."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl.data.case import Case, ImageFile
from medtl.data.content_hash import check_unchanged, contents_of
from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.runtime import index
from medtl.runtime.leftovers import hidden_name
from medtl.training.samples import keys
from medtl.training.samples.disk_cache import Stored, is_sound, packed
from medtl.training.samples.keys import Item, case_key, recipe_key
from medtl.training.samples.prepared import cached_cases
from medtl.transforms.histogram import Standard
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import Preset, brain_mr, brain_mr_n4, ct, mr

QUICK = settings(deadline=None, max_examples=80, derandomize=True)
FLAIR, T1 = Modality("flair"), Modality("t1")
RECIPE = Preprocessor((FLAIR, T1), ("lesion",), mr().with_spacing(2.0))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_said", set())


def write_volume(path: Path, seed: int) -> ImageFile:
    """A cube of noise in air, and as many bytes for every seed."""
    volume_IJK = np.zeros((12, 12, 12), np.int16)
    volume_IJK[2:-2, 2:-2, 2:-2] = np.random.default_rng(seed).integers(100, 200, (8, 8, 8))
    nib.save(nib.Nifti1Image(volume_IJK, np.diag([2.0, 2, 2, 1])), path)
    return ImageFile(path)


def write_target(path: Path, start: int = 4) -> ImageFile:
    label_IJK = np.zeros((12, 12, 12), np.uint8)
    label_IJK[start : start + 3, 4:7, 4:7] = 1
    nib.save(nib.Nifti1Image(label_IJK, np.diag([2.0, 2, 2, 1])), path)
    return ImageFile(path)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    folder = tmp_path / "data"
    folder.mkdir()
    return Case(
        "P1",
        "P1",
        {
            FLAIR: write_volume(folder / "flair.nii", 1),
            T1: write_volume(folder / "t1.nii", 2),
        },
        write_target(folder / "seg.nii"),
        {"lesion": (1,)},
        (0, 1),
    )


def prepared(case: Case, recipe: Preprocessor = RECIPE, cache: str = "disk") -> Any:
    return cached_cases([case], recipe, cache, 0)[0]


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "prepared").rglob("*.safetensors"))


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (
        one.keys() == other.keys()
        and torch.equal(one["image"], other["image"])
        and torch.equal(one["target"], other["target"])
        and all(torch.equal(one["centres"][k], other["centres"][k]) for k in one["centres"])
    )


# --- keys ------------------------------------------------------------------------------------

#: Inputs of a prepared case: each a strategy of values that must not share a key.
NAMES = st.sampled_from(["flair", "t1", "t2", "ct"])
INPUTS: dict[str, st.SearchStrategy[Any]] = {
    "names": st.lists(NAMES, min_size=2, max_size=2, unique=True).map(tuple),
    "regions": st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "a")]),
    "scheme": st.sampled_from([{"a": (1,), "b": (2,)}, {"a": (1, 2), "b": (2,)}]),
    "labels": st.sampled_from([(0, 1), (0, 1, 2)]),
    "channels": st.sampled_from([(None, None), (0, 1), (1, 0)]),
    "first": st.binary(max_size=8),
    "second": st.binary(max_size=8),
    "target": st.none() | st.binary(max_size=8),
    "code": st.sampled_from(["1", "2"]),
    "version": st.sampled_from([2, 3]),
    "preset": st.sampled_from([brain_mr(), brain_mr_n4(), mr(), ct()]),
    "spacing": st.sampled_from([1.0, 1.5, 2.0]),
    "windows": st.sampled_from([{}, {"ct": (0, 1, 0.5, 0.1)}, {"ct": (0, 2, 0.5, 0.1)}]),
    "size": st.sampled_from([(), (32, 32), (32, 64)]),
    "scaling": st.sampled_from(["zscore", "unit", "imagenet"]),
    "head": st.booleans(),
    "standard": st.sampled_from(
        [None, Standard("n", (1.0, 99.0), (("t1", (0.0, 1.0)),)), Standard("n", (1.0, 98.0), ())]
    ),
}


def key_of(given: Mapping[str, Any], folder: str, patch: pytest.MonkeyPatch) -> str:
    """The place of the entry of a case with these inputs."""
    patch.setattr(keys, "code_version", lambda: given["code"])
    patch.setattr(keys, "ENTRY_VERSION", given["version"])
    one, two = (
        ImageFile(Path(folder, name), channel)
        for name, channel in zip(("1", "2"), given["channels"], strict=True)
    )
    target = None if given["target"] is None else ImageFile(Path(folder, "seg"))
    names = tuple(map(Modality, given["names"]))
    images = dict(zip(names, (one, two), strict=True))
    found = Case(folder, folder, images, target, given["scheme"], given["labels"])
    content = {"1": given["first"], "2": given["second"], "seg": given["target"]}
    files = [one, two, *([target] if target else [])]
    item = Item(found, tuple(repr(content[file.path.name]) for file in files))
    preset: Preset = replace(
        given["preset"].with_spacing(given["spacing"]).with_windows(given["windows"]),
        size=given["size"],
        scaling=given["scaling"],
        head=given["head"],
        standard=given["standard"],
    )
    recipe = recipe_key(Preprocessor(names, given["regions"], preset))
    return f"{recipe}/{case_key(item, names)}"


@QUICK
@given(st.fixed_dictionaries(INPUTS), st.data())
def test_key_changes_with_any_input_and_with_nothing_else(given, data):
    changed = data.draw(st.sampled_from(sorted(INPUTS)))
    value = data.draw(INPUTS[changed].filter(lambda value: value != given[changed]))
    with pytest.MonkeyPatch.context() as patch:
        key = key_of(given, "somewhere", patch)
        assert key == key_of(dict(reversed(given.items())), "elsewhere", patch)
        assert key != key_of(given | {changed: value}, "somewhere", patch)


def test_code_version_follows_the_code(tmp_path, monkeypatch):
    before = keys.code_version.__wrapped__()
    assert keys.code_version.__wrapped__() == before
    copy = tmp_path / "medtl"
    root = Path(keys.medtl.__file__).parent
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(keys.medtl, "__file__", str(copy / "__init__.py"))
    assert keys.code_version.__wrapped__() == before
    with (copy / "transforms" / "preprocess.py").open("a") as source:
        source.write("\n")
    assert keys.code_version.__wrapped__() != before


def test_what_a_killed_run_was_writing_is_removed(case, tmp_path):
    prepared(case)
    (entry,) = entries(tmp_path)
    left = entry.with_name(hidden_name(entry.name) + entry.suffix)
    left.write_bytes(b"half")
    prepared(case)
    assert not left.exists() and entries(tmp_path) == [entry]


def test_names_put_right_prepare_anew(case, tmp_path):
    wrong = prepared(case)
    right = replace(case, images={FLAIR: case.images[T1], T1: case.images[FLAIR]})
    expected = RECIPE(right)["image"]
    found = prepared(right)["image"]
    assert torch.equal(found, expected) and not torch.equal(found, wrong["image"])
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("name", ["flair.nii", "seg.nii"])
def test_file_corrected_within_its_size_and_time_is_prepared_anew(case, name):
    before = prepared(case)
    path = case.images[FLAIR].path.with_name(name)
    stat = path.stat()
    if name == "seg.nii":
        write_target(path, 6)
    else:
        write_volume(path, 9)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    after = prepared(case)
    expected = RECIPE(case)
    assert torch.equal(after["image"], expected["image"])
    assert torch.equal(after["target"], expected["target"])
    assert not same(before, after)


def test_header_alone_changes_the_entry(case):
    """The same voxels on another grid: 4 mm instead of 2 mm."""
    before = prepared(case)
    for file in (*case.images.values(), case.target):
        content = bytearray(file.path.read_bytes())
        content[80:84] = struct.pack("<f", 4.0)  # pixdim[1]
        content[280:284] = struct.pack("<f", 4.0)  # srow_x[0]
        file.path.write_bytes(content)
    after = prepared(case)
    assert after["image"].shape[1] == 2 * before["image"].shape[1]


def test_two_data_sets_under_one_relative_path_share_nothing(case, tmp_path, monkeypatch):
    other = tmp_path / "other" / "data"
    shutil.copytree(tmp_path / "data", other)
    write_volume(other / "flair.nii", 9)
    found = []
    for folder in (tmp_path, other.parent):
        monkeypatch.chdir(folder)
        images = {name: ImageFile(Path("data", f"{name}.nii")) for name in (FLAIR, T1)}
        relative = replace(case, images=images, target=ImageFile(Path("data/seg.nii")))
        found.append(prepared(relative)["image"])
    assert not torch.equal(*found)


def test_moved_data_set_shares_its_entries(case, tmp_path):
    before = prepared(case)
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = {n: ImageFile(tmp_path / "moved" / f.path.name) for n, f in case.images.items()}
    assert case.target is not None
    target = ImageFile(tmp_path / "moved" / case.target.path.name)
    assert same(before, prepared(replace(case, images=moved, target=target)))
    assert len(entries(tmp_path)) == 1


# --- entries ---------------------------------------------------------------------------------


def test_entry_is_a_safetensors_file(case, tmp_path):
    from safetensors.torch import load_file

    expected = prepared(case)
    (entry,) = entries(tmp_path)
    assert torch.equal(load_file(entry)["0000/image/"], expected["image"])


@QUICK
@given(st.data())
def test_any_flipped_bit_of_an_entry_is_noticed(data):
    tensors = {"0000/image/": torch.arange(6.0).reshape(2, 3), "0001/target/": torch.zeros(0)}
    content = bytearray(packed(tensors, "key"))
    assert is_sound(bytes(content), "key") and not is_sound(bytes(content), "yek")
    for bit in data.draw(st.sets(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=3)):
        content[bit // 8] ^= 1 << bit % 8
    assert not is_sound(bytes(content), "key")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 0x40
    path.write_bytes(content)


def end_early(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rename_a_tensor(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"image", b"imago"))


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def become_a_circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def become_huge(path: Path) -> None:
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        end_early,
        rename_a_tensor,
        become_a_pipe,
        become_a_device,
        become_a_circle,
        become_huge,
        lambda path: path.write_bytes(b""),
    ],
)
def test_damaged_entry_is_told_and_made_anew(case, tmp_path, capfd, damage: Callable[[Path], Any]):
    expected = prepared(case)
    (entry,) = entries(tmp_path)
    content = entry.read_bytes()
    try:
        damage(entry)
    except OSError as problem:
        pytest.skip(f"not possible here: {problem}")
    assert same(prepared(case), expected)
    (line,) = capfd.readouterr().err.splitlines()
    assert "damaged prepared cases" in line
    assert entry.read_bytes() == content and not entry.is_symlink()


def test_entries_that_are_swapped_are_damaged(case, tmp_path):
    other = replace(case, images={FLAIR: case.images[T1], T1: case.images[FLAIR]})
    expected = [prepared(case), prepared(other)]
    one, two = entries(tmp_path)
    one.rename(tmp_path / "third")
    two.rename(one)
    (tmp_path / "third").rename(two)
    assert same(prepared(case), expected[0]) and same(prepared(other), expected[1])


def test_entry_damaged_while_it_is_in_use_is_noticed(case, tmp_path):
    cached = cached_cases([case], RECIPE, "disk", 0)
    expected = cached[0]
    (entry,) = entries(tmp_path)
    os.utime(entry, (1_600_000_000, 1_600_000_000))
    assert same(cached[0], expected)
    stat = entry.stat()
    flip_a_bit(entry)
    os.utime(entry, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert same(cached[0], expected)


def test_settled_entry_is_hashed_once(tmp_path, monkeypatch):
    stored = Stored([1], lambda _: {"image": torch.ones(3)}, tmp_path / "x", str)
    stored[0]
    now = __import__("time").time_ns
    monkeypatch.setattr("time.time_ns", lambda: now() + 10**10)
    stored[0]
    monkeypatch.setattr("medtl.training.samples.disk_cache.is_sound", lambda *_: pytest.fail())
    assert torch.equal(stored[0]["image"], torch.ones(3))


# --- files that change meanwhile -------------------------------------------------------------


@pytest.mark.parametrize("cache", ["none", "disk", "memory"])
@pytest.mark.parametrize("name", ["t1.nii", "seg.nii"])
def test_file_that_changes_after_the_run_began_is_refused(case, cache, name):
    contents = contents_of([case])
    path = case.images[FLAIR].path.with_name(name)
    stat, former = path.stat(), path.read_bytes()
    if name == "seg.nii":
        write_target(path, 6)
    else:
        write_volume(path, 9)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(DataError, match=f"{path}: changed while"):
        cached_cases([case], RECIPE, cache, 0, contents)[0]
    with pytest.raises(DataError, match=f"{path}: changed while"):
        check_unchanged([case], contents)
    path.write_bytes(former)
    assert torch.equal(
        cached_cases([case], RECIPE, cache, 0, contents)[0]["image"], RECIPE(case)["image"]
    )


def test_file_that_changes_while_it_is_prepared_is_refused(case, monkeypatch):
    """Of a case in two files, the second may be newer than the first."""
    cached = cached_cases([case], RECIPE, "none", 0)
    read = Preprocessor.__call__

    def meanwhile(self: Preprocessor, case: Case, **options: Any) -> Any:
        found = read(self, case, **options)
        write_volume(case.images[T1].path, 9)
        return found

    monkeypatch.setattr(Preprocessor, "__call__", meanwhile)
    with pytest.raises(DataError, match="changed while"):
        cached[0]
