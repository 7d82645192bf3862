"""The networks that a study has trained, and the cases of its target.

All are those of the first fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning_fabric import Fabric

from medtl.config import checked
from medtl.data.case import Case, Cohort
from medtl.data.cohort import open_cohort
from medtl.data.domain import parse_domain, select
from medtl.data.modality import Modality
from medtl.errors import DataError, MedtlError, RunError
from medtl.inference.load import LoadedStage, read_stage
from medtl.networks.blocks import Network
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.device import own_randomness
from medtl.runtime.records import read_stages
from medtl.runtime.run_folder import STAGES, Run
from medtl.study.arms import PlannedRun
from medtl.study.folder import StudyFolder
from medtl.training.stages import outside_weights
from medtl.transfer.checkpoint_metadata import CheckpointMetadata
from medtl.transfer.strategies.base import CONTROL_A, SOURCE
from medtl.transfer.transfer import transfer


def ended_runs(folder: StudyFolder) -> list[PlannedRun]:
    """The runs of the first fold that ended well, in the order of the plan.

    Raises:
        RunError: there is none of an arm.
    """
    runs = [run for run in folder.runs() if run.fold == 0 and folder.is_done(run.name)]
    if all(run.arm == SOURCE for run in runs):
        raise RunError(f"{folder.path}: no run of an arm has ended; let medtl compare go on first")
    return runs


def trained_stage(folder: StudyFolder, run: str, catalog: Catalog, fabric: Fabric) -> LoadedStage:
    """The last stage of a run. Errors as :func:`medtl.inference.load.read_stage`."""
    own = Run(folder.results(run))
    return read_stage(own, read_stages(own.path / STAGES)[-1], catalog, fabric)


def reference_stage(
    folder: StudyFolder, runs: Iterable[PlannedRun], network: str, catalog: Catalog, fabric: Fabric
) -> LoadedStage:
    """A network of this kind that sees the target: of control A, or else of an arm.

    Raises:
        RunError: none of them can be read.
    """
    own = [run for run in runs if run.network == network and run.arm != SOURCE]
    problem: MedtlError | None = None
    for run in sorted(own, key=lambda run: run.arm != CONTROL_A):
        try:
            return trained_stage(folder, run.name, catalog, fabric)
        except MedtlError as error:
            problem = problem or error
    raise RunError(f"{folder.path}: no run of {network} can be read ({problem}); train one anew")


def random_network(
    metadata: CheckpointMetadata, catalog: Catalog, fabric: Fabric, seed: int, **changed: Any
) -> Network:
    """The network of a checkpoint with the random weights that a run of this seed starts from.

    ``changed``: arguments of its builder that are others.
    """
    record = metadata.network
    arguments: dict[str, Any] = {
        "in_channels": len(metadata.modalities),
        "out_channels": len(metadata.regions),
        "spatial_dims": record.spatial_dims,
        "width": record.width,
        "patch_size": record.patch_size,
        **record.options,
    }
    with own_randomness():
        torch.manual_seed(seed)
        network: Network = catalog.networks[record.name].load()(**{**arguments, **changed})
    network.module.to(fabric.device).eval()
    return network


def with_random_weights(
    trained: LoadedStage, catalog: Catalog, fabric: Fabric, seed: int
) -> LoadedStage:
    """The stage with the weights that its network had before any training."""
    network = random_network(trained.metadata, catalog, fabric, seed)
    return replace(trained, predictor=replace(trained.predictor, network=network))


@dataclass(frozen=True, slots=True)
class Source:
    """A source's network as it meets the target; ``classes``: whether its head tells its own.

    Where the target has other modalities, the first layer is adapted as in training, but for the
    scale of its response.
    """

    trained: LoadedStage
    classes: bool


def read_source(
    folder: StudyFolder,
    run: PlannedRun,
    target: LoadedStage,
    catalog: Catalog,
    fabric: Fabric,
) -> Source:
    """The weights that a run starts from, in the network of ``target`` with the weights' own head.

    Raises:
        WeightsError: they do not fit, or cannot be read.
    """
    config = folder.settings(run)
    weights = outside_weights(config, catalog, run.network)
    assert weights is not None  # the run starts from some
    known = weights.regions or target.metadata.regions
    network = random_network(target.metadata, catalog, fabric, run.seed, out_channels=len(known))
    receipt = transfer(
        network,
        weights,
        modalities=target.metadata.modalities,
        regions=known,
        mapping=config.map,
        allow_partial=config.allow_partial,
        source_modalities=config.init_modalities,
    )
    head = [row for row in receipt.tensors if row.block == network.blocks[-1].name]
    classes = bool(weights.regions) and all(row.status != "random" for row in head)
    trained = replace(target, predictor=replace(target.predictor, network=network))
    return Source(trained, classes and not target.task_type.dense)


def open_cases(
    folder: StudyFolder, runs: Sequence[PlannedRun], catalog: Catalog, reporter: Reporter
) -> Cohort:
    """The cases that the study was made on. Errors as :func:`medtl.data.cohort.open_cohort`."""
    config = checked({**folder.config.settings, "task": folder.config.task})
    modalities = {name for run in runs for name in _modalities(run.settings)}
    return open_cohort(
        catalog.tasks[config.task].load()(),
        config.data,
        reporter,
        config.protocol,
        ignored=config.ignore_column or (),
        series=config.series,
        labels=config.labels,
        required=sorted(modalities),
    )


def _modalities(settings: Mapping[str, Any]) -> tuple[Modality, ...]:
    domains = [parse_domain(settings[name]) for name in ("src", "dst") if settings.get(name)]
    return tuple(name for domain in domains for name in domain.modalities)


def target_cases(cohort: Cohort, target: LoadedStage, patients: Iterable[str]) -> tuple[Case, ...]:
    """The target's cases of these patients, sorted by id.

    Raises:
        DataError: there is none.
    """
    wanted, domain = set(patients), parse_domain(target.metadata.domain)
    own = [case for case in select(domain, cohort.cases) if case.patient in wanted]
    if not own:
        raise DataError(f"{cohort.root} holds none of the patients asked for of {domain}")
    return tuple(sorted(own, key=lambda case: case.id))
