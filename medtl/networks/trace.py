"""Run a module on shapes alone, and record its layers in order of execution.

Axes: B batch, C channel, I J K voxel axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from medtl.errors import MedtlError

Built = TypeVar("Built")


@contextmanager
def mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Put every submodule in training or evaluation mode, and restore each afterwards."""
    before = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, was_training in before:
            part.training = was_training


def dry_run(module: nn.Module, shape_BCIJK: Sequence[int], *, training: bool = False) -> Any:
    """The module's output for a batch of this shape, computed on shapes only (meta tensors).

    Needs no memory, changes no weight or buffer and draws no random number.
    """
    batch_BCIJK = torch.empty(tuple(shape_BCIJK), device="meta")
    with mode(module, training=training), _without_values(module), torch.no_grad():
        return module(batch_BCIJK)


@contextmanager
def _without_values(module: nn.Module) -> Iterator[None]:
    """Replace all parameters and buffers by meta tensors, and restore them afterwards.

    ``torch.func.functional_call`` does not restore the tensors of a module that is registered twice
    (torch 2.13).
    """
    kept: list[tuple[Any, str, Tensor]] = [
        (slots, name, tensor)
        for part in module.modules()
        for slots in (part._parameters, part._buffers)
        for name, tensor in slots.items()
        if tensor is not None
    ]
    try:
        for slots, name, tensor in kept:
            empty = torch.empty_like(tensor, device="meta")
            slots[name] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
        yield
    finally:
        for slots, name, tensor in kept:
            slots[name] = tensor


@contextmanager
def watch(parts: dict[str, nn.Module]) -> Iterator[list[str]]:
    """Yield a list that collects the names of ``parts`` in order of first execution."""
    order: list[str] = []

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any) -> None:
            if name not in order:
                order.append(name)

        return hook

    with ExitStack() as hooks:
        for name, part in parts.items():
            hooks.enter_context(part.register_forward_pre_hook(note(name)))
        yield order


def layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers of a module: leaves, and modules with tensors of their own.

    Leaves without weights (input, pooling, concatenation, dropout, activation) count too. A module
    that is registered twice appears once, under its first name.
    """
    return {
        name: part
        for name, part in module.named_modules()
        if next(part.children(), None) is None or next(own_tensors(part), None) is not None
    }


def own_tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers that the module holds itself, not through a child."""
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def execution_order(module: nn.Module, shape_BCIJK: Sequence[int]) -> list[str]:
    """Names of the :func:`layers` that run in inference, in the order of their first execution."""
    with watch(layers(module)) as order:
        dry_run(module, shape_BCIJK)
    return order


def built_on_meta(build: Callable[[], Built]) -> Built:
    """What ``build`` makes, with shapes alone: on torch's meta device, which takes little time.

    With values where a constructor reads them (SwinUNETR).
    """
    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, AssertionError, MedtlError):
        return build()
