"""How far two domains are apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack

from medtl.api.pictures import Pictures, read_pictures
from medtl.api.session import own_randomness, recorder
from medtl.api.settings import ShiftSettings, Where, path_or_none, plain
from medtl.api.shown import Shown

if TYPE_CHECKING:
    from medtl.catalog import Catalog
    from medtl.report.tables import Table
    from medtl.shift import result


@dataclass(frozen=True, slots=True, repr=False)
class Shift(Shown):
    """A measured shift. ``folder``: where it was written, if it was."""

    found: result.Shift
    folder: Path | None = None

    @property
    def title(self) -> str:
        return self.verdict

    @property
    def synthetic(self) -> bool:
        return self.found.synthetic

    @property
    def verdict(self) -> str:
        """A sentence on the primary metric, with p and the numbers of patients."""
        return self.found.verdict

    @property
    def p(self) -> float | None:
        """Of the primary metric; None where nothing could be tested."""
        return self.found.primary.p

    @property
    def advice(self) -> tuple[str, ...]:
        return self.found.advice

    @property
    def notes(self) -> tuple[str, ...]:
        return self.found.notes

    def rows(self) -> list[dict[str, Any]]:
        """One per source, target, features and metric; the one with the verdict first."""
        return self.found.to_json()

    @property
    def figures(self) -> Pictures:
        """Embeddings, densities, and the grid of cells where there is one."""
        from medtl.shift.writing import draw_shift

        if self.folder is not None:
            return read_pictures(self.folder / "figures")
        with TemporaryDirectory() as folder:
            draw_shift(self.found, Path(folder))
            return read_pictures(Path(folder))

    def tables(self) -> list[Table]:
        from medtl.shift.result import tables

        return tables(self.found)

    def _more(self) -> tuple[Pictures, ...]:
        return (self.figures,)

    def to_json(self) -> list[dict[str, Any]]:
        """As ``medtl shift --json`` prints it."""
        return self.found.to_json()


def shift(
    task: str = "brats",
    *,
    out: Where | None = None,
    verbose: bool = False,
    catalog: Catalog | None = None,
    **settings: Unpack[ShiftSettings],
) -> Shift:
    """Measure the shift between two domains, with p-values by patient; ``medtl shift``.

    Args:
        out: a new folder to write rows and figures to; None: nothing is written.
        settings: those of the command line: ``data``, ``src``, ``dst``, ``across``, ``features``,
            ``metrics``, ``draws``, ``seed``, ...

    Raises:
        ConfigError: a setting is unknown or cannot be used.
    """
    from medtl.catalog import load_catalog
    from medtl.runs import check_out
    from medtl.shift.pipeline import measure_shift
    from medtl.shift.request import build_request
    from medtl.shift.writing import write_shift

    request = build_request(plain({"task": task, **settings}))
    folder = path_or_none(out)
    if folder is not None:
        check_out(folder)
    with own_randomness():
        found = measure_shift(request, catalog or load_catalog(), recorder(verbose))
    if folder is not None:
        write_shift(found, task, folder, request.to_json())
    return Shift(found, folder)
