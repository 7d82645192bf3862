"""What a stage is made of: its network with the weights it starts from, and its losses."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection

from torch import Tensor, nn

from medtl.errors import ConfigError
from medtl.networks.blocks import Network
from medtl.networks.options import check_accepted
from medtl.plugins.catalog import Catalog
from medtl.training.feature_loss import BoundFeatureLoss
from medtl.training.losses import FeatureLoss, PartialLoss, WeightLoss, load_losses
from medtl.training.plan import Plan
from medtl.transfer.initialisers import Initialiser
from medtl.transfer.prepare import PreparedNetwork, prepare_network
from medtl.transfer.receipt import Receipt
from medtl.transfer.strategies.base import Stage
from medtl.transfer.weights import Weights


def build_network(
    plan: Plan, catalog: Catalog, stage: Stage, patch_size: tuple[int, ...] | None = None
) -> Network:
    """The plan's network for the stage's channels and options, with random weights, on the CPU.

    ``patch_size``: None: the plan's.
    """
    builder = catalog.networks[plan.network].load()
    options = {**plan.config.options, **stage.options}
    check_accepted(plan.network, builder, options)
    network: Network = builder(
        in_channels=len(stage.domain.modalities),
        out_channels=len(plan.task.regions),
        spatial_dims=plan.spatial_dims,
        width=plan.config.width,
        patch_size=patch_size or plan.patch_size,
        **options,
    )
    return network


def build_losses(
    stage: Stage,
    catalog: Catalog,
    network: Network,
    batch: Tensor,
    new: Collection[str] = (),
    *,
    partial: bool = False,
) -> list[tuple[float, nn.Module]]:
    """Each loss of the stage with its weight, bound to the network where it sees more than logits.

    Args:
        batch: any images the network takes.
        new: tensors that start from random weights.
        partial: whether targets are known only in part.

    Raises:
        ConfigError: losses that this stage gives nothing to see.
    """
    built = load_losses(stage, catalog)
    for spec, loss in built:
        if isinstance(loss, FeatureLoss) and stage.unlabelled is None:
            raise ConfigError(
                f"stage {stage.name}: loss {spec.name} compares two domains, and this stage sees "
                "one; choose a --strategy that adapts, for example dann"
            )
        if isinstance(loss, WeightLoss):
            loss.bind_weights(network, new)
        if partial and isinstance(loss, PartialLoss):
            loss.partial = True
    if stage.steps and all(isinstance(loss, FeatureLoss | WeightLoss) for _, loss in built):
        names = ", ".join(spec.name for spec in stage.losses)
        raise ConfigError(f"stage {stage.name}: {names} sees no labels; add a loss that does")
    bound: list[tuple[float, nn.Module]] = []
    for spec, loss in built:
        if isinstance(loss, FeatureLoss):
            loss = BoundFeatureLoss(loss, network, spec.features_from, batch)
        bound.append((spec.weight, loss))
    return bound


def stage_network(
    plan: Plan,
    catalog: Catalog,
    network: Network,
    stage: Stage,
    previous: Weights | None,
    batch: Tensor | None = None,
) -> PreparedNetwork:
    """``network`` with the weights that the stage starts from: random, the previous stage's, or
    those that ``--init`` names. Raises ConfigError where there are none."""
    starts = {"random": None, "previous": previous}
    weights = starts.get(stage.init, plan.outside)
    if weights is None and stage.init != "random":
        raise ConfigError(
            f"stage {stage.name} starts from {stage.init!r}, which is not there; give --init"
        )
    initialise: Callable[[Network, Receipt], Receipt] | None = None
    if stage.initialiser is not None:
        seed = zlib.crc32(f"{plan.config.seed}/{stage.initialiser}".encode())
        initialiser: Initialiser = catalog.initialisers[stage.initialiser].load()
        initialise = lambda network, receipt: initialiser(network, receipt, seed)  # noqa: E731
    return prepare_network(
        network,
        stage,
        weights,
        plan.task.regions,
        mapping=plan.config.map,
        allow_partial=plan.config.allow_partial,
        source_modalities=None if stage.init in starts else plan.config.init_modalities,
        batch=batch,
        initialise=initialise,
    )
