"""``medtl train`` after the words: a Plan runs stage by stage, then meets the locked test cases."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from medtl.case import Case
from medtl.catalog import Catalog
from medtl.config import TrainConfig, write_config
from medtl.console import Reporter
from medtl.data import Patches, build_loader, cached_cases, choose_cache
from medtl.domain import Domain
from medtl.errors import DataError
from medtl.evaluation import Predictor, validation_dice
from medtl.fingerprint import check_content, fingerprint
from medtl.modality import Modality
from medtl.networks import Network
from medtl.planning import Plan
from medtl.preparation import Prepared, prepare_network
from medtl.response import measure_response
from medtl.results import write_results
from medtl.runs import Run, start_run
from medtl.splits import Split, write_splits
from medtl.strategies import CONTROL_A, CONTROL_B, Stage
from medtl.trained import Trained
from medtl.training import Fit, fit
from medtl.weights import BEST, Weights, read_weights, resolve_weights, write_checkpoint

#: Training patches on which a stage's first layers are measured.
RESPONSE_PATCHES = 8
#: Predicted components below this share of the smallest training lesion's volume are dropped,
#: unless the patients are so few that their smallest lesion says little (none to validate on).
#: Raised to this value after a false positive on a test case of the phantom: see decision 0004.
COMPONENT_SHARE = 0.3
LAST = Path("checkpoint_last") / "weights.safetensors"


@dataclass(slots=True)
class Trainer:
    """What the stages of one run share."""

    plan: Plan
    run: Run
    catalog: Catalog
    fabric: Fabric
    reporter: Reporter
    cache: str
    seen: tuple[str, ...]  #: content hashes of the training patients' images

    def train(self, workers: int) -> tuple[Trained, ...]:
        """Run every stage in order; returns each with its best weights, ready to predict."""
        ready: list[Trained] = []
        datasets: dict[tuple[Domain, str], Dataset[Any]] = {}
        previous: Path | None = None
        receipts: dict[str, Any] = {}
        used: Counter[Domain] = Counter()
        for stage in self.plan.stages:
            folder = self.run.stage(stage.name)
            for part in ("train", "val"):
                if (stage.domain, part) not in datasets:
                    datasets[stage.domain, part] = self._cached(stage.domain, part, workers)
            patches = self._patches(stage, datasets[stage.domain, "train"])
            batch = torch.stack([patches[n]["image"] for n in range(RESPONSE_PATCHES)])
            batch = batch.to(self.fabric.device)
            prepared = self._prepare(stage, previous, batch)
            receipts[stage.name] = prepared.receipt.to_json()
            self.run.write_json("receipt.json", receipts)
            self._announce(stage, prepared)
            smallest_ml = self._smallest_ml(stage, datasets[stage.domain, "train"])
            predictor = self._predictor(stage, prepared.network, COMPONENT_SHARE * smallest_ml)
            validating = datasets[stage.domain, "val"]
            control = stage.name in (CONTROL_A, CONTROL_B)
            # A control starts at the first sample, as the transferred model did.
            first = 0 if control else used[stage.domain]
            used[stage.domain] = first + stage.steps * stage.batch_size
            loader = build_loader(
                patches,
                first,
                stage.steps,
                stage.batch_size,
                workers,
                pin_memory=self.fabric.device.type == "cuda",
            )
            result = self._fit(stage, prepared, predictor, loader, validating, folder)
            self._keep(stage, predictor, result, batch, folder)
            if not control:
                previous = folder / (BEST if stage.next_from == "best" else LAST)
            ready.append(
                Trained(
                    stage.name,
                    predictor,
                    frozenset(self.seen),
                    self.plan.cohort.synthetic,
                    self.plan.task.name,
                    str(stage.domain),
                )
            )
        return tuple(ready)

    def _patches(self, stage: Stage, cached: Dataset[Any]) -> Patches:
        plan = self.plan
        return Patches(
            cached,
            len(plan.cases(stage.domain, "train")),
            plan.recipe(stage.domain),
            plan.patch_size,
            # Arms of one comparison see the same patients in the same order.
            key=f"{plan.config.seed}/{stage.domain}",
        )

    def _prepare(self, stage: Stage, previous: Path | None, batch: Tensor) -> Prepared:
        config = self.plan.config
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            network = build_network(self.plan, self.catalog, stage.domain)
        network.module.to(self.fabric.device)
        outside = stage.init not in ("random", "previous")
        weights = outside_weights(config) if outside else None
        if stage.init == "previous":
            assert previous is not None  # a strategy opens with a stage or with --init
            weights = read_weights(previous)
        return prepare_network(
            network,
            stage,
            weights,
            self.plan.task.regions,
            mapping=config.map,
            allow_partial=config.allow_partial,
            source_modalities=config.init_modalities if outside else None,
            batch=batch,
        )

    def _predictor(self, stage: Stage, network: Network, min_component_ml: float) -> Predictor:
        return Predictor(
            network,
            self.plan.recipe(stage.domain),
            self.plan.patch_size,
            self.fabric,
            self.plan.task.nested,
            min_component_ml,
        )

    def _smallest_ml(self, stage: Stage, cached: Dataset[Any]) -> float:
        """Volume of the first region in the training patient who has least of it, none apart.

        0 without validation patients: too few to know what small is.
        """
        if not self.plan.split.val:
            return 0.0
        voxel_ml = self.plan.preset.spacing_mm**3 / 1000
        count = len(self.plan.cases(stage.domain, "train"))
        volumes = [float(cached[n]["target"][0].sum()) * voxel_ml for n in range(count)]
        return min((volume for volume in volumes if volume > 0), default=0.0)

    def _cached(self, domain: Domain, part: str, workers: int) -> Dataset[Any]:
        cases = self.plan.cases(domain, part)
        return cached_cases(cases, self.plan.recipe(domain), self.cache, workers)

    def _fit(
        self,
        stage: Stage,
        prepared: Prepared,
        predictor: Predictor,
        loader: DataLoader[Any],
        validating: Dataset[Any],
        folder: Path,
    ) -> Fit:
        plan = self.plan
        held_out = plan.cases(stage.domain, "val")
        torch.manual_seed(zlib.crc32(f"{plan.config.seed}/{stage.name}".encode()))
        with self.reporter.progress(stage.name, stage.steps) as advance:
            return fit(
                prepared.network,
                stage,
                prepared.frozen,
                build_losses(stage, self.catalog),
                loader,
                self.fabric,
                folder,
                validate=(lambda: validation_dice(predictor, validating, len(held_out)))
                if held_out
                else None,
                patience=plan.config.patience,
                advance=lambda step, loss: advance(step, f"loss {loss:.3f}"),
            )

    def _keep(
        self, stage: Stage, predictor: Predictor, result: Fit, batch: Tensor, folder: Path
    ) -> None:
        """Write best and last weights and leave the best ones in the network."""
        network = predictor.network
        network.module.load_state_dict(result.best, strict=False)
        response = measure_response(network, batch)
        metadata = {
            **self._metadata(stage, network),
            "response_rms": response,
            "min_component_ml": predictor.min_component_ml,
        }
        extra = {"best_step": result.best_step, "validation_dice": result.best_score}
        write_checkpoint(folder / BEST, result.best, {**metadata, **extra})
        write_checkpoint(folder / LAST, result.last, metadata)
        chosen = (
            f"best of {result.best_step} steps by validation Dice {result.best_score:.3f}"
            if result.best_score is not None
            else "last step kept (no validation patients)"
        )
        waited = result.waiting_seconds / max(result.seconds, 1e-9)
        self.reporter.say(
            f"{stage.name}: {result.seconds:.0f} s, {waited:.0%} of it waiting for data; {chosen}"
        )

    def _metadata(self, stage: Stage, network: Network) -> dict[str, Any]:
        plan = self.plan
        return {
            "network": {
                "name": plan.network,
                "width": network.width,
                "in_channels": network.in_channels,
                "out_channels": network.out_channels,
                "spatial_dims": network.spatial_dims,
                "patch_size": list(plan.patch_size),
            },
            "task": plan.task.name,
            "stage": stage.name,
            "domain": str(stage.domain),
            "modalities": list(stage.domain.modalities),
            "regions": list(plan.task.regions),
            "nested": plan.task.nested,
            "preprocessing": plan.preset.to_json(),
            "seen": list(self.seen),
            "synthetic": plan.cohort.synthetic,
        }

    def _announce(self, stage: Stage, prepared: Prepared) -> None:
        receipt = prepared.receipt
        came = (
            "random weights"
            if receipt.origin == "random"
            else f"{receipt.transferred:.1%} of the parameters from {receipt.origin}"
        )
        self.reporter.say(
            f"{stage.name}: {'+'.join(stage.domain.modalities)}, {stage.steps} steps, {came}, "
            f"{prepared.trainable_share():.1%} trainable"
        )
        for note in receipt.notes:
            self.reporter.say(f"  {note}")


def build_network(plan: Plan, catalog: Catalog, domain: Domain) -> Network:
    """The plan's network for a domain's channels, with random weights, on the CPU."""
    network: Network = catalog.networks[plan.network].load()(
        in_channels=len(domain.modalities),
        out_channels=len(plan.task.regions),
        width=plan.config.width,
        patch_size=plan.patch_size,
    )
    return network


def build_losses(stage: Stage, catalog: Catalog) -> list[tuple[float, nn.Module]]:
    """Each loss of the stage with its weight."""
    return [(s.weight, catalog.losses[s.name].load()(**s.params)) for s in stage.losses]


def outside_weights(config: TrainConfig) -> Weights | None:
    """The weights that ``--init`` names, if any."""
    return read_weights(resolve_weights(config.init)) if config.init else None


def run_plan(
    plan: Plan, catalog: Catalog, fabric: Fabric, reporter: Reporter, out: Path | None
) -> Run:
    """Train every stage, then score each on the locked test cases and write the run's results."""
    started = perf_counter()
    outside = outside_weights(plan.config)
    if outside is not None and not outside.seen:
        reporter.say(f"{outside.path} does not say what it was trained on: overlap is unknown")
    if outside is not None and plan.config.with_control:
        reporter.say("with --init the source's steps are not known: control A only, no control B")
    reporter.say("reading every image once: what was trained on is kept out of the test")
    plan, hashes = without_seen(plan, outside, reporter)
    run = start_run(plan.config.task, plan.config.strategy, out)
    write_start(plan, run)
    needed = plan.memory_bytes()
    cache = choose_cache(needed, plan.config.cache)
    reporter.say(f"prepared cases take up to {needed / 1e9:.1f} GB: kept in {cache}")
    trainer = Trainer(plan, run, catalog, fabric, reporter, cache, hashes)
    stages = trainer.train(plan.config.workers)
    write_results(plan, run, stages, reporter)
    reporter.say(f"done in {perf_counter() - started:.0f} s: {run.path}")
    return run


def without_seen(
    plan: Plan, outside: Weights | None, reporter: Reporter
) -> tuple[Plan, tuple[str, ...]]:
    """The plan without test patients that ``outside`` has seen, and the hashes seen from now on.

    Reads the images of every patient, so that a damaged one is refused before training starts.
    """
    sides = plan.split.train + plan.split.val, plan.split.test
    train, test = ([c for c in plan.cohort.cases if c.patient in side] for side in sides)
    needed = {name for stage in plan.stages for name in stage.domain.modalities}
    hashes = {value for values in fingerprints(train, needed) for value in values}
    seen = outside.seen if outside else frozenset()
    known = {
        case.patient
        for case, values in zip(test, fingerprints(test, needed), strict=True)
        if seen & set(values)
    }
    if outside is None or not known:
        return plan, tuple(sorted(hashes | seen))
    kept = tuple(patient for patient in plan.split.test if patient not in known)
    if not kept:
        raise DataError(
            f"{outside.path} was trained on every test patient; choose others with --test-cases"
        )
    reporter.say(f"{len(known)} test patients left out: {outside.path} was trained on them")
    changed = replace(plan, split=Split(plan.split.train, plan.split.val, kept))
    return changed, tuple(sorted(hashes | seen))


def fingerprints(cases: Sequence[Case], needed: Collection[Modality]) -> list[tuple[str, ...]]:
    """Content hashes of each case's images, read in parallel, remembered between runs.

    Raises DataError for damaged images, and for constant ones of the ``needed`` modalities.
    """

    def checked(case: Case) -> tuple[str, ...]:
        check_content(case, needed)
        return fingerprint(case)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(checked, cases))


def write_start(plan: Plan, run: Run) -> None:
    """Write what the run is about, fully resolved, before its first step."""
    resolved = plan.config.model_copy(
        update={
            "steps": plan.request.steps,
            "batch_size": plan.request.batch_size,
            "rate": plan.request.rate,
            "network": plan.network,
            "transforms": plan.preset.name,
            "spacing_mm": plan.preset.spacing_mm,
            "patch_size": plan.patch_size,
            "src": str(plan.request.source),
            "dst": str(plan.request.target),
            "data": plan.config.data.resolve() if plan.config.data else None,
            "splits": plan.config.splits.resolve() if plan.config.splits else None,
            "out": None,  # so that the same settings can be run again
        }
    )
    write_config(run.path / "config.yaml", resolved)
    write_splits(run.path / "splits.json", plan.split, plan.cohort.cases)
    names = [s.name for s in plan.stages if s.name not in (CONTROL_A, CONTROL_B)]
    run.write_json("stages.json", names)
