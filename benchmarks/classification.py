"""Is training on pictures bound by arithmetic, not by its input, and by how much less of it?

ResNet-18 on real pictures at 128x128, three ways, in turns and at the same precision:

- ``medtl train``'s loop and loader, from the second pass over the pictures on (the first one reads
  them); its augmentation included;
- a plain PyTorch loop behind a DataLoader that reads every picture by PIL, scales, mirrors and
  turns it: without workers, and with one per core;
- for the step alone: the plain loop on tensors made beforehand.

At least 1.5 times as many images per second as the better of the plain loops, and at most 1.05 of
the time per step of the loop without input, are what it is measured by. The time that all cores
together spend on an image (loops with workers apart) tells the same where the machine is shared.
The wider the network, the less of a step is input: the published width and a quarter of it, which
the studies use, are both told.

    python benchmarks/classification.py          # 5 minutes
    python benchmarks/classification.py --widths 32
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from machine import describe
from PIL import Image
from real_cases import ROOT, shared_data
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from medtl.data.case import Case
from medtl.data.domain import parse_domain
from medtl.errors import Interrupted
from medtl.networks.blocks import Network
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.device import autocast_dtype, build_fabric, precision_name
from medtl.training.loop import Callbacks, Setup, fit
from medtl.training.samples.augmented import Views
from medtl.training.samples.loader import build_loader
from medtl.training.samples.prepared import cached_cases
from medtl.transfer.strategies.base import Stage
from medtl.transforms.preprocessor import Preprocessor
from medtl_kaggle_mri.task import KaggleMri

PICTURES = 320
BATCH = KaggleMri.defaults.batch_size
SIZE = KaggleMri.defaults.patch_size
#: Of a round: the first steps find batches made while the others had their turn.
STEPS, WARM_UP = 20, 5
#: Of a real run: the state to resume from is kept ten times in it.
RUN_STEPS = 2000
#: Images per second, and the milliseconds of this process on an image, summed over its threads.
Spent = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=shared_data() / "kaggle" / "Training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--widths", default="64,16", help="of the network's first block")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/classification.json")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not there; set MEDTL_SHARED_DATA or give --data")
    fabric, catalog = build_fabric("cpu", "auto"), load_catalog()
    every = KaggleMri().cases(options.data).cases
    cases = random.Random(0).sample(every, min(PICTURES, len(every)))
    samples, reading = prepared(cases, catalog)
    result = {
        "machine": describe(),
        "threads": torch.get_num_threads(),
        "precision": precision_name(fabric),
        "network": KaggleMri.defaults.network,
        "size": SIZE,
        "batch": BATCH,
        "rounds": options.rounds,
        "milliseconds_to_read_and_prepare": round(1e3 * reading, 1),
        "widths": {},
    }
    for width in map(int, options.widths.split(",")):
        result["widths"][width] = compared(cases, samples, width, options.rounds, fabric, catalog)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def compared(
    cases: list[Case], samples: Views, width: int, rounds: int, fabric: Fabric, catalog: Catalog
) -> dict[str, Any]:
    """Every way in turns, at one width of the network."""
    cores = torch.get_num_threads()
    made = [torch.utils.data.default_collate(samples.__getitems__(range(BATCH)))]

    def ours(batches: list[Mapping[str, Tensor]] | None = None) -> Medtl:
        return Medtl(samples, fabric, catalog, width, batches)

    def plain(batches: Iterator[Any]) -> Plain:
        return Plain(batches, fabric, build(catalog, width))

    ways: dict[str, Callable[[], Spent]] = {
        "medtl": ours(),
        "plain, no workers": plain(read_plainly(cases, 0)),
        f"plain, {cores} workers": plain(read_plainly(cases, cores)),
        "medtl, no input": ours(made),
        "plain, no input": plain(cycle(made)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways if "workers" not in name}
    cpu |= {"plain, no workers": []}
    for number in range(rounds + 1):
        for name, way in ways.items():
            rate, core_milliseconds = way()
            if number:  # the first round warms up
                rates[name].append(rate)
                cpu.get(name, []).append(core_milliseconds)
    better = [max(pair) for pair in zip(*(rates[n] for n in list(ways)[1:3]), strict=True)]
    faster = [ours / theirs for ours, theirs in zip(rates["medtl"], better, strict=True)]
    steps = zip(rates["plain, no input"], rates["medtl, no input"], strict=True)
    return {
        "images_per_second": {name: round(median(found), 1) for name, found in rates.items()},
        "core_milliseconds_per_image": {n: round(median(v), 2) for n, v in cpu.items()},
        "times_as_many_as_plain": round(median(faster), 2),
        "step_to_plain_step": round(median(bare / ours for bare, ours in steps), 3),
    }


def prepared(cases: list[Case], catalog: Catalog) -> tuple[Views, float]:
    """Samples from the cache, all read once, and the seconds that this took per picture."""
    defaults = KaggleMri.defaults
    preset = catalog.transforms[defaults.transforms].load()().with_size(SIZE)
    preprocessor = Preprocessor(parse_domain(defaults.src).modalities, KaggleMri.regions, preset)
    started = perf_counter()
    cached = cached_cases(cases, preprocessor, "memory", 0)
    reading = (perf_counter() - started) / len(cases)
    return Views(cached, cases, preprocessor, SIZE, "benchmark"), reading


class Plainly(Dataset[tuple[Tensor, Tensor]]):
    """Pictures as a short script reads them."""

    def __init__(self, cases: list[Case]) -> None:
        self.paths = [case.images["image"].path for case in cases]
        self.classes = [KaggleMri.regions.index(case.class_name) for case in cases]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        with Image.open(self.paths[index]) as image:
            small = image.convert("L").resize(SIZE[::-1], Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        small = small.rotate(random.uniform(-30, 30), Image.Resampling.BILINEAR)
        array_IJ = np.asarray(small, dtype=np.float32) / 255
        target_L = torch.zeros(len(KaggleMri.regions))
        target_L[self.classes[index]] = 1
        return {"image": torch.from_numpy((array_IJ - 0.25) / 0.25)[None], "target": target_L}


def read_plainly(cases: list[Case], workers: int) -> Iterator[Mapping[str, Tensor]]:
    loader = DataLoader(
        Plainly(cases),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


def build(catalog: Catalog, width: int) -> Network:
    torch.manual_seed(0)
    return catalog.networks[KaggleMri.defaults.network].load()(
        in_channels=1, out_channels=len(KaggleMri.regions), width=width, spatial_dims=2
    )


def now() -> tuple[float, float]:
    return perf_counter(), process_time()


def spent(start: tuple[float, float], end: tuple[float, float]) -> Spent:
    images = BATCH * (STEPS - WARM_UP)
    return images / (end[0] - start[0]), 1e3 * (end[1] - start[1]) / images


class Plain:
    """A loop as tutorials have it; a call is a round of it."""

    def __init__(self, batches: Iterator[Any], fabric: Fabric, network: Network) -> None:
        self.batches = batches
        self.module = network.module.train()
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3)
        self.dtype = autocast_dtype(fabric)

    def __call__(self) -> Spent:
        for number, batch in enumerate(islice(self.batches, STEPS)):
            if number == WARM_UP:
                started = now()
            with torch.autocast("cpu", dtype=self.dtype, enabled=self.dtype is not None):
                logits_BL = self.module(batch["image"])
                loss = nn.functional.cross_entropy(logits_BL, batch["target"])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()
        return spent(started, now())


class Medtl:
    """``medtl train``'s loop, with its loader or on batches made beforehand."""

    def __init__(
        self,
        samples: Views,
        fabric: Fabric,
        catalog: Catalog,
        width: int,
        made: list[Mapping[str, Tensor]] | None = None,
    ) -> None:
        self.samples = samples
        self.fabric = fabric
        self.network = build(catalog, width)
        self.loss = catalog.losses[KaggleMri.defaults.loss].load()()
        self.made = made
        self.first = 0

    def __call__(self) -> Spent:
        stage = Stage(
            name="benchmark",
            domain=None,  # type: ignore[arg-type]  # the loop does not ask for it
            steps=RUN_STEPS,
            rates={"*": KaggleMri.defaults.rate},
        )
        stamps: list[tuple[float, float]] = []  # when each batch was asked for

        def timed(_done: int) -> Iterator[Mapping[str, Tensor]]:
            for batch in self._batches():
                stamps.append(now())
                yield batch

        with tempfile.TemporaryDirectory() as folder, suppress(Interrupted):
            losses = [(1.0, self.loss)]
            fit(
                Setup(self.network, stage, (), losses, self.fabric, Path(folder), seed=0),
                timed,
                Callbacks(asked_to_stop=lambda: len(stamps) > STEPS),
            )
        return spent(stamps[WARM_UP], stamps[STEPS])

    def _batches(self) -> Iterable[Mapping[str, Tensor]]:
        if self.made:
            return cycle(self.made)
        first, self.first = self.first, self.first + BATCH * (STEPS + 1)
        return build_loader(self.samples, first, STEPS + 1, BATCH, 0, pin_memory=False)


if __name__ == "__main__":
    main()
