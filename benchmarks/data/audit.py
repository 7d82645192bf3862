"""Does `medtl audit` find what is wrong with data, and how fast?

    python benchmarks/data/audit.py       # writes benchmarks/results/audit.json, 15 minutes

- speed: 1,970 pictures, 130 hippocampus cases and 6 BraTS cases with an empty cache, then again;
  each in a process of its own, the peak of its memory beside.
- growth: 2,500 to 20,000 made pictures from disk, beside n log n.
- pairs: `inputs/kaggle_pairs.json` against what is found in Training and Testing_sample.
- recall: copies of 500 distinct pictures, changed in nine ways.
- search: all pairs of 20,000 made thumbnails in all orientations, against a product in blocks for
  each orientation.
- planted: faults of `damage/planted.py` in copies of real and synthetic volumes, four draws each
  (one in BraTS).
- clean: synthetic cohorts that nobody touched.
- traps: what is known of the real sets.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import combinations
from math import log
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

sys.path.append(str(Path(__file__).resolve().parents[1]))

from damage.planted import VOLUMES
from machine import describe
from pictures import write_pictures
from real_cases import ROOT, shared_data

PAIRS = ROOT / "benchmarks" / "inputs" / "kaggle_pairs.json"

#: Seconds that are promised on two cores, and memory.
PROMISED_S = {"kaggle": 40.0, "hippocampus": 10.0, "brats": 40.0}
PROMISED_MB, FASTER_THAN_PRODUCTS, LEAST_RECALL = 1000.0, 3.0, 0.98

#: Images of a block of the product.
PRODUCT_BLOCK = 1024

#: Numbers of made pictures.
SIZES = (2500, 10_000, 20_000)

#: Seeds of the draws of 500 pictures.
DRAWS = (0, 1, 2)

#: Draws of a case for each kind of fault that is planted.
PLANTED_DRAWS = 4

#: Data set -> kinds that must be found there.
TRAPS = {
    "lgg": ("identical-channels", "neighbouring-slices"),
    "brats": ("intensity-scale", "missing-structure"),
    "brats,brats_unlabelled": ("odd-orientation",),
    "brats_raw": ("mixed-grids",),
    "lgg,brats_raw": ("patient-on-both-sides",),
    "brats2013": ("background",),
    "progression": ("spacing", "blank-slices"),
    "hippocampus": ("intensity-scale",),
    "dicom/mri_brain": ("oblique", "gap-between-slices"),
    "dicom/glioblastoma_study": ("oblique", "cropped-series", "rescaled"),
    "kaggle/Training,kaggle/Testing_sample": ("leak", "label-conflict", "size-shortcut"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=shared_data())
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/audit.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(timed(options.one)))
        return
    known = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for part in options.parts.split(","):
        known[part] = PARTS[part](options)
        print(part, json.dumps(known[part])[:400], flush=True)
        known["machine"] = describe()
        options.out.write_text(json.dumps(known, indent=1) + "\n")


def audited(*roots: Path) -> Any:
    from medtl import api

    return api.audit(*roots)


def roots_of(data: Path, names: str) -> list[Path]:
    return [data / name for name in names.split(",")]


def timed(names: str) -> dict[str, float]:
    start = perf_counter()
    found = audited(*map(Path, names.split(",")))
    return {
        "seconds": perf_counter() - start,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cases": len(found.cases),
        "flagged": len(found.flagged),
    }


def in_a_process(names: str, cache: Path) -> dict[str, float]:
    import os

    words = [sys.executable, __file__, "--one", names]
    environment = {**os.environ, "MEDTL_CACHE": str(cache)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_speed(options: argparse.Namespace) -> dict[str, Any]:
    sets = {
        "kaggle": "kaggle/Training,kaggle/Testing_sample",
        "hippocampus": "hippocampus",
        "brats": "brats",
    }
    result = {}
    for name, folders in sets.items():
        paths = ",".join(map(str, roots_of(options.data, folders)))
        first, again = [], []
        for _ in range(options.repeats):
            with tempfile.TemporaryDirectory() as cache:
                first.append(in_a_process(paths, Path(cache)))
                again.append(in_a_process(paths, Path(cache)))
        seconds = median(one["seconds"] for one in first)
        result[name] = {
            "cases": first[0]["cases"],
            "seconds": round(seconds, 1),
            "again_seconds": round(median(one["seconds"] for one in again), 2),
            "peak_mb": round(max(one["peak_mb"] for one in first)),
            "within": seconds <= PROMISED_S[name],
        }
    return result


def measure_growth(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory for made pictures, and the growth beside that of n log n."""
    rows: list[dict[str, float]] = []
    for count in SIZES:
        with tempfile.TemporaryDirectory() as below:
            folder = write_pictures(Path(below) / "made", count)
            found = in_a_process(str(folder), Path(below) / "cache")
        rows.append(
            {
                "pictures": count,
                "seconds": round(found["seconds"], 1),
                "peak_mb": round(found["peak_mb"]),
                "flagged": found["flagged"],
            }
        )
    first = rows[0]
    for row in rows[1:]:
        count, seconds = row["pictures"], row["seconds"]
        expected = count * log(count) / (first["pictures"] * log(first["pictures"]))
        row["growth"] = round(seconds / first["seconds"], 2)
        row["of_n_log_n"] = round(expected, 2)
    return {"rows": rows, "within": all(row["growth"] <= row["of_n_log_n"] for row in rows[1:])}


def compare_pairs(options: argparse.Namespace) -> dict[str, Any]:
    root = options.data / "kaggle"
    known = json.loads(PAIRS.read_text())
    found = audited(root / "Training", root / "Testing_sample")

    def named(files: Any) -> frozenset[str]:
        return frozenset(Path(file).relative_to(root).as_posix() for file in files)

    copies = ("leak", "exact-duplicate", "near-duplicate")
    pairs = {named(one.files) for one in found.findings if one.kind in copies}
    first = {name: group[0] for group in known["identical"] for name in group}

    def grouped(pair: Any) -> frozenset[str]:
        return frozenset(first.get(name, name) for name in pair)

    identical = {frozenset(p) for g in known["identical"] for p in combinations(g, 2)}
    near, neighbours = (set(map(grouped, known[name])) for name in ("near", "neighbours"))
    others = {grouped(pair) for pair in pairs} - near - neighbours
    conflicts = [named(one.files) for one in found.findings if one.kind == "label-conflict"]
    testing = sorted({name for pair in conflicts for name in pair if "glioma" in name})
    return {
        "identical": f"{len(identical & pairs)} of {len(identical)}",
        "near": f"{len(near & set(map(grouped, pairs)))} of {len(near)}",
        "neighbours_taken_for_copies": len(neighbours & set(map(grouped, pairs))),
        "others": sorted(sorted(pair) for pair in others if len(pair) > 1),
        "conflicts": testing,
        "shortcuts": [one.seen for one in found.findings if one.kind.endswith("shortcut")],
    }


def _compressed(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=50)
    return Image.open(io.BytesIO(content.getvalue())).convert("L")


def _cropped(left: float, top: float, right: float, bottom: float) -> Callable[..., Image.Image]:
    def crop(image: Image.Image) -> Image.Image:
        width, height = image.size
        box = (width * left, height * top, width * (1 - right), height * (1 - bottom))
        return image.crop(tuple(map(round, box)))

    return crop


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "JPEG 50": _compressed,
    "5% cropped in all": _cropped(0.025, 0.025, 0.025, 0.025),
    "5% cropped at two sides": _cropped(0.05, 0.05, 0, 0),
    "5% cropped at each side": _cropped(0.05, 0.05, 0.05, 0.05),
    "brighter": lambda image: image.point(lambda level: min(255, int(1.3 * level) + 10)),
    "darker": lambda image: image.point(lambda level: int(0.7 * level)),
}


def measure_recall(options: argparse.Namespace) -> dict[str, Any]:
    """The recall of each change, in the draw where it is least, and all pairs besides."""
    root = options.data / "kaggle"
    known = json.loads(PAIRS.read_text())
    listed = {n for kind in ("identical", "near", "neighbours") for g in known[kind] for n in g}
    paths = sorted((root / "Training").rglob("*.jpg"))
    paths = [path for path in paths if path.relative_to(root).as_posix() not in listed]
    draws = [np.random.default_rng(seed).permutation(len(paths))[:500] for seed in DRAWS]
    found = [_recall([paths[int(n)] for n in draw]) for draw in draws]
    return {
        name: {
            "recall": min(one[name][0] for one in found),
            "others": sorted({pair for one in found for pair in one[name][1]}),
        }
        for name in CHANGES
    }


def _recall(paths: list[Path]) -> dict[str, tuple[float, set[tuple[str, str]]]]:
    from medtl.audit.search.copies import copies_of_pictures
    from medtl.audit.search.thumbnails import thumbnail_of, unpacked

    def small(image: Image.Image) -> NDArray[np.uint8]:
        levels = np.asarray(image, dtype=np.float32)[..., None]
        return unpacked(thumbnail_of(levels, None), flat=True)

    images = [Image.open(path).convert("L") for path in paths]
    own, count = np.stack([small(image) for image in images]), len(images)
    result = {}
    for name, change in CHANGES.items():
        both = np.concatenate([own, np.stack([small(change(image)) for image in images])])
        pairs = {(one.first, one.second) for one in copies_of_pictures(both)}
        found = sum((n, n + count) in pairs for n in range(count))
        others = {tuple(sorted((a % count, b % count))) for a, b in pairs if b - a != count}
        result[name] = (found / count, {(paths[a].name, paths[b].name) for a, b in others})
    return result


def compare_search(options: argparse.Namespace) -> dict[str, Any]:
    """The exact search against a float32 product in blocks for each orientation."""
    from scipy.ndimage import gaussian_filter

    from medtl.audit.search.alike import alike_pairs

    random = np.random.default_rng(0)
    count, edge, least = 20_000, 32, 0.75
    noise = random.normal(size=(count, edge, edge)).astype(np.float32)
    images = gaussian_filter(noise, (0, 0.7, 0.7)) - gaussian_filter(noise, (0, 2.0, 2.0))
    for n in range(0, 400, 2):
        moved = np.rot90(images[n], int(random.integers(4)))
        images[n + 1] = np.flip(moved, 1) if n % 4 else moved

    def dense() -> set[tuple[int, int]]:
        rows = images.reshape(count, -1)
        rows = rows - rows.mean(axis=1, keepdims=True)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        pairs: set[tuple[int, int]] = set()
        for swapped in (False, True):
            for axes in ((), (1,), (2,), (1, 2)):
                square = rows.reshape(images.shape)
                turned = np.flip(square.transpose(0, 2, 1) if swapped else square, axes)
                other = np.ascontiguousarray(turned.reshape(count, -1))
                for low in range(0, count, PRODUCT_BLOCK):
                    for high in range(low, count, PRODUCT_BLOCK):
                        beside = other[high : high + PRODUCT_BLOCK]
                        product = rows[low : low + PRODUCT_BLOCK] @ beside.T
                        for a, b in np.argwhere(product >= least):
                            if a + low < b + high:
                                pairs.add((int(a) + low, int(b) + high))
        return pairs

    times: dict[str, list[float]] = {"medtl": [], "products": []}
    for _ in range(options.repeats):
        start = perf_counter()
        found = {(one.first, one.second) for one in alike_pairs(images, least)}
        times["medtl"].append(perf_counter() - start)
        start = perf_counter()
        wanted = dense()
        times["products"].append(perf_counter() - start)
    ratio = median(times["products"]) / median(times["medtl"])
    return {
        "images": count,
        "pairs": len(wanted),
        "same_pairs": found == wanted,
        **{name: round(median(own), 1) for name, own in times.items()},
        "times_faster": round(ratio, 2),
        "promised": FASTER_THAN_PRODUCTS,
    }


def plant_faults(options: argparse.Namespace) -> dict[str, Any]:
    from medtl.data.phantom.cohort import write_phantom

    with tempfile.TemporaryDirectory() as below:
        phantom = write_phantom(Path(below) / "phantom", cases=20, size=64, sites=2, seed=0)
        sets = {"phantom": phantom, **{n: options.data / n for n in ("hippocampus", "brats")}}
        return {name: _planted_in(name, path) for name, path in sets.items() if path.is_dir()}


def _planted_in(name: str, data: Path) -> dict[str, Any]:
    from medtl.audit.inventory import take_inventory
    from medtl.plugins.catalog import load_catalog

    missed: dict[str, int] = {}
    kinds = 0
    organs = name == "hippocampus"  # of one contrast, without a background; the others show tumours
    draws = range(1 if name == "brats" else PLANTED_DRAWS)
    for number, fault in enumerate(VOLUMES):
        if (fault.several or fault.stripped) if organs else fault.structures:
            continue
        kinds += 1
        for draw in draws:
            with tempfile.TemporaryDirectory() as below:
                copied = Path(shutil.copytree(data, Path(below) / data.name))
                every = take_inventory((copied,), load_catalog()).cases
                cases = [one for one in every if one.target]
                random = np.random.default_rng((number, draw))
                order = [cases[int(n)] for n in random.permutation(len(cases))]
                named = set(fault.plant(order, random))
                own = [one for one in audited(copied).findings if one.kind == fault.kind]
                if not any(named & set(one.cases) for one in own):
                    missed[fault.kind] = missed.get(fault.kind, 0) + 1
    return {
        "kinds": kinds,
        "draws": len(draws),
        "found_in_all_draws": kinds - len(missed),
        "missed": {kind: f"{count} of {len(draws)}" for kind, count in missed.items()},
    }


def look_at_clean(options: argparse.Namespace) -> dict[str, Any]:
    from medtl.data.phantom.cohort import write_phantom

    cases, flagged, errors = 0, [], []
    for seed in range(10):
        with tempfile.TemporaryDirectory() as below:
            data = write_phantom(Path(below) / "p", cases=20, size=64, sites=2, seed=seed)
            found = audited(data)
        cases += len(found.cases)
        flagged += [one.kind for one in found.warnings]
        errors += [one.kind for one in found.errors]
    return {"cases": cases, "errors": errors, "warnings": flagged}


def find_traps(options: argparse.Namespace) -> dict[str, Any]:
    result = {}
    for names, wanted in TRAPS.items():
        found = audited(*roots_of(options.data, names))
        kinds = sorted({one.kind for one in found.findings})
        result[names] = {
            "cases": len(found.cases),
            "flagged": len(found.flagged),
            "kinds": kinds,
            "missed": [kind for kind in wanted if kind not in kinds],
        }
    return result


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "speed": measure_speed,
    "growth": measure_growth,
    "pairs": compare_pairs,
    "recall": measure_recall,
    "search": compare_search,
    "planted": plant_faults,
    "clean": look_at_clean,
    "traps": find_traps,
}

if __name__ == "__main__":
    main()
