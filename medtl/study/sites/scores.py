"""The scores of a study that leaves each site out, by arm, site and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medtl.evaluation.comparison.effects import Runs
from medtl.study.folder import StudyFolder
from medtl.study.scores import RunScores, read_run_scores
from medtl.transfer.strategies.base import SOURCE


@dataclass(frozen=True, slots=True)
class SiteScores:
    """``arms``: arm -> (site's number, seed) -> scores on the site's test patients.

    The arm ``source`` has the scores of the same network on held-out patients of the source.
    ``names``: arm -> (site's number, seed) -> run.
    """

    sites: tuple[str, ...]
    metric: str
    arms: Mapping[str, Mapping[tuple[int, int], RunScores]]
    names: Mapping[str, Mapping[tuple[int, int], str]]

    @property
    def adapted(self) -> list[str]:
        """The arms but the source."""
        return [arm for arm in self.arms if arm != SOURCE]

    def outputs(self) -> list[str]:
        """Regions, or ``all`` of classes."""
        every = (each.scores for runs in self.arms.values() for each in runs.values())
        return list(dict.fromkeys(output for scores in every for output in scores))

    def runs(self, arm: str, output: str, fold: int | None = None) -> Runs:
        """run -> patient -> score, of all sites or one."""
        every = self.arms.get(arm, {})
        picked = {
            key: each.scores[output]
            for key, each in every.items()
            if output in each.scores and fold in (None, key[0])
        }
        return {key: values for key, values in sorted(picked.items()) if values}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One per score, for ``scores.csv``."""
        for arm, runs in self.arms.items():
            for (fold, seed), each in runs.items():
                for output, patients in each.scores.items():
                    for patient, value in patients.items():
                        yield {
                            "site": self.sites[fold],
                            "arm": arm,
                            "seed": seed,
                            "output": output,
                            "patient": patient,
                            self.metric: value,
                        }


def read_site_scores(folder: StudyFolder) -> SiteScores:
    """Of every run that has ended. Raises RunError where one is damaged."""
    plan = folder.plan
    arms: dict[str, dict[tuple[int, int], RunScores]] = {}
    names: dict[str, dict[tuple[int, int], str]] = {}
    for run in folder.runs():
        if folder.is_done(run.name):
            key = run.fold, run.seed
            scores = read_run_scores(folder.run(run.name), plan.metric)
            arms.setdefault(run.arm, {})[key] = scores
            names.setdefault(run.arm, {})[key] = run.name
    return SiteScores(plan.sites, plan.metric, arms, names)
