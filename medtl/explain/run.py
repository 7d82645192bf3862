"""``medtl explain``: maps of what a trained stage looks at, and how well they find the truth."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from medtl.config import read_config
from medtl.data.case import Case
from medtl.data.cohort import open_cohort
from medtl.data.io.images import read_header
from medtl.data.io.pictures import is_picture
from medtl.errors import ConfigError, RunError, UnknownNameError
from medtl.evaluation.evaluate import pick_cases, unseen
from medtl.explain.figures import Shown, activations, filters, saliency_maps
from medtl.explain.gradcam import Layer, feature_layer
from medtl.explain.localisation import (
    left_out,
    localisation,
    summarise_localisation,
    write_rows,
)
from medtl.explain.maps import (
    Explained,
    Mask,
    explain_classes,
    explain_regions,
    has_mask,
    no_outline,
    truth,
    why_not,
)
from medtl.explain.slices import (
    block_maps,
    cut_at,
    filters_shown,
    first_filters,
    plane,
    shown,
    slice_number,
)
from medtl.inference.classification import Classifier
from medtl.inference.load import LoadedStage, finished_stages, read_stage
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.run_folder import CONFIG, Run, check_writable, write_text
from medtl.runtime.subset import evenly_spaced
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B

#: Maps of fewer places along an edge say little of where.
COARSE = 6


MOST_CASES, LEAST_THRESHOLD = 64, 0.01


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to explain: an ``output`` (None: each image's class, the first region), the maps of a
    ``block`` (None: the one before the head), how many cases to show, where maps are cut."""

    output: str | None = None
    block: str | None = None
    cases: int = 8
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.cases <= MOST_CASES:
            raise ConfigError(f"--cases {self.cases}: choose 1 to {MOST_CASES}")
        if not LEAST_THRESHOLD <= self.threshold <= 1:
            raise ConfigError(f"--threshold {self.threshold}: choose {LEAST_THRESHOLD} to 1")


def explain(
    trained: LoadedStage,
    cases: Sequence[Case],
    wanted: Wanted,
    folder: Path,
    reporter: Reporter,
    *,
    synthetic: bool,
    leak: str = "",
) -> dict[str, Any]:
    """Write ``cam.png``, ``activations.png``, ``filters.png``, ``saliency.csv`` and
    ``saliency.json`` into ``folder``; returns what the last one holds.

    Maps of every case with a mask are scored against it, unless it was trained on; of the others
    only those shown are made.

    Raises:
        UnknownNameError: no such class, region or block.
        ConfigError: a block without a map.
    """
    output = _output(trained, wanted.output)
    network, patch = trained.predictor.network, trained.predictor.patch_size
    modalities = trained.predictor.recipe.modalities
    layer = feature_layer(network, patch[: network.spatial_dims], wanted.block)
    size = "x".join(map(str, layer.shape[1:]))
    coarse = "; an earlier --layer gives finer ones" if min(layer.shape[1:]) < COARSE else ""
    reporter.say(
        f"Grad-CAM of {network.name}: {layer.shape[0]} maps of {size} from {layer.block} "
        f"({layer.name})" + coarse
    )
    fresh, seen = unseen(cases, [trained])
    if seen:
        reporter.say(f"{seen} of {len(cases)} cases were seen in training: never scored")
    drawn = spread_over_classes(cases, wanted.cases)
    names, new = {case.id for case in drawn}, {case.id for case in fresh}
    scored = {case.id for case in fresh if has_mask(case)}
    chosen = [case for case in cases if case.id in names | scored]
    rows, pictures, not_scored = [], {}, Counter[str]()
    with reporter.progress("explaining", len(chosen)) as advance:
        for done, one in enumerate(_maps(trained, chosen, layer, output), 1):
            mask_IJK = truth(one)
            held_against = mask_IJK if one.case.id in scored else None
            rows.append(_row(one, held_against, wanted.threshold))
            if held_against is None:
                not_scored[why_not(one, one.case.id in new)] += 1
            if one.case.id in names:
                words = no_outline(one) if mask_IJK is None else ""
                pictures[one.case.id] = shown(one, modalities, mask_IJK, words)
            advance(done)
    grey = f"mean of {', '.join(modalities)}" if len(modalities) > 1 else modalities[0]
    title = f"{trained.stage}: Grad-CAM of {network.name}, {layer.block}\ngrey: {grey}"
    ordered = [pictures[case.id] for case in drawn]
    saliency_maps(folder / "cam.png", ordered, title, synthetic=synthetic)
    _draw_inside(trained, *_example(drawn, ordered), folder, synthetic)
    write_rows(folder / "saliency.csv", rows)
    found = {
        "synthetic": synthetic,
        "leak": leak,
        "stage": trained.stage,
        "method": "Grad-CAM",
        "block": layer.block,
        "layer": layer.name,
        "map_size": list(layer.shape[1:]),
        "explained": output or "each image's class",
        "threshold": wanted.threshold,
        "images": len(rows),
        "not_scored": dict(not_scored),
        **summarise_localisation(rows),
    }
    write_text(folder / "saliency.json", json.dumps(found, indent=2) + "\n")
    if not found["images_scored"]:
        reporter.say(f"no map is scored: {left_out(not_scored)}")
    return found


def _output(trained: LoadedStage, output: str | None) -> str | None:
    outputs = trained.predictor.recipe.regions
    if output is not None and output not in outputs:
        what = "region" if trained.task_type.dense else "class"
        raise UnknownNameError(f"{what} of this run", output, outputs)
    return outputs[0] if trained.task_type.dense and output is None else output


def _maps(
    trained: LoadedStage, cases: Sequence[Case], layer: Layer, output: str | None
) -> Iterator[Explained]:
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
    picked = [[own[index] for index in evenly_spaced(len(own), each)] for own in by_class.values()]
    turns = max(map(len, picked))
    return [own[turn] for turn in range(turns) for own in picked if turn < len(own)][:count]


def _row(one: Explained, mask_IJK: Mask | None, threshold: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "case": one.case.id,
        "patient": one.case.patient,
        "explained": one.output,
        "predicted": one.predicted,
        "probability": "" if one.probability is None else round(one.probability, 6),
    }
    if mask_IJK is None:
        return row
    image = next(iter(one.case.images.values()))
    spacing_mm = None if is_picture(image.path) else read_header(image).spacing_mm
    return row | localisation(one.cam_IJK, mask_IJK, threshold, spacing_mm)


def _example(drawn: Sequence[Case], pictures: Sequence[Shown]) -> tuple[Case, Shown]:
    """The first case that shows what is looked for, else the first."""
    pairs = list(zip(drawn, pictures, strict=True))
    return next((pair for pair in pairs if pair[1].mask_IJ is not None), pairs[0])


def _draw_inside(
    trained: LoadedStage, case: Case, picture: Shown, folder: Path, synthetic: bool
) -> None:
    """What the first layer looks for, and what each block makes of the slice of one case."""
    predictor = trained.predictor
    network, modalities = predictor.network, predictor.recipe.modalities
    weights_OCIJ = first_filters(network)
    if weights_OCIJ is not None:
        title = f"{trained.stage}: first layer of {network.name}\n{filters_shown(network)}"
        filters(folder / "filters.png", weights_OCIJ, modalities, title, synthetic=synthetic)
    prepared = predictor.recipe(case, with_target=False)
    patch = predictor.patch_size[: network.spatial_dims]
    cut = cut_at(prepared, patch, picture.height)
    maps = block_maps(network, cut.patch[None].to(predictor.fabric.device), cut.share)
    inputs = dict(zip(modalities, plane(cut.patch, cut.share), strict=True))
    number = slice_number(case, modalities[0], cut.height)
    where = "" if number is None else f", slice {number}"
    title = f"{trained.stage}: what each block makes of {case.id}{where}"
    activations(folder / "activations.png", inputs, maps, title, synthetic=synthetic)


def explain_run(
    run: Run,
    catalog: Catalog,
    fabric: Fabric,
    reporter: Reporter,
    wanted: Wanted,
    *,
    inputs: Path | None = None,
    out: Path | None = None,
    stage: str | None = None,
    labels: str | None = None,
) -> tuple[Path, dict[str, Any]]:
    """:func:`explain` a stage of a run: the folder written, and what was found.

    ``inputs``: cases; None: the run's locked test cases. ``stage``: None means the last of the
    transfer; ``out``: None means ``explain/STAGE`` in the run.
    """
    check_writable(out or run.path)
    config = read_config(run.path / CONFIG)
    finished = finished_stages(run)
    if not finished:
        raise RunError(f"{run.path} has no finished stage; let medtl train end first")
    transfer = [name for name in finished if name not in (CONTROL_A, CONTROL_B)]
    trained = read_stage(run, stage or (transfer or finished)[-1], catalog, fabric)
    data = inputs or config.data
    scheme = labels or (None if inputs else config.labels)
    cohort = open_cohort(
        catalog.tasks[config.task].load()(),
        data,
        reporter,
        None if inputs else config.protocol,
        names=trained.names,
        labels=scheme,
        required=trained.predictor.recipe.modalities,
        need_target=inputs is None,
    )
    picked = pick_cases(cohort, run, "all" if inputs else "test")
    folder = out or run.path / "explain" / trained.stage
    synthetic, leak = cohort.synthetic, cohort.leak
    return folder, explain(
        trained, picked, wanted, folder, reporter, synthetic=synthetic, leak=leak
    )
