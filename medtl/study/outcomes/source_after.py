"""Score a transferred network on the source's test patients, to see what it has forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from lightning_fabric import Fabric

from medtl.data.case import Cohort
from medtl.data.domain import parse_domain, select
from medtl.errors import ConfigError, Interrupted, MedtlError, WeightsError
from medtl.evaluation.evaluate import SCORES
from medtl.evaluation.intervals import patient_means
from medtl.inference.load import LoadedStage
from medtl.networks.blocks import Network
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Recorder
from medtl.runtime.device import build_fabric, own_randomness
from medtl.study.arms import PlannedRun
from medtl.study.features.trained_runs import open_cases, random_network, trained_stage
from medtl.study.folder import StudyFolder
from medtl.study.outcomes.kept_scores import SourceAfter, keep_source_after, read_source_after
from medtl.study.scores import read_run_scores
from medtl.transfer.transfer import transfer
from medtl.transfer.weights import BEST, read_weights


@dataclass(frozen=True)
class SourceScorer:
    """Scores runs of one study, each once: what was found is kept in its folder."""

    folder: StudyFolder
    catalog: Catalog

    @cached_property
    def cohort(self) -> Cohort:
        return open_cases(self.folder, self.folder.runs(), self.catalog, Recorder(silent=True))

    def __call__(self, run: PlannedRun) -> SourceAfter:
        """On the patients on whom the source's run of the same fold and seed was tested.

        Where the source has other modalities, the first layer is adapted to them, as zero-shot
        adapts it to the target. A network with other outputs than the source's is not scored. What
        fails for another reason is tried again at the next call.
        """
        found = read_source_after(self.folder, run.name)
        if found is not None:
            return found
        try:
            with own_randomness():
                found = self.score(run)
        except Interrupted:
            raise
        except MedtlError as problem:
            return SourceAfter(reason=str(problem))
        except Exception as problem:  # of a plugin, or for want of memory: the study goes on
            return SourceAfter(
                reason=" ".join(f"{type(problem).__name__}: {problem}".split())[:300]
            )
        keep_source_after(self.folder, run.name, found)
        return found

    def score(self, run: PlannedRun) -> SourceAfter:
        """The scores, which are not kept. Raises MedtlError where something cannot be read."""
        config = self.folder.settings(run)
        fabric = build_fabric(config.device, config.precision)
        source = trained_stage(self.folder, run.after, self.catalog, fabric)
        trained = trained_stage(self.folder, run.name, self.catalog, fabric)
        if trained.metadata.regions != source.metadata.regions:
            return SourceAfter(reason="its outputs are others than the source's")
        mapped = trained.metadata.modalities != source.metadata.modalities
        network = trained.predictor.network
        if mapped:
            try:
                network = self._mapped(run, trained, source, fabric)
            except (ConfigError, WeightsError) as problem:
                return SourceAfter(reason=str(problem))
        predictor = replace(source.predictor, network=network)
        before = read_run_scores(self.folder.results(run.after), self.folder.plan.metric).scores
        patients = {patient for values in before.values() for patient in values}
        domain = parse_domain(source.metadata.domain)
        cases = [
            case
            for case in select(domain, self.cohort.cases)
            if case.patient in patients and case.labelled
        ]
        scores = SCORES[source.task_type.name]
        rows = scores.score(predictor, cases, Recorder(silent=True), "scoring the source")
        by_output = scores.by_patient(rows)
        kept = {output: patient_means(values) for output, values in by_output.items() if values}
        return SourceAfter(scores=kept, mapped=mapped)

    def _mapped(
        self, run: PlannedRun, trained: LoadedStage, source: LoadedStage, fabric: Fabric
    ) -> Network:
        """The run's network with a first layer for the source's modalities."""
        modalities = source.metadata.modalities
        network = random_network(
            trained.metadata, self.catalog, fabric, run.seed, in_channels=len(modalities)
        )
        weights = read_weights(self.folder.results(run.name) / trained.stage / BEST)
        there = self.folder.settings(run).map or {}
        back = {source: target for target, source in there.items() if source in modalities}
        transfer(
            network,
            weights,
            modalities=modalities,
            regions=trained.metadata.regions,
            mapping={name: back[name] for name in modalities if name in back},
        )
        return network
