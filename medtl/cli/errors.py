"""The one place where an exception becomes a line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from typer import Abort
from typer.exceptions import TyperException

from medtl.errors import Interrupted, MedtlError, in_plain_words, visible
from medtl.runtime.memory import out_of_memory
from medtl.runtime.signals import Stop

USER_ERROR = 2


BUG = 1


INTERRUPTED, TERMINATED = 130, 143

#: Some cases could not be predicted; the others were.
SOME_FAILED = 3

#: ``medtl audit --strict`` found errors.
FOUND = 4


#: The name of an option in other programs -> its name here.
ELSEWHERE = {
    "learning_rate": "--lr",
    "epochs": "--steps",
    "source": "--src",
    "target": "--dst",
    "gpu": "--device cuda; of several, CUDA_VISIBLE_DEVICES chooses one",
    "output": "--out",
    "model": "--network",
}


def guarded(command: Callable[[], object], *, debug: bool, stop: Stop | None = None) -> int:
    """Run ``command`` and return the exit code; an int that it returns is its own.

    Known errors, bad options and system errors (files, memory) print one line and give 2; an
    interrupt gives 130, SIGTERM 143; a closed pipe prints nothing; anything else is a bug, and
    gives 1. ``debug`` adds the traceback. ``stop``: knows the signal that came.
    """
    stop = stop or Stop()
    try:
        result = command()
        if sys.stdout is not None:  # a caller may have closed it
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return BUG
    except (KeyboardInterrupt, Abort):
        return _fail(stop.text, stop.code)
    except SystemExit as error:
        if _from_typer(error):  # words were completed, or a pipe was closed
            return _closed(error)
        return _fail(_ended_by(error), BUG, debug)
    except Interrupted as error:
        return _fail(str(error), error.exit_code, debug)
    except Exception as error:
        if stop.number is not None:  # an import that is interrupted may raise anything
            return _fail(stop.text, stop.code, debug)
        return _failed(error, debug)
    if result == INTERRUPTED:  # Typer catches the interrupt itself
        return _fail(stop.text, stop.code)
    return result if type(result) is int else 0


def _failed(problem: Exception, debug: bool) -> int:
    try:
        raise problem
    except MedtlError as error:
        return _fail(str(error), error.exit_code, debug)
    except TyperException as error:
        return _fail(_usage(error), USER_ERROR, debug)
    except OSError as error:
        return _fail(_refused(error), USER_ERROR, debug)
    except Exception as error:
        if out_of_memory(error):
            return _fail("out of memory; lower --batch-size or patch_size", USER_ERROR, debug)
        if "closed by peer" in str(error) or "reset by peer" in str(error):  # torch.distributed
            return _fail("another process of this run ended; see its line", USER_ERROR, debug)
        hint = "" if debug else "; run again with --debug to see where, and please report it"
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _fail(f"this is a bug in medtl or a plugin ({what}){hint}", BUG, debug)


def _closed(error: SystemExit) -> int:
    with suppress(OSError):
        sys.stdout.flush()
    if error.code:
        _discard_stdout()
    return error.code if isinstance(error.code, int) else BUG


def _from_typer(error: SystemExit) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals["__name__"].startswith("typer.")


def _ended_by(error: SystemExit) -> str:
    """No command ends so: a component did."""
    from medtl.plugins.catalog import load_catalog

    plugin = load_catalog().plugin_in(error.__traceback__)
    culprit = f"plugin {plugin}" if plugin else "a plugin or a library"
    return f"{culprit} called sys.exit({error.code!r}); report it to its authors"


def notice(text: str) -> None:
    """A line on stderr; of several processes, only the first prints it."""
    if _process() == "0":
        print("note:", visible(text), file=sys.stderr, flush=True)


def _process() -> str:
    return os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"


def _fail(message: str, code: int, debug: bool = False) -> int:
    if debug:
        import traceback

        print(visible(traceback.format_exc(), keep="\n"), end="", file=sys.stderr)
    process, message = _process(), visible(" ".join(message.split()))
    if process == "0":
        print("error:", message, file=sys.stderr, flush=True)
    elif code not in (INTERRUPTED, TERMINATED):  # which the first process reports
        where = f"error in process {process}:"
        print(where, message, file=sys.stderr, flush=True)
    return code


def _usage(error: TyperException) -> str:
    message = _refused_value(error) or error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    option = getattr(error, "option_name", "")
    instead = _instead(option, context)
    if instead:
        return f"{context.command_path} has no option {option}; {instead}"
    joint = " See" if message.endswith("?") else "; see"
    return f"{message}{joint} `{context.command_path} --help`"


def _refused_value(error: TyperException) -> str:
    """``--steps: must be a whole number, not 'x'``; "" where no value was refused."""
    reason, parameter = error.__cause__, getattr(error, "param", None)
    if parameter is None or type(reason).__name__ != "ValidationError":
        return ""
    first = reason.errors()[0]  # type: ignore[union-attr]
    name = max(parameter.opts, key=len) if parameter.opts[0][:1] == "-" else parameter.metavar
    name = name or parameter.name.upper()
    return f"{name}: {in_plain_words(first['msg'])}, not {first['input']!r}"


def _instead(option: str, context: Any) -> str:
    """How to give what an unknown option means: by another option, as an argument, or as a setting
    where the command takes any by --set; else ""."""
    name = option.lstrip("-").replace("-", "_")
    known = {spelling for each in context.command.params for spelling in each.opts}
    if name in known:
        return f"write {context.command_path} {name.upper()}, without a name"
    if ELSEWHERE.get(name, "").partition(" ")[0] in known:
        return f"use {ELSEWHERE[name]}"
    if not name or "--set" not in known:
        return ""
    from medtl.config import TrainConfig

    return f"use --set {name}=VALUE" if name in TrainConfig.model_fields else ""


def _refused(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT) and not error.filename:  # stdout's, mostly
        return f"{reason}; make room on the disk that the output goes to"
    return f"{error.filename}: {reason}" if error.filename else reason


def _discard_stdout() -> None:
    # Python flushes stdout once more at exit, and would complain about the closed pipe there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
