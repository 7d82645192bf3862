"""Every ``medtl ...`` line in prose, read by the very parser of the command line; nothing runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from typer.main import get_command

from medtl.cli.main import app
from medtl.config import TrainConfig
from medtl.data.domain import parse_domain
from medtl.plugins.catalog import load_catalog

_FENCE = re.compile(r"^ *(`{3,}|~{3,}|:{3,}) *(\S*)[^\n]*\n(.*?)^ *\1", re.MULTILINE | re.DOTALL)
_SHELLS = ("bash", "sh", "shell", "console", "slurm")
#: ``medtl`` as a program: below any path, behind ``python -m``, ``srun``, a variable and the like.
_PROGRAM = re.compile(r"(?<![\w./=-])(?:[\w.~$-]*/)*medtl(?= |$)")
_OTHER = re.compile(r"\binstall\b|\bgit clone\b|\bcd ")
_INLINE = re.compile(r"(?<!`)`(medtl [^`\n]+)`(?!`)")
_END = re.compile(r"&&|\|\||;|\s\|\s|\s\d?>|\s&\s*$")
_VARIABLE = re.compile(r"\$\{?\w+\}?")
#: Settings whose value names components, and in which registry.
_NAMED = {
    "task": "tasks",
    "strategy": "strategies",
    "network": "networks",
    "transforms": "transforms",
    "initialiser": "initialisers",
    "features": "features",
    "metrics": "shift_metrics",
    "loss": "losses",
    "harmonise": "harmonisers",
}


@dataclass(frozen=True)
class Line:
    """One command as it is written; ``whole``: to be typed as it stands, no placeholder in it."""

    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return " ".join(("medtl", *self.words))


def lines_of(text: str) -> Iterator[Line]:
    """Commands in the fenced shell blocks of a Markdown text, then those between backticks."""
    for _, language, body in _FENCE.findall(text):
        if language.strip("{}") in _SHELLS:
            for line in re.sub(r"\\\n", " ", body).splitlines():
                # Of a console, what does not follow a prompt was printed.
                if language != "console" or line.lstrip().startswith("$"):
                    yield from _commands(line)
    for words in _INLINE.findall(_FENCE.sub("", text)):
        yield Line(tuple(words.split()[1:]), whole=False)


def _commands(line: str) -> Iterator[Line]:
    for part in _END.split(re.sub(r"(^|\s)#.*", "", line)):
        found = None if _OTHER.search(part) else _PROGRAM.search(part)
        if found and part[found.end() :].strip():
            text = _VARIABLE.sub("1", part[found.end() :])
            if text.count('"') % 2:
                text = text.rstrip().removesuffix('"')  # all of it was quoted: --wrap "medtl ..."
            words = shlex.split(text)
            yield Line(tuple(words), whole=not {"--help", "--version"} & set(words))


def problem(line: Line, more: frozenset[str] = frozenset()) -> str:
    """What the command line would refuse; "" for nothing. ``more``: names that others offer."""
    words = [word for word in line.words if word != "--debug"]
    command: Any = get_command(app)
    try:
        context = command.make_context("medtl", [*words], resilient_parsing=not line.whole)
        while hasattr(command, "resolve_command") and words and words[0][0] not in "-[":
            if not line.whole and not words[0].islower():
                return ""  # a placeholder, as in "medtl COMMAND --help"
            # In running text "a|b" stands for either.
            for name in words[0].split("|") if not line.whole else words[:1]:
                name, found, rest = command.resolve_command(context, [name, *words[1:]])
                if found is None:
                    return f"no command {words[0]}"
            given = [*rest] if line.whole else []
            context = found.make_context(
                name, given, parent=context, resilient_parsing=not line.whole
            )
            command, words = found, rest
        if line.whole:
            return _unknown_value(context.params, more)
    except Exception as error:  # whatever the parser raises is what a reader would see
        return f"{type(error).__name__}: {error}"
    return _unknown_option(words, command.get_params(context))


def _unknown_option(words: list[str], parameters: list[Any]) -> str:
    known = {name for each in parameters for name in (*each.opts, *each.secondary_opts)}
    asked = {word.strip("[],.").partition("=")[0] for word in words}
    options = {option for word in asked for option in word.split("|") if option[:1] == "-"}
    return ", ".join(f"unknown option {option}" for option in sorted(options - known))


def _unknown_value(given: dict[str, Any], more: frozenset[str]) -> str:
    """Names of components, keys of settings and domains, as far as options tell them."""
    values = {name: given.get(name) or "" for name in _NAMED}
    if isinstance(values["task"], list):  # of medtl compare: a task, or several runs
        values["task"] = values["task"][0] if len(values["task"]) == 1 else ""
    for setting in given.get("sets") or ():
        key, _, value = setting.partition("=")
        if key.partition(".")[0] not in TrainConfig.model_fields:
            return f"unknown setting {key}"
        if key in _NAMED:
            values[key] = value
    registries = load_catalog().registries()
    for name, value in values.items():
        for each in value.split(","):
            if each and not each.isupper() and each not in more | set(_bare(registries, name)):
                return f"unknown {name} {each}"
    for side in ("src", "dst"):
        if given.get(side) not in (None, "..."):
            parse_domain(given[side])
    return ""


def _bare(registries: Any, name: str) -> Iterator[str]:
    for full_name in registries[_NAMED[name]]:
        yield from (full_name, full_name.partition(":")[2])
