"""
How far are two domains apart?
==============================

Before a transfer it helps to know whether there is a shift at all. ``api.shift`` compares features
of the images, tests by exchanging or permuting whole patients, says what kind of shift it is, and
what could be done about it.

The scanners below are simulated, so the truth is known here. With real data it is not: a p-value
above .05 never proves that there is no shift.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import nibabel as nib

from medtl import api

work = TemporaryDirectory()
folder = Path(work.name)

# %%
# Two hospitals, the same anatomy
# -------------------------------
# ``shift`` scales how much the scanners differ. With 0 they are alike, which makes a control: what
# is found there is chance.

different = api.phantom(folder / "different", cases=24, size=32, sites=2, shift=1.5, seed=0)
alike = api.phantom(folder / "alike", cases=24, size=32, sites=2, shift=0, seed=0)

sites = json.loads((different.path / "phantom.json").read_text())["sites"]
figure, axes = plt.subplots(2, 4, figsize=(8, 4.4), layout="constrained")
for row, site in zip(axes, ("S1", "S2"), strict=True):
    patients = [patient for patient, where in sites.items() if where == site]
    for axis, patient in zip(row, patients, strict=False):
        (path,) = different.path.rglob(f"{patient}_t2.nii*")
        axis.imshow(nib.load(path).get_fdata()[:, :, 16].T, cmap="gray", origin="lower", vmin=0)
        axis.set_title(f"{site}, {patient}", fontsize=8)
        axis.set_axis_off()
figure.suptitle("T2 of two scanners; synthetic phantom")
plt.show()

# %%
# The shift between them
# ----------------------
# The first row carries the verdict. The others are exploratory, and their p-values are corrected
# for all that was looked at.

between = dict(src="mod:t2,site:S1", dst="mod:t2,site:S2", permutations=199, seed=0)
found = api.shift("brats", data=different, **between)
print(found.verdict)
for sentence in found.advice:
    print("-", sentence)

# %%
found

# %%
# The control: scanners that do not differ
# ----------------------------------------

control = api.shift("brats", data=alike, **between)
print(control.verdict)

# %%
# Hospitals and contrasts
# -----------------------
# The same patients in two contrasts are a paired design: more power from as many patients. Rows are
# plain dictionaries, so that plots and tables are yours to make.

contrasts = api.shift("brats", data=different, src="flair", dst="t1", permutations=199, seed=0)
effects = {
    "alike scanners": control,
    "different scanners": found,
    "FLAIR and T1": contrasts,
}
values = [each.rows()[0]["effect"] or 0 for each in effects.values()]
plt.figure(figsize=(6, 2.4), layout="constrained")
plt.barh(list(effects), values, color="tab:blue")
plt.axvline(1, color="grey", linestyle="--")
plt.xlabel("MMD, as a multiple of that between random halves of a domain")
plt.title("synthetic phantom")
plt.show()

# %%
work.cleanup()
