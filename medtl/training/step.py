"""The objective of a stage and its gradients for one batch: at once, or in parts where the memory
does not hold all of it.

Parts give the same gradients to rounding, whatever the loss: it is taken over the logits of the
whole batch, which a first pass without gradients collects; a second pass carries what it asks of
each logit back through the network, part by part. That costs one more forward pass. Only batch
norm, which sees one part at a time, and dropout, drawn per part, make a difference.

Axes: B batch, C modality, L region, then the spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from medtl.errors import ConfigError
from medtl.networks.blocks import all_logits
from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.runtime.memory import give_back_freed_memory, out_of_memory
from medtl.training.feature_loss import BoundFeatureLoss, watched
from medtl.training.losses import WeightLoss
from medtl.training.profiler import BACKWARD, FORWARD, Profile


class Objective(nn.Module):
    """Network and losses as one module whose forward returns the loss: DDP reduces everything."""

    def __init__(self, network: nn.Module, losses: Iterable[tuple[float, nn.Module]]) -> None:
        super().__init__()
        terms = list(losses)
        self.network = network
        self.losses = nn.ModuleList(loss for _, loss in terms)
        self.on_features = [(w, loss) for w, loss in terms if isinstance(loss, BoundFeatureLoss)]
        self.on_weights = [(w, loss) for w, loss in terms if isinstance(loss, WeightLoss)]
        beyond = (BoundFeatureLoss, WeightLoss)
        self.on_logits = [(w, loss) for w, loss in terms if not isinstance(loss, beyond)]

    def forward(
        self,
        image: Tensor,
        target: Tensor,
        slopes: Sequence[Tensor] | None = None,
        unlabelled: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        """The loss; given its ``slopes`` by the logits, a sum with the same gradients instead.

        Images with and without labels go through the network as one batch, so that norms see
        both; ``progress``: the share of the stage's steps that is done.
        """
        both = image if unlabelled is None else torch.cat((image, unlabelled))
        with watched([loss for _, loss in self.on_features]) as features:
            levels = all_logits(self.network(both), image.ndim - 2)
        if unlabelled is not None:
            levels = tuple(logits[: len(image)] for logits in levels)
        if slopes is None:
            total = self.loss(levels, target)
            for weight, loss in self.on_features:
                total = total + weight * loss(features[loss.block], len(image), progress)
            return total
        pairs = zip(levels, slopes, strict=True)
        return torch.stack([(logits.float() * slope).sum() for logits, slope in pairs]).sum()

    def loss(self, levels: Sequence[Tensor], target: Tensor) -> Tensor:
        """Weighted sum of the losses of logits and of weights; deep supervision halves the weight
        per level."""
        shares = [0.5**level for level in range(len(levels))]
        total = torch.zeros((), device=target.device)
        for share, logits in zip(shares, levels, strict=True):
            truth = target
            if logits.shape[2:] != target.shape[2:]:
                truth = functional.interpolate(target, size=logits.shape[2:], mode="nearest")
            for weight, loss in self.on_logits:
                total = total + share * weight * loss(logits, truth)
        total = total / sum(shares)
        for weight, loss in self.on_weights:
            total = total + weight * loss()
        return total

    def beyond_logits(self) -> bool:
        """Whether the losses pass gradients on by other ways than the logits: to parameters of
        their own, or to weights that they see."""
        owned = any(parameter.requires_grad for parameter in self.losses.parameters())
        return owned or bool(self.on_weights)


@dataclass(eq=False)
class Gradients:
    """Computes the loss and the gradients of a batch."""

    objective: Objective
    fabric: Fabric
    model: Callable[..., Tensor]  #: the objective as Fabric set it up
    clear: Callable[[], None]  #: drops the present gradients
    at_once: int | None  #: samples per pass; None: the whole batch
    tell: Callable[[str], None]
    profile: Profile

    def __post_init__(self) -> None:
        self.buffers = list(self.objective.network.buffers())
        self.kept = [buffer.clone() for buffer in self.buffers]

    def __call__(
        self,
        image: Tensor,
        target: Tensor,
        seed: int,
        unlabelled: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        """Fill the gradients and return the loss; ``seed`` seeds what the pass draws at random.

        When the memory runs out, all later steps take fewer samples per pass. A batch with
        unlabelled images is not divided, as a loss on features compares whole batches.

        Raises:
            ConfigError: the memory does not hold one sample, or a batch that is not divided.
        """
        known = self.at_once
        _copy(self.buffers, self.kept)
        while True:
            loss = None
            try:
                if self.at_once is None:
                    with self._forward(seed):
                        loss = self.model(image, target, None, unlabelled, progress)
                    self.clear()
                    self._backward(loss)
                else:
                    loss = self._in_parts(image, target, seed, self.at_once)
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            # Out here the traceback, which holds the tensors, is gone.
            loss = None  # with its graph
            self._make_room(image, unlabelled)
        if self.at_once != known:
            self._report_parts(len(image))
        return loss.detach()

    def _report_parts(self, batch_size: int) -> None:
        norm = any(isinstance(part, _BatchNorm) for part in self.objective.network.modules())
        self.tell(
            f"the memory ran out: {self.at_once} of the {batch_size} patches of a batch at once "
            "from here on; the loss is still that of the whole batch, and a step takes longer"
            + ("; batch norm sees only the patches at hand" if norm else "")
        )

    def _in_parts(self, image: Tensor, target: Tensor, seed: int, size: int) -> Tensor:
        self.clear()
        parts = list(zip(torch.split(image, size), torch.split(target, size), strict=True))
        # Each part has a seed of its own, beyond the numbers of all steps.
        seeds = [seed + (n << 40) for n in range(len(parts))]
        found = [self._logits(part, own) for (part, _), own in zip(parts, seeds, strict=True)]
        _copy(self.kept, self.buffers)  # the second pass moves them
        levels = [torch.cat(level).requires_grad_() for level in zip(*found, strict=True)]
        with self.profile.span(FORWARD), self.fabric.autocast():
            loss = self.objective.loss(levels, target)
        beyond = self.objective.beyond_logits()
        slopes = torch.autograd.grad(loss, levels, retain_graph=beyond)
        if beyond:
            self._backward(loss)
        for n, (part, truth) in enumerate(parts):
            own_slopes = [torch.split(slope, size)[n] for slope in slopes]
            with self._forward(seeds[n]):
                product = self.model(part, truth, own_slopes)
            self._backward(product)
        return loss

    @contextmanager
    def _forward(self, seed: int) -> Iterator[None]:
        """The context of a forward pass; ``seed`` seeds what the pass draws at random."""
        torch.manual_seed(seed)
        with self.profile.span(FORWARD), suited_to_cpu(self.objective.network):
            yield

    @torch.no_grad()
    def _logits(self, image: Tensor, seed: int) -> tuple[Tensor, ...]:
        with self._forward(seed), self.fabric.autocast():
            levels = all_logits(self.objective.network(image), image.ndim - 2)
            return tuple(level.float() for level in levels)

    def _backward(self, loss: Tensor) -> None:
        with self.profile.span(BACKWARD):
            self.fabric.backward(loss)

    def _make_room(self, image: Tensor, unlabelled: Tensor | None) -> None:
        """Undo what the failed pass changed, and take half as many samples at once."""
        self.clear()
        _copy(self.kept, self.buffers)
        give_back_freed_memory()
        size = min(self.at_once or len(image), len(image))
        edges = "x".join(map(str, image.shape[2:]))
        if unlabelled is not None:
            raise ConfigError(
                f"the memory does not hold {size} labelled and {len(unlabelled)} unlabelled images "
                f"of {edges}, which are compared as a whole; start a new run with a smaller "
                "--batch-size, patch_size or --width"
            )
        if self.fabric.world_size > 1:
            # The other processes wait for this one within the step and cannot be notified.
            raise ConfigError(
                f"the memory does not hold {size} patches of {edges} per process; start a new run "
                "with a smaller --batch-size or patch_size, or with more devices"
            )
        if size == 1:
            raise ConfigError(
                f"the memory does not hold a step with one patch of {edges}; start a new run with "
                f"{_smaller(image.shape[2:])}a smaller --width"
            )
        self.at_once = -(-size // 2)


def _smaller(edges: Sequence[int]) -> str:
    """The setting of a patch with shorter longest edges, and "or "; empty at the least size."""
    longest = max(edges)
    if longest <= 16:
        return ""
    fewer = (16 * ((edge - 1) // 16) if edge == longest else edge for edge in edges)
    return f"--set patch_size={','.join(map(str, fewer))} or "


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    if source:
        torch._foreach_copy_(target, source)
