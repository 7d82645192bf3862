"""``medtl predict RUN``: segmentations of new studies in their own grids, or their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.completion import DEVICES, PRECISIONS, choice


def predict(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Run folder, or a stage's folder inside it; of several, the mean.",
        ),
    ],
    inputs: Annotated[
        Path, typer.Option("--input", "-i", help="Folder (or list) with one case or many.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what is predicted.")],
    labels: Annotated[
        str | None,
        typer.Option(help="brats: scheme 2013, 2014-2021, 2023 or msd; segmentation: WT=1+2,ET=2."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or mps.", autocompletion=choice(*DEVICES))
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16 or fp16.", autocompletion=choice(*PRECISIONS))
    ] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Devices that share the cases.")] = 1,
    flips: Annotated[
        bool, typer.Option("--flips", help="Mean over mirrored windows: 8 passes, in 2-D 4.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Predict new studies with a trained run, or the mean of several.

    Writes NIfTI label maps, or of a classification predictions.csv.
    """
    from medtl.inference.predict import predict as predict_with
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter
    from medtl.runtime.device import build_fabric

    catalog = load_catalog()
    fabric = build_fabric(device, precision, devices)
    reporter = Reporter(quiet or not fabric.is_global_zero)
    predict_with(runs, inputs, out, catalog, fabric, reporter, labels=labels, flips=flips)
