"""``medtl predict RUN``: segmentations of new studies in their own grids, or their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.options import Device, Devices, IgnoreColumn, Labels, Precision, Quiet, Tta


def predict(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN", help="Run folder, or a stage's folder in it; several: an ensemble."
        ),
    ],
    inputs: Annotated[Path, typer.Option("--input", "-i", help="Folder or list of cases.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the predictions.")],
    labels: Labels = None,
    ignore_column: IgnoreColumn = None,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: Devices = 1,
    tta: Tta = False,
    quiet: Quiet = False,
) -> None:
    """Predict new studies with one trained run or an ensemble of runs.

    Writes NIfTI label maps (segmentation) or predictions.csv (classification).
    """
    _check(inputs, out)
    from medtl.inference.predict import predict as predict_with
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter
    from medtl.runtime.device import build_fabric

    catalog = load_catalog()
    fabric = build_fabric(device, precision, devices)
    reporter = Reporter(quiet, silent=not fabric.is_global_zero)
    predict_with(
        runs,
        inputs,
        out,
        catalog,
        fabric,
        reporter,
        labels=labels,
        ignored=ignore_column or (),
        flips=tta,
    )


def _check(inputs: Path, out: Path) -> None:
    """Refuse paths that cannot be used before torch is imported, which takes seconds."""
    from medtl.runtime.files import check_there
    from medtl.runtime.run_folder import check_writable

    check_writable(out)
    check_there(inputs)
