"""
Leakage: the same model, scored by slices and by patients
=========================================================

Slices of one head look alike. Where they lie on both sides of a split, a network is scored on
patients whom it knows, and every score flatters. Here one protocol divides slices, as in many
published studies, and the other whole patients. All else is equal.

The cohort is synthetic and small, and the networks see it for seconds: how large the difference is
says nothing about real data. Which of the two scores you may believe does not depend on that.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

from medtl import api

work = TemporaryDirectory()
folder = Path(work.name)

# %%
# Slices of synthetic gliomas from three hospitals, with masks. Does a slice show a tumour?

slices = api.phantom(folder / "data", layout="lgg-mri", cases=16, size=64, sites=3, seed=0)
settings = dict(
    data=slices,
    network="cbr-tiny",
    width=8,
    patch_size=(64, 64),
    batch_size=16,
    steps=60,
    device="cpu",
    precision="fp32",
    seed=0,
)
runs = {
    protocol: api.train("lgg-mri", protocol=protocol, out=folder / f"run-{protocol}", **settings)
    for protocol in ("slices", "patients")
}

# %%
# Who is on which side?
# ---------------------
# A phantom's slices are named by patient, so that the patients on both sides can be counted.


def patient_of(slice_name: str) -> str:
    return slice_name.rpartition("_")[0]


for protocol, run in runs.items():
    train = {patient_of(name) for name in run.split.train}
    test = {patient_of(name) for name in run.split.test}
    print(f"{protocol:>8}: {len(train & test)} of {len(test)} test patients were trained on")

# %%
# The scores say it themselves
# ----------------------------
# What flatters a score stands under every table that holds it, and in ``summary.json``.

print("leak:", runs["slices"].scores.leak)
print("leak:", runs["patients"].scores.leak or "none known")

# %%
runs["slices"].scores

# %%
runs["patients"].scores

# %%
# Of the first, n counts slices, as if each were a patient: its interval is too narrow, too.

figure, axes = plt.subplots(figsize=(6, 2), layout="constrained")
for place, run in enumerate(runs.values()):
    (row,) = (
        row for row in run.scores.rows() if (row["output"], row["metric"]) == ("all", "auroc")
    )
    if row["low"] is not None:
        axes.plot([row["low"], row["high"]], [place, place], color="grey")
    axes.plot(row["mean"], place, "o", color="tab:blue")
    axes.text(row["mean"], place - 0.15, f"n = {row['n']}", ha="center")
axes.set_yticks(range(len(runs)), list(runs))
axes.set_ylim(1.5, -0.6)
axes.set_xlim(0, 1.02)
axes.set_xlabel("AUROC and its 95% interval; synthetic phantom")
plt.show()

# %%
work.cleanup()
