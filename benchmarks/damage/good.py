"""The good inputs: small data sets, runs and files of weights."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parents[1]
CASES, EDGE = 6, 20
ON = ("--device", "cpu", "--precision", "fp32")
SMALL = (*ON, "--width", "4", "--workers", "0", "--batch-size", "2", "-q")
VOLUMES = (*SMALL, "--labels", "a=1", "--network", "unet", "--set", "patch_size=32,32,32")
PICTURES = (*SMALL, "--network", "cbr-tiny")
HALF = "half"  #: the run that was killed


def build(base: Path) -> None:
    """Make everything below ``base``, unless it is there."""
    if base.is_dir():
        return
    making = base.with_name("making")
    shutil.rmtree(making, ignore_errors=True)
    for make in (table, sites, nnunet, datalist, pictures):
        make(making / make.__name__)
    with_classes(making / "pictures")
    making.rename(base)  # runs remember where their data are
    try:
        runs(base)
        weights(base)
    except BaseException:
        shutil.rmtree(base)
        raise


def volume(case: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy cube in air, and a small cube in it."""
    image, label = np.zeros((EDGE,) * 3, np.float32), np.zeros((EDGE,) * 3, np.uint8)
    noise = np.random.default_rng(case).standard_normal((EDGE - 6,) * 3)
    image[3:-3, 3:-3, 3:-3] = 100 + 10 * noise
    start = 5 + case % 4
    label[start : start + 6, start : start + 6, start : start + 6] = 1
    return (image if case % 2 else image.astype(np.int16)), label


def write(path: Path, voxels: np.ndarray) -> None:
    content = nib.Nifti1Image(voxels, np.diag([2.0, 2, 2, 1])).to_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def table(folder: Path) -> None:
    """cases.csv; every third volume is not compressed."""
    rows = [["case", "mr", "label"]]
    for case in range(CASES):
        names = [f"{kind}{case}.nii{'' if case % 3 == 1 else '.gz'}" for kind in "cl"]
        for name, voxels in zip(names, volume(case), strict=True):
            write(folder / name, voxels)
        rows.append([f"c{case}", *names])
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def sites(folder: Path) -> None:
    """The same with two more columns."""
    table(folder)
    path = folder / "cases.csv"
    first, *rows = path.read_text().splitlines()
    lines = [f"{row},p{number},{'AB'[number % 2]}" for number, row in enumerate(rows)]
    path.write_text("\n".join([f"{first},patient,site", *lines]) + "\n")


def nnunet(folder: Path) -> None:
    for case in range(CASES):
        image, label = volume(case)
        write(folder / f"imagesTr/k_{case:03}_0000.nii.gz", image)
        write(folder / f"labelsTr/k_{case:03}.nii.gz", label)
    facts = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}}
    facts |= {"numTraining": CASES, "file_ending": ".nii.gz"}  # type: ignore[dict-item]
    (folder / "dataset.json").write_text(json.dumps(facts, indent=1))


def datalist(folder: Path) -> None:
    """A MONAI datalist with folds, and the same cases as MSD's dataset.json, in a folder each."""
    for name in ("monai", "msd"):
        for case in range(CASES):
            for part, voxels in zip(("imagesTr", "labelsTr"), volume(case), strict=True):
                write(folder / name / part / f"k{case}.nii.gz", voxels)
    pairs = [
        {"image": f"./imagesTr/k{n}.nii.gz", "label": f"./labelsTr/k{n}.nii.gz"}
        for n in range(CASES)
    ]
    folds = {"training": [{**pair, "fold": n % 3} for n, pair in enumerate(pairs)]}
    (folder / "monai" / "datalist.json").write_text(json.dumps(folds, indent=1))
    facts = {"name": "k", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a"}}
    facts |= {"numTraining": CASES, "training": pairs, "test": []}  # type: ignore[dict-item]
    (folder / "msd" / "dataset.json").write_text(json.dumps(facts, indent=1))


def pictures(folder: Path) -> None:
    """Two classes in the formats that are read, colours and depths among them."""
    made = (
        ("png", "L"),
        ("jpg", "RGB"),
        ("tif", "I;16"),
        ("bmp", "L"),
        ("png", "RGBA"),
        ("tif", "RGB"),
        ("png", "I;16"),
        ("jpg", "L"),
    )
    for which, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        for number, (ending, mode) in enumerate(made):
            random = np.random.default_rng(100 * which + number)
            grey = (random.random((40, 36)) * 200).astype(np.uint8)
            picture = (
                Image.fromarray(grey.astype(np.uint16) * 64)
                if mode == "I;16"
                else Image.fromarray(grey).convert(mode)
            )
            picture.save(folder / name / f"{name}{number}.{ending}")


def with_classes(folder: Path) -> None:
    """A table of the pictures beside their folders."""
    files = sorted(path for path in folder.glob("*/*"))
    rows = [
        ["image", "label", "patient"],
        *([str(f.relative_to(folder)), f.parent.name, f.stem] for f in files),
    ]
    with (folder.with_name("classes.csv")).open("w", newline="") as file:
        csv.writer(file).writerows(
            [rows[0], *([f"pictures/{row[0]}", *row[1:]] for row in rows[1:])]
        )


def runs(base: Path) -> None:
    """A finished run of each kind, and one that was killed after its first states."""
    segment = ("train", "segmentation", "--data", base / "table/cases.csv", *VOLUMES)
    classify = ("train", "classification", "--data", base / "pictures", *PICTURES)
    command = (sys.executable, "-m", "medtl")
    killed = (sys.executable, HERE / "damage" / "killed.py", "kept:3")
    launch(base, *command, *segment, "--steps", "4", "--out", base / "seg")
    launch(base, *command, *classify, "--steps", "4", "--out", base / "cls")
    launch(base, *killed, *segment, "--steps", "12", "--out", base / HALF, code=-9)


def launch(base: Path, *words: object, code: int = 0) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MEDTL_CACHE": str(base / "cache")}
    done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True)
    if done.returncode != code:
        sys.exit(f"{' '.join(map(str, words))}: {done.returncode}\n{done.stderr}")


def weights(base: Path) -> None:
    """The checkpoint of ``seg`` in the files that others write."""
    folder = base / "weights"
    folder.mkdir()
    checkpoint = base / "seg/scratch/checkpoint_best.safetensors"
    shutil.copy(checkpoint, folder / "own.safetensors")
    tensors = load_file(checkpoint)
    torch.save(tensors, folder / "plain.pth")
    torch.save(
        {"state_dict": {f"module.{n}": t for n, t in tensors.items()}, "epoch": 3},
        folder / "wrapped.pth",
    )
    torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)
