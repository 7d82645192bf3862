"""Can the network's input tell how large a picture's file was?

In the Kaggle set size alone nearly tells the class (512x512: every glioma of Training, 2% of
no_tumor). Within one class size should tell nothing; where a probe finds it in what the network is
shown, a network can, too. Two comparisons, each for preset ``picture`` and for ``head-picture``:

- as found: pictures of 512x512 against all others of the same class. The others come from other
  sources, so the probe may also tell scanners, views and contrasts, which no preparation hides;
- re-stored: half of the pictures of 512x512, chosen at random by group, are stored anew in the size
  and quality of the others. There the file is all that differs.

The probes (logistic regression and extremely randomised trees on a thumbnail, the power spectrum,
black margins and intensities) are cross-fitted, with groups of near-duplicates on one side.

    python examples/studies/leak.py [--data KAGGLE] [--out examples/studies/results/leak.json]

Axes: I rows, J columns, N picture, F feature.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, describe, shared_data
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medtl.data.case import Case, ImageFile
from medtl.data.io.grids import block_mean
from medtl.data.modality import Modality
from medtl.runtime.console import Reporter
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import Preset, head_picture, picture
from medtl.transforms.views import view
from medtl_kaggle_mri.task import KaggleMri

SIZE, EDGE, THUMBNAIL, BINS = 512, 128, 16, 40
PRESETS = {"picture": picture, "head-picture": head_picture}
AIM = 0.65
DRAWS = 2000
FEWEST = 8  #: of either size, to compare at all
IMAGE = Modality("image")
#: JPEG qualities that pictures of the web have.
QUALITIES = (60, 95)


def features(path: Path, preset: Preset) -> NDArray[np.float64]:
    """What a probe may look at (F) in the input that a network gets of a picture."""
    case = Case(str(path), str(path), {IMAGE: ImageFile(path)})
    prepared = Preprocessor((IMAGE,), (), preset.with_size((EDGE, EDGE)))(case)["image"]
    shown_IJ = view(prepared, (EDGE, EDGE))[0].numpy()
    power_IJ = np.abs(np.fft.fftshift(np.fft.fft2(shown_IJ * np.hanning(EDGE)[:, None]))) ** 2
    middle = np.arange(EDGE) - EDGE // 2
    ring_IJ = np.hypot(*np.meshgrid(middle, middle)) * BINS / (EDGE / 2)
    rings = [power_IJ[(ring_IJ >= n) & (ring_IJ < n + 1)].mean() for n in range(BINS)]
    factor = EDGE // THUMBNAIL
    small = block_mean(shown_IJ[..., None], (factor, factor, 1)).ravel()
    filled = shown_IJ != 0
    dark = shown_IJ <= np.percentile(shown_IJ, 1) + 0.05
    extent = [np.ptp(np.flatnonzero(filled.any(axis))) for axis in (0, 1)]
    margins = [dark.mean(axis).std() for axis in (0, 1)] + [dark.mean()]
    levels = np.percentile(shown_IJ[filled], (1, 10, 25, 50, 75, 90, 99))
    return np.array([*np.log(np.array(rings) + 1e-6), *small, *extent, *margins, *levels])


def all_features(paths: Sequence[Path], preset: Preset) -> NDArray[np.float64]:
    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(lambda path: features(path, preset), paths)))


def probe(rows_NF: NDArray[Any], large_N: NDArray[Any], groups_N: NDArray[Any]) -> dict[str, Any]:
    """AUROC of both probes, each with a 95% interval by bootstrap over groups."""
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    models = {
        "logistic": make_pipeline(
            StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
        ),
        "trees": ExtraTreesClassifier(400, class_weight="balanced", random_state=0),
    }
    found: dict[str, Any] = {}
    for name, model in models.items():
        scores_N = np.zeros(len(large_N))
        for train, test in folds.split(rows_NF, large_N, groups_N):
            model.fit(rows_NF[train], large_N[train])
            scores_N[test] = model.predict_proba(rows_NF[test])[:, 1]
        found[name] = with_interval(scores_N, large_N, groups_N)
    return found


def with_interval(
    scores_N: NDArray[Any], large_N: NDArray[Any], groups_N: NDArray[Any]
) -> dict[str, float]:
    random = np.random.default_rng(0)
    members = [np.flatnonzero(groups_N == group) for group in np.unique(groups_N)]
    drawn = []
    for _ in range(DRAWS):
        chosen = random.integers(len(members), size=len(members))
        rows = np.concatenate([members[n] for n in chosen])
        if 0 < large_N[rows].sum() < len(rows):
            drawn.append(roc_auc_score(large_N[rows], scores_N[rows]))
    low, high = np.percentile(drawn, (2.5, 97.5))
    auroc = roc_auc_score(large_N, scores_N)
    return {"auroc": round(float(auroc), 3), "low": round(low, 3), "high": round(high, 3)}


def restored(
    paths: Sequence[Path], chosen_N: NDArray[Any], sizes: Sequence[tuple[int, int]], folder: Path
) -> list[Path]:
    """The chosen pictures stored anew with the longest edge of one of ``sizes``."""
    random = np.random.default_rng(0)
    written = []
    for number, (path, chosen) in enumerate(zip(paths, chosen_N, strict=True)):
        edge = max(sizes[random.integers(len(sizes))])
        quality = int(random.integers(*QUALITIES))
        target = folder / f"{number}.jpg"
        with Image.open(path) as image:
            if not chosen:
                edge = max(image.size)
            image.convert("L").resize((edge, edge), Image.Resampling.BICUBIC).save(
                target, quality=quality
            )
        written.append(target)
    return written


def compare(paths: Sequence[Path], large_N: NDArray[Any], groups_N: NDArray[Any]) -> dict[str, Any]:
    return {
        name: probe(all_features(paths, make()), large_N, groups_N)
        for name, make in PRESETS.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=shared_data() / "kaggle")
    parser.add_argument("--out", type=Path, default=ROOT / "examples/studies/results/leak.json")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not there; set MEDTL_SHARED_DATA or give --data")
    cases = KaggleMri().cases(options.data, reporter=Reporter()).cases
    paths = [case.images[IMAGE].path for case in cases]
    sizes = [Image.open(path).size for path in paths]
    others = [size for size in sizes if size != (SIZE, SIZE)]
    result: dict[str, Any] = {"machine": describe(), "aim": AIM, "as_found": {}, "re_stored": {}}
    for class_name in KaggleMri.regions:
        own = [n for n, case in enumerate(cases) if case.class_name == class_name]
        large_N = np.array([sizes[n] == (SIZE, SIZE) for n in own])
        groups_N = np.array([cases[n].patient for n in own])
        if min(large_N.sum(), (~large_N).sum()) < FEWEST:
            continue
        counts = {"512x512": int(large_N.sum()), "others": int((~large_N).sum())}
        found = compare([paths[n] for n in own], large_N, groups_N)
        result["as_found"][class_name] = counts | found
        print("as found", class_name, counts, json.dumps(found))
    own = [n for n, c in enumerate(cases) if c.class_name == "glioma" and sizes[n] == (SIZE, SIZE)]
    groups_N = np.array([cases[n].patient for n in own])
    names = np.unique(groups_N)
    halves = np.random.default_rng(0).permutation(names)[: len(names) // 2]
    small_N = np.isin(groups_N, halves)
    with tempfile.TemporaryDirectory() as folder:
        again = restored([paths[n] for n in own], small_N, others, Path(folder))
        result["re_stored"]["glioma"] = compare(again, ~small_N, groups_N)
    print("re-stored glioma", json.dumps(result["re_stored"]["glioma"]))
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
