"""``medtl explain``: saliency maps of a trained stage, and their agreement with true masks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from medtl.config import read_config
from medtl.data.case import Case
from medtl.data.cohort import open_cohort
from medtl.data.io.images import read_header
from medtl.data.io.pictures import is_picture
from medtl.data.modality import parse_series
from medtl.data.subset import evenly_spaced
from medtl.errors import ConfigError, RunError, UnknownNameError
from medtl.evaluation.evaluate import pick_cases, unseen
from medtl.explain import figures, localisation, maps, slices
from medtl.explain.figures import CasePanel
from medtl.explain.gradcam import Layer, feature_layer
from medtl.explain.maps import CaseMap, Mask
from medtl.inference.classification import Classifier
from medtl.inference.load import LoadedStage, finished_stages, read_stage
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.figure_style import attempted
from medtl.runtime.leftovers import sweep
from medtl.runtime.run_folder import CONFIG, Run, check_writable, write_text
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B

#: Maps with fewer cells along an axis locate little.
COARSE = 6

MOST_CASES, LEAST_THRESHOLD = 64, 0.01


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """What to explain.

    Attributes:
        output: class or region; None: each image's own class, or the first region.
        block: the block whose maps are weighted; None: the one before the head.
        cases: the number of cases to draw.
        threshold: share of its maximum at which a map is cut for Dice.
    """

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
    options: ExplainOptions,
    folder: Path,
    reporter: Reporter,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write ``cam.png``, ``activations.png``, ``filters.png``, ``saliency.csv`` and
    ``saliency.json`` into ``folder``; returns the content of the last one.

    Every case with a mask is scored against it, unless it was seen in training. Other cases only
    get a map if they are drawn.

    Args:
        facts: ``synthetic`` and ``leak`` of the cohort, the first entries of ``saliency.json``.

    Raises:
        UnknownNameError: no such class, region or block.
        ConfigError: a block without a map.
    """
    output = _output(trained, options.output)
    layer = _layer(trained, options.block, reporter)
    drawn = spread_over_classes(cases, options.cases)
    rows, panels, not_scored = _map_cases(trained, cases, drawn, layer, output, options, reporter)
    modalities = trained.predictor.preprocessor.modalities
    grey = f"mean of {', '.join(modalities)}" if len(modalities) > 1 else modalities[0]
    network = trained.predictor.network.name
    localisation.write_rows(folder / "saliency.csv", rows)
    summary = {
        **facts,
        "stage": trained.stage,
        "method": "Grad-CAM",
        "block": layer.block,
        "layer": layer.name,
        "map_size": list(layer.shape[1:]),
        "explained": output or "each image's class",
        "threshold": options.threshold,
        "images": len(rows),
        "not_scored": dict(not_scored),
        **localisation.summarise_localisation(rows),
        **({"warnings": list(reporter.warnings)} if reporter.warnings else {}),
    }
    write_text(folder / "saliency.json", json.dumps(summary, indent=2) + "\n")
    title = f"{trained.stage}: Grad-CAM of {network}, {layer.block}\ngrey: {grey}"
    with attempted("cam.png", reporter.warn):
        figures.saliency_maps(folder / "cam.png", panels, title, synthetic=facts["synthetic"])
    with attempted("the network's figures", reporter.warn):
        _draw_network(trained, *_example(drawn, panels), folder, facts["synthetic"])
    if not summary["images_scored"]:
        reporter.say(f"no map is scored: {localisation.count_reasons(not_scored)}")
    return summary


def _output(trained: LoadedStage, output: str | None) -> str | None:
    outputs = trained.predictor.preprocessor.regions
    if output is not None and output not in outputs:
        what = "region" if trained.task_type.dense else "class"
        raise UnknownNameError(f"{what} of this run", output, outputs)
    return outputs[0] if trained.task_type.dense and output is None else output


def _layer(trained: LoadedStage, block: str | None, reporter: Reporter) -> Layer:
    network, patch = trained.predictor.network, trained.predictor.patch_size
    layer = feature_layer(network, patch[: network.spatial_dims], block)
    size = "x".join(map(str, layer.shape[1:]))
    coarse = "; an earlier --layer gives finer maps" if min(layer.shape[1:]) < COARSE else ""
    reporter.say(
        f"Grad-CAM of {network.name}: {layer.shape[0]} maps of {size} from {layer.block} "
        f"({layer.name})" + coarse
    )
    return layer


def _map_cases(
    trained: LoadedStage,
    cases: Sequence[Case],
    drawn: Sequence[Case],
    layer: Layer,
    output: str | None,
    options: ExplainOptions,
    reporter: Reporter,
) -> tuple[list[dict[str, Any]], list[CasePanel], Counter[str]]:
    """A row per mapped case, a panel per drawn case, and the reasons why maps are not scored."""
    fresh, seen = unseen(cases, [trained])
    if seen:
        reporter.say(f"{seen} of {len(cases)} cases were seen in training: never scored")
    panelled, new = {case.id for case in drawn}, {case.id for case in fresh}
    scored = {case.id for case in fresh if case.mask is not None or case.target is not None}
    chosen = [case for case in cases if case.id in panelled | scored]
    rows, panels, not_scored = [], {}, Counter[str]()
    with reporter.progress("explaining", len(chosen)) as advance:
        for done, one in enumerate(_maps(trained, chosen, layer, output), 1):
            mask_IJK = maps.true_mask(one)
            reference_IJK = mask_IJK if one.case.id in scored else None
            rows.append(_row(one, reference_IJK, options.threshold))
            if reference_IJK is None:
                not_scored[maps.unscored_reason(one, one.case.id in new)] += 1
            if one.case.id in panelled:
                modalities = trained.predictor.preprocessor.modalities
                panels[one.case.id] = slices.case_panel(one, modalities, mask_IJK)
            advance(done)
    return rows, [panels[case.id] for case in drawn], not_scored


def _maps(
    trained: LoadedStage, cases: Sequence[Case], layer: Layer, output: str | None
) -> Iterator[CaseMap]:
    predictor = trained.predictor
    if isinstance(predictor, Classifier):
        return maps.explain_classes(predictor, cases, layer, output)
    assert output is not None  # _output chose a region
    return maps.explain_regions(predictor, cases, layer, output)


def spread_over_classes(cases: Sequence[Case], count: int) -> list[Case]:
    """``count`` cases, of every class in turn and evenly spaced within each class."""
    by_class: dict[str, list[Case]] = {}
    for case in cases:
        by_class.setdefault(case.class_name, []).append(case)
    most = -(-count // len(by_class))
    picked = [[own[index] for index in evenly_spaced(len(own), most)] for own in by_class.values()]
    turns = max(map(len, picked))
    return [own[turn] for turn in range(turns) for own in picked if turn < len(own)][:count]


def _row(one: CaseMap, mask_IJK: Mask | None, threshold: float) -> dict[str, Any]:
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
    return row | localisation.localisation(one.cam_IJK, mask_IJK, threshold, spacing_mm)


def _example(drawn: Sequence[Case], panels: Sequence[CasePanel]) -> tuple[Case, CasePanel]:
    """The first case whose panel has a mask, otherwise the first case."""
    pairs = list(zip(drawn, panels, strict=True))
    return next((pair for pair in pairs if pair[1].mask_IJ is not None), pairs[0])


def _draw_network(
    trained: LoadedStage, case: Case, panel: CasePanel, folder: Path, synthetic: bool
) -> None:
    """Draw the filters of the first layer and each block's output for one slice of a case."""
    predictor = trained.predictor
    network, modalities = predictor.network, predictor.preprocessor.modalities
    weights_OCIJ = slices.first_filters(network)
    if weights_OCIJ is not None:
        title = f"{trained.stage}: first layer of {network.name}\n{slices.filters_shown(network)}"
        path = folder / "filters.png"
        figures.filters(path, weights_OCIJ, modalities, title, synthetic=synthetic)
    prepared = predictor.preprocessor(case, with_target=False)
    patch = predictor.patch_size[: network.spatial_dims]
    cut = slices.cut_at(prepared, patch, panel.height)
    image_BCIJK = cut.patch[None].to(predictor.fabric.device)
    block_maps = slices.block_maps(network, image_BCIJK, cut.share)
    inputs = dict(zip(modalities, slices.plane(cut.patch, cut.share), strict=True))
    number = slices.slice_number(case, modalities[0], cut.height)
    where = "" if number is None else f", slice {number}"
    title = f"{trained.stage}: output of each block for {case.id}{where}"
    path = folder / "activations.png"
    figures.activations(path, inputs, block_maps, title, synthetic=synthetic)


def explain_run(
    run: Run,
    catalog: Catalog,
    fabric: Fabric,
    reporter: Reporter,
    options: ExplainOptions,
    *,
    inputs: Path | None = None,
    out: Path | None = None,
    stage: str | None = None,
    labels: str | None = None,
    ignored: Sequence[str] = (),
    series: Sequence[str] = (),
) -> tuple[Path, dict[str, Any]]:
    """:func:`explain` a stage of a run; returns the folder and its ``saliency.json``.

    Args:
        inputs: cases; None: the run's locked test cases.
        out: folder; None: ``explain/STAGE`` in the run.
        stage: None: the last one of the transfer.
        labels: scheme of the cases' labels; None: that of the run, or of the inputs.
        ignored: columns of a table to leave out; empty: those of the run.
        series: of DICOM, ``MODALITY=DESCRIPTION`` each; empty: those of the run.
    """
    _ready(run, out)
    config = read_config(run.path / CONFIG)
    trained = read_stage(run, stage or _last_stage(run), catalog, fabric, warn=reporter.warn)
    cohort = open_cohort(
        catalog.tasks[config.task].load()(),
        inputs or config.data,
        reporter,
        None if inputs else config.protocol,
        names=trained.metadata.names,
        ignored=ignored or (() if inputs else config.ignore_column or ()),
        series=parse_series(series) or (None if inputs else config.series),
        labels=labels or (None if inputs else config.labels),
        required=trained.predictor.preprocessor.modalities,
        need_target=inputs is None,
    )
    picked = pick_cases(cohort, run, "all" if inputs else "test", reporter)
    folder = out or run.path / "explain" / trained.stage
    facts = {"synthetic": cohort.synthetic, "leak": cohort.leak}
    return folder, explain(trained, picked, options, folder, reporter, facts)


def _ready(run: Run, out: Path | None) -> None:
    """Check that the results can be written; in the run, remove what a killed command left."""
    check_writable(out or run.path)
    if out is None:
        run.check_links()
        sweep(run.path, deep=True)


def _last_stage(run: Run) -> str:
    """The last finished stage of the transfer; of a control where there is no other."""
    finished = finished_stages(run)
    if not finished:
        raise RunError(f"{run.path} has no finished stage; finish its training first")
    transfer = [name for name in finished if name not in (CONTROL_A, CONTROL_B)]
    return (transfer or finished)[-1]
