"""``medtl explain``: maps of what a trained stage looks at, and how well they find the truth."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.case import Case
from medtl.classification.evaluation import Classifier
from medtl.classification.views import view
from medtl.console import Reporter
from medtl.errors import UnknownNameError
from medtl.files import replacing
from medtl.report.saliency import activations, filters, saliency_maps
from medtl.report.tables import Table, score_cell
from medtl.runs import write_text
from medtl.saliency.gradcam import Layer, feature_layer
from medtl.saliency.localisation import SCORES, localisation, summarise_localisation
from medtl.saliency.maps import (
    Explained,
    class_mask,
    explain_classes,
    explain_regions,
    region_mask,
)
from medtl.saliency.showing import block_maps, first_filters, middle, shown
from medtl.trained import Trained

Mask = Callable[[Case], NDArray[np.bool_] | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to explain: an ``output`` (None: each image's class, the first region), the maps of a
    ``block`` (None: the one before the head), how many cases to show, where maps are cut."""

    output: str | None = None
    block: str | None = None
    cases: int = 8
    threshold: float = 0.5


def explain(
    trained: Trained,
    cases: Sequence[Case],
    wanted: Wanted,
    folder: Path,
    reporter: Reporter,
    *,
    synthetic: bool,
) -> dict[str, Any]:
    """Write ``cam.png``, ``activations.png``, ``filters.png``, ``saliency.csv`` and
    ``saliency.json`` into ``folder``; returns what the last one holds.

    Maps of every case with a mask are scored against it; of the others only those shown are made.

    Raises:
        UnknownNameError: no such class, region or block.
        ConfigError: a block without a map.
    """
    predictor = trained.predictor
    outputs = predictor.recipe.regions
    if wanted.output is not None and wanted.output not in outputs:
        what = "region" if trained.kind.dense else "class"
        raise UnknownNameError(f"{what} of this run", wanted.output, outputs)
    network = predictor.network
    layer = feature_layer(network, predictor.patch_size[: network.spatial_dims], wanted.block)
    size = "x".join(map(str, layer.shape[1:]))
    reporter.say(
        f"Grad-CAM of {network.name}: {layer.shape[0]} maps of {size} from layer {layer.name}"
    )
    output = wanted.output or (outputs[0] if trained.kind.dense else None)
    masks = region_mask(output) if trained.kind.dense and output else class_mask
    drawn = spread_over_classes(cases, wanted.cases)
    scored = [case for case in cases if case.mask or case.target]
    chosen = [case for case in cases if case in drawn or case in scored]
    rows, pictures = [], {}
    with reporter.progress("explaining", len(chosen)) as advance:
        for done, one in enumerate(_maps(trained, chosen, layer, output), 1):
            mask_IJK = masks(one.case)
            rows.append(_row(one, mask_IJK, wanted.threshold))
            if one.case in drawn:
                pictures[one.case.id] = shown(one, predictor.recipe.modalities, mask_IJK)
            advance(done)
    found = {
        "synthetic": synthetic,
        "stage": trained.stage,
        "method": "Grad-CAM",
        "block": layer.block,
        "layer": layer.name,
        "map_size": list(layer.shape[1:]),
        "threshold": wanted.threshold,
        "explained": output or "each image's class",
        **_localised(rows),
    }
    title = f"{trained.stage}: Grad-CAM of {network.name}, {layer.block}"
    saliency_maps(folder / "cam.png", list(pictures.values()), title, synthetic=synthetic)
    _draw_inside(trained, drawn[0], folder, synthetic)
    write_rows(folder / "saliency.csv", rows)
    write_text(folder / "saliency.json", json.dumps(found, indent=2) + "\n")
    return found


def _maps(trained: Trained, cases: Sequence[Case], layer: Layer, output: str | None) -> Any:
    predictor = trained.predictor
    if isinstance(predictor, Classifier):
        return explain_classes(predictor, cases, layer, output)
    assert output is not None  # the first region, if no other
    return explain_regions(predictor, cases, layer, output)


def spread_over_classes(cases: Sequence[Case], count: int) -> list[Case]:
    """Cases of every class in turn, those of a class far from each other in the list."""
    by_class: dict[str, list[Case]] = {}
    for case in cases:
        by_class.setdefault(case.class_name, []).append(case)
    each = -(-count // len(by_class))
    picked = [
        [own[i] for i in np.unique(np.linspace(0, len(own) - 1, each).round().astype(int))]
        for own in by_class.values()
    ]
    turns = max(map(len, picked))
    return [own[turn] for turn in range(turns) for own in picked if turn < len(own)][:count]


def _row(one: Explained, mask_IJK: NDArray[np.bool_] | None, threshold: float) -> dict[str, Any]:
    """The mask shows the case's own class: a map of another one is not held against it."""
    row: dict[str, Any] = {
        "case": one.case.id,
        "patient": one.case.patient,
        "explained": one.output,
        "predicted": one.predicted,
        "probability": "" if one.probability is None else round(one.probability, 6),
    }
    comparable = mask_IJK is not None and one.case.class_name in ("", one.output)
    if not comparable or mask_IJK is None:
        return row
    return row | localisation(one.cam_IJK, mask_IJK, threshold)


def _localised(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    scored = [row for row in rows if "dice" in row]
    if not scored:
        return {"images": len(rows), "images_scored": 0}
    return {
        "images": len(rows),
        "images_scored": len(scored),
        "localisation": summarise_localisation(scored),
        "meaning": SCORES,
    }


def localisation_table(found: dict[str, Any]) -> Table:
    """The scores of :func:`explain` with their intervals over patients."""
    summary = found["localisation"]
    rows = tuple(
        (score, str(summary[score]["n"]), score_cell(score, summary[score]), meaning)
        for score, meaning in SCORES.items()
    )
    title = (
        f"{found['stage']}: maps against masks, {found['images_scored']} images, cut at "
        f"{found['threshold']:g} of the maximum: mean over patients [95% interval]"
    )
    if found["synthetic"]:
        title += "; synthetic phantom"
    methods = "; ".join(dict.fromkeys(summary[score]["method"] for score in SCORES))
    return Table(title, ("score", "n", "value", "what"), rows, (f"intervals: {methods}",))


def _draw_inside(trained: Trained, case: Case, folder: Path, synthetic: bool) -> None:
    """What the first layer looks for, and what each block makes of one case."""
    predictor = trained.predictor
    network, modalities = predictor.network, predictor.recipe.modalities
    weights_OCIJ = first_filters(network)
    if weights_OCIJ is not None:
        title = f"{trained.stage}: filters of {network.input_tensors[0]}"
        filters(folder / "filters.png", weights_OCIJ, modalities, title, synthetic=synthetic)
    image_CIJK = predictor.recipe(case, with_target=False)["image"]
    patch = view(image_CIJK, predictor.patch_size[: network.spatial_dims])
    maps = block_maps(network, patch[None].to(predictor.fabric.device))
    title = f"{trained.stage}: what each block makes of {case.id}"
    seen = middle(patch.mean(0, keepdim=True))[0]
    activations(folder / "activations.png", seen, maps, title, synthetic=synthetic)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A line per case; scores are empty where there is no mask."""
    columns = ["case", "patient", "explained", "predicted", "probability", *SCORES]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
