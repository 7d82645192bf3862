"""Primus-M against published figures and written-out formulas.

Axes: B batch, N token, H head, D number of a head.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medtl.errors import ConfigError
from medtl.networks.blocks import Network, names_of
from medtl_unet3d.primus import HEADS, Attention, Gated, angles, primus_m, turned


def build(**options: object) -> Network:
    settings = {"in_channels": 2, "out_channels": 3, "width": 12, "patch_size": (16, 24, 8)}
    return primus_m(**{**settings, **options})


def test_parameters_are_as_many_as_in_the_published_code() -> None:
    """Of Primus in dynamic-network-architectures 0.4.4 with nnU-Net's settings of the size M."""
    network = build(width=72, patch_size=(32, 24, 16), decoder_channels=[168, 32])
    assert sum(parameter.numel() for parameter in network.module.parameters()) == 145_754_235


def test_names_are_those_of_the_published_code() -> None:
    names = set(names_of(build().module))
    assert {
        "down_projection.proj.weight",
        "mask_token",
        "eva.pos_embed",
        "eva.blocks.0.attn.q_proj.bias",
        "eva.blocks.0.attn.norm.weight",
        "eva.blocks.15.mlp.fc1_g.weight",
        "eva.blocks.15.gamma_2",
        "eva.norm.bias",
        "up_projection.decode.0.0.weight",
        "up_projection.decode.1.1.bias",
        "up_projection.decode.2.bias",
    } <= names
    assert "eva.blocks.0.attn.k_proj.bias" not in names
    assert not {name for name in names if "sine" in name}


def test_pairs_are_turned_as_complex_numbers() -> None:
    grid, numbers = (2, 3, 4), 12
    rows = torch.randn(1, 2, 24, numbers, dtype=torch.float64)
    sine, cosine = (table.double() for table in angles(grid, numbers))
    found = turned(rows, sine, cosine)
    pairs = rows.numpy()[..., ::2] + 1j * rows.numpy()[..., 1::2]
    for token, place in enumerate(np.ndindex(*grid)):
        waves = [place[axis] * 10_000 ** -(band / 2) for axis in range(3) for band in range(2)]
        expected = pairs[:, :, token] * np.exp(1j * np.array(waves))
        np.testing.assert_allclose(found.numpy()[:, :, token, ::2], expected.real, atol=1e-6)
        np.testing.assert_allclose(found.numpy()[:, :, token, 1::2], expected.imag, atol=1e-6)


def test_attention_is_the_written_out_formula() -> None:
    torch.manual_seed(0)
    attention = Attention(12 * HEADS).double()
    tokens = torch.randn(1, 6, 12 * HEADS, dtype=torch.float64)
    still = torch.zeros(6, 12, dtype=torch.float64), torch.ones(6, 12, dtype=torch.float64)
    seen = []
    for head in range(HEADS):
        own = slice(12 * head, 12 * head + 12)
        query, key, value = (
            project(tokens)[0, :, own]
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        weights = (query @ key.T / math.sqrt(12)).exp()
        seen.append(weights / weights.sum(1, keepdim=True) @ value)
    expected = attention.proj(attention.norm(torch.cat(seen, dim=1)))
    torch.testing.assert_close(attention(tokens, still)[0], expected)


def test_gate_is_the_written_out_formula() -> None:
    torch.manual_seed(0)
    gated = Gated(12).double()
    tokens = torch.randn(2, 3, 12, dtype=torch.float64)
    gate = gated.fc1_g(tokens)
    hidden = gate / (1 + (-gate).exp()) * gated.fc1_x(tokens)
    centred = hidden - hidden.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(gated(tokens), gated.fc2(normed))
    assert gated.fc2.in_features == 32


def test_tokens_are_told_apart_by_their_place() -> None:
    """Without a learnt position, an image and its shift by a token differ by the rotation."""
    torch.manual_seed(0)
    network = build(patch_size=(16, 8, 8))
    module = network.module.eval()
    with torch.no_grad():
        module.eva.pos_embed.zero_()
        image = torch.randn(1, 2, 16, 8, 8)
        first = module(image)
        swapped = module(image.roll(8, 2))
    # Attention over two tokens depends on their order only by the sign of the angle.
    assert not torch.allclose(first.roll(8, 2), swapped, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 10}, "width 10 is not a multiple of 6"),
        ({"patch_size": (16, 24, 12)}, "patch edges must be multiples of 8"),
        ({"decoder_channels": [8]}, r"decoder_channels has 2 numbers, not \[8\]"),
        ({"spatial_dims": 2, "patch_size": (16, 16)}, "cannot be built in 2-D"),
    ],
)
def test_odd_settings_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(**options)
