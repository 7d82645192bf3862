"""What does medtl's training loop cost beside a bare PyTorch loop, and does it wait for its input?

Three questions, on the network, patches and precision that ``medtl train brats`` takes by default:

- time per step of :func:`medtl.training.loop.fit` (clipping, averaging, logging and the kept state
  included) against forward, backward and AdamW alone, on the same tensors, in turns;
- share of the time spent waiting for patches from the second pass over the patients on;
- time to make a batch from cached cases, against reading and preparing the NIfTI files of its
  patients by MONAI's transforms every step (which then still lacks the augmentation).

    python benchmarks/training_step.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from machine import describe
from real_cases import ROOT, add_data_option, sorted_cases

from medtl.data.modality import parse_modalities
from medtl.networks.blocks import Network
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.device import autocast_dtype, build_fabric, precision_name
from medtl.training.loop import Objective, Setup, fit
from medtl.training.samples.augmented import Patches
from medtl.training.samples.loader import build_loader
from medtl.training.samples.prepared import cached_cases
from medtl.transfer.strategies.base import LossSpec, Stage
from medtl.transforms.preprocessor import Preprocessor
from medtl_brats.task import Brats

#: Batches made beforehand, and how often the loops go through them: the state to resume from is
#: written ten times in a stage, which weighs more the shorter the stage is.
BATCHES = 30
ROUNDS = 5
STEPS = BATCHES * ROUNDS
#: Patients of the second question; the first pass over them is left out.
PATIENTS = 4
PASSES = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_option(parser)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/training_step.json")
    options = parser.parse_args()
    fabric = build_fabric(options.device, "auto")
    catalog = load_catalog()
    cases = sorted_cases(options.data)[:PATIENTS]
    defaults = Brats.defaults
    preset = catalog.transforms[defaults.transforms].load()().with_spacing(defaults.spacing_mm)
    preprocessor = Preprocessor(parse_modalities(defaults.src), Brats.regions, preset)
    cached = cached_cases(cases, preprocessor, "memory", 0)
    patches = Patches(cached, len(cases), preprocessor, defaults.patch_size, "benchmark")
    result = {
        "machine": describe(),
        "device": str(fabric.device),
        "precision": precision_name(fabric),
        "patch": defaults.patch_size,
        "batch": defaults.batch_size,
        "loop": compare_loops(options, fabric, catalog, patches),
        "waiting": measure_waiting(options, fabric, catalog, patches),
        "input": compare_input(options, cases, preprocessor, patches),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: result[k] for k in ("loop", "waiting", "input")}, indent=2))


def compare_loops(options: Any, fabric: Any, catalog: Catalog, patches: Patches) -> dict[str, Any]:
    """Medians over the repeats of the time per step, on tensors made beforehand."""
    batches = [batch_of(patches, n, fabric) for n in range(BATCHES)] * ROUNDS
    seconds: dict[str, list[float]] = {"bare": [], "medtl": []}
    for repeat in range(options.repeats + 1):
        took = {
            "bare": bare_loop(batches, fabric, catalog),
            "medtl": medtl_loop(batches, fabric, catalog, len(batches)),
        }
        if repeat:  # the first one warms up
            for way, value in took.items():
                seconds[way].append(value)
    ratios = [ours / bare for ours, bare in zip(seconds["medtl"], seconds["bare"], strict=True)]
    medians = {way: round(median(values) / STEPS, 4) for way, values in seconds.items()}
    return {"seconds_per_step": medians, "ratio": round(median(ratios), 3), "repeats": len(ratios)}


def batch_of(patches: Patches, sample: int, fabric: Any) -> dict[str, Any]:
    made = patches[sample]
    return {name: tensor[None].to(fabric.device) for name, tensor in made.items()}


def build(catalog: Catalog) -> tuple[Network, list[tuple[float, Any]]]:
    torch.manual_seed(0)
    network = catalog.networks[Brats.defaults.network].load()(
        in_channels=2, out_channels=3, width=None, patch_size=Brats.defaults.patch_size
    )
    return network, [(1.0, catalog.losses["dice-ce"].load()())]


def bare_loop(batches: list[dict[str, Any]], fabric: Any, catalog: Catalog) -> float:
    network, losses = build(catalog)
    objective = Objective(network.module, losses).to(fabric.device)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=Brats.defaults.rate)
    dtype = autocast_dtype(fabric)
    started = perf_counter()
    for batch in batches:
        with torch.autocast(fabric.device.type, dtype=dtype, enabled=dtype is not None):
            loss = objective(batch["image"], batch["target"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return perf_counter() - started


def medtl_loop(
    batches: Iterable[dict[str, Any]], fabric: Any, catalog: Catalog, steps: int
) -> float:
    network, losses = build(catalog)
    network.module.to(fabric.device)
    stage = Stage(
        name="benchmark",
        domain=None,  # type: ignore[arg-type]  # the loop does not ask for it
        steps=steps,
        rates={"*": Brats.defaults.rate},
        losses=(LossSpec("dice-ce"),),
    )
    with tempfile.TemporaryDirectory() as folder:
        started = perf_counter()
        setup = Setup(network, stage, (), losses, fabric, Path(folder), seed=0)
        fit(setup, lambda done: batches)
        return perf_counter() - started


#: When each batch was asked for, and when it came.
Stamps = list[tuple[float, float]]


def timed(
    patches: Patches, steps: int, batch_size: int, workers: int, fabric: Any, stamps: Stamps
) -> Iterator[Any]:
    """Yield a batch per step; ``stamps`` receives when it was asked for and when it came."""
    pinned = fabric.device.type == "cuda"
    batches = build_loader(patches, 0, steps, batch_size, workers, pin_memory=pinned)
    for _ in range(steps):
        asked = perf_counter()
        batch = next(batches)
        stamps.append((asked, perf_counter()))
        yield batch


def measure_waiting(
    options: Any, fabric: Any, catalog: Catalog, patches: Patches
) -> dict[str, Any]:
    """Share of the time between the second pass and the last that the loop waits in ``next``."""
    steps = PATIENTS * PASSES // Brats.defaults.batch_size
    stamps: Stamps = []
    batches = timed(patches, steps, Brats.defaults.batch_size, options.workers, fabric, stamps)
    medtl_loop(batches, fabric, catalog, steps)
    later = stamps[PATIENTS // Brats.defaults.batch_size :]
    whole = later[-1][1] - later[0][0]
    waiting = sum(came - asked for asked, came in later)
    return {
        "share": round(waiting / whole, 4),
        "seconds_per_step": round(waiting / len(later), 5),
        "steps": len(later),
        "workers": options.workers,
    }


def compare_input(
    options: Any, cases: list[Any], preprocessor: Preprocessor, patches: Patches
) -> dict[str, Any]:
    """Seconds to make one sample, on one thread: from the cache, and from the files."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    read = monai_reader(preprocessor)
    made, from_files = [], []
    for repeat in range(options.repeats):
        for position, case in enumerate(cases):
            started = perf_counter()
            patches[repeat * len(cases) + position]
            between = perf_counter()
            read(
                {
                    "image": [str(case.images[name].path) for name in preprocessor.modalities],
                    "label": str(case.target.path),
                }
            )
            made.append(between - started)
            from_files.append(perf_counter() - between)
    torch.set_num_threads(threads)
    ours, theirs = (sum(values) / len(values) for values in (made, from_files))
    return {
        "seconds_cached_and_augmented": round(ours, 4),
        "seconds_read_and_prepared_by_monai": round(theirs, 4),
        "ratio": round(theirs / ours, 1),
    }


def monai_reader(preprocessor: Preprocessor) -> Any:
    """MONAI's usual chain for BraTS: load, orient, resample, crop, z-score."""
    from monai.transforms import (
        Compose,
        ConvertToMultiChannelBasedOnBratsClassesd,
        CropForegroundd,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        Spacingd,
    )

    both = ["image", "label"]
    spacing = (preprocessor.preset.spacing_mm,) * 3
    return Compose(
        [
            LoadImaged(both),
            EnsureChannelFirstd("image"),
            ConvertToMultiChannelBasedOnBratsClassesd("label"),
            Orientationd(both, axcodes="RAS"),
            Spacingd(both, pixdim=spacing, mode=("bilinear", "nearest")),
            CropForegroundd(both, source_key="image"),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )


if __name__ == "__main__":
    main()
