"""One fold by nnU-Net itself: its plans, its preprocessing, its trainer, for a number of minutes.

    python nnunet_fold.py OUT MINUTES CASE,CASE,... [PLANNER BATCH TRAINER]

It runs in an environment with nnunetv2. OUT/raw holds one data set in nnU-Net's format. The named
cases are not trained on. PLANNER, such as nnUNetPlannerResEncM, takes the place of its default,
BATCH that of the planned batch size, and TRAINER, such as nnUNetTrainerAdam1en3, that of its
default. The polynomial decay of the learning rate ends with the minutes. The steps taken, and at
every tenth of the minutes the Dice of patches of the named cases, are written to OUT/fold.json, and
the masks of these cases to OUT/masks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

TRIAL = 5

#: The curve's points, and the batches of patches behind each; their time does not count.
POINTS, BATCHES = 10, 4


def main() -> None:
    out, minutes, test = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3].split(",")
    work_in(out)
    planner = sys.argv[4:5]
    raw, preprocessed = data_set(out)
    if not (preprocessed / "nnUNetPlans_3d_fullres").is_dir():
        program = Path(sys.executable).parent / "nnUNetv2_plan_and_preprocess"
        number = str(int(raw.name[len("Dataset") :].split("_")[0]))
        words = ["-d", number, "-c", "3d_fullres", "-np", "2", "--clean"]
        words += [word for name in planner for word in ("-pl", name)]
        subprocess.run([str(program), *words], check=True)
    labels = sorted((raw / "labelsTr").glob("*.nii.gz"))
    cases = [path.name.removesuffix(".nii.gz") for path in labels]
    split = [{"train": [case for case in cases if case not in test], "val": test}]
    (preprocessed / "splits_final.json").write_text(json.dumps(split))
    folder, facts = train(out, minutes)
    predict(folder, raw, out / "masks", test)
    (out / "fold.json").write_text(json.dumps(facts))


def data_set(out: Path) -> tuple[Path, Path]:
    """The folders of its images as given and as preprocessed."""
    (raw,) = (out / "raw").iterdir()
    return raw, out / "preprocessed" / raw.name


def work_in(out: Path, results: Path | None = None) -> None:
    """Tell nnU-Net its folders, before it is imported; ``results``: others than those in OUT."""
    folders = {part: out / part for part in ("raw", "preprocessed", "results")}
    if results is not None:
        folders["results"] = results
    for part, folder in folders.items():
        os.environ[f"nnUNet_{part}"] = str(folder)


def read_plans(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its plans for the data set, and the data set's description."""
    raw, preprocessed = data_set(out)
    (path,) = preprocessed.glob("nnUNet*Plans.json")
    plans = json.loads(path.read_text())
    return plans, json.loads((raw / "dataset.json").read_text())


def start_trainer(
    plans: dict[str, Any], dataset: dict[str, Any], device: str, name: str = "nnUNetTrainer"
) -> Any:
    """One of its own trainers, ready for the first step."""
    import nnunetv2
    import torch

    plans["continue_training"] = False
    package = Path(nnunetv2.__path__[0])
    defining = (
        path for path in package.rglob("*.py") if f"class {name}(" in path.read_text("utf-8")
    )
    module = ".".join((package.name, *next(defining).with_suffix("").relative_to(package).parts))
    kind = getattr(import_module(module), name)
    kind.__name__ = "nnUNetTrainer"  # to predict, nnU-Net would import all of them to find this one
    trainer = kind(plans, "3d_fullres", 0, dataset, torch.device(device))
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return trainer


def end_loaders(trainer: Any) -> None:
    """End the processes that make batches; else they would be waited for."""
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):
            loader._finish()


def train(out: Path, minutes: float) -> tuple[Path, dict[str, Any]]:
    """The trainer's own steps until the minutes are over; returns its folder, steps and curve."""
    plans, dataset = read_plans(out)
    for batch in sys.argv[5:6]:
        plans["configurations"]["3d_fullres"]["batch_size"] = int(batch)
    trainer = start_trainer(plans, dataset, "cpu", *sys.argv[6:7])
    for _ in range(TRIAL):  # what is made at first use is not counted
        trainer.train_step(next(trainer.dataloader_train))
    seconds, steps, budget, curve = 0.0, TRIAL, 60 * minutes, []
    while seconds < budget:
        started = perf_counter()
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - seconds / budget) ** 0.9
        trainer.train_step(next(trainer.dataloader_train))
        steps += 1
        seconds += perf_counter() - started
        if seconds >= budget * (len(curve) + 1) / POINTS:
            curve.append({"minutes": seconds / 60, "steps": steps, "dice": patch_dice(trainer)})
            print(json.dumps(curve[-1]), flush=True)
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    end_loaders(trainer)
    for name, content in (("plans.json", plans), ("dataset.json", dataset)):
        (Path(trainer.output_folder_base) / name).write_text(json.dumps(content))
    facts = {"steps": steps, "seconds": seconds, "curve": curve}
    return Path(trainer.output_folder_base), facts


def patch_dice(trainer: Any) -> list[float]:
    """Dice of each label over patches of the cases that are not trained on, as its log has it."""
    import torch

    trainer.network.eval()
    with torch.no_grad():
        found = [trainer.validation_step(next(trainer.dataloader_val)) for _ in range(BATCHES)]
    trainer.network.train()
    hit, false, missed = (
        sum(each[name] for each in found) for name in ("tp_hard", "fp_hard", "fn_hard")
    )
    dice: list[float] = (2 * hit / (2 * hit + false + missed).clip(1)).tolist()
    return dice


def predict(folder: Path, raw: Path, masks: Path, test: list[str]) -> None:
    """Masks of the cases by nnU-Net's predictor, on the native grid."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,), "checkpoint_final.pth")
    masks.mkdir(exist_ok=True)
    files = [[str(path) for path in sorted((raw / "imagesTr").glob(f"{c}_*"))] for c in test]
    predictor.predict_from_files_sequential(files, [str(masks / case) for case in test])


if __name__ == "__main__":
    main()
