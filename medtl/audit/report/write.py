"""Write the results of ``medtl audit``: findings, groups, files to look at, figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medtl.audit.kinds import NOTE
from medtl.audit.report.result import Audit
from medtl.errors import RunError
from medtl.runtime.console import Reporter
from medtl.runtime.files import filled, open_regular, write_csv
from medtl.runtime.run_folder import Run, check_writable, start_run

FINDINGS, GROUPS, FIX_LIST, NAMES = "audit.json", "groups.csv", "files.csv", "names.csv"

#: Of the fix list.
COLUMNS = ("file", "severity", "kind", "case", "seen", "advice")

#: An audit with made-up names, and name of a case or file -> made-up name.
Hidden = tuple[Audit, Mapping[str, str]]


def write_audit(
    audit: Audit,
    out: Path | None,
    config: Mapping[str, Any],
    reporter: Reporter,
    hidden: Hidden | None = None,
) -> Path:
    """Write findings as JSON and tables, groups of cases, and the files to look at.

    Args:
        out: a new folder; None: the next free ``runs/audit-data-N``.
        hidden: the audit with made-up names, which findings, tables and figures then show; the
            tables of files and groups keep the true ones, and ``names.csv`` has both.
        reporter: is told if the figures cannot be drawn.

    Returns:
        the folder.
    """
    started = start_run("audit", "data", out)
    with filled(started.path) as partial:
        run = Run(partial)
        run.write_json("config.json", dict(config))
        shown = hidden[0] if hidden else audit
        run.write_json(FINDINGS, shown.to_json())
        markdown = "\n".join(table.markdown() for table in shown.tables())
        (run.path / "tables.md").write_text(markdown, encoding="utf-8")
        write_groups(run.path / GROUPS, audit.groups)
        write_fix_list(run.path / FIX_LIST, audit)
        if hidden:
            write_csv(run.path / NAMES, ("name", "shown as"), sorted(hidden[1].items()), end="\n")
        from medtl.runtime.figure_style import attempted  # matplotlib is slow to import

        with attempted("figures", reporter.warn):
            from medtl.audit.report.figures import draw_sheets

            draw_sheets(shown, run.path / "figures")
    return started.path


def write_groups(path: Path, groups: Mapping[str, str]) -> None:
    """``case,group``: cases of one group must stay on one side of a split."""
    write_csv(path, ("case", "group"), sorted(groups.items()), end="\n")


def check_fix_list(path: Path) -> None:
    """Refuse, before any work, a place that cannot be written to, or holds another file.

    Raises:
        RunError: says which.
    """
    check_writable(path.parent)
    if not path.exists():
        return
    begin = (",".join(COLUMNS) + "\n").encode()
    own = path.is_file()
    if own:
        with open_regular(path) as file:
            own = file.read(len(begin)) == begin
    if not own:
        raise RunError(f"--fix-list {path}: exists and is no fix list; choose another name")


def write_fix_list(path: Path, audit: Audit) -> None:
    """A row for each file of an error or a warning, the worst first."""
    write_csv(path, COLUMNS, _rows(audit), end="\n")


def _rows(audit: Audit) -> Iterable[tuple[str, ...]]:
    for one in audit.findings:
        if one.about.severity != NOTE:
            for file in one.files:
                case = audit.owners.get(file, one.cases[0] if one.cases else "")
                yield (
                    str(file),
                    one.about.severity,
                    one.kind,
                    case,
                    one.seen,
                    one.about.advice,
                )
