"""Whether a plugin can be imported at all: tried once in a Python of its own.

What ends a process (``os._exit``, a crash in C, an import that hangs) cannot be caught in it, and
what a plugin changes in medtl cannot be taken back. The finding is remembered by the plugin's name
and version and by its files.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl import __version__
from medtl.errors import MedtlError, visible
from medtl.plugins import builtin
from medtl.plugins.loader import PluginError, load_plugin
from medtl.runtime.cache import cache_dir
from medtl.runtime.files import read_regular, replacing
from medtl.runtime.leftovers import sweep

if TYPE_CHECKING:
    import subprocess

#: An import that takes longer hangs. No plugin needs torch at this point, which takes some seconds.
SECONDS = 30.0


#: One that takes longer than this is named meanwhile.
NAMED_AFTER_S = 5.0


#: Files of a plugin's package that are looked at, and the bytes of a finding.
_MOST_FILES, _MOST_BYTES = 500, 4096


#: The answer goes to a descriptor that the plugin does not know.
_CHILD = """
import os, sys
answer = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
import json
from importlib.metadata import EntryPoint
from medtl.plugins import catalog, probe  # what it might change is there
os.write(answer, json.dumps(probe.imported(EntryPoint(*sys.argv[1:]))).encode())
"""


def refuse_fatal(point: EntryPoint) -> None:
    """Raises PluginError for a plugin whose import would end or change this process."""
    if point.module in sys.modules:
        return
    reason = fatal(point)
    if reason:
        raise PluginError(f"{reason}; correct it, or uninstall the plugin")


def fatal(point: EntryPoint) -> str:
    """Why this process must not import a plugin; empty where it may, whatever else is wrong."""
    path = _finding(point)
    try:
        known = json.loads(read_regular(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        known = None
    if isinstance(known, dict) and isinstance(known.get("fatal"), str):
        return str(known["fatal"])
    found = _tried(point)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"fatal": found}), encoding="utf-8")
    except (OSError, MedtlError):
        pass  # without a cache it is tried each time
    return found


def imported(point: EntryPoint) -> str:
    """Import a plugin here, in a process that may end; what is fatal about it, or empty."""
    load_plugin(EntryPoint("core", builtin.__name__, point.group))
    before = _state()
    try:
        load_plugin(point)
    except KeyboardInterrupt:
        return f"{point.value} raises KeyboardInterrupt when it is imported"
    except PluginError:
        pass  # the reason is told where it is loaded
    changed = _changed(before)
    return f"{point.value} changes {changed} of medtl when it is imported" if changed else ""


def _state() -> dict[str, tuple[Any, object]]:
    """What medtl's modules and classes hold, by name: the thing, and what is in it."""
    state: dict[str, tuple[Any, object]] = {}
    for name, module in list(sys.modules.items()):
        if name == __name__ or name.partition(".")[0] != "medtl":
            continue
        for attribute, value in list(vars(module).items()):
            content: object = None
            if isinstance(value, dict | list | set):
                content = repr(value)
            elif isinstance(value, type) and value.__module__ == name:
                content = {key: id(member) for key, member in vars(value).items()}
            if not attribute.startswith("__"):
                state[f"{name}.{attribute}"] = value, content
    return state


def _changed(before: Mapping[str, tuple[Any, object]]) -> str:
    """The first name of an earlier state that is something else now; empty if none is."""
    after = _state()
    for name, (value, content) in before.items():
        now = after.get(name)
        if now is None or now[0] is not value or now[1] != content:
            return name
    return ""


def _tried(point: EntryPoint) -> str:
    import subprocess

    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, point.name, point.value, point.group],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # Ctrl-C ends the command, which ends the child
    )
    assert child.stdout is not None
    with child.stdout as answer:
        try:
            code = _code(child, point)
        except subprocess.TimeoutExpired:
            return f"importing {point.value} takes more than {SECONDS:g} s"
        finally:
            child.kill()
            child.wait()
        os.set_blocking(answer.fileno(), False)  # what it started may keep the pipe open
        said = answer.read() or b""
    if code < 0:
        return f"importing {point.value} crashes Python ({signal.Signals(-code).name})"
    try:
        reason = json.loads(said)
    except ValueError:
        reason = None
    if not isinstance(reason, str) or code:
        return f"importing {point.value} ends Python (exit code {code})"
    return reason


def _code(child: subprocess.Popen[bytes], point: EntryPoint) -> int:
    """Its exit code. Raises TimeoutExpired after ``SECONDS``."""
    import subprocess

    at_first = min(NAMED_AFTER_S, SECONDS)
    try:
        return child.wait(at_first)
    except subprocess.TimeoutExpired:
        name = visible(point.name)
        print(f"note: waiting for plugin {name}, at most {SECONDS:g} s", file=sys.stderr)
        return child.wait(SECONDS - at_first)


def _finding(point: EntryPoint) -> Path:
    version = point.dist.version if point.dist else ""
    what = [__version__, sys.version, point.name, point.value, version, *_files(point)]
    key = hashlib.blake2b(repr(what).encode("utf-8", "surrogateescape"), digest_size=16)
    return cache_dir() / "plugins" / f"{key.hexdigest()}.json"


def _files(point: EntryPoint) -> Iterator[object]:
    """Names, sizes and times of the files of a plugin's package; nothing is imported."""
    try:
        spec = find_spec(
            point.module.partition(".")[0]
        )  # editable packages have finders of their own
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    folders = list(spec.submodule_search_locations or ())
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
    for path in paths[:_MOST_FILES] or [Path(spec.origin or "")]:
        try:
            stat = path.stat()
        except OSError:
            continue
        yield str(path), stat.st_size, stat.st_mtime_ns
