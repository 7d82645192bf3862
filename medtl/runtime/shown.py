"""How results are shown: one line as text; tables and figures in a notebook."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Protocol

from medtl.errors import RunError, UnknownNameError, visible
from medtl.runtime.table import Table, in_html

SYNTHETIC = "synthetic phantom"


class NotebookHtml(Protocol):
    """What a notebook can show."""

    def _repr_html_(self) -> str: ...


class Shown:
    """A result with a title; text and notebook name the synthetic phantom where it is the data."""

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

    def pictures(self) -> Sequence[NotebookHtml]:
        """What a notebook shows below the tables."""
        return ()

    def _line(self) -> str:
        title = visible(self.title)
        return f"{title}; {SYNTHETIC}" if self.synthetic else title

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._line()}>"

    def _repr_html_(self) -> str:
        parts = [part._repr_html_() for part in (*self.tables(), *self.pictures())]
        return f"<div><p><b>{escape(self._line())}</b></p>{''.join(parts)}</div>"


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """A figure as PNG; ``Path("curves.png").write_bytes(picture.png)`` keeps it."""

    name: str
    png: bytes

    def __repr__(self) -> str:
        return f"<Picture: {visible(self.name)}, {len(self.png) / 1000:.0f} kB>"

    def _repr_png_(self) -> bytes:
        return self.png

    def html(self) -> str:
        """An image that holds its own pixels."""
        name, pixels = in_html(self.name), b64encode(self.png).decode("ascii")
        return f'<img alt="{name}" style="max-width:100%" src="data:image/png;base64,{pixels}">'


@dataclass(frozen=True, slots=True, repr=False)
class Pictures:
    """Figures by name, in the order of their names."""

    pictures: tuple[Picture, ...]

    def names(self) -> tuple[str, ...]:
        return tuple(picture.name for picture in self.pictures)

    def __getitem__(self, name: str) -> Picture:
        for picture in self.pictures:
            if picture.name == name:
                return picture
        raise UnknownNameError("figure", name, self.names())

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def only(self, *names: str) -> Pictures:
        """Some of them, in this order."""
        return Pictures(tuple(self[name] for name in names))

    def __repr__(self) -> str:
        return f"<Pictures: {', '.join(self.names()) or 'none'}>"

    def _repr_html_(self) -> str:
        return "".join(f"<p>{picture.html()}</p>" for picture in self.pictures)


def read_pictures(folder: Path) -> Pictures:
    """Every PNG of a folder; none where there is no such folder."""
    try:
        paths = sorted(path for path in folder.glob("*.png") if path.is_file())
        return Pictures(tuple(Picture(path.stem, path.read_bytes()) for path in paths))
    except OSError as problem:
        raise RunError(f"cannot read {folder}: {problem.strerror}") from problem
