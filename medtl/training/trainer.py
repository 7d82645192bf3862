"""One stage of a run, trained from its first weights to its checkpoints and receipt."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Dataset

from medtl.data.domain import Domain
from medtl.errors import RunError, WeightsError
from medtl.evaluation.label_free import LABEL_FREE
from medtl.inference.load import LoadedStage, read_stage
from medtl.inference.task_types import AnyPredictor
from medtl.networks.blocks import Network
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.device import precision_name
from medtl.runtime.distributed import share
from medtl.runtime.run_folder import RECEIPTS, Run
from medtl.runtime.signals import Interruption
from medtl.runtime.table import percentage
from medtl.training.build import build_losses, build_network, stage_network
from medtl.training.loop import (
    Batches,
    Callbacks,
    Fit,
    Setup,
    Validate,
    fit,
    snapshot,
    unchanged,
)
from medtl.training.losses import softmax_losses
from medtl.training.plan import Plan
from medtl.training.profiler import Profile, Profiling, write_summary
from medtl.training.samples.augmented import Beside, Patches, Views, blind
from medtl.training.samples.loader import build_loader
from medtl.training.samples.prepared import cached_cases
from medtl.training.state import STATE
from medtl.training.unlabelled import Unlabelled
from medtl.transfer.checkpoint_metadata import CheckpointMetadata, NetworkRecord
from medtl.transfer.prepare import PreparedNetwork
from medtl.transfer.receipt import read_receipts
from medtl.transfer.response import measure_response
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B, Stage, steps_so_far
from medtl.transfer.weights import BEST, read_weights, steps_behind, write_checkpoint

#: Training patches on which a stage's first layers are measured.
RESPONSE_PATCHES = 8


LAST = Path("checkpoint_last") / "weights.safetensors"


@dataclass(frozen=True, slots=True)
class Leg:
    """A stage in the order of the run."""

    stage: Stage
    folder: Path
    first: int  #: number of its first sample
    previous: Path | None  #: weights of the stage before


def legs(stages: Sequence[Stage], run: Run) -> Iterator[Leg]:
    """Each stage with where it starts. The controls follow no stage, and none follows them."""
    previous: Path | None = None
    used: Counter[Domain] = Counter()
    for stage in stages:
        folder = run.stage(stage.name)
        # What goes on from no stage starts at the first sample, as what it is compared with.
        first = used[stage.domain] if stage.init == "previous" else 0
        used[stage.domain] = first + stage.steps * stage.batch_size
        yield Leg(stage, folder, first, previous)
        if stage.name not in (CONTROL_A, CONTROL_B):
            previous = folder / (BEST if stage.next_from == "best" else LAST)


@dataclass(slots=True)
class Trainer:
    """What the stages of one run share."""

    plan: Plan
    run: Run
    catalog: Catalog
    fabric: Fabric
    reporter: Reporter
    cache: str
    workers: int
    seen: tuple[str, ...]  #: content hashes of the training patients' images
    contents: Mapping[Path, str]  #: hashes of the files of all cases when the run began
    interruption: Interruption
    profile: bool = False  #: whether to profile the first stage that is trained
    _datasets: dict[tuple[Domain, str, bool], Dataset[Any]] = field(default_factory=dict)

    def train_stage(self, leg: Leg) -> LoadedStage:
        """Train one stage; returns it with its best weights, ready to predict.

        A stage that the run folder holds already is read, and an unfinished one goes on.
        """
        stage = leg.stage
        if (leg.folder / LAST).is_file():
            return self._trained(leg)
        patches = self._samples(stage)
        batch = torch.stack([patches[n]["image"] for n in range(RESPONSE_PATCHES)])
        batch = batch.to(self.fabric.device)
        prepared = self._prepare(leg, batch)
        self._receive(stage, prepared)
        network = prepared.network
        predictor = self._predictor(stage, network)
        if not stage.steps:
            return self._finish(leg, predictor, unchanged(network), batch)
        with (
            self._profiled(stage) as profile,
            self.reporter.progress(stage.name, stage.steps) as advance,
            self.interruption.deferred(),
        ):
            result = fit(
                self._setup(leg, prepared, batch),
                self._batches(stage, patches, leg.first),
                Callbacks(
                    validate=self._validate(stage, predictor),
                    advance=lambda step, loss: advance(step, f"loss {loss:.3f}"),
                    asked_to_stop=lambda: self.interruption.asked,
                    tell=lambda text: self.reporter.say(f"{stage.name}: {text}"),
                    warn=self.reporter.warn,
                    profile=profile,
                ),
            )
        return self._finish(leg, predictor, result, batch)

    def _trained(self, leg: Leg) -> LoadedStage:
        """A stage that was trained before the run was stopped."""
        mend = f"remove the folder {leg.folder} to train this stage again"
        if not (leg.folder / BEST).is_file():
            raise RunError(f"{leg.folder / BEST} is gone; {mend}")
        tell, warn = self.reporter.say, self.reporter.warn
        try:
            stage = read_stage(self.run, leg.stage.name, self.catalog, self.fabric, tell, warn)
        except WeightsError as problem:
            raise RunError(f"{problem}, or {mend}") from problem
        tell(f"{leg.stage.name}: trained already")
        return stage

    def _finish(self, leg: Leg, predictor: AnyPredictor, result: Fit, batch: Tensor) -> LoadedStage:
        """Calibrate the best weights, and write the checkpoints."""
        stage, network = leg.stage, predictor.network
        network.module.load_state_dict(result.best, strict=False)
        if stage.steps or stage.domain != self.plan.request.target:  # else no label is used
            parts = (self._cases(stage, part) for part in ("train", "val"))
            predictor = predictor.calibrate(*parts)
        if stage.norm_stats == "target":  # after that: these cases are the source's
            result = self._on_target(stage, network, result)
            network.module.load_state_dict(result.best, strict=False)
        self._keep(stage, predictor, result, batch, leg.folder)
        self.fabric.barrier()  # the next stage reads what this one has written
        return LoadedStage(self._metadata(stage, network), self.plan.task_type, predictor)

    def _samples(self, stage: Stage) -> Dataset[dict[str, Tensor]]:
        plan, domain = self.plan, stage.domain
        cached, cases = self._cached(domain, "train"), plan.cases(domain, "train")
        if stage.beside:
            both = cases, plan.cases(stage.beside, "train")
            counts = len(both[0]), len(both[1])
            cached = Beside((cached, self._cached(stage.beside, "train")), counts)
            places = map(cached.place, range(len(cached)))
            cases = tuple(both[side][number] for side, number in places)
        preprocessor, patch = plan.preprocessor(domain), plan.patch_size
        # Arms of one comparison see the same patients in the same order.
        key = f"{plan.config.seed}/{domain}"
        if plan.task_type.dense:
            return Patches(cached, len(cases), preprocessor, patch, key)
        return Views(cached, cases, preprocessor, patch, key)

    def _unlabelled(self, stage: Stage) -> Unlabelled:
        domain = stage.unlabelled
        assert domain is not None
        cached = self._cached(domain, "train", unlabelled=True)
        return Unlabelled(self.plan, domain, cached, len(self.plan.cases(domain, "train")))

    def _on_target(self, stage: Stage, network: Network, result: Fit) -> Fit:
        """The same weights with the running statistics of the unlabelled images."""
        images = self._unlabelled(stage)

        def estimated(weights: dict[str, Tensor]) -> dict[str, Tensor]:
            network.module.load_state_dict(weights, strict=False)
            images.set_norms(network, stage.batch_size, self.fabric.device)
            return snapshot(network)

        best = estimated(result.best)
        last = best if result.last is result.best else estimated(result.last)
        return replace(result, best=best, last=last)

    def _prepare(self, leg: Leg, batch: Tensor) -> PreparedNetwork:
        stage = leg.stage
        with torch.random.fork_rng():
            torch.manual_seed(self.plan.config.seed)
            network = build_network(self.plan, self.catalog, stage)
        network.module.to(self.fabric.device)
        follows = leg.previous if stage.init == "previous" else None
        weights = read_weights(follows) if follows else None
        return stage_network(self.plan, self.catalog, network, stage, weights, batch)

    def _predictor(self, stage: Stage, network: Network) -> AnyPredictor:
        plan = self.plan
        return plan.task_type.predictor.from_metadata(
            network,
            replace(plan.preprocessor(stage.domain), warn=self.reporter.warn),
            plan.patch_size,
            self.fabric,
            self._metadata(stage, network),
            self.reporter.say,
        )

    def _cases(self, stage: Stage, part: str) -> Iterator[Any]:
        cached = self._cached(stage.domain, part)
        cases = self.plan.cases(stage.domain, part)
        return ({**cached[n], "class": case.class_name} for n, case in enumerate(cases))

    def _cached(self, domain: Domain, part: str, *, unlabelled: bool = False) -> Dataset[Any]:
        key = (domain, part, unlabelled)
        if key not in self._datasets:
            cases = self.plan.cases(domain, part)
            if unlabelled:
                cases = blind(cases)
            preprocessor = self.plan.preprocessor(domain)
            label = f"preparing {str(domain).removeprefix('mod:')}, {part}"
            progress = partial(self.reporter.progress, label)
            cached = cached_cases(
                cases, preprocessor, self.cache, self.workers, self.contents, progress
            )
            if self.fabric.world_size > 1 and self.cache == "disk":
                for index in share(self.fabric, range(len(cases))):
                    cached[index]
                self.fabric.barrier()
            self._datasets[key] = cached
        return self._datasets[key]

    def _setup(self, leg: Leg, prepared: PreparedNetwork, batch: Tensor) -> Setup:
        config, stage, network = self.plan.config, leg.stage, prepared.network
        new = {row.name for row in prepared.receipt.tensors if row.status == "random"}
        with torch.random.fork_rng():  # random parameters of a loss depend on the seed alone
            torch.manual_seed(config.seed)
            partial = self.plan.partial(stage)
            losses = build_losses(stage, self.catalog, network, batch, new, partial=partial)
        seed = zlib.crc32(f"{config.seed}/{stage.name}".encode())
        return Setup(
            network, stage, prepared.frozen, losses, self.fabric, leg.folder, seed, config.patience
        )

    def _batches(self, stage: Stage, patches: Dataset[dict[str, Tensor]], first: int) -> Batches:
        """The batches after a number of steps; ``first``: number of the stage's first sample."""

        def loader(samples: Dataset[Any], done: int) -> Iterator[Any]:
            return build_loader(
                samples,
                first + done * stage.batch_size,
                stage.steps - done,
                stage.batch_size,
                self.workers,
                pin_memory=self.fabric.device.type == "cuda",
                process=self.fabric.global_rank,
                processes=self.fabric.world_size,
            )

        def batches_after(done: int) -> Iterator[Mapping[str, Tensor]]:
            if stage.unlabelled is None:
                return loader(patches, done)
            images = self._unlabelled(stage).samples()
            pairs = zip(loader(patches, done), loader(images, done), strict=True)
            return ({**labelled, "unlabelled": images} for labelled, images in pairs)

        return batches_after

    def _validate(self, stage: Stage, predictor: AnyPredictor) -> Validate | None:
        """What selects the stage's best weights; None where there is nothing to look at."""
        plan = self.plan
        if stage.select_by in LABEL_FREE:
            images = self._unlabelled(stage)
            return lambda: images.score(stage, predictor)
        held_out = plan.cases(stage.domain, "val")
        if not held_out:
            return None
        validating = self._cached(stage.domain, "val")
        return lambda: predictor.validate(validating, held_out)

    @contextmanager
    def _profiled(self, stage: Stage) -> Iterator[Profile]:
        """Measures the first stage that is trained if ``profile`` is set, in the first process."""
        if not self.profile or not self.fabric.is_global_zero:
            yield Profile()
            return
        self.profile = False
        device = self.fabric.device
        facts = {
            "stage": stage.name,
            "device": device.type,
            "precision": precision_name(self.fabric),
            "processes": self.fabric.world_size,
            "workers": self.workers,
            "batch_size": stage.batch_size,
            "patch_size": list(self.plan.patch_size),
            "synthetic": self.plan.cohort.synthetic,
        }
        profiling = Profiling(self.run.path / "profile", device, facts)
        try:
            yield profiling
        finally:
            profiling.finish()
        self.reporter.show(write_summary(profiling))

    def _keep(
        self, stage: Stage, predictor: AnyPredictor, result: Fit, batch: Tensor, folder: Path
    ) -> None:
        """Write best and last weights; the network holds the best ones."""
        if not self.fabric.is_global_zero:
            return
        self.run.check_there()
        network = predictor.network
        response = measure_response(network, batch)
        found = {"response_rms": response, **predictor.record()}
        if result.at_once is not None:  # the memory did not hold a whole batch
            found["patches_at_once"] = result.at_once
        metadata = self._metadata(stage, network).model_copy(update=found).to_json()
        by = f"validation {self.plan.task_type.selected_by}"
        if stage.select_by in LABEL_FREE:
            by = f"{stage.select_by} of unlabelled images"
        extra = {"best_step": result.best_step, by.lower().replace(" ", "_"): result.best_score}
        write_checkpoint(folder / BEST, result.best, {**metadata, **extra})
        write_checkpoint(folder / LAST, result.last, metadata)  # the mark of a finished stage
        (folder / STATE).unlink(missing_ok=True)
        if not stage.steps:
            self.reporter.say(f"{stage.name}: nothing was trained")
            return
        chosen = (
            f"best after step {result.best_step} by {by} {result.best_score:.3f}"
            if result.best_score is not None
            else "last step kept (nothing to validate on)"
        )
        waited = result.waiting_seconds / max(result.seconds, 1e-9)
        self.reporter.say(
            f"{stage.name}: {result.seconds:.0f} s, {waited:.0%} of it waiting for data; {chosen}"
        )
        if calibration := predictor.describe():
            self.reporter.say(f"{stage.name}: {calibration}")

    def _metadata(self, stage: Stage, network: Network) -> CheckpointMetadata:
        plan = self.plan
        before = steps_behind(plan.outside) if plan.outside else None
        return CheckpointMetadata(
            network=NetworkRecord(
                name=plan.network,
                width=network.width,
                in_channels=network.in_channels,
                out_channels=network.out_channels,
                spatial_dims=network.spatial_dims,
                patch_size=plan.patch_size,
                options=dict(network.options),
            ),
            task=plan.task.name,
            kind=plan.task_type.name,
            stage=stage.name,
            domain=str(stage.evaluate_on or stage.domain),
            modalities=stage.domain.modalities,
            regions=plan.task.regions,
            nested=plan.task.nested,
            exclusive=plan.task.exclusive,
            softmax=softmax_losses(stage, self.catalog),
            names=plan.task.names,
            preprocessing=plan.preset.to_json(),
            seen=self.seen,
            steps=steps_so_far(plan.stages, before)[stage.name],
            synthetic=plan.cohort.synthetic,
        )

    def _receive(self, stage: Stage, prepared: PreparedNetwork) -> None:
        """Write and report the receipt of the weights that the stage starts from."""
        receipt = prepared.receipt
        if self.fabric.is_global_zero:
            self.run.check_there()
            kept = read_receipts(self.run) if self.run.has(RECEIPTS) else {}
            self.run.write_json(RECEIPTS, {**kept, stage.name: receipt.to_json()})
        trained = (
            f"{percentage(prepared.trainable_share())} trainable" if stage.steps else "none trained"
        )
        beside = f", beside unlabelled {stage.unlabelled}" if stage.unlabelled else ""
        beside = f", beside {stage.beside}" if stage.beside else beside
        came = (
            "random weights"
            if receipt.origin == "random"
            else f"{percentage(receipt.transferred)} of the parameters from {receipt.origin}"
        )
        self.reporter.say(
            f"{stage.name}: {'+'.join(stage.domain.modalities)}, {stage.steps} steps, {came}, "
            f"{trained}{beside}"
        )
        for note in receipt.notes:
            self.reporter.say(f"  {note}")
