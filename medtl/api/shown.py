"""How results look: one line in a terminal, tables and figures in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from medtl.report.tables import Table

SYNTHETIC = "synthetic phantom"


class _Html(Protocol):
    def _repr_html_(self) -> str: ...


class Shown:
    """A result with a title; it says so wherever its data are synthetic."""

    __slots__ = ()

    @property
    def title(self) -> str:
        """What it is, in a line."""
        raise NotImplementedError

    @property
    def synthetic(self) -> bool:
        """Whether it rests on the synthetic phantom."""
        return False

    def tables(self) -> list[Table]:
        """For people; ``print(table.plain())`` or ``table.markdown()`` outside of a notebook."""
        return []

    def _more(self) -> Sequence[_Html]:
        """What a notebook shows below the tables."""
        return ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._told()}>"

    def _told(self) -> str:
        return f"{self.title}; {SYNTHETIC}" if self.synthetic else self.title

    def _repr_html_(self) -> str:
        parts = [each._repr_html_() for each in (*self.tables(), *self._more())]
        return f"<div><p><b>{escape(self._told())}</b></p>{''.join(parts)}</div>"
