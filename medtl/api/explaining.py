"""What a trained network looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl.api.pictures import Pictures, read_pictures
from medtl.api.session import one_process, own_randomness, recorder
from medtl.api.settings import Where, path_of, path_or_none
from medtl.api.shown import Shown
from medtl.catalog import Catalog, load_catalog

if TYPE_CHECKING:
    from medtl.report.tables import Table


@dataclass(frozen=True, slots=True, repr=False)
class Explanation(Shown):
    """``found`` is what ``saliency.json`` holds: the block explained and, where cases have masks,
    how well the maps find them."""

    folder: Path
    found: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        found = self.found
        return f"{found['method']} of {found['stage']}, {found['block']}: {found['images']} images"

    @property
    def synthetic(self) -> bool:
        return bool(self.found["synthetic"])

    @property
    def figures(self) -> Pictures:
        """cam, activations and, where the first layer looks at neighbours, filters."""
        return read_pictures(self.folder)

    def rows(self) -> list[dict[str, Any]]:
        """The scores of the maps, with intervals over patients; none without masks."""
        scores = self.found.get("localisation", {})
        return [{"score": name, **interval} for name, interval in scores.items()]

    def tables(self) -> list[Table]:
        from medtl.saliency.explain import explained_tables

        return explained_tables(self.found)

    def _more(self) -> tuple[Pictures, ...]:
        return (self.figures.only("cam"),)

    def to_json(self) -> dict[str, Any]:
        return dict(self.found)


def explain(
    run: Where,
    *,
    inputs: Where | None = None,
    out: Where | None = None,
    stage: str | None = None,
    output: str | None = None,
    layer: str | None = None,
    cases: int = 8,
    threshold: float = 0.5,
    labels: str | None = None,
    device: str = "auto",
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Explanation:
    """Grad-CAM maps, activations and filters of a trained stage.

    Args:
        inputs: cases to explain; None: the run's locked test cases.
        out: folder; None: ``explain/STAGE`` in the run.
        stage: None: the last of the transfer.
        output: a class or region (``--class``); None: each case's own, the first region.
        layer: block whose maps are weighted; None: the last with maps.
        cases: how many to show, 1 to 64.
        threshold: share of its maximum at which a map is cut for Dice, 0.01 to 1.
    """
    from medtl.runs import open_run
    from medtl.saliency.explain import Wanted, explain_run

    told = recorder(verbose)
    opened = open_run(path_of(run))
    with own_randomness():
        folder, found = explain_run(
            opened,
            catalog or load_catalog(),
            one_process(device, "fp32"),
            told,
            Wanted(output, layer, cases, threshold),
            inputs=path_or_none(inputs),
            out=path_or_none(out),
            stage=stage,
            labels=labels,
        )
    return Explanation(folder, found, tuple(told.lines))
