"""Tables for the terminal and for documents. A score never stands without n and interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medtl.runtime.table import Table

#: ``{stage: {region: {metric: interval}}}``
Summary = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]


LABELS = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95 (mm)",
    "surface_dice": "surface Dice",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "lesion_dice": "lesion Dice",
    "lesion_precision": "lesion precision",
    "lesion_recall": "lesion recall",
    "lesion_f1": "lesion F1",
    "true_lesions": "true lesions",
    "predicted_lesions": "predicted lesions",
    "missed_lesions": "missed lesions",
    "false_lesions": "false lesions",
    "truth_ml": "truth (ml)",
    "predicted_ml": "predicted (ml)",
    "volume_error_ml": "volume error (ml)",
    "relative_volume_error": "relative volume error",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "weighted_precision": "weighted precision",
    "weighted_recall": "weighted recall",
    "weighted_f1": "weighted F1",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "sensitivity_at_specificity_90": "sensitivity at specificity .90",
    "sensitivity_at_specificity_95": "at .95",
    "brier": "Brier",
    "ece": "ECE",
    "log_loss": "log loss",
}


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
    (
        "class",
        "Each class against the rest",
        ("sensitivity", "specificity", "precision", "f1"),
    ),
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
    rows = []
    methods: dict[str, None] = {}
    for stage, regions in summary.items():
        for region, scores in regions.items():
            cells = [score_cell(metric, scores[metric]) for metric in metrics]
            rows.append((stage, region, str(scores[metrics[0]]["n"]), *cells))
            methods.update(dict.fromkeys(scores[metric]["method"] for metric in metrics))
    if synthetic:
        title += "; synthetic phantom"
    columns = ("stage", outputs, "n", *(LABELS[metric] for metric in metrics))
    return Table(title, columns, tuple(rows), (_methods_note(methods),), grouped=True)


def warned(tables: Iterable[Table], leak: str, *, pixels: bool = False) -> list[Table]:
    """The tables with the ``leak`` noted below them, and without a title that denies it.

    Args:
        leak: a sentence on what flatters the scores; empty: nothing changes.
        pixels: distances are in pixels, since the size of a pixel is unknown.
    """
    tables = [_in_pixels(table) if pixels else table for table in tables]
    if not leak:
        return tables
    return [
        replace(
            table,
            title=table.title.replace(_UNSEEN, _PERHAPS_SEEN),
            notes=(*table.notes, leak),
        )
        for table in tables
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
    rows = [
        (
            name,
            str(found[controls[0]]["n"]),
            *(_gain_cell(found[control]) for control in controls),
            found["verdict"],
        )
        for name, found in outputs.items()
    ]
    metric, stage = LABELS[gain["metric"]], gain["stage"]
    title = f"Did the transfer help? Difference in {metric}: {stage} minus each control"
    if synthetic:
        title += "; synthetic phantom"
    methods = dict.fromkeys(found[c]["method"] for found in outputs.values() for c in controls)
    notes = [_WITHIN, _methods_note(methods)]
    if len(outputs) > 1:
        notes.append("Several verdicts at once: name the one that counts before you look.")
    outputs_are = "region" if gain["metric"] == "dice" else "class"
    columns = (outputs_are, "n", *(f"vs {control}" for control in controls), "verdict")
    return Table(title, columns, tuple(rows), tuple(notes))


def _gain_cell(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        listed = ", ".join(f"{value:+.3f}" for value in found.get("values", ()))
        return f"{found['mean']:+.3f}" + (f" ({listed})" if listed else ", no interval")
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def missing_table(missing: Mapping[str, Any], synthetic: bool) -> Table:
    """Dice per stage, modalities left and region; ``missing`` as in
    :class:`medtl.evaluation.scores.Scores`.

    Says which stages never met a missing modality in training.
    """
    rows = []
    methods: dict[str, None] = {}
    for stage, found in missing.items():
        for left, regions in found["dice"].items():
            cells = [score_cell("dice", scores) for scores in regions.values()]
            n = max(scores["n"] for scores in regions.values())
            rows.append((stage, left, str(n), *cells))
            methods.update(dict.fromkeys(scores["method"] for scores in regions.values()))
    title = "Dice with modalities missing: mean [95% interval]"
    if synthetic:
        title += "; synthetic phantom"
    found = next(iter(missing.values()))
    names = next(iter(found["dice"].values()))
    columns = ("stage", "modalities", "n", *(f"{region} Dice" for region in names))
    notes = (*_dropout_notes(missing), _methods_note(methods))
    return Table(title, columns, tuple(rows), notes, grouped=True)


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
    return f"Intervals: {'; '.join(methods)}."
