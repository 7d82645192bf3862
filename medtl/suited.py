"""Whether a network and a preset suit a kind of task and of images."""

from __future__ import annotations

from medtl.config import TrainConfig
from medtl.errors import ConfigError
from medtl.kinds import TaskType
from medtl.networks import Network
from medtl.task import Defaults, Task
from medtl.transforms import Preset


def check_suited(
    kind: TaskType,
    task: Task,
    network: Network,
    preset: Preset,
    defaults: Defaults,
    config: TrainConfig,
) -> None:
    """Raises ConfigError for a network, preset or size that is not for this task or its images."""
    if network.dense != kind.dense:
        what = "maps of regions" if network.dense else "the classes of whole images"
        raise ConfigError(
            f"network {network.name} predicts {what}, task {task.name} needs another; see "
            "medtl list networks"
        )
    dims = len(defaults.patch_size)
    if kind.dense and dims == 3:
        if preset.fits:
            raise ConfigError(
                f"transforms {preset.name} is for whole images, not for patches; see medtl list "
                "transforms"
            )
        return
    if network.spatial_dims != dims:
        raise ConfigError(
            f"network {network.name} is for volumes, task {task.name} has pictures; take a 2-D one"
        )
    if config.patch_size and len(config.patch_size) != dims:
        raise ConfigError(
            f"patch_size: these images have {dims} axes, not {len(config.patch_size)}"
        )
    if dims == 2 and not preset.fits:
        raise ConfigError(
            f"transforms {preset.name} is for volumes in mm; these are pictures: use picture"
        )
    if preset.fits and config.spacing_mm:
        raise ConfigError(
            f"--spacing: {preset.name} scales every image to fit; give a size instead, for example "
            "--set patch_size=128,128"
        )
