"""A trained run at work: scores on cases it has not seen, predictions of new ones."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from medtl.api.scores import Scores, scores_of
from medtl.api.session import one_process, own_randomness, recorder
from medtl.api.settings import Where, path_of, path_or_none
from medtl.api.shown import Shown
from medtl.catalog import Catalog, load_catalog

if TYPE_CHECKING:
    from medtl.report.tables import Table


def evaluate(
    run: Where,
    *,
    data: Where | None = None,
    stage: str | None = None,
    cases: str | None = None,
    labels: str | None = None,
    flips: bool = False,
    missing_modalities: bool = False,
    device: str = "auto",
    precision: str = "auto",
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Scores:
    """Score a run's stages on cases that their training has not seen.

    Args:
        data: a folder of labelled cases; None: the run's own, of which the locked ones are scored.
        stage: one of them; None: all.
        cases: "test" or "all"; None: "test" of the run's own data, all of others.
        labels: how the data set's labels are to be read, where it does not say.
        flips: average over mirrored windows, eight times the work (in 2-D four).
        missing_modalities: also score every subset of the modalities.
    """
    from medtl.runs import open_run
    from medtl.scoring import evaluate as score

    opened = open_run(path_of(run))
    with own_randomness():
        found = score(
            opened,
            catalog or load_catalog(),
            one_process(device, precision),
            recorder(verbose),
            data=path_or_none(data),
            stage=stage,
            cases=cases,
            labels=labels,
            flips=flips,
            missing_modalities=missing_modalities,
        )
    return scores_of(found)


@dataclass(frozen=True, slots=True, repr=False)
class Predictions(Shown):
    """``files``: a label map per case, or ``predictions.csv``. ``notes``: what was told."""

    folder: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    trained_on_synthetic: bool

    @property
    def title(self) -> str:
        what = f"{len(self.files)} files" if len(self.files) != 1 else self.files[0].name
        return f"{what} in {self.folder}"

    @property
    def synthetic(self) -> bool:
        """Whether what predicted was trained on the phantom alone."""
        return self.trained_on_synthetic

    def rows(self) -> list[dict[str, Any]]:
        """Of classes: case, probability of each (``p_CLASS``), predicted. Else: case, file."""
        if [path.suffix for path in self.files] != [".csv"]:
            return [{"case": _case_of(path), "file": path} for path in self.files]
        with self.files[0].open(newline="", encoding="utf-8") as file:
            return [
                {key: float(text) if key.startswith("p_") else text for key, text in row.items()}
                for row in csv.DictReader(file)
            ]

    def tables(self) -> list[Table]:
        from medtl.report.tables import Table

        rows = self.rows()
        cells = [tuple(_cell(value) for value in row.values()) for row in rows]
        return [Table("Predictions", tuple(rows[0]), tuple(cells))] if rows else []

    def to_json(self) -> dict[str, Any]:
        rows = [{key: _plain(value) for key, value in row.items()} for row in self.rows()]
        return {"folder": str(self.folder), "synthetic": self.synthetic, "cases": rows}


def predict(
    runs: Where | Sequence[Where],
    inputs: Where,
    out: Where,
    *,
    labels: str | None = None,
    flips: bool = False,
    device: str = "auto",
    precision: str = "auto",
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Predictions:
    """Segment the cases under ``inputs`` in their own grids, or tell their classes, into ``out``.

    ``runs``: a run, a stage's folder inside one, or several, of which the mean is taken.
    """
    from medtl.prediction import predict as predict_with

    told = recorder(verbose)
    several = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    folder = path_of(out)
    with own_randomness():
        ensemble, files = predict_with(
            [str(path_of(run)) for run in several],
            path_of(inputs),
            folder,
            catalog or load_catalog(),
            one_process(device, precision),
            told,
            labels=labels,
            flips=flips,
        )
    return Predictions(folder, tuple(files), tuple(told.lines), ensemble.synthetic)


def _case_of(path: Path) -> str:
    """The case that a label map is of, as the data set calls it (:mod:`medtl.filenames`)."""
    return unquote(path.name.removesuffix(".nii.gz").removesuffix(".png"))


def _cell(value: Any) -> str:
    if isinstance(value, Path):
        return value.name
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
