"""
Classes, calibration, and what a network looks at
=================================================

A classifier that is right for the wrong reason scores as well as one that is not. Two things are
worth a look before a score is believed: whether its probabilities mean anything, and where in the
image they come from.

A synthetic cohort and a minute network: the maps below are rough, and prove nothing. The scores
beside them say so.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

from medtl import api

work = TemporaryDirectory()
folder = Path(work.name)

# %%
# Train
# -----
# Slices with and without a tumour, divided by patient.

slices = api.phantom(folder / "data", layout="lgg-mri", cases=20, size=64, sites=2, seed=1)
run = api.train(
    "lgg-mri",
    data=slices,
    network="cbr-tiny",
    width=8,
    patch_size=(64, 64),
    batch_size=16,
    steps=60,
    device="cpu",
    precision="fp32",
    seed=0,
    out=folder / "run",
)
run.scores

# %%
# Are its probabilities worth anything?
# -------------------------------------
# A temperature is fitted on the validation cases and kept in the checkpoint; the figure shows what
# it changed. With so few patients the bins hold little.

(stage,) = run.stages
run.figures.only(f"confusion-{stage}", f"calibration-{stage}")

# %%
# ``cases`` is a row per image, so any other view of it is a few lines away.

probability = "p_tumor"
for truth in ("no_tumor", "tumor"):
    shown = [row[probability] for row in run.scores.cases if row["class"] == truth]
    plt.hist(shown, bins=[n / 10 for n in range(11)], histtype="step", label=truth)
plt.xlabel("probability of a tumour, test slices")
plt.ylabel("slices")
plt.title("synthetic phantom")
plt.legend()
plt.show()

# %%
# Where does it look?
# -------------------
# Grad-CAM of the last block with maps, drawn over the images. As these cases have masks, the maps
# are scored against them, beside what a random place and the middle of the image would score.

explanation = api.explain(run, cases=8, output="tumor", device="cpu")
explanation

# %%
# The rows hold the same with intervals over patients. A map that does no better than the middle of
# the image has told nothing.

for row in explanation.rows():
    print(f"{row['score']:>20}  {row['mean']:.2f}  n = {row['n']}")

# %%
work.cleanup()
