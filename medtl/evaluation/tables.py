"""Tables for the terminal and for documents. Every score is shown with n and interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medtl.runtime.table import Table

#: ``{stage: {region: {metric: interval}}}``
Summary = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]


#: The metrics of segmentation, in the order of the columns of ``metrics.csv``.
REGION_METRICS = (
    *("dice", "iou", "hd95_mm", "surface_dice", "sensitivity", "specificity", "precision"),
    *("lesion_dice", "lesion_precision", "lesion_recall", "lesion_f1"),
    *("true_lesions", "predicted_lesions", "missed_lesions", "false_lesions"),
    *("truth_ml", "predicted_ml", "volume_error_ml", "relative_volume_error"),
)


_CLASS_METRICS = (
    *("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1"),
    *("weighted_precision", "weighted_recall", "weighted_f1", "f1", "auroc", "auprc"),
    *("sensitivity_at_specificity_90", "brier", "ece", "log_loss"),
)


#: Parts of a metric's name that a table writes in another way.
_WRITTEN = {
    word.strip("().").lower(): word
    for word in (
        "Dice",
        "IoU",
        "HD95",
        "F1",
        "AUROC",
        "AUPRC",
        "Brier",
        "ECE",
        "(mm)",
        "(ml)",
        ".90",
    )
}


#: Headings of the metrics.
LABELS = {
    name: " ".join(_WRITTEN.get(word, word) for word in name.split("_"))
    for name in (*REGION_METRICS, *_CLASS_METRICS)
} | {"sensitivity_at_specificity_95": "at .95"}


#: The verdict on networks none of which found anything.
FASTER, TOO_POOR = "faster, perhaps", "too poor to compare"


_UNSEEN, _PERHAPS_SEEN = "patients not seen in training", "test cases"


_BY_PATIENT = (
    "By patient: scores of the mean probability over a patient's images; where a patient has "
    "images of several classes, the patient's images share one vote."
)


_WITHIN = "Mean difference within patients [95% interval]; a patient's cases are averaged first."


#: What the rows are, title, metrics.
_CLASS_TABLES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "classes",
        f"Scores of {_UNSEEN}",
        ("accuracy", "balanced_accuracy", "macro_precision", "macro_f1", "weighted_f1"),
    ),
    (
        "classes",
        "Probabilities: discrimination and calibration (AUROC, AUPRC: mean over classes)",
        ("auroc", "auprc", "log_loss", "brier", "ece"),
    ),
    ("class", "Each class against the rest", ("sensitivity", "specificity", "precision", "f1")),
    (
        "class",
        "Ranking of each class against the rest",
        ("auroc", "auprc", "sensitivity_at_specificity_90", "sensitivity_at_specificity_95"),
    ),
)


def score_cell(metric: str, found: Mapping[str, Any], *, listed: bool = True) -> str:
    """``0.86 [0.83, 0.89]``; below 5 patients ``0.81 (0.78, 0.84)``, the values themselves."""
    digits = 1 if metric.endswith(("_mm", "_ml")) else 2
    if found["mean"] is None:
        return "undefined"

    def text(value: float) -> str:
        return f"{value:z.{digits}f}"  # z: never -0.00

    if found["low"] is not None:
        return f"{text(found['mean'])} [{text(found['low'])}, {text(found['high'])}]"
    if not listed or "values" not in found:
        return f"{text(found['mean'])}, no interval"
    return f"{text(found['mean'])} ({', '.join(map(text, found['values']))})"


def score_table(
    summary: Summary,
    synthetic: bool,
    metrics: Sequence[str] = ("dice", "hd95_mm", "lesion_f1"),
    *,
    outputs: str = "region",
    title: str = f"Scores of {_UNSEEN}: mean [95% interval]",
) -> Table:
    """Mean and 95% interval per stage and region, with n and the methods of the intervals."""
    rows = [
        (stage, region, scores[metrics[0]]["n"], [(metric, scores[metric]) for metric in metrics])
        for stage, regions in summary.items()
        for region, scores in regions.items()
    ]
    columns = ("stage", outputs, "n", *(LABELS[metric] for metric in metrics))
    return _interval_table(title, synthetic, columns, rows)


def _interval_table(
    title: str,
    synthetic: bool,
    columns: tuple[str, ...],
    rows: Sequence[tuple[str, str, int | str, Sequence[tuple[str, Mapping[str, Any] | None]]]],
    notes: Iterable[str] = (),
) -> Table:
    """``rows``: stage, output, n, and each metric with its interval; None: it was not scored."""
    cells = tuple(
        (
            *(stage, output, str(n)),
            *("-" if scores is None else score_cell(metric, scores) for metric, scores in found),
        )
        for stage, output, n, found in rows
    )
    methods = [scores["method"] for *_, found in rows for _, scores in found if scores]
    notes = (*notes, _methods_note(methods))
    return Table(titled(title, synthetic), columns, cells, notes, grouped=True)


def titled(title: str, synthetic: bool) -> str:
    return f"{title}; synthetic phantom" if synthetic else title


def warned(tables: Iterable[Table], leak: str, *, pixels: bool = False) -> list[Table]:
    """The tables with the ``leak`` noted below them and in line with their titles.

    Args:
        leak: a sentence on what biases the scores upwards; empty: nothing changes.
        pixels: distances are in pixels, since the size of a pixel is unknown.
    """
    tables = [_in_pixels(table) if pixels else table for table in tables]
    if not leak:
        return tables
    return [
        replace(each, title=each.title.replace(_UNSEEN, _PERHAPS_SEEN), notes=(*each.notes, leak))
        for each in tables
    ]


def _in_pixels(table: Table) -> Table:
    return replace(table, columns=tuple(n.replace("(mm)", "(pixels)") for n in table.columns))


def class_tables(summary: Summary, synthetic: bool) -> list[Table]:
    """Scores of all classes together, and of each against the rest."""
    first, *others = (
        score_table(
            _of_classes(summary, together=outputs == "classes"),
            synthetic,
            metrics,
            outputs=outputs,
            title=f"{title} [95% interval]",
        )
        for outputs, title, metrics in _CLASS_TABLES
    )
    if any(name.endswith(" by patient") for scores in summary.values() for name in scores):
        first = replace(first, notes=(*first.notes, _BY_PATIENT))
    return [first, *others]


def _of_classes(summary: Summary, *, together: bool) -> dict[str, dict[str, Any]]:
    """Per stage the scores of all classes ("all", "all by patient"), or those of each class."""
    return {
        stage: {name: found for name, found in scores.items() if ("accuracy" in found) == together}
        for stage, scores in summary.items()
    }


def tables_of(
    summary: Summary,
    data: Mapping[str, Any],
    missing: Mapping[str, Any] | None = None,
    *,
    details: bool = True,
) -> list[Table]:
    """The tables of a run's scores.

    Args:
        summary, data, missing: as in :class:`medtl.evaluation.scores.Scores`.
        details: also the tables of each class, and of probabilities.
    """
    synthetic = data["synthetic"]
    classes = any("accuracy" in scores for stage in summary.values() for scores in stage.values())
    made = class_tables(summary, synthetic) if classes else [score_table(summary, synthetic)]
    if not details:
        made = made[:1]
    if "against_controls" in data:
        made.append(gain_table(data["against_controls"], synthetic))
    made = warned(made, data["leak"], pixels=data.get("unit") == "pixel")
    return [*made, missing_table(missing, synthetic)] if missing else made


def gain_table(gain: Mapping[str, Any], synthetic: bool) -> Table:
    """The transfer less its controls; ``gain`` as
    :func:`medtl.evaluation.controls.against_controls`."""
    outputs = gain["outputs"]
    controls = [name for name in next(iter(outputs.values())) if name != "verdict"]
    rows = []
    for name, found in outputs.items():
        cells = [gain_cell(found[control]) for control in controls]
        rows.append((name, str(found[controls[0]]["n"]), *cells, found["verdict"]))
    metric, stage = LABELS[gain["metric"]], gain["stage"]
    title = f"Did the transfer help? Difference in {metric}: {stage} minus each control"
    methods = [found[c]["method"] for found in outputs.values() for c in controls]
    notes = [_WITHIN, _methods_note(methods)]
    if any(found["verdict"] == TOO_POOR for found in outputs.values()):
        notes.append(
            f"{TOO_POOR}: no network reaches a mean {metric} of {gain['floor']:g} in the test "
            "cases that have the region, so that all of them found next to nothing. A higher mean "
            "comes from cases without the region: they count 1 where nothing is predicted."
        )
    notes += _faster_note(outputs, controls[-1])
    if len(outputs) > 1:
        notes.append(
            "Several verdicts give chance several tries: decide before training which one counts."
        )
    columns = (
        output_word(gain["metric"]),
        "n",
        *(f"vs {control}" for control in controls),
        "verdict",
    )
    return Table(titled(title, synthetic), columns, tuple(rows), tuple(notes))


def _faster_note(outputs: Mapping[str, Any], longer: str) -> list[str]:
    """What "faster, perhaps" says, and where the ``longer`` control is better."""
    faster = {name: found[longer] for name, found in outputs.items() if found["verdict"] == FASTER}
    if not faster:
        return []
    note = (
        f"{FASTER}: better than training from scratch for the same steps on the target, not better "
        "than for the steps of source and target together."
    )
    below = [name for name, found in faster.items() if (found["high"] or 0) < 0]
    return [f"{note} For {', '.join(below)} that is better than the transfer." if below else note]


def output_word(metric: str) -> str:
    """What is scored by this metric, one at a time."""
    return "region" if metric == "dice" else "class"


def p_cell(p: float | None) -> str:
    """``.032``; the smallest are ``<.001``."""
    if p is None:
        return ""
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def gain_cell(found: Mapping[str, Any]) -> str:
    """A difference with its sign and interval."""
    if found["low"] is None:
        listed = ", ".join(f"{value:+z.3f}" for value in found.get("values", ()))
        return f"{found['mean']:+z.3f}" + (f" ({listed})" if listed else ", no interval")
    return f"{found['mean']:+z.3f} [{found['low']:+z.3f}, {found['high']:+z.3f}]"


def missing_table(missing: Mapping[str, Any], synthetic: bool) -> Table:
    """Dice per stage, modalities left and region; ``missing`` as in
    :class:`medtl.evaluation.scores.Scores`.

    Says which stages never met a missing modality in training.
    """
    left_over = [each for found in missing.values() for each in found["dice"].values()]
    names = list(dict.fromkeys(name for regions in left_over for name in regions))
    rows = []
    for stage, found in missing.items():
        for left, regions in found["dice"].items():
            counts = sorted({scores["n"] for scores in regions.values()})
            n = "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
            rows.append((stage, left, n, [("dice", regions.get(name)) for name in names]))
    title = "Dice with modalities missing: mean [95% interval]"
    columns = ("stage", "modalities", "n", *(f"{region} Dice" for region in names))
    return _interval_table(title, synthetic, columns, rows, _dropout_notes(missing))


def _dropout_notes(missing: Mapping[str, Any]) -> Iterator[str]:
    """How far each stage was trained for what the table shows."""
    stages: dict[float, list[str]] = {}
    for stage, found in missing.items():
        stages.setdefault(found["modality_dropout"], []).append(stage)
    for share, names in stages.items():
        trained = (
            f"trained with modality dropout {share:g}"
            if share
            else "trained WITHOUT modality dropout: no modality was ever missing in training"
        )
        yield f"{', '.join(names)}: {trained}"


def _methods_note(methods: Iterable[str]) -> str:
    return f"Intervals: {'; '.join(dict.fromkeys(methods))}."
