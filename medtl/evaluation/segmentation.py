"""Scores of segmenters: the same functions as :mod:`medtl.evaluation.classification`.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.case import Case, Cohort
from medtl.data.cohort import region_masks
from medtl.data.formats.label_names import recorded_regions
from medtl.data.io.images import read_header, read_labels
from medtl.data.label_scheme import LabelScheme
from medtl.evaluation.metrics import case_metrics, dice_by_patient, metric_rows, write_metrics_csv
from medtl.evaluation.metrics import found_by_patient as found_by_patient
from medtl.evaluation.metrics import summarise as summarise
from medtl.inference.segmentation import Segmenter
from medtl.runtime.console import Reporter
from medtl.runtime.distributed import gather, share
from medtl.runtime.parallel import ahead
from medtl.transfer.checkpoint_metadata import CheckpointMetadata

Rows = Sequence[Mapping[str, Any]]

#: The metric by which stages are compared within patients; higher is better.
COMPARED_BY = "dice"
check_cohort = Cohort.check_regions
by_patient = dice_by_patient

#: Segmenter, prepared case, its truth on the native grid, its scheme, voxels that nobody labelled
#: (if any) -> more keys for the row of each region.
Extra = Callable[
    [Segmenter, Mapping[str, Any], NDArray[np.bool_], LabelScheme, NDArray[np.bool_] | None],
    Sequence[dict[str, Any]],
]


def defined_otherwise(cohort: Cohort, trained: CheckpointMetadata) -> str:
    """Say which two regions lie otherwise to each other than in training; "" if none do.

    What a label value means is not known, so other values of one region are no difference.
    """
    expected = _relations(trained)
    for case in cohort.cases:
        for (one, other), before in expected.items():
            if not {one, other} <= case.regions.keys():
                continue
            found = _relation(case.regions[one], case.regions[other])
            if found not in before:
                return (
                    f"in {cohort.root} region {one} {found} region {other}, unlike in training; "
                    f"the scores follow the labels of {cohort.root}"
                )
    return ""


def _relations(trained: CheckpointMetadata) -> dict[tuple[str, str], tuple[str, ...]]:
    """How each two regions may lie to each other, as far as the checkpoint says."""
    pairs = list(combinations(trained.regions, 2))
    values = recorded_regions(trained.names).values if trained.names else {}
    if values.keys() >= set(trained.regions):
        return {(a, b): (_relation(values[a], values[b]),) for a, b in pairs}
    if trained.exclusive:
        return dict.fromkeys(pairs, ("excludes",))
    return dict.fromkeys(pairs, ("holds", "equals")) if trained.nested else {}


def _relation(one: Sequence[int], other: Sequence[int]) -> str:
    a, b = set(one), set(other)
    if a == b:
        return "equals"
    if not a & b:
        return "excludes"
    return "holds" if a > b else "lies in" if a < b else "overlaps"


def score(
    predictor: Segmenter,
    cases: Sequence[Case],
    reporter: Reporter,
    what: str,
    extra: Extra | None = None,
) -> list[dict[str, Any]]:
    """Metric rows (case, patient, region, metrics) of labelled cases, on their native grids.

    Where the truth of a case is known only in part, its scores are those of that part: regions that
    nobody looked for get no row.

    The masks are those of the label map that ``medtl predict`` writes. Where the label values do
    not tell all combinations of regions apart, ``moved_voxels`` counts those in which a region's
    mask differs from what was predicted.

    ``extra``: what else to score of each case while it is in memory.
    """
    scored: list[list[dict[str, Any]]] = []  # rows of each case
    own = share(predictor.fabric, cases)
    with reporter.progress(what, len(own)) as advance:
        prepared = ahead(partial(predictor.preprocessor, with_target=False), own)
        for done, (case, image) in enumerate(zip(own, prepared, strict=True), 1):
            scored.append(_score_case(predictor, case, image, extra))
            advance(done)
    return [row for rows in gather(predictor.fabric, scored, len(cases)) for row in rows]


def _score_case(
    predictor: Segmenter, case: Case, image: Mapping[str, Any], extra: Extra | None
) -> list[dict[str, Any]]:
    assert case.target is not None  # labelled cases only
    labels_IJK, _ = read_labels(case.target, case.labels)
    truth_LIJK = region_masks(labels_IJK, case, predictor.preprocessor.regions)
    ignored_IJK = np.isin(labels_IJK, case.ignored) if case.ignored else None
    header = read_header(case.target)
    scheme = LabelScheme.of(case.regions, predictor.preprocessor.regions)
    label = predictor.label_map(image, scheme)
    masks = [np.isin(label.label_IJK, label.values_of(name)) for name in scheme.regions]
    scores = case_metrics(
        np.stack(masks),
        truth_LIJK,
        header.spacing_mm,
        predictor.preprocessor.regions,
        sheared_mm=header.sheared_mm,
        ignored_IJK=ignored_IJK,
    )
    rows = metric_rows(case.id, case.patient, scores)
    if not scheme.tells(nested=predictor.nested, exclusive=predictor.exclusive):
        for row, count in zip(rows, label.moved, strict=True):
            row["moved_voxels"] = count
    if extra is not None:
        more = extra(predictor, image, truth_LIJK, scheme, ignored_IJK)
        rows = [row | keys for row, keys in zip(rows, more, strict=True)]
    nothing = ignored_IJK is not None and bool(ignored_IJK.all())
    return [row for row in rows if not nothing and row["region"] not in case.unannotated]


def details(_predictor: Segmenter, rows: Rows) -> dict[str, Any]:
    """Facts beside the scores of a stage, by name: voxels that no label value could hold."""
    counts: dict[str, int] = {}
    for row in rows:
        if "moved_voxels" in row:
            counts[row["region"]] = counts.get(row["region"], 0) + row["moved_voxels"]
    return {"moved_voxels": counts} if counts else {}


def write_rows(folder: Path, rows: Rows) -> None:
    """``rows`` of every stage, with its name under "stage"."""
    write_metrics_csv(folder / "metrics.csv", rows)
