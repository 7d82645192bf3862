"""One check of one component, and how it comes out."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from sysconfig import get_path
from typing import Any, TypeVar

from medtl import Component
from medtl.errors import MedtlError
from medtl.plugins.catalog import Catalog
from medtl.testing.find import Found

Made = TypeVar("Made")


class CheckFailed(AssertionError):
    """In one line: what is wrong with a component, and how its author can correct it."""


def require(holds: object, message: str) -> None:
    """Raises CheckFailed with the message unless it ``holds``."""
    if not holds:
        raise CheckFailed(message)


@dataclass(frozen=True, eq=False)
class Tried:
    """A component under test."""

    plugin: Found
    kind: str  #: as :data:`medtl.plugins.loader.COMPONENT_KINDS` calls one of them
    component: Component
    catalog: Callable[[], Catalog]  #: of all that is installed, and the plugin

    @property
    def name(self) -> str:
        return self.component.name

    def target(self) -> Any:
        """What the component loads. Raises CheckFailed where it cannot be imported."""
        try:
            return self.component.load()
        except (ImportError, AttributeError) as error:
            raise CheckFailed(
                f"{self.component.target} cannot be imported ({error}); correct the target of "
                f"{self.name} in {self.plugin.point.value}"
            ) from error

    def returned(self, promised: type[Made], *arguments: Any) -> Made:
        """What the target returns for ``arguments``. Raises CheckFailed for another type."""
        found = self.target()(*arguments)
        if not isinstance(found, promised):
            type_name = f"{promised.__module__}.{promised.__name__}"
            raise CheckFailed(f"the target returns {type(found).__name__}, not a {type_name}")
        return found


@dataclass(frozen=True, slots=True)
class Check:
    """Call it: it returns where its promise is kept, and raises where it is not."""

    plugin: str
    kind: str
    component: str
    name: str
    promise: str
    run: Callable[[], None] = field(repr=False)

    @property
    def key(self) -> str:
        """As ``expected_failures`` may name it."""
        return f"{self.component}/{self.name}"

    def __str__(self) -> str:
        return f"{self.kind.replace(' ', '-')}/{self.key}"

    def __call__(self) -> None:
        self.run()


def name_of(function: Callable[..., None]) -> str:
    """``gradients_reach_every_parameter`` -> ``gradients-reach-every-parameter``."""
    return function.__name__.replace("_", "-")


def promise_of(function: Callable[..., None]) -> str:
    """The first paragraph of its docstring, on one line."""
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def outcome(check: Check) -> str:
    """Why the check failed, in one line; empty where it holds."""
    try:
        check()
    except (CheckFailed, MedtlError) as problem:
        return " ".join(str(problem).split())
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}{_where(error)}".split())
    return ""


def _where(error: Exception) -> str:
    """The last line of code that ran in a plugin: not in medtl, nor in what it is built on."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        foreign = "site-packages" in frame.filename and "medtl_" not in frame.filename
        foreign |= frame.filename.startswith((get_path("stdlib"), "<frozen"))
        if not foreign and not frame.filename.startswith(_own_code()):
            return f" ({frame.filename}:{frame.lineno})"
    return ""


@cache
def _own_code() -> str:
    import medtl

    return str(inspect.getfile(medtl)).removesuffix("__init__.py")
