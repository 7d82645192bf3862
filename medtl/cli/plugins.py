"""``medtl plugins``: list the plugins found, check one, start a new one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medtl.cli.light import LightCommand, LightGroup
from medtl.cli.options import Json
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import print_json
from medtl.runtime.table import print_table

if TYPE_CHECKING:
    from medtl.runtime.console import Reporter
    from medtl.testing import Check

app = typer.Typer(cls=LightGroup, add_completion=False)


@app.callback()
def plugins() -> None:
    """List the plugins found and their state, check one, or start a new one."""


@app.command("list", cls=LightCommand)
def list_plugins(json: Json = False) -> None:
    """List the plugins found: ok, broken or disabled, and why."""
    rows = load_catalog().plugins
    if json:
        print_json([asdict(row) for row in rows])
        return
    cells = []
    for row in rows:
        source = f"{row.distribution} {row.version}".strip()
        cells.append((row.name, row.status, str(row.components), source, row.reason))
    print_table(("PLUGIN", "STATUS", "COMPONENTS", "FROM", "REASON"), cells)


@app.command("check")
def check_plugin(
    plugin: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="As in `plugins list`, or a source tree.")
    ],
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what fails.")] = False,
) -> None:
    """Check every component of a plugin, installed or not, with the conformance kit."""
    from medtl.errors import ConfigError
    from medtl.runtime.console import Reporter
    from medtl.testing import checks

    rows = _tried(list(checks(plugin)), Reporter(quiet=json or quiet))
    failed = [row for row in rows if row["reason"]]
    if json:
        print_json({"checks": rows, "failed": len(failed)})
    else:
        _print_checks([] if quiet else rows, failed)
    if failed:
        raise ConfigError(f"{len(failed)} of {len(rows)} checks failed")


def _tried(checks: list[Check], reporter: Reporter) -> list[dict[str, Any]]:
    """A row per check; what a plugin prints stays out of stdout."""
    import sys
    import warnings
    from contextlib import redirect_stdout

    from medtl.testing import outcome

    rows = []
    with (
        reporter.progress("checking", len(checks)) as advance,
        redirect_stdout(sys.stderr),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for done, check in enumerate(checks, start=1):
            reason = outcome(check)
            found = {"kind": check.kind, "component": check.component, "check": check.name}
            rows.append({"plugin": check.plugin, **found, "ok": not reason, "reason": reason})
            advance(done, str(check))
    return rows


def _print_checks(rows: list[dict[str, Any]], failed: list[dict[str, Any]]) -> None:
    """A table of all, then why the failed ones did, in lines that are easy to copy."""
    from rich.table import Table
    from rich.text import Text

    from medtl.errors import visible
    from medtl.runtime.console import Reporter

    console = Reporter().results
    if rows:
        table = Table(box=None, pad_edge=False)
        for heading in ("COMPONENT", "CHECK", ""):
            table.add_column(heading, no_wrap=True)
        for row in rows:
            state = Text("ok", "green") if row["ok"] else Text("failed", "bold red")
            named = Text(visible(f"{row['kind']} {row['component']}"))
            table.add_row(named, Text(visible(row["check"])), state)
        console.print(table)
    alike: dict[tuple[str, ...], list[str]] = {}  # one fault often fails many checks
    for row in failed:
        key = row["kind"], row["component"], row["reason"]
        alike.setdefault(key, []).append(row["check"])
    for (kind, component, reason), names in alike.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        line = visible(f"{kind} {component}, {names[0]}{more}: {reason}")
        console.print(Text(line), style="red")


@app.command("new")
def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name, e.g. liver-ct.")],
    kind: Annotated[
        list[str],
        typer.Option(
            help="task, network, strategy, shift-metric or transform; more than once for more."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Parent folder of medtl-NAME; default: the current one.")
    ] = None,
    modality: Annotated[
        str, typer.Option(help="mr or ct, for a task or transform; default: as NAME says.")
    ] = "",
) -> None:
    """Write a plugin package that works and passes its tests, as a start for your own."""
    import shlex

    from medtl.plugins.scaffold import write_plugin

    folder = write_plugin(name, kind, out or Path(), load_catalog(), modality)
    print(f"wrote {folder}:")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(f"  {path.relative_to(folder)}")
    print(f"next:\n  cd {shlex.quote(str(folder))}\n  pip install -e '.[dev]'\n  pytest")
    print("then make it yours: README.md says what to change first")
