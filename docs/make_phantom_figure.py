"""Draw docs/images/phantom.png: four synthetic phantom patients, four contrasts and the truth.

python docs/make_phantom_figure.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch
from PIL import Image

from medtl.data.phantom.brats_layout import (
    PhantomCase,
    render_case,
    scanner_of,
    site_of,
    tumour_count,
)
from medtl.data.phantom.physics import CONTRASTS

SIZE, SEED, SITES = 96, 0, 3
CASES = (4, 10, 11, 7)
TITLES = {"flair": "FLAIR", "t1": "T1", "t1ce": "T1ce", "t2": "T2"}
COLOURS = {1: "#4c9be8", 2: "#5fd38d", 4: "#ffb13d"}
NAMES = {1: "necrotic core", 2: "oedema", 4: "enhancing"}
BACKGROUND = "#0d0f12"


def best_slice(case: PhantomCase) -> int:
    """The axial slice with most core, and most tumour; a middle one without a tumour."""
    area_K = (case.labels_IJK > 0).sum((0, 1)) + 2 * np.isin(case.labels_IJK, (1, 4)).sum((0, 1))
    return int(area_K.argmax()) if area_K.any() else round(0.58 * SIZE)


def reduce_palette(path: Path) -> None:
    """Keep 40 greys and 8 shades of each overlay colour: a third of the bytes, hardly visible."""
    greys = [(level, level, level) for level in np.linspace(0, 255, 40).astype(int).tolist()]
    shades = [
        tuple(int(255 * share * part) for part in to_rgb(colour))
        for colour in COLOURS.values()
        for share in np.linspace(0.3, 1.0, 8)
    ]
    back = tuple(int(255 * part) for part in to_rgb(BACKGROUND))
    colours = [*greys, *shades, back]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in colours for part in colour])
    image = Image.open(path).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


def main() -> None:
    plt.rcParams.update({"font.family": "DejaVu Sans", "text.color": "#e6e8eb"})
    columns = len(CONTRASTS) + 1
    figure, axes = plt.subplots(
        len(CASES), columns, figsize=(1.6 * columns, 1.78 * len(CASES) + 0.75), facecolor=BACKGROUND
    )
    cut = slice(round(0.04 * SIZE), round(0.96 * SIZE))
    narrow = slice(round(0.09 * SIZE), round(0.91 * SIZE))
    palette = ListedColormap([COLOURS[label] for label in (1, 2, 4)])
    for row, index in zip(axes, CASES, strict=True):
        site = site_of(SEED, index, SITES)
        case = render_case(SEED, index, SIZE, scanner_of(SEED, site, 1.0))
        k = best_slice(case)
        for axis, name in zip(row, (*CONTRASTS, "flair"), strict=True):
            volume = case.images_IJK[name]
            low, high = np.percentile(volume[volume > 0], (0.5, 99.6))
            axis.imshow(volume[narrow, cut, k].T, cmap="gray", vmin=min(low, 0.3 * high), vmax=high)
            axis.set_axis_off()
        labels = case.labels_IJK[narrow, cut, k].T
        order = np.select([labels == 1, labels == 2, labels == 4], [0, 1, 2], 0)
        shown = np.ma.masked_array(order, mask=labels == 0)
        row[-1].imshow(shown, cmap=palette, vmin=0, vmax=2, alpha=0.8, interpolation="nearest")
        tumours = tumour_count(SEED, index)
        note = "no tumour" if not tumours else "tumour" if tumours == 1 else f"{tumours} tumours"
        row[0].text(
            0.02, 0.02, f"site S{site + 1}, {note}", transform=row[0].transAxes, fontsize=7,
            color="#9aa3ad",
        )  # fmt: skip
    for axis, title in zip(axes[0], (*TITLES.values(), "truth"), strict=True):
        axis.set_title(title, fontsize=11, pad=5)
    figure.suptitle(
        "Synthetic phantom: computed by the MR signal equations, no patient data",
        fontsize=11,
        y=0.987,
    )
    figure.legend(
        handles=[Patch(color=COLOURS[label], label=NAMES[label]) for label in (2, 4, 1)],
        loc="lower center", ncols=3, frameon=False, fontsize=9, handlelength=1.0,
    )  # fmt: skip
    figure.subplots_adjust(left=0.01, right=0.99, top=0.915, bottom=0.05, wspace=0.02, hspace=0.02)
    target = Path(__file__).parent / "images" / "phantom.png"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=96, facecolor=BACKGROUND)
    reduce_palette(target)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
