"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.completion import choice

#: ``--data`` of commands that need cases.
Data = Annotated[
    Path | None, typer.Option(help="Folder or list of cases; default: a synthetic phantom.")
]


Labels = Annotated[
    str | None,
    typer.Option(
        help="Label scheme. brats: 2013, 2014-2021, 2023 or msd; segmentation: WT=1+2,ET=2."
    ),
]


Device = Annotated[
    str,
    typer.Option(
        help="Device: auto, cpu, cuda or mps.",
        autocompletion=choice("auto", "cpu", "cuda", "mps"),
    ),
]


Precision = Annotated[
    str,
    typer.Option(
        help="Precision: auto, fp32, bf16 or fp16.",
        autocompletion=choice("auto", "fp32", "bf16", "fp16"),
    ),
]


Devices = Annotated[int, typer.Option(min=1, metavar="N", help="Devices that share the cases.")]


Tta = Annotated[
    bool,
    typer.Option(
        "--tta", help="Test-time augmentation: mean over mirrored windows, 8 passes (2-D: 4)."
    ),
]


Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
