"""Seconds of nnU-Net's own training step: its trainer, network, augmentation and data loader.

    python nnunet_step.py OUT WIDTH BATCH I,J,K STEPS DEVICE

OUT holds what `nnunet_fold.py` has preprocessed. Of its plans, the width, the patch, the batch and
the strides are changed to those of the benchmark. Prints a JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

NAME = "Dataset004_Hippocampus"
WARM_UP = 3


def main() -> None:
    out, width, batch, steps = Path(sys.argv[1]), *map(int, (sys.argv[2], sys.argv[3], sys.argv[5]))
    patch = [int(edge) for edge in sys.argv[4].split(",")]
    for part in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{part}"] = str(out / part)
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans = json.loads((out / "preprocessed" / NAME / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    dataset = json.loads((out / "raw" / NAME / "dataset.json").read_text())
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
    device = torch.device(sys.argv[6])
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, device)
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    seconds, waiting = [], []
    for step in range(WARM_UP + steps):
        started = perf_counter()
        made = next(trainer.dataloader_train)
        came = perf_counter()
        trainer.train_step(made)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if step >= WARM_UP:
            seconds.append(perf_counter() - started)
            waiting.append(came - started)
    shape = list(made["data"].shape)
    parameters = sum(p.numel() for p in trainer.network.parameters())
    facts = {"seconds": median(seconds), "waiting": sum(waiting) / sum(seconds)}
    print(json.dumps({**facts, "shape": shape, "parameters": parameters}))
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):  # else its processes would be waited for
            loader._finish()


if __name__ == "__main__":
    main()
