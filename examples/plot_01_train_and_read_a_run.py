"""
Did the transfer help? A run and its controls
=============================================

A network learns to find tumours in FLAIR and T1ce, its weights are carried over to T1 and T2, and
two arms trained from scratch say what that was worth: control A takes the steps that the target
got, control B those of source and target together. "It helped" needs better scores than both.

Everything here is a synthetic phantom, very small and trained for seconds. Such a demonstration
proves nothing about transfer; it shows how to ask.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

from medtl import api

work = TemporaryDirectory()
folder = Path(work.name)

# %%
# Data
# ----
# A cohort of 28 patients from two scanners, in the layout of BraTS. With data of your own this is
# the path of their folder.

heads = api.phantom(folder / "heads", cases=28, size=32, sites=2, seed=0)
heads

# %%
# Plan, then train
# ----------------
# ``api.plan`` takes the settings of ``medtl train``, reads every header and trains nothing: stages,
# how much of the network each one trains, and how the patients are split. A setting that does not
# exist is refused, and the nearest is suggested.

settings = dict(
    data=heads,
    strategy="modality-transfer",
    src="flair,t1ce",
    dst="t1,t2",
    network="unet",
    width=4,
    patch_size=(32, 32, 32),
    steps=30,
    with_control=True,
    device="cpu",
    precision="fp32",
    seed=0,
)
api.plan("brats", **settings)

# %%
# The same settings train. The run is a folder; the object that comes back reads it.

run = api.train("brats", out=folder / "run", **settings)
run

# %%
# Scores of the locked test patients
# ----------------------------------
# ``rows()`` are plain dictionaries: one per stage, region and metric, with the interval, the number
# of patients and how the interval was found.

whole_tumour = [
    row for row in run.scores.rows() if (row["output"], row["metric"]) == ("WT", "dice")
]
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for place, row in enumerate(whole_tumour):
    axes.plot([row["low"], row["high"]], [place, place], color="grey")
    axes.plot(row["mean"], place, "o", color="tab:blue")
axes.set_yticks(range(len(whole_tumour)), [row["stage"] for row in whole_tumour])
axes.invert_yaxis()
axes.set_xlabel(f"Dice, whole tumour: mean and 95% interval, n = {whole_tumour[0]['n']}")
axes.set_title("synthetic phantom")
plt.show()

# %%
# With few patients the intervals are wide, and the same patients are difficult for all arms. The
# table therefore shows the transfer minus each control, paired by patient. The stage ``source`` is
# scored on its own contrasts, so it is not compared with the others.

run.scores.tables()[-1]

# %%
# How it was trained
# ------------------
# Losses per step, and what became of each tensor on the way to the target.

for stage in run.stages:
    steps = [row for row in run.history if row["stage"] == stage]
    plt.plot([row["step"] for row in steps], [row["loss"] for row in steps], label=stage)
plt.xlabel("step")
plt.ylabel("training loss")
plt.title("synthetic phantom")
plt.legend()
plt.show()

# %%
run.receipts["adapt"]

# %%
# The figures that every run writes are at hand, too.

run.figures.only("split", "unfreeze")

# %%
work.cleanup()
