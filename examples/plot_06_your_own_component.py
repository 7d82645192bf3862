"""
A network and a strategy of your own
====================================

What is tried out in a notebook needs no package: ``api.catalog`` takes networks, strategies, losses
and other components by name, for the calls that are given that catalog. Nothing is registered
anywhere else. Once it is worth sharing, the same objects become a plugin.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from torch import nn

from medtl import api
from medtl.networks.blocks import Block
from medtl.networks.builder import network_builder
from medtl.transfer.strategies.base import source_stage, stage

work = TemporaryDirectory()
folder = Path(work.name)
heads = api.phantom(folder / "heads", cases=16, size=32, sites=2, seed=0)

# %%
# A network
# ---------
# A function that makes a torch module and names its blocks, from the stem to the head. Which
# tensors see the image's channels is found out; freezing, receipts and other numbers of channels
# then work.


@network_builder("flat", width=8)
def flat(spatial_dims, width):
    """Three convolutions at full resolution."""
    convolution = nn.Conv3d if spatial_dims == 3 else nn.Conv2d

    def make(channels, outputs):
        return nn.Sequential(
            convolution(channels, width, 3, padding=1),
            nn.LeakyReLU(),
            convolution(width, width, 3, padding=1),
            nn.LeakyReLU(),
            convolution(width, outputs, 1),
        )

    blocks = [
        Block("stem", "stem", ("0.*",)),
        Block("encoder1", "encoder", ("2.*",)),
        Block("head", "head", ("4.*",)),
    ]
    return make, blocks


# %%
# A strategy
# ----------
# A function from what was asked for to stages, as plain data. This one trains the source first,
# then the stem alone, which has to learn the new contrasts, and then everything at half the rate.


def stem_first(request):
    """Train the stem alone, then everything."""
    before, init = source_stage(request)
    first = max(1, request.steps // 3)
    stem = request.blocks[0]
    return (
        *before,
        stage(request, "stem", request.target, first, init=init, frozen=f"all-but:{stem}"),
        stage(request, "all", request.target, request.steps - first, rate=0.5),
    )


mine = api.catalog(networks={"flat": flat}, strategies={"stem-first": stem_first})
api.components("strategies", catalog=mine).names()

# %%
# Use them
# --------

settings = dict(
    data=heads,
    network="flat",
    strategy="stem-first",
    src="flair,t1ce",
    dst="t1,t2",
    patch_size=(32, 32, 32),
    steps=30,
    device="cpu",
    precision="fp32",
    seed=0,
    catalog=mine,
)
api.plan("brats", **settings)

# %%
run = api.train("brats", with_control=True, out=folder / "run", **settings)
run.receipts["stem"]

# %%
# Three convolutions and a few seconds make no useful network, and a synthetic cohort proves
# nothing. That the control from scratch stands beside it is the point: it costs one setting.

for name in run.stages:
    rows = [row for row in run.history if row["stage"] == name]
    plt.plot([row["step"] for row in rows], [row["loss"] for row in rows], label=name)
plt.xlabel("step")
plt.ylabel("training loss")
plt.title("synthetic phantom")
plt.legend()
plt.show()

# %%
# The run names its network, so whoever reads it needs the same catalog.

api.evaluate(run, precision="fp32", device="cpu", catalog=mine)

# %%
work.cleanup()
