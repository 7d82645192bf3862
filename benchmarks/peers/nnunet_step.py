"""Seconds of nnU-Net's own training step: its trainer, network, augmentation and data loader.

    python nnunet_step.py OUT WIDTH BATCH I,J,K STEPS DEVICE

OUT holds what `nnunet_fold.py` has preprocessed. Of its plans, the width, the patch, the batch and
the strides are changed to those of the benchmark. Prints a JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from nnunet_fold import end_loaders, read_plans, start_trainer, work_in

WARM_UP = 3


def main() -> None:
    out = Path(sys.argv[1])
    with TemporaryDirectory() as results:  # a model in OUT keeps its plans
        work_in(out, Path(results))
        print(json.dumps(timed_steps(out)))


def timed_steps(out: Path) -> dict[str, Any]:
    """Seconds of a step, the share of waiting, and what was trained."""
    import torch

    width, batch, steps = map(int, (sys.argv[2], sys.argv[3], sys.argv[5]))
    patch = [int(edge) for edge in sys.argv[4].split(",")]
    plans, dataset = read_plans(out)
    configuration = plans["configurations"]["3d_fullres"]
    configuration.update(batch_size=batch, patch_size=patch)
    levels = 4
    configuration["architecture"]["arch_kwargs"].update(
        n_stages=levels,
        features_per_stage=[width * 2**level for level in range(levels)],
        kernel_sizes=[[3, 3, 3]] * levels,
        strides=[[1, 1, 1]] + [[2, 2, 2]] * (levels - 1),
        n_conv_per_stage=[2] * levels,
        n_conv_per_stage_decoder=[2] * (levels - 1),
    )
    trainer = start_trainer(plans, dataset, sys.argv[6])
    seconds, waiting = [], []
    for step in range(WARM_UP + steps):
        started = perf_counter()
        made = next(trainer.dataloader_train)
        came = perf_counter()
        trainer.train_step(made)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        if step >= WARM_UP:
            seconds.append(perf_counter() - started)
            waiting.append(came - started)
    shape = list(made["data"].shape)
    parameters = sum(p.numel() for p in trainer.network.parameters())
    facts = {"seconds": median(seconds), "waiting": sum(waiting) / sum(seconds)}
    end_loaders(trainer)
    return {**facts, "shape": shape, "parameters": parameters}


if __name__ == "__main__":
    main()
