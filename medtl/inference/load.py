"""Build the predictor of a trained stage from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from medtl.data.modality import Modality
from medtl.errors import ConfigError, RunError, UnknownNameError
from medtl.inference.flips import orientations
from medtl.inference.segmentation import Segmenter
from medtl.inference.task_types import AnyPredictor, TaskType, task_type_named
from medtl.inference.window_size import Tell
from medtl.networks.options import check_accepted
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.runtime.memory import out_of_memory
from medtl.runtime.records import read_stages
from medtl.runtime.run_folder import STAGES, Run
from medtl.transfer.checkpoint_metadata import CheckpointMetadata
from medtl.transfer.nnunet_plans import REASON
from medtl.transfer.strategies.base import CONTROL_A, CONTROL_B
from medtl.transfer.transfer import load_exactly
from medtl.transfer.weights import BEST, Weights, no_larger_than, read_weights
from medtl.transforms.histogram import Standard
from medtl.transforms.image_record import ImageRecord
from medtl.transforms.nnunet import NnunetRecipe
from medtl.transforms.preprocessor import Preprocessor, ignore
from medtl.transforms.presets import NNUNET, Preset

#: What building a network and a preset from changed metadata raises.
DAMAGE = (
    *(LookupError, TypeError, ValueError, AttributeError),
    *(ArithmeticError, RuntimeError, AssertionError),
)


@dataclass(frozen=True, slots=True)
class LoadedStage:
    """A stage's predictor, and the metadata of its checkpoint."""

    metadata: CheckpointMetadata
    task_type: TaskType
    predictor: AnyPredictor

    @property
    def stage(self) -> str:
        """The stage's name."""
        return self.metadata.stage


def with_flips(stages: Sequence[LoadedStage], reporter: Reporter) -> list[LoadedStage]:
    """The same stages with test-time flips; reports their cost.

    Raises:
        ConfigError: the stages classify.
    """
    if not all(stage.task_type.dense for stage in stages):
        raise ConfigError("--tta is for segmentation; this run tells classes; drop it")
    passes = max(
        len(orientations(stage.predictor.mirrored))
        for stage in stages
        if isinstance(stage.predictor, Segmenter)
    )
    presets = [stage.predictor.preprocessor.preset for stage in stages]
    mirrored = all(any(preset.augmentation.flips) or preset.nnunet for preset in presets)
    reporter.say(
        f"--tta: {passes} passes of the network per window instead of one"
        + ("" if mirrored else "; it was trained without flips, so they may do harm")
    )
    return [
        replace(stage, predictor=replace(stage.predictor, flips=True))
        for stage in stages
        if isinstance(stage.predictor, Segmenter)
    ]


def finished_stages(run: Run) -> tuple[str, ...]:
    """Stages with a checkpoint: the transfer's in order, then the controls."""
    names = [*read_stages(run.path / STAGES), CONTROL_A, CONTROL_B]
    return tuple(name for name in names if (run.path / name / BEST).is_file())


def read_stage(
    run: Run,
    stage: str,
    catalog: Catalog,
    fabric: Fabric,
    tell: Tell = lambda text: None,
    warn: Tell = ignore,
) -> LoadedStage:
    """Build the recorded network and load its best weights.

    Args:
        tell: called with a sentence whenever the memory runs out in prediction.
        warn: called with how an image differs from those of the training.

    Raises:
        RunError: the stage is not finished, or its checkpoint is damaged or needs a plugin that is
            not installed.
        WeightsError: a tensor is missing.
    """
    path = run.path / stage / BEST
    if not path.is_file():
        choices = ", ".join(finished_stages(run)) or "none"
        raise RunError(f"{run.path} has no finished stage {stage!r}; finished: {choices}")
    found = restore_stage(read_weights(path), catalog, fabric, tell, warn)
    if found.stage != stage:
        raise RunError(
            f"{path} says that it is of stage {found.stage!r}, not of {stage!r}; fetch the "
            "run again"
        )
    return found


def restore_stage(
    weights: Weights,
    catalog: Catalog,
    fabric: Fabric,
    tell: Tell = lambda text: None,
    warn: Tell = ignore,
) -> LoadedStage:
    """Build the predictor of a checkpoint; arguments and errors as :func:`read_stage`."""
    if REASON in weights.metadata:
        raise RunError(
            f"{weights.path}: this nnU-Net cannot predict here: {weights.metadata[REASON]}"
        )
    if "network" not in weights.metadata:
        raise RunError(
            f"{weights.path} was not written by medtl train; it cannot predict alone; name a run"
        )
    try:
        return _restore(weights, catalog, fabric, tell, warn)
    except UnknownNameError as problem:
        raise RunError(
            f"{weights.path} needs a plugin that is not in use here: {problem}"
        ) from problem
    except ConfigError as problem:
        raise RunError(f"{weights.path}: {problem}; fetch or write it again") from problem
    except DAMAGE as problem:
        if out_of_memory(problem):
            raise
        reason = str(problem).partition("\n")[0][:200]
        raise RunError(
            f"{weights.path} has damaged medtl metadata ({reason}); fetch or write it again"
        ) from problem


def _restore(
    weights: Weights, catalog: Catalog, fabric: Fabric, tell: Tell, warn: Tell
) -> LoadedStage:
    metadata = CheckpointMetadata.from_json(weights.metadata)
    modalities = tuple(map(Modality, metadata.modalities))
    record = metadata.network
    builder = catalog.networks[record.name].load()
    check_accepted(record.name, builder, record.options)
    with no_larger_than(weights):
        network = builder(
            in_channels=len(modalities),
            out_channels=len(metadata.regions),
            spatial_dims=record.spatial_dims,
            width=record.width,
            patch_size=record.patch_size,
            **record.options,
        )
    load_exactly(network, weights)
    network.module.to(fabric.device).eval()
    preset = _preset(weights.path, metadata.preprocessing, catalog)
    task_type = task_type_named(metadata.kind, str(weights.path))
    preprocessor = Preprocessor(modalities, metadata.regions, preset, warn)
    predictor = task_type.predictor.from_metadata(
        network, preprocessor, record.patch_size, fabric, metadata, tell
    )
    return LoadedStage(metadata, task_type, predictor)


def _preset(path: Path, recorded: Mapping[str, Any], catalog: Catalog) -> Preset:
    """The recorded preset, with the run's modality dropout.

    Raises:
        RunError: the preset of this name has changed since training.
    """
    if "nnunet" in recorded:
        preset = replace(NNUNET, nnunet=NnunetRecipe.from_json(recorded["nnunet"]))
    else:
        preset = catalog.transforms[recorded["preset"]].load()()
    preset = preset.with_spacing(recorded["spacing_mm"])
    preset = preset.with_windows(recorded.get("windows", {})).with_size(recorded.get("size", ()))
    records = {name: ImageRecord.from_json(r) for name, r in recorded.get("images", {}).items()}
    preset = preset.with_images(records)
    if "harmonise" in recorded:
        preset = replace(preset, standard=Standard.from_json(recorded["harmonise"]))
    now = {**preset.to_json(), "augmentation": None}
    if now != {**recorded, "augmentation": None}:
        raise RunError(
            f"{path}: preset {preset.name!r} prepares images differently by now; train anew"
        )
    augmentation = dict(recorded["augmentation"])
    still = [axis for axis, flip in enumerate(_flips(augmentation.get("flip", True))) if not flip]
    preset = preset.without_flips(still) if still else preset
    return preset.with_modality_dropout(float(augmentation.get("modality_dropout", 0.0)))


def _flips(recorded: Any) -> tuple[bool, ...]:
    """Whether each axis was mirrored in training; one value or one per axis."""
    each = recorded if isinstance(recorded, list | tuple) else [recorded] * 3
    if len(each) != 3:
        raise ValueError("augmentation: flip must be one value, or three")
    return tuple(map(bool, each))
