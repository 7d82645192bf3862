"""Devices without double precision, such as Apple's, give the same numbers.

Axes: B batch, C channel, O output, I J pixels.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medtl.networks.norms import estimate_norms
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import in_double
from medtl.shift.features.activations import _Pooled
from medtl.transfer.response import measure_response


class SingleOnly(Tensor):
    """A tensor on an Apple GPU, as far as that refuses: nothing of double precision is there."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == Tensor.device.__get__:
            return torch.device("mps")
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        found = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(found, cls) and found.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return found


@pytest.fixture
def images_BCIJ() -> Tensor:
    return torch.randn(6, 2, 32, 32, generator=torch.Generator().manual_seed(1))


def network() -> Any:
    torch.manual_seed(0)
    build = load_catalog().networks["resnet18"].load()
    return build(in_channels=2, out_channels=2, spatial_dims=2, width=4)


def test_the_stand_in_refuses_what_the_device_refuses(images_BCIJ: Tensor) -> None:
    with pytest.raises(TypeError, match="float64"):
        images_BCIJ.as_subclass(SingleOnly).double()
    assert torch.equal(in_double(images_BCIJ.as_subclass(SingleOnly)), images_BCIJ.double())


def test_norms_are_estimated_without_double_precision(images_BCIJ: Tensor) -> None:
    there, here = network(), network()
    estimate_norms(there, lambda: [images_BCIJ.as_subclass(SingleOnly)])
    estimate_norms(here, lambda: [images_BCIJ])
    for name, value in here.module.state_dict().items():
        assert torch.equal(there.module.state_dict()[name], value), name


def test_responses_are_measured_without_double_precision(images_BCIJ: Tensor) -> None:
    found = measure_response(network(), images_BCIJ.as_subclass(SingleOnly))
    assert found == measure_response(network(), images_BCIJ)


def test_activations_are_pooled_without_double_precision(images_BCIJ: Tensor) -> None:
    there, here = _Pooled(), _Pooled()
    there.add(nn.functional.relu(images_BCIJ.as_subclass(SingleOnly)))
    here.add(nn.functional.relu(images_BCIJ))
    for ours, theirs in zip(there.moments(), here.moments(), strict=True):
        assert (ours == theirs).all()
