"""What a component of any kind must keep."""

from __future__ import annotations

from medtl.plugins.loader import canonical
from medtl.testing.check import Tried, require

#: Longer ones do not fit into the tables that show them.
LONGEST_SUMMARY = 200


def name_is_canonical(tried: Tried) -> None:
    """Its name is written as medtl shows it: small letters, hyphens."""
    require(
        tried.name == canonical(tried.name),
        f"{tried.name!r} is shown as {canonical(tried.name)!r}; write it so",
    )


def summary_is_one_line(tried: Tried) -> None:
    """Its summary is a line that a table can show."""
    text = tried.component.summary
    require(text.strip(), f"{tried.name} has no summary; say in one line what it is")
    require(
        text == " ".join(text.split()) and len(text) <= LONGEST_SUMMARY,
        f"the summary of {tried.name} must be one line of at most {LONGEST_SUMMARY} characters, "
        "without double blanks",
    )


def target_can_be_imported(tried: Tried) -> None:
    """Its target, ``module:attribute``, is there and can be called (a command may be a Typer)."""
    target = tried.target()
    require(
        callable(target),
        f"{tried.component.target} is a {type(target).__name__}; name a class or function",
    )
