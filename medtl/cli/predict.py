"""``medtl predict RUN``: segmentations of new studies, in each study's own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    run: Annotated[str, typer.Argument(help="Run folder, or a stage's folder inside it.")],
    inputs: Annotated[Path, typer.Option("--input", "-i", help="Folder with one case or many.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the segmentations.")],
    labels: Annotated[
        str | None, typer.Option(help="Label scheme to write: 2013, 2014-2021, 2023 or msd.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Devices that share the cases.")] = 1,
    flips: Annotated[
        bool, typer.Option("--flips", help="Mean over mirrored windows: 8 passes, in 2-D 4.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Segment new studies with a trained run and write NIfTI label maps."""
    from medtl.catalog import load_catalog
    from medtl.console import Reporter
    from medtl.device import build_fabric
    from medtl.prediction import predict_folder
    from medtl.trained import restore_stage, with_flips
    from medtl.weights import read_weights, resolve_weights

    catalog = load_catalog()
    fabric = build_fabric(device, precision, devices)
    reporter = Reporter(quiet or not fabric.is_global_zero)
    trained = restore_stage(read_weights(resolve_weights(run)), catalog, fabric)
    if flips:
        (trained,) = with_flips([trained], reporter)
    task = catalog.tasks[trained.task].load()()
    predict_folder(trained, task, inputs, out, labels, reporter)
