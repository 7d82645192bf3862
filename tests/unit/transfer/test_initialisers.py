"""Initialisers: what they keep of the weights, what they destroy, what the receipt says.

Axes: O outputs, C channels, x the kernel's.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from checkpoints import weights_of
from scipy.stats import lognorm
from torch import Tensor

from medtl.data.domain import parse_domain
from medtl.errors import ConfigError
from medtl.networks.blocks import Network, tensors
from medtl.plugins.catalog import load_catalog
from medtl.transfer.initialisers import SHORTEST_WAVE, _log_normal, gabor, mean_var
from medtl.transfer.prepare import PreparedNetwork, prepare_network
from medtl.transfer.strategies.base import Stage
from medtl.transfer.weights import Weights

REGIONS = ("a", "b")
STAGE = Stage("adapt", parse_domain("t1,t2"), steps=1)


def cbr(seed: int, dims: int = 2) -> Network:
    torch.manual_seed(seed)
    build = load_catalog().networks["cbr-tiny"].load()
    return build(in_channels=2, out_channels=2, spatial_dims=dims, width=8)


def trained(modalities: tuple[str, ...] = ("t1", "t2")) -> Weights:
    """Weights with structure, and with running variances of very different size."""
    values = {name: tensor.detach().clone() for name, tensor in tensors(cbr(0)).items()}
    draw = torch.Generator().manual_seed(0)
    for name, tensor in values.items():
        if name.endswith("running_var"):
            tensor.copy_(torch.exp(3 * torch.randn(tensor.shape, generator=draw)))
        elif tensor.ndim == 4:
            tensor.add_(0.02)
    return weights_of(values, modalities, REGIONS)


def initialised(
    initialiser=mean_var, seed: int = 5, stage: Stage = STAGE, weights: Weights | None = None
) -> PreparedNetwork:
    return prepare_network(
        cbr(1),
        stage,
        weights or trained(),
        REGIONS,
        mapping={},
        initialise=lambda network, receipt: initialiser(network, receipt, seed),
    )


def test_mean_var_keeps_every_tensors_scale_and_destroys_its_features() -> None:
    source = trained().tensors
    for name, tensor in tensors(initialised().network).items():
        values, before = tensor.detach().flatten(), source[name].flatten()
        if tensor.ndim < 4:
            continue
        error, deviation = 5 / values.numel() ** 0.5, float(before.std())
        assert float(values.mean()) == pytest.approx(float(before.mean()), abs=error * deviation)
        assert float(values.std()) == pytest.approx(deviation, rel=error)
        both = torch.stack([values, before])
        assert abs(float(torch.corrcoef(both)[0, 1])) < error


def test_mean_var_leaves_running_variances_positive_and_counters_alone() -> None:
    state, source = tensors(initialised().network), trained().tensors
    variances = [tensor for name, tensor in state.items() if name.endswith("running_var")]
    assert variances and all(bool((tensor > 0).all()) for tensor in variances)
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    assert counters and all(torch.equal(state[name], source[name]) for name in counters)
    network = initialised().network.module.eval()
    assert bool(torch.isfinite(network(torch.randn(2, 2, 32, 32))).all())


def test_log_normal_has_the_moments_asked_for() -> None:
    noise = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = _log_normal(noise, mean=2.0, variance=0.5)
    assert (values.mean(), values.var()) == pytest.approx((2.0, 0.5), rel=0.02)
    spread = torch.log(values).std().item()
    assert lognorm(spread, scale=float(values.median())).stats("mv") == pytest.approx(
        (2.0, 0.5), rel=0.02
    )
    assert torch.equal(_log_normal(noise[:3], 0.0, 0.0), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("initialiser", [mean_var, gabor])
def test_seed_alone_decides_what_is_drawn(initialiser) -> None:
    one, same, other = (tensors(initialised(initialiser, n).network) for n in (5, 5, 6))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["stem.conv.weight"], other["stem.conv.weight"])


def test_tensors_that_were_random_stay_as_they_were() -> None:
    stage = replace(STAGE, reinit=("head",))
    state, fresh = tensors(initialised(stage=stage).network), tensors(cbr(1))
    assert torch.equal(state["head.weight"], fresh["head.weight"])


def test_receipt_calls_redrawn_tensors_random_and_says_why() -> None:
    receipt = initialised().receipt
    assert receipt.shares == {"loaded": 0.0, "adapted": 0.0, "random": 1.0}
    assert any(note.startswith("mean-var: ") for note in receipt.notes)
    row = next(row for row in receipt.tensors if row.name == "stem.conv.weight")
    assert "redrawn with mean 0.0" in row.note and row.source == "stem.conv.weight"


def test_mean_var_without_loaded_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"none were loaded.*--init"):
        prepare_network(
            cbr(1),
            STAGE,
            None,
            REGIONS,
            mapping={},
            initialise=lambda network, receipt: mean_var(network, receipt, 0),
        )


@pytest.mark.parametrize("initialiser", [mean_var, gabor])
def test_channels_that_would_start_alike_may_be_frozen_once_redrawn(initialiser) -> None:
    stage, weights = replace(STAGE, frozen="stem"), trained(("flair", "dwi"))
    with pytest.raises(ConfigError, match="identical"):
        prepare_network(cbr(1), stage, weights, REGIONS, mapping={"t1": "dwi", "t2": "dwi"})
    receipt = initialised(initialiser, stage=stage, weights=weights).receipt
    assert receipt.identical_modalities == () and receipt.new_modalities == ()
    assert not any("alike" in note for note in receipt.notes)


@pytest.mark.parametrize("dims", [2, 3])
def test_gabor_stem_holds_waves_of_the_scale_it_replaces(dims: int) -> None:
    network = cbr(1, dims)
    before = {name: tensor.detach().clone() for name, tensor in tensors(network).items()}
    receipt = prepare_network(
        network,
        STAGE,
        None,
        REGIONS,
        mapping={},
        initialise=lambda network, receipt: gabor(network, receipt, 3),
    ).receipt
    state = tensors(network)
    changed = {name for name in state if not torch.equal(state[name], before[name])}
    assert changed == {"stem.conv.weight"}
    weight_OCx = state["stem.conv.weight"].detach().double()
    assert weight_OCx.std() == pytest.approx(float(before["stem.conv.weight"].std()), rel=1e-4)
    assert float(weight_OCx.flatten(2).sum(-1).abs().max()) < 1e-5  # blind to a constant image
    for filter_Cx in weight_OCx:
        singular = torch.linalg.svdvals(filter_Cx.flatten(1))
        assert singular[1] < 1e-5 * singular[0]  # one wave, through weights of the channels
        assert 1 / 9 < peak_frequency(filter_Cx[0]) < 1.2 / SHORTEST_WAVE
    assert any("stem.conv.weight" in note for note in receipt.notes)


def peak_frequency(filter_x: Tensor) -> float:
    """Waves per voxel where the spectrum, finely sampled, is largest."""
    edge = 64
    spectrum = torch.fft.fftn(filter_x, s=(edge,) * filter_x.ndim).abs()
    place = torch.unravel_index(spectrum.argmax(), spectrum.shape)
    waves = [min(int(p), edge - int(p)) / edge for p in place]
    return sum(wave**2 for wave in waves) ** 0.5


def test_gabor_needs_a_kernel_to_draw_waves_in() -> None:
    network = cbr(1)
    network.module.stem.conv = torch.nn.Conv2d(2, 8, 1, bias=False)
    with pytest.raises(ConfigError, match="kernel of 3"):
        prepare_network(
            network,
            STAGE,
            None,
            REGIONS,
            mapping={},
            initialise=lambda network, receipt: gabor(network, receipt, 3),
        )
