"""Inference in a process whose address space is limited after a first small run.

    python tests/short_of_memory.py DIMS FREE_MB FIXED

Prints the cut that fitted, whether its result equals the engine's own with that cut, and what was
said; ends with code 3 and the error's line where nothing fits. Axes: C modality, I J K voxels.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch

from medtl.catalog import load_catalog
from medtl.data import Recipe
from medtl.device import build_fabric
from medtl.errors import RunError
from medtl.evaluation import Predictor
from medtl.inference import slice_wise, sliding_window
from medtl.transforms import brain_mr
from medtl.windows import Shrinking


def main() -> None:
    dims, free_mb, fixed = (int(word) for word in sys.argv[1:])
    torch.manual_seed(0)
    name, size, patch = ("unet", (64, 64, 96), (64, 64, 64)) if dims == 3 else ("unet2d-s1",) * 3
    if dims == 2:
        size, patch = (128, 128, 20), (64, 64)
    if fixed:
        name = "unetr"
    build = load_catalog().networks[name].load()
    network = build(in_channels=2, out_channels=3, width=16 if dims == 3 else 8, patch_size=patch)
    said: list[str] = []
    predictor = Predictor(
        network,
        Recipe(("flair", "t1ce"), ("WT", "TC", "ET"), brain_mr().at(2.0)),
        patch,
        build_fabric("cpu", "fp32"),
        nested=True,
        windows=Shrinking(said.append),
    )
    image_CIJK = torch.randn(2, *size)
    predictor.prepared_logits(image_CIJK[:, :32, :32, : 1 if dims == 2 else 32])
    used = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmSize" in x)
    limit = int(used.split()[1]) * 1024 + free_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        predictor.prepared_logits(image_CIJK)
        found_LIJK = predictor.prepared_logits(image_CIJK)  # what was said is not said again
    except RunError as error:
        print(error)
        sys.exit(3)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    cut = predictor.windows.cut
    assert cut is not None, "nothing was short"
    module = network.module.eval()
    if dims == 3:
        expected_LIJK = sliding_window(module, image_CIJK, cut.roi, out_channels=3, crop=True)
    else:
        roi = None if cut.whole else cut.roi
        expected_LIJK = slice_wise(
            module, image_CIJK, out_channels=3, roi=roi, multiple=16, batch_size=cut.batch_size
        )
    same = torch.allclose(found_LIJK, expected_LIJK, rtol=1e-4, atol=1e-4)
    print(json.dumps({"roi": cut.roi, "batch": cut.batch_size, "same": same, "said": said}))


if __name__ == "__main__":
    main()
