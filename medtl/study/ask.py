"""What a study that was carried out can be asked afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.console import Reporter
from medtl.study.folder import StudyFolder, open_study

if TYPE_CHECKING:
    from medtl.study.features.representation_results import Similarity
    from medtl.study.features.transfer_results import Transferability
    from medtl.study.power import PowerPlan


def ask(
    studies: Mapping[str, Path | None], margin: float | None, device: str, reporter: Reporter
) -> Iterator[PowerPlan | Similarity | Transferability]:
    """The answers to the questions (power, similarity, transferability) that name a study."""
    catalog = load_catalog()
    for question, path in studies.items():
        if path is None:
            continue
        folder = open_study(path)
        if question == "power":
            from medtl.study.power import plan_power

            yield plan_power(folder, margin)
        elif question == "similarity":
            yield similarity_of(folder, catalog, device, reporter)
        else:
            yield transferability_of(folder, catalog, device, reporter)


def similarity_of(
    folder: StudyFolder, catalog: Catalog, device: str, reporter: Reporter, *, cases: int = 20
) -> Similarity:
    """Measure it, and write ``similarity.json`` and a figure into the study."""
    from medtl.runtime.device import build_fabric, own_randomness
    from medtl.runtime.figure_style import attempted
    from medtl.study.features.representation_figure import similarity_figure
    from medtl.study.representation import measure_similarity

    with own_randomness():
        fabric = build_fabric(device, "fp32")
        found = measure_similarity(folder, catalog, fabric, reporter, cases=cases)
    folder.write_json("similarity.json", found.to_json())
    figures = folder.path / "figures"
    figures.mkdir(exist_ok=True)
    with attempted("similarity.png", reporter.warn):
        similarity_figure(figures / "similarity.png", found)
    return found


def transferability_of(
    folder: StudyFolder, catalog: Catalog, device: str, reporter: Reporter
) -> Transferability:
    """Measure it, and write ``transferability.json`` into the study."""
    from medtl.runtime.device import build_fabric, own_randomness
    from medtl.study.transfer_scores import measure_transferability

    with own_randomness():
        fabric = build_fabric(device, "fp32")
        found = measure_transferability(folder, catalog, fabric, reporter)
    folder.write_json("transferability.json", found.to_json())
    return found
