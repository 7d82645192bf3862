"""The output of a layer of a trained network, pooled over the image.

Axes: B batch, C modality or channel, I J K voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medtl.errors import ConfigError, DataError, UnknownNameError
from medtl.inference.load import LoadedStage, restore_stage
from medtl.inference.segmentation import Segmenter
from medtl.networks.blocks import Network
from medtl.networks.hooks import record_blocks, tensors_in
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric, in_double
from medtl.shift.contract import FeatureExtractor, FeatureRows, FeatureSettings, View
from medtl.shift.features.region import one_row
from medtl.transfer.weights import read_weights, resolve_weights


def activations(settings: FeatureSettings) -> FeatureExtractor:
    """Mean and standard deviation of a layer's channels, over the image as the run prepares it.

    ``settings.run``: ``runs/x`` for its last stage, ``runs/x/source`` for another one, or a weights
    file of medtl. ``settings.layer``: a block or module of its network; None: the bottleneck, or
    the block before the head. Channels are matched by order: a domain needs the run's number of
    modalities.

    Raises:
        ConfigError: no run is named, or its number of modalities differs from that of a domain.
        UnknownNameError: the network has no such layer.
    """
    if settings.run is None:
        raise ConfigError("features activations need a trained network: name its run with --run")
    weights = read_weights(resolve_weights(str(settings.run)))
    trained = restore_stage(weights, load_catalog(), build_fabric("auto", "fp32"))
    network = trained.predictor.network
    layer = settings.layer or _default_layer(network)
    pooled = _Pooled()
    one_at_a_time = Lock()  # images may be read in threads; the network has one set of hooks
    with watching(network, layer, pooled.add):
        pass  # refuses an unknown layer before any image is read

    def rows(view: View) -> FeatureRows:
        image_CIJK = _prepared(view, trained)
        with one_at_a_time, watching(network, layer, pooled.add):
            pooled.clear()
            _run(trained, image_CIJK)
            means, deviations = pooled.moments()
        digits = len(str(len(means)))
        columns = {f"{layer}/mean_{n:0{digits}}": float(v) for n, v in enumerate(means)}
        columns |= {f"{layer}/deviation_{n:0{digits}}": float(v) for n, v in enumerate(deviations)}
        return one_row(columns)

    return FeatureExtractor("activations", rows, joint=True)


class _Pooled:
    """Sums of a layer's outputs over all windows of an image and all places in them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.sums: tuple[Tensor, Tensor] | None = None

    def add(self, output: Tensor) -> None:
        """A batch of maps (B, C, ...), of tokens (B, token, C) or of vectors (B, C)."""
        channels = output.transpose(1, 2) if output.ndim == 3 else output
        flat_CN = in_double(channels).transpose(0, 1).flatten(1)
        sums = flat_CN.sum(1), (flat_CN * flat_CN).sum(1)
        self.sums = sums if self.sums is None else (self.sums[0] + sums[0], self.sums[1] + sums[1])
        self.count += flat_CN.shape[1]

    def moments(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        assert self.sums is not None
        mean, square = (total.cpu().numpy() / self.count for total in self.sums)
        return mean, np.sqrt(np.maximum(square - mean * mean, 0))


@contextmanager
def watching(network: Network, layer: str, tell: Callable[[Tensor], None]) -> Iterator[None]:
    """Hand the layer's output to ``tell`` in every forward pass.

    Raises:
        UnknownNameError: the layer is neither a block nor a module of the network.
    """
    modules = {name: part for name, part in network.module.named_modules() if name}
    blocks = [block.name for block in network.blocks]
    if layer not in [*blocks, *modules]:
        raise UnknownNameError(f"layer of {network.name}", layer, [*blocks, *modules])
    with record_blocks(network, [layer] if layer in blocks else []) as features:

        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            tell(features[layer] if layer in blocks else tensors_in(output)[-1])

        part = network.module if layer in blocks else modules[layer]
        handle = part.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def _default_layer(network: Network) -> str:
    names = [block.name for block in network.blocks if block.role == "bottleneck"]
    before_head = [block.name for block in network.blocks if block.role != "head"]
    return (names or before_head or [network.blocks[0].name])[-1]


def _prepared(view: View, trained: LoadedStage) -> Tensor:
    preprocessor = trained.predictor.preprocessor
    wanted, given = len(preprocessor.modalities), len(view.modalities)
    if wanted != given:
        raise ConfigError(
            f"the run was trained on {wanted} modalities ({', '.join(preprocessor.modalities)}), "
            f"which a domain of {given} ({', '.join(view.modalities)}) does not fit"
        )
    affine = np.diag([*view.spacing_mm, 1.0])
    try:
        image_CIJK: Tensor = preprocessor.prepare(view.image_CIJK, affine)["image"]
    except DataError as problem:
        raise DataError(f"{view.case}: {problem}") from problem
    return image_CIJK


@torch.inference_mode()
def _run(trained: LoadedStage, image_CIJK: Tensor) -> None:
    if isinstance(trained.predictor, Segmenter):
        trained.predictor.prepared_logits(image_CIJK)
    else:
        list(trained.predictor.probabilities([image_CIJK]))
