"""What a component of any kind must keep."""

from __future__ import annotations

from medtl.plugins.loader import canonical
from medtl.testing.check import Tried, require

#: Longer ones do not fit into the tables that show them.
LONGEST_SUMMARY = 200


def name_is_canonical(tried: Tried) -> None:
    """Its name is written as medtl shows it: small letters, hyphens."""
    shown = canonical(tried.name)
    require(tried.name == shown, f"{tried.name!r} is shown as {shown!r}; write it so")


def summary_is_one_line(tried: Tried) -> None:
    """Its summary is a line that a table can show."""
    text = tried.component.summary
    require(text.strip(), f"{tried.name} has no summary; say in one line what it is")
    fits = text == " ".join(text.split()) and len(text) <= LONGEST_SUMMARY
    require(fits, f"the summary must be one line of at most {LONGEST_SUMMARY} characters")


def target_can_be_imported(tried: Tried) -> None:
    """Its target, ``module:attribute``, is there and can be called (a command may be a Typer)."""
    target = tried.target()
    kind = type(target).__name__
    require(callable(target), f"{tried.component.target} is a {kind}; name a class or function")
