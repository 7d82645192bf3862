"""Options of a network and ImageNet weights, from the command line to the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from resnets import write_resnet

from medtl.inference.load import read_stage
from medtl.networks.blocks import tensors
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.runtime.run_folder import open_run
from medtl.transfer.weights import BEST, read_weights


def test_options_and_imagenet_go_from_the_command_line_to_the_checkpoint(
    command: Callable[..., None], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for name, strength in (("blue", (0, 0, 99)), ("red", (99, 0, 0))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(5):
            image_IJH = random.integers(0, 99, (32, 32, 3)) + np.array(strength)
            image = Image.fromarray(image_IJH.astype(np.uint8))
            image.save(tmp_path / "data" / name / f"{number}.png")
    file, run = write_resnet(tmp_path / "mine.pth"), tmp_path / "run"
    words = ("--network", "resnet18", "--width", 4, "--set", "patch_size=32,32", "--steps", 1)
    words += ("--strategy", "linear-probe", "--init", "imagenet", "--weights", file, "-q")
    words += ("--set", "options.head=hidden-512-256", "--set", "options.keep_blocks=2")
    words += ("--device", "cpu", "--precision", "fp32", "--batch-size", 4)
    command("train", "classification", "--data", tmp_path / "data", *words, "--out", run)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert (settings["init"], settings["weights"]) == ("imagenet", str(file))
    recorded = read_weights(run / "linear-probe" / BEST).metadata["network"]["options"]
    assert recorded == {"head": "hidden-512-256", "keep_blocks": 2, "slim_from": None}
    fabric = build_fabric("cpu", "fp32", 1, 1)
    network = read_stage(open_run(run), "linear-probe", load_catalog(), fabric).predictor.network
    assert [block.name for block in network.blocks] == ["stem", "encoder1", "head"]
    theirs, ours = read_weights(file).tensors, tensors(network)
    frozen = [name for name in ours if not name.startswith("fc.")]
    assert all(torch.equal(ours[name], theirs[name]) for name in frozen)
