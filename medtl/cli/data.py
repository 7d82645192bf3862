"""``medtl data``: looking at data, converting them, and making some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.completion import choice, component
from medtl.cli.options import Json, Labels, Quiet, Series

app = typer.Typer(add_completion=False)

Root = Annotated[Path, typer.Argument(metavar="DIR", help="Folder, list, table or archive.")]


Reader = Annotated[
    str | None, typer.Option(help="Task that reads it.", autocompletion=component("tasks"))
]


@app.callback()
def data() -> None:
    """Look at data, convert them, or make the synthetic phantom cohort."""


@app.command()
def info(
    root: Root,
    task: Reader = None,
    paths: Annotated[
        bool,
        typer.Option("--paths", help="Also where each series lies; paths may name patients."),
    ] = False,
    json: Json = False,
) -> None:
    """Print what a folder holds: its cases, or its series of DICOM."""
    from medtl.runtime.files import check_there

    check_there(root)
    from medtl import api
    from medtl.runtime.console import Reporter, print_json

    found = api.data_info(root, task=task, paths=paths)
    if json:
        print_json(found.to_json())
        return
    for table in found.tables():
        Reporter().show(table)


@app.command()
def convert(
    root: Root,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder.")],
    to: Annotated[
        str,
        typer.Option(
            help="nifti (with a table), nnunet or bids.",
            autocompletion=choice("nifti", "nnunet", "bids"),
        ),
    ] = "nifti",
    task: Reader = None,
    labels: Labels = None,
    series: Series = None,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Convert volumes, with their labels, to another layout; header text is dropped."""
    from medtl.runtime.files import check_there

    check_there(root)
    from medtl import api
    from medtl.cli.errors import SOME_FAILED
    from medtl.runtime.console import Reporter, print_json

    found = api.convert_data(
        root, out, to=to, task=task, labels=labels, series=series or (), verbose=not quiet
    )
    if quiet:  # else the call has printed them
        for note in found.notes:
            if note.startswith("warning: "):
                Reporter(quiet).warn(note.removeprefix("warning: "))
    if json:
        print_json(found.to_json())
    return SOME_FAILED if found.failed else 0


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
    layout: Annotated[
        str,
        typer.Option(
            help="brats (volumes), kaggle-mri (class folders) or lgg-mri (slices).",
            autocompletion=choice("brats", "kaggle-mri", "lgg-mri"),
        ),
    ] = "brats",
    cases: Annotated[
        int, typer.Option(help="Number of patients; each has one picture in kaggle-mri.")
    ] = 20,
    size: Annotated[int, typer.Option(help="Voxels along each edge of the 180 mm cube.")] = 64,
    sites: Annotated[int, typer.Option(help="Number of scanners.")] = 2,
    seed: Annotated[int, typer.Option(help="Random seed of the patients.")] = 0,
    shift: Annotated[float, typer.Option(help="How far the scanners differ; 0: not at all.")] = 1.0,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")
    ] = False,
) -> None:
    """Write synthetic MR of heads with tumours, in the layout of a public data set."""
    from medtl import api
    from medtl.runtime.console import Reporter

    api.phantom(
        folder,
        cases=cases,
        size=size,
        sites=sites,
        seed=seed,
        shift=shift,
        layout=layout,
        verbose=not quiet,
    )
    Reporter(quiet).say(f"wrote {cases} synthetic patients to {folder}")
