"""``medtl audit``: what is wrong with the data before anyone trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.completion import component
from medtl.cli.options import Json, Quiet


def audit(
    roots: Annotated[
        list[Path],
        typer.Argument(metavar="DIR", help="Folders; an image in two of them counts as a leak."),
    ],
    task: Annotated[
        str | None,
        typer.Option(help="Task that reads them.", autocompletion=component("tasks")),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Run or weights whose training images must not be among them."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 if there are errors.")] = (
        False
    ),
    fix_list: Annotated[
        Path | None,
        typer.Option("--fix-list", metavar="FILE", help="CSV of the files to look at."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="New folder; default: runs/audit-data-N (none with --json)."
        ),
    ] = None,
    hash_names: Annotated[
        bool,
        typer.Option(
            "--hash-names", help="Print, write and draw made-up names; names.csv has both."
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Find leaks, broken geometry, odd images, wrong labels and shortcuts."""
    from medtl.audit.request import build_request
    from medtl.cli.errors import FOUND
    from medtl.runtime.run_folder import check_out

    request = build_request(tuple(roots), {"task": task, "against": against})
    writes = out is not None or not json
    if writes:
        check_out(out)
    if fix_list is not None:
        from medtl.audit.report.write import check_fix_list

        check_fix_list(fix_list)
    from medtl.audit.report.hidden_names import hide_names
    from medtl.audit.report.write import write_audit, write_fix_list
    from medtl.audit.run import audit_data
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter, print_json

    reporter = Reporter(quiet)
    found = audit_data(request, load_catalog(), reporter)
    hidden = hide_names(found, request.roots) if hash_names else None
    if hidden and not writes:
        reporter.warn("names.csv, which has both names, is written with --out alone")
    shown = hidden[0] if hidden else found
    for note in shown.notes:
        reporter.say(note)
    if writes:
        folder = write_audit(found, out, request.to_json(), reporter, hidden)
        reporter.say(f"written to {folder}")
    if fix_list is not None:
        write_fix_list(fix_list, found)
    if json:
        print_json(shown.to_json())
    else:
        for table in shown.tables():
            reporter.show(table)
        if not shown.findings and not quiet:
            print(shown.verdict)
    return FOUND if strict and found.errors else 0
