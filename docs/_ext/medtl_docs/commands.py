"""A page per command of ``medtl``, from the very objects that parse the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic.fields import FieldInfo
from typer.main import get_command

from medtl.cli.main import app
from medtl.config import TrainConfig, option_name, option_of
from medtl.plugins.loader import COMPONENT_KINDS
from medtl_docs.markdown import code, fenced, link, page, table, text, toctree

#: What Typer puts behind the help text, e.g. ``  [default: 999; x>=1]``.
_EXTRA = re.compile(r"^(?P<help>.*?)(?:(?:^|  )\[(?P<extra>[^][]*)\])?$", re.DOTALL)
_LISTED = re.compile(
    rf"medtl list ({'|'.join(kind.replace('_', '-') for kind in COMPONENT_KINDS)})\b"
)


def command_pages() -> dict[str, str]:
    """Path below ``docs/`` -> page, for ``medtl`` and each of its commands."""
    root = get_command(app)
    context = root.make_context("medtl", [], resilient_parsing=True)
    pages = {"commands/index.md": _index(context, [name for name, _ in _commands(context)])}
    for name, inner in _commands(context):
        pages[f"commands/{name}.md"] = page(
            f"medtl {name}",
            *_parts(inner),
            *(
                part
                for sub, below in _commands(inner)
                for part in (f"## medtl {name} {sub}", *_parts(below, "###"))
            ),
            *(_settings() if name == "train" else ()),
            "How a command ended is told by its [exit code](../exit-codes.md).",
        )
    return pages


def _settings() -> Iterator[str]:
    """What a configuration file may hold, which is more than there are options."""
    rows = [
        (code(name), _option(name, field), _default(field), _with_lists(field.description or ""))
        for name, field in TrainConfig.model_fields.items()
    ]
    yield "## Settings"
    yield "For `--config FILE` (YAML), `--set KEY=VALUE` and the keywords of `medtl.api.train`."
    yield table(("setting", "option", "default", "what it is"), rows)


def _option(name: str, field: FieldInfo) -> str:
    option = option_of(field)
    return (
        code(option["names"][0] if option["names"] else option_name(name))
        if option["group"]
        else ""
    )


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return text(option_of(field)["unset"])
    return {"": "none", "{}": "none", "False": "no"}.get(str(field.default), code(field.default))


def _commands(context: Any) -> Iterator[tuple[str, Any]]:
    """The commands of a group with their contexts; none of a command."""
    group = context.command
    for name in group.list_commands(context) if hasattr(group, "list_commands") else ():
        _, command, _ = group.resolve_command(context, [name])
        yield name, command.make_context(name, [], parent=context, resilient_parsing=True)


def _parts(context: Any, heading: str = "##") -> list[str]:
    records = {"argument": [], "option": []}
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:  # None: hidden
            records[parameter.param_type_name].append(record)
    usage = context.command.get_usage(context).removeprefix("Usage:").strip()
    paragraphs = (context.command.help or "").split("\n\n")
    parts = [*map(text, paragraphs), fenced("text", " ".join(usage.split()))]
    for kind, title in (("argument", "Arguments"), ("option", "Options")):
        if records[kind]:
            parts += [f"{heading} {title}", table((kind, "what it does"), _rows(records[kind]))]
    return parts


def _rows(records: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for names, words in records:
        found = _EXTRA.match(words)
        assert found is not None  # it matches any text
        extra = found["extra"] and f"*{text(found['extra'])}*"
        yield code(names), " ".join(filter(None, (_with_lists(found["help"]), extra)))


def _with_lists(words: str) -> str:
    """Each "medtl list KIND" becomes a link to the pages of that kind."""
    return _LISTED.sub(
        lambda found: link(found[0], f"../components/{found[1]}/index.md"), text(words)
    )


def _index(context: Any, names: list[str]) -> str:
    rows = [
        (link(code(f"medtl {name}"), f"{name}.md"), text(_summary(context, name))) for name in names
    ]
    return page(
        "Commands",
        "Made from the command line itself; `medtl COMMAND --help` prints the same.",
        table(("command", "what it does"), rows),
        "## Options of medtl itself",
        table(("option", "what it does"), _rows(_options(context))),
        "`--debug` works anywhere on the line. A mistake is one line on stderr; "
        "see [exit codes](../exit-codes.md).",
        toctree(names, "hidden"),
    )


def _options(context: Any) -> list[tuple[str, str]]:
    found = (each.get_help_record(context) for each in context.command.get_params(context))
    return [record for record in found if record is not None]


def _summary(context: Any, name: str) -> str:
    summary: str = context.command.components[name].summary
    return summary
