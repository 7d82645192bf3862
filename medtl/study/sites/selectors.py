"""What each selector says of the arms of a site, without a label of the site.

Label-free selectors look at the images that arms may use, ``source-validation`` at the validation
patients of the source. The scores of a run are written once, so that a study that was stopped does
not measure them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch.utils.data import Dataset

from medtl.data.case import Case
from medtl.data.domain import Domain, select
from medtl.data.io.images import read_header
from medtl.data.splits import Split, cases_of
from medtl.errors import ConfigError
from medtl.evaluation.label_free import LABEL_FREE, select_score
from medtl.inference.classification import Classifier
from medtl.inference.load import LoadedStage
from medtl.inference.temperature import Temperature
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.records import Number, Record, read_record
from medtl.study.arms import PlannedRun
from medtl.study.features.trained_runs import trained_stage
from medtl.study.folder import StudyFolder
from medtl.training.samples.augmented import blind
from medtl.training.samples.prepared import cached_cases, choose_cache, prepared_bytes
from medtl.training.unlabelled import SELECTION_CASES
from medtl.transfer.strategies.base import SOURCE
from medtl.transforms.preprocessor import Preprocessor

SOURCE_VALIDATION = "source-validation"

#: In the order of the tables.
SELECTORS = (SOURCE_VALIDATION, *LABEL_FREE)


class SelectorRecord(Record):
    """``sites/<run>.json``: selector -> score, higher is better."""

    scores: dict[str, Number]


def score_runs(
    folder: StudyFolder,
    cases: Sequence[Case],
    domain: Domain,
    splits: Sequence[Split],
    catalog: Catalog,
    fabric: Fabric,
    reporter: Reporter,
) -> dict[str, dict[str, float]]:
    """Run -> selector -> score, of the arms of sites that have unlabelled images."""
    sites = folder.plan.sites
    every = [r for r in folder.runs() if r.arm != SOURCE and folder.is_done(r.name)]
    found: dict[str, dict[str, float]] = {}
    with reporter.progress("selectors", len(every)) as advance:
        for fold, site in enumerate(sites):
            images = None
            for run in (each for each in every if each.fold == fold):
                path = folder.path / _place(run)
                if path.is_file():
                    found[run.name] = dict(read_record(path, SelectorRecord).scores)
                else:
                    trained = trained_stage(folder, run.name, catalog, fabric)
                    # The arms of a site have the same preprocessing.
                    images = images or _SiteImages(trained, cases, domain, site, splits[fold])
                    found[run.name] = images.scores(trained)
                    folder.write_json(str(_place(run)), {"scores": found[run.name]})
                advance(len(found), run.name)
    return {name: scores for name, scores in found.items() if scores}


def _place(run: PlannedRun) -> Path:
    return Path("sites") / f"{run.name}.json"


class _SiteImages:
    """The prepared images of a site and of the source's validation patients."""

    def __init__(
        self,
        trained: LoadedStage,
        cases: Sequence[Case],
        domain: Domain,
        site: str,
        split: Split,
    ) -> None:
        preprocessor = trained.predictor.preprocessor
        others = tuple(sorted({case.site for case in cases} - {site}))
        own = select(replace(domain, sites=(site,)), cases)
        unseen = blind(cases_of(split.train, own))
        step = max(1, -(-len(unseen) // SELECTION_CASES))
        unseen = unseen[::step]
        self.count = len(unseen)
        self.held_out = cases_of(split.val, select(replace(domain, sites=others), cases))
        self.shown = _prepared(unseen, preprocessor)
        self.validating = _prepared(self.held_out, preprocessor)

    def scores(self, trained: LoadedStage) -> dict[str, float]:
        """Empty without unlabelled images: then there is nothing to choose from."""
        if self.shown is None:
            return {}
        predictor: Any = trained.predictor
        if isinstance(predictor, Classifier):  # as training selects
            predictor = replace(predictor, temperature=Temperature())
        found: dict[str, float] = {}
        if self.validating is not None:
            own = predictor.validate(self.validating, self.held_out)
            found[SOURCE_VALIDATION] = sum(own.values()) / len(own)
        tables = predictor.case_probabilities(self.shown, self.count)
        for name in LABEL_FREE:
            try:
                found |= select_score(name, tables)
            except ConfigError:  # snd compares images, and there is one
                continue
        return found


def _prepared(cases: Sequence[Case], preprocessor: Preprocessor) -> Dataset[Any] | None:
    """The cases, prepared once for all arms; None if there is none."""
    if not cases:
        return None
    header = read_header(cases[0].images[preprocessor.modalities[0]])
    needed = prepared_bytes(header, preprocessor) * len(cases)
    return cached_cases(cases, preprocessor, choose_cache(needed, "auto"), 0)
