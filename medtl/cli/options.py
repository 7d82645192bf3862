"""Options of commands, most of them shared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.completion import choice, component

#: ``--data`` of commands that need cases.
Data = Annotated[
    Path | None, typer.Option(help="Folder or list of cases; default: a synthetic phantom.")
]


Task = Annotated[
    str,
    typer.Argument(help="Task, e.g. brats (medtl list tasks).", autocompletion=component("tasks")),
]


Src = Annotated[str | None, typer.Option(help="Source domain, e.g. flair,t1ce.")]


Dst = Annotated[str | None, typer.Option(help="Target domain, e.g. t1,t2, site:CS or data=DIR.")]


Inputs = Annotated[
    Path | None,
    typer.Option("--input", "-i", help="Folder or list of cases; default: the run's test cases."),
]


Labels = Annotated[
    str | None,
    typer.Option(
        help="Label scheme. brats: 2013, 2014-2021, 2023 or msd; segmentation: WT=1+2,ET=2."
    ),
]


IgnoreColumn = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Column of a table to leave out; can be repeated."),
]


Series = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODALITY=DESCRIPTION",
        help="DICOM series of a modality, e.g. flair='AX FLAIR*'; can be repeated.",
    ),
]


Device = Annotated[
    str,
    typer.Option(
        help="Device: auto, cpu, cuda or mps.", autocompletion=choice("auto", "cpu", "cuda", "mps")
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


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]
