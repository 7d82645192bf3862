"""``medtl predict RUN``: segmentations of new studies in their own grids, or their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.options import Device, Devices, IgnoreColumn, Labels, Precision, Quiet, Series, Tta


def predict(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN", help="Run folder, or a stage's folder in it; several: an ensemble."
        ),
    ],
    inputs: Annotated[Path, typer.Option("--input", "-i", help="Folder, list or DICOM of cases.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the predictions.")],
    labels: Labels = None,
    ignore_column: IgnoreColumn = None,
    series: Series = None,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: Devices = 1,
    tta: Tta = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out cases that have a label map in OUT.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(metavar="N/OF", help="Predict the N-th of OF parts of the cases, e.g. 2/4."),
    ] = None,
    register: Annotated[
        bool, typer.Option("--register", help="Move a case's images onto one of them first.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probabilities of each region, too.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Write how undecided the prediction is, too.")
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Tell where the time went.")] = False,
    quiet: Quiet = False,
) -> int:
    """Predict new studies with one trained run or an ensemble of runs.

    Writes NIfTI label maps and volumes (segmentation; DICOM SEG beside them where the input is
    DICOM), or predictions.csv (classification). Exit code 3: some cases failed.
    """
    _check(inputs, out)
    from medtl.cli.errors import SOME_FAILED
    from medtl.inference.outputs import Options, Shard
    from medtl.inference.predict import predict as predict_with
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter
    from medtl.runtime.device import build_fabric

    catalog = load_catalog()
    fabric = build_fabric(device, precision, devices)
    reporter = Reporter(quiet, silent=not fabric.is_global_zero)
    _, done = predict_with(
        runs,
        inputs,
        out,
        catalog,
        fabric,
        reporter,
        labels=labels,
        ignored=ignore_column or (),
        series=series or (),
        flips=tta,
        options=Options(
            shard=Shard.parse(shard),
            skip_existing=skip_existing,
            register=register,
            probabilities=probabilities,
            uncertainty=uncertainty,
            profile=profile,
        ),
    )
    return SOME_FAILED if done.failed else 0


def _check(inputs: Path, out: Path) -> None:
    """Refuse paths that cannot be used before torch is imported, which takes seconds."""
    from medtl.runtime.files import check_there
    from medtl.runtime.run_folder import check_writable

    check_writable(out)
    check_there(inputs)
