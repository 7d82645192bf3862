"""One fold by nnU-Net itself: its plans, its preprocessing, its trainer, for a number of minutes.

    python nnunet_fold.py DATA OUT MINUTES CASE,CASE,...

It runs in an environment with nnunetv2. The polynomial decay of the learning rate ends with the
minutes; the steps taken are written to OUT/dice.json with the Dice of every case left out. The
cases are read in place, under names that nnU-Net takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

NAME = "Dataset004_Hippocampus"
TRIAL = 5


def main() -> None:
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    minutes, test = float(sys.argv[3]), sys.argv[4].split(",")
    work_in(out)
    cases = write_raw(data, out / "raw" / NAME)
    if not (out / "preprocessed" / NAME / "nnUNetPlans_3d_fullres").is_dir():
        program = Path(sys.executable).parent / "nnUNetv2_plan_and_preprocess"
        words = ["-d", "4", "-c", "3d_fullres", "-np", "2", "--clean"]
        subprocess.run([str(program), *words], check=True)
    split = [{"train": [case for case in cases if case not in test], "val": test}]
    (out / "preprocessed" / NAME / "splits_final.json").write_text(json.dumps(split))
    folder, steps, seconds = train(out, minutes)
    dice = predict(folder, out, test)
    result = {"steps": steps, "seconds": seconds, "cases": dice}
    (out / "dice.json").write_text(json.dumps(result, indent=1))


def work_in(out: Path) -> None:
    """Tell nnU-Net its folders, before it is imported."""
    for part in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{part}"] = str(out / part)


def read_plans(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its plans for the data set, and the data set's description."""
    plans = json.loads((out / "preprocessed" / NAME / "nnUNetPlans.json").read_text())
    return plans, json.loads((out / "raw" / NAME / "dataset.json").read_text())


def start_trainer(plans: dict[str, Any], dataset: dict[str, Any], device: str) -> Any:
    """Its own trainer, ready for the first step."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans["continue_training"] = False
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, torch.device(device))
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return trainer


def end_loaders(trainer: Any) -> None:
    """End the processes that make batches; else they would be waited for."""
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):
            loader._finish()


def write_raw(data: Path, raw: Path) -> list[str]:
    """The data set under nnU-Net's names, as links; returns the cases."""
    content = json.loads((data / "dataset.json").read_text())
    cases = []
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    for item in content["training"]:
        case = Path(item["image"]).name.removesuffix(".nii.gz")
        cases.append(case)
        for part, name, key in (("imagesTr", f"{case}_0000", "image"), ("labelsTr", case, "label")):
            link = raw / part / f"{name}.nii.gz"
            if not link.is_symlink():
                link.symlink_to((data / item[key]).resolve())
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    dataset = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": len(cases)}
    (raw / "dataset.json").write_text(json.dumps({**dataset, "file_ending": ".nii.gz"}))
    return cases


def train(out: Path, minutes: float) -> tuple[Path, int, float]:
    """The trainer's own steps until the minutes are over; returns its folder and their number."""
    plans, dataset = read_plans(out)
    trainer = start_trainer(plans, dataset, "cpu")
    for _ in range(TRIAL):  # what is made at first use is not counted
        trainer.train_step(next(trainer.dataloader_train))
    started, steps, budget = perf_counter(), TRIAL, 60 * minutes
    while (done := (perf_counter() - started) / budget) < 1:
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - done) ** 0.9
        trainer.train_step(next(trainer.dataloader_train))
        steps += 1
    seconds = perf_counter() - started
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    end_loaders(trainer)
    for name, content in (("plans.json", plans), ("dataset.json", dataset)):
        (Path(trainer.output_folder_base) / name).write_text(json.dumps(content))
    return Path(trainer.output_folder_base), steps, seconds


def predict(folder: Path, out: Path, test: list[str]) -> dict[str, float]:
    """Mean Dice of both labels of each case, by nnU-Net's predictor on the native grid."""
    import nibabel
    import numpy as np
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,), "checkpoint_final.pth")
    raw = out / "raw" / NAME
    masks = out / "masks"
    masks.mkdir(exist_ok=True)
    files = [[str(raw / "imagesTr" / f"{case}_0000.nii.gz")] for case in test]
    predictor.predict_from_files_sequential(files, [str(masks / case) for case in test])
    dice = {}
    for case in test:
        found = np.asanyarray(nibabel.load(masks / f"{case}.nii.gz").dataobj)
        truth = np.asanyarray(nibabel.load(raw / "labelsTr" / f"{case}.nii.gz").dataobj)
        scores = []
        for label in (1, 2):
            both = np.sum(found == label) + np.sum(truth == label)
            scores.append(2 * np.sum((found == label) & (truth == label)) / both if both else 1.0)
        dice[case] = float(np.mean(scores))
    return dice


if __name__ == "__main__":
    main()
