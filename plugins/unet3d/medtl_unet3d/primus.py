"""Primus, a transformer whose tokens are small cubes (Wald et al. 2025).

Its tensors have the names of dynamic-network-architectures' Primus, as nnU-Net trains it (attention
normed within, branches scaled from .1); so public pretrained weights load one to one.

Axes: B batch, C channel, I J K voxel axes, N token, H head, D number of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl.errors import ConfigError
from medtl.networks.blocks import Block, Network
from medtl.networks.builder import finish

#: Edge of a token's cube in voxels, and the stages of the decoder that lead back.
TOKEN, STAGES = 8, 3

#: Blocks and heads of the size M, and numbers per head.
DEPTH, HEADS, WIDTH = 16, 12, 72

#: Edge of the published patch.
PATCH = 160

#: Hidden numbers of a block's second half, over the token's.
GROWTH = 8 / 3

#: What a block's two branches are scaled with at the start.
SCALE = 0.1

#: Base of the wavelengths of the rotary position embedding.
BASE = 10_000.0


class Attention(nn.Module):
    """Every token looks at all; positions turn queries and keys."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(numbers, numbers)
        self.k_proj = nn.Linear(numbers, numbers, bias=False)
        self.v_proj = nn.Linear(numbers, numbers)
        self.norm = nn.LayerNorm(numbers)
        self.proj = nn.Linear(numbers, numbers)

    def forward(self, tokens_BNC: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        query, key, value = (
            project(tokens_BNC).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen_BHND = functional.scaled_dot_product_attention(
            turned(query, *turn), turned(key, *turn), value
        )
        return self.proj(self.norm(seen_BHND.transpose(1, 2).flatten(2)))


class Gated(nn.Module):
    """SwiGLU: one projection gates another; a norm and a projection back follow."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        hidden = int(numbers * GROWTH)
        self.fc1_g, self.fc1_x = nn.Linear(numbers, hidden), nn.Linear(numbers, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, numbers)

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        gate = functional.silu(self.fc1_g(tokens_BNC))
        return self.fc2(self.norm(gate * self.fc1_x(tokens_BNC)))


class Layer(nn.Module):
    """Attention, then a gated projection, each beside a shortcut."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(numbers), Attention(numbers)
        self.norm2, self.mlp = nn.LayerNorm(numbers), Gated(numbers)
        self.gamma_1 = nn.Parameter(torch.full((numbers,), SCALE))
        self.gamma_2 = nn.Parameter(torch.full((numbers,), SCALE))

    def forward(self, tokens_BNC: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        tokens_BNC = tokens_BNC + self.gamma_1 * self.attn(self.norm1(tokens_BNC), turn)
        return tokens_BNC + self.gamma_2 * self.mlp(self.norm2(tokens_BNC))


class Transformer(nn.Module):
    """Layers on tokens of a fixed grid."""

    def __init__(self, numbers: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, math.prod(grid), numbers))
        self.blocks = nn.ModuleList(Layer(numbers) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(numbers)
        sine, cosine = angles(grid, numbers // HEADS)
        self.register_buffer("sine", sine, persistent=False)
        self.register_buffer("cosine", cosine, persistent=False)

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        tokens_BNC = tokens_BNC + self.pos_embed
        for block in self.blocks:
            tokens_BNC = block(tokens_BNC, (self.sine, self.cosine))
        return self.norm(tokens_BNC)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each voxel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, batch: Tensor) -> Tensor:
        last = functional.layer_norm(
            batch.movedim(1, -1), self.weight.shape, self.weight, self.bias, 1e-6
        )
        return last.movedim(-1, 1)


class Embedding(nn.Module):
    """A token per cube."""

    def __init__(self, in_channels: int, numbers: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, numbers, TOKEN, TOKEN)

    def forward(self, batch: Tensor) -> Tensor:
        return self.proj(batch)


class Decode(nn.Module):
    """Transposed convolutions from tokens to voxels."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        *inner, last = [
            nn.ConvTranspose3d(before, after, 2, 2) for before, after in pairwise(channels)
        ]
        stages = [nn.Sequential(up, ChannelNorm(up.out_channels), nn.GELU()) for up in inner]
        self.decode = nn.Sequential(*stages, last)

    def forward(self, batch: Tensor) -> Tensor:
        return self.decode(batch)


class Primus(nn.Module):
    """Embedding, transformer, decoder."""

    def __init__(
        self, in_channels: int, numbers: int, grid: Sequence[int], channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.down_projection = Embedding(in_channels, numbers)
        self.up_projection = Decode(channels)
        self.eva = Transformer(numbers, grid)
        # Of tokens that pretraining hides; checkpoints hold it.
        self.register_buffer("mask_token", torch.zeros(1, 1, numbers))
        self.apply(_start)
        nn.init.trunc_normal_(self.eva.pos_embed, std=0.02)
        for depth, block in enumerate(self.eva.blocks, 1):
            for linear in (block.attn.proj, block.mlp.fc2):
                linear.weight.data.div_(math.sqrt(2.0 * depth))

    def forward(self, batch: Tensor) -> Tensor:
        map_BCIJK = self.down_projection(batch)
        tokens_BNC = self.eva(map_BCIJK.flatten(2).transpose(1, 2))
        return self.up_projection(tokens_BNC.transpose(1, 2).unflatten(2, map_BCIJK.shape[2:]))


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=0.01)
    if isinstance(module, nn.Linear | nn.Conv3d | nn.ConvTranspose3d) and module.bias is not None:
        nn.init.zeros_(module.bias)


def angles(grid: Sequence[int], numbers: int) -> tuple[Tensor, Tensor]:
    """Sine and cosine (N, D) of the angle by which each pair of a head's numbers is turned.

    A sixth of the numbers, in pairs, are wavelengths along each of the three axes (Su et al. 2024).
    """
    bands = numbers // 6
    frequencies = BASE ** -(torch.arange(bands) / bands)
    places = torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij"), dim=-1)
    angle = (places[..., None] * frequencies).reshape(math.prod(grid), -1)
    pairs = angle.repeat_interleave(2, -1)
    return pairs.sin(), pairs.cos()


def turned(rows_BHND: Tensor, sine_ND: Tensor, cosine_ND: Tensor) -> Tensor:
    """Each pair of numbers turned by its angle."""
    even, odd = rows_BHND[..., ::2], rows_BHND[..., 1::2]
    across = torch.stack((-odd, even), dim=-1).flatten(-2)
    found: Tensor = rows_BHND * cosine_ND + across * sine_ND
    return found.to(rows_BHND.dtype)


def decoder_channels_of(numbers: int, outputs: int) -> list[int]:
    """Between the tokens' numbers and the outputs: falling evenly, in multiples of 8."""
    factor = (numbers / (2 * outputs)) ** (1 / STAGES)
    return [max(8, 8 * round(numbers / factor**stage / 8)) for stage in range(1, STAGES)]


def _blocks() -> tuple[Block, ...]:
    """The layers in fourths, the last of which is the bottleneck."""
    quarter = DEPTH // 4
    fourths = [
        tuple(f"eva.blocks.{n}.*" for n in range(first, first + quarter))
        for first in range(0, DEPTH, quarter)
    ]
    *decoder, head = [(f"up_projection.decode.{stage}.*",) for stage in range(STAGES)]
    return (
        Block("stem", "stem", ("down_projection.*", "eva.pos_embed", "mask_token")),
        *(Block(f"encoder{n}", "encoder", names) for n, names in enumerate(fourths[:-1], 1)),
        Block("bottleneck", "bottleneck", (*fourths[-1], "eva.norm.*")),
        *(Block(f"decoder{n}", "decoder", names) for n, names in enumerate(decoder, 1)),
        Block("head", "head", head),
    )


def primus_m(
    *,
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 3,
    width: int | None = None,
    patch_size: tuple[int, ...] | None = None,
    decoder_channels: Sequence[int] | None = None,
) -> Network:
    """Primus-M (Wald et al. 2025): 16 layers, 12 heads of ``width`` 72, for one patch size.

    ``decoder_channels``: of the decoder between tokens and outputs, [144, 24] unless stated; in a
    checkpoint of nnU-Net they follow from the number of its classes.
    """
    width = WIDTH if width is None else width
    numbers, patch = HEADS * width, tuple(patch_size or (PATCH,) * spatial_dims)
    if width % 6:
        raise ConfigError(f"primus-m: width {width} is not a multiple of 6")
    if any(edge % TOKEN for edge in patch):
        raise ConfigError(f"primus-m: patch edges must be multiples of {TOKEN}, not {patch}")
    given = decoder_channels
    inner = list(decoder_channels_of(numbers, 2) if given is None else given)
    if len(inner) != STAGES - 1:
        raise ConfigError(f"primus-m: decoder_channels has {STAGES - 1} numbers, not {inner}")
    grid = [edge // TOKEN for edge in patch]
    return finish(
        "primus-m",
        lambda channels, outputs: Primus(channels, numbers, grid, [numbers, *inner, outputs]),
        _blocks(),
        in_channels=in_channels,
        out_channels=out_channels,
        spatial_dims=spatial_dims,
        width=width,
        dimensions=(3,),
        patch_multiple=TOKEN,
        patch_size=patch,
        fixed_patch=True,
        options={"decoder_channels": given},
    )
