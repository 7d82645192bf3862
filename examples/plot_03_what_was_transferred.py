"""
What was transferred? Strategies, freezing, receipts
====================================================

"We initialised from pretrained weights" can mean that everything was loaded, or, after a renamed
layer, nothing. A receipt says what became of every tensor: loaded, adapted to other channels, left
random. Plans compare strategies before an hour is spent on one of them: nothing below is trained
but a source that is good for nothing else.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

from medtl import api
from medtl.errors import MedtlError

work = TemporaryDirectory()
folder = Path(work.name)
heads = api.phantom(folder / "heads", cases=10, size=32, sites=2, seed=0)
settings = dict(
    data=heads,
    network="unet",
    width=8,
    patch_size=(32, 32, 32),
    steps=12,
    device="cpu",
    precision="fp32",
    seed=0,
)
source = api.train(
    "brats", strategy="scratch", dst="flair,t1ce", out=folder / "source", **{**settings, "steps": 2}
)

# %%
# A look into the file
# --------------------
# Its channels are named. Loading it into a network for T1 and T2 seeds T1 from T1ce and T2 from
# FLAIR, their nearest contrasts, and says by which factor the stem was rescaled.

api.inspect_weights(source, network="unet", modalities=["t1", "t2"])

# %%
# Another network takes none of it. Training would refuse that, and not start from noise in silence.

mismatch = api.inspect_weights(source, network="unet3d", width=8)
print(mismatch.problem)

# %%
# Strategies as plans
# -------------------
# All start from the same weights. What they train, and in how many stages, is theirs to say.

target = dict(init=source, dst="t1,t2", **settings)
strategies = ("linear-probe", "fine-tune", "gradual-unfreeze", "modality-transfer", "l2-sp")
plans = {name: api.plan("brats", strategy=name, **target) for name in strategies}
plans["gradual-unfreeze"]

# %%
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for place, plan in enumerate(plans.values()):
    start = 0
    for stage in plan.rows():
        axes.barh(place, stage["steps"], left=start, color="tab:blue", alpha=stage["trainable"])
        axes.barh(place, stage["steps"], left=start, fill=False, edgecolor="black")
        middle = start + stage["steps"] / 2
        axes.text(middle, place, f"{stage['trainable']:.0%}", ha="center", va="center")
        start += stage["steps"]
axes.set_yticks(range(len(plans)), list(plans))
axes.invert_yaxis()
axes.set_xlabel("optimiser steps on the target; the share of the parameters that a stage trains")
plt.show()

# %%
# Freezing
# --------
# Blocks are counted from the stem ("2"), named, or taken by layers. A stem that meets new contrasts
# stays trainable where blocks are counted, and the receipt says so.

for freeze in ("none", "2", "encoder1,bottleneck", "layers:50", "all-but:head"):
    plan = api.plan("brats", strategy="fine-tune", freeze=freeze, **target)
    print(f"{freeze:>20}  {plan.rows()[-1]['trainable']:6.1%} trained")

# %%
plan = api.plan("brats", strategy="fine-tune", freeze="2", **target)
plan.receipts["fine-tune"]

# %%
# Mistakes are one line
# ---------------------

for wrong in (dict(strategy="fine-tuning"), dict(strategy="fine-tune", freeze="encoder9")):
    try:
        api.plan("brats", **wrong, **target)
    except MedtlError as error:
        print(error)

# %%
work.cleanup()
