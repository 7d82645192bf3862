"""Inference and training in a process whose address space is limited after a first small run.

    python tests/helpers/short_of_memory.py predict DIMS FREE_MB FIXED
    python tests/helpers/short_of_memory.py train BATCH FREE_MB FOLDER [STOP_AFTER]

Prints as JSON what fitted and what was said; ends as the command line would.
Axes: B batch, C modality, I J K voxels.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor

from medtl.data.domain import parse_domain
from medtl.errors import MedtlError
from medtl.inference.segmentation import Segmenter
from medtl.inference.sliding_window import slice_wise, sliding_window
from medtl.inference.window_size import Shrinking
from medtl.networks.blocks import Network
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.training.loop import Callbacks, Setup, fit
from medtl.training.losses import dice_ce
from medtl.transfer.strategies.base import Stage
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import brain_mr

EDGE = 48
#: Of malloc.h.
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8


def leave(free_mb: int) -> None:
    """Allow so much more address space than is in use now."""
    used = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmSize" in x)
    limit = int(used.split()[1]) * 1024 + free_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def give_back_at_once() -> None:
    """Let the C library give large blocks back when they are freed: the limit is on addresses."""
    library = ctypes.CDLL(None)
    for parameter, value in ((M_MMAP_THRESHOLD, 65536), (M_ARENA_MAX, 1)):
        assert library.mallopt(parameter, value)


def build(name: str, **options: object) -> Network:
    torch.manual_seed(0)
    return load_catalog().networks[name].load()(in_channels=2, out_channels=3, **options)


def predict(dims: int, free_mb: int, fixed: int) -> None:
    if dims == 3:
        name, size, patch, width = "unet", (64, 64, 96), (64, 64, 64), 32
    else:
        name, size, patch, width = "unet2d-37", (128, 128, 20), (64, 64), 8
    network = build("unetr" if fixed else name, width=width, patch_size=patch)
    said: list[str] = []
    predictor = Segmenter(
        network,
        Preprocessor(("flair", "t1ce"), ("WT", "TC", "ET"), brain_mr().with_spacing(2.0)),
        patch,
        build_fabric("cpu", "fp32"),
        nested=True,
        windows=Shrinking(said.append),
    )
    image_CIJK = torch.randn(2, *size)
    if not fixed and dims == 2:  # its windows are as large however small the volume
        predictor.prepared_logits(image_CIJK[:, :32, :32, :1])
    elif not fixed:  # a volume would be padded to the patch
        with torch.inference_mode():
            network.module.eval()(image_CIJK[None, :, :32, :32, :32])
    leave(free_mb)
    predictor.prepared_logits(image_CIJK)
    found_LIJK = predictor.prepared_logits(image_CIJK)  # what was said is not said again
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    cut = predictor.windows.cut
    assert cut is not None, "nothing was short"
    module = network.module.eval()
    if dims == 3:
        expected_LIJK = sliding_window(module, image_CIJK, cut.roi, out_channels=3, crop=True)
    else:
        roi = None if cut.whole else cut.roi
        settings = {"roi": roi, "batch_size": cut.batch_size, "multiple": 16}
        expected_LIJK = slice_wise(module, image_CIJK, out_channels=3, **settings)
    same = torch.allclose(found_LIJK, expected_LIJK, rtol=1e-4, atol=1e-4)
    print(json.dumps({"roi": cut.roi, "batch": cut.batch_size, "same": same, "said": said}))


def train(batch_size: int, free_mb: int, folder: Path, stop_after: int) -> None:
    give_back_at_once()
    torch.set_num_threads(1)
    network = build("unet", width=8)
    # Not build_fabric: it keeps freed memory, which a limit on addresses counts as in use.
    fabric = Fabric(accelerator="cpu", devices=1)
    stage = Stage("adapt", parse_domain("t1,t2"), 3, optimizer="sgd", rates={"*": 1e-2})
    said: list[str] = []
    left = count(1)

    def batches_after(done: int) -> Iterator[dict[str, Tensor]]:
        for step in count(done):
            random = torch.Generator().manual_seed(step)
            image = torch.randn(batch_size, 2, EDGE, EDGE, EDGE, generator=random)
            bounds = torch.arange(batch_size).view(-1, 1, 1, 1, 1)
            yield {"image": image, "target": (image[:, :1] > bounds).float().repeat(1, 3, 1, 1, 1)}

    network.module(torch.randn(1, 2, 32, 32, 32)).sum().backward()
    network.module.zero_grad()
    folder.mkdir(exist_ok=True)
    leave(free_mb)
    result = fit(
        Setup(network, stage, (), [(1.0, dice_ce())], fabric, folder, seed=0),
        batches_after,
        Callbacks(tell=said.append, asked_to_stop=lambda: next(left) == stop_after),
    )
    save_file(result.last, folder / "last")
    print(json.dumps({"at_once": result.at_once, "said": said}))


if __name__ == "__main__":
    what, number, megabytes, last, *more = sys.argv[1:]
    try:
        if what == "predict":
            predict(int(number), int(megabytes), int(last))
        else:
            train(int(number), int(megabytes), Path(last), int(more[0]) if more else 0)
    except MedtlError as error:
        print(error)
        sys.exit(error.exit_code)
