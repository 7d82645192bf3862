"""Strategies that unfreeze a network from its head downwards, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medtl.transfer.strategies.base import (
    Request,
    Stage,
    by_depth,
    depth_of,
    divided,
    refuse,
    source_stage,
    stage,
)

#: Factor of the learning rate for a new head over that of pretrained weights.
WARM_UP = 10.0


#: Learning rate of SGD with momentum over that of Adam for equal steps.
SGD_RATE = 10.0


#: Shares of the target's steps: the head alone, the last block too, deeper ones too.
HEAD_FIRST_SHARES = (0.2, 0.3, 0.5)


#: At most this many stages; more blocks are unfrozen several at a time.
MOST_STAGES = 6


#: Share of the target's steps in the last stage.
LAST_SHARE = 0.5


def head_first(request: Request) -> tuple[Stage, ...]:
    """Warm up a new head, then train the last block too, then deeper ones, at low rates by SGD.

    Use when the target's classes are new: a random head never disturbs trainable features.
    ``--depth``: number of blocks below the head that are trained in the end (default: all).
    Source: Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features (LP-FT).
    """
    depth = _depth(request, "head-first")
    opened = sorted({0, min(1, depth), depth})
    optimizer = request.optimizer or "sgd"
    unit = (SGD_RATE if optimizer == "sgd" else 1.0) / WARM_UP
    names = ("head", "last-block", "deeper")
    warm_up = {"*": request.rate * unit * WARM_UP}
    rates = [warm_up, *[by_depth(request, unit)] * 2]
    return _thaw(request, opened, names, rates, HEAD_FIRST_SHARES, optimizer)


def gradual_unfreeze(request: Request) -> tuple[Stage, ...]:
    """Train a new head, then thaw one block more per stage, early ones at lower rates.

    Use when target cases are few and the network is deep: what is general is changed last.
    ``--depth``: number of blocks below the head that are unfrozen in the end (default: all).
    Source: Howard and Ruder 2018, Universal Language Model Fine-tuning (ULMFiT).
    """
    depth = _depth(request, "gradual-unfreeze")
    count = min(depth + 1, MOST_STAGES)
    opened = [round(n * depth / max(1, count - 1)) for n in range(count)]
    names = [f"unfreeze-{n}" for n in range(1, count + 1)]
    shares = [*[(1 - LAST_SHARE) / max(1, count - 1)] * (count - 1), LAST_SHARE]
    return _thaw(request, opened, names, [by_depth(request)] * count, shares)


def _depth(request: Request, name: str) -> int:
    refuse(request.freeze, f"{name} plans what is frozen; drop --freeze, or give --depth")
    below = len(request.blocks) - 1
    meaning = f"the number of blocks below the head that {name} trains in the end"
    return depth_of(request, 0, below, meaning, usual=below)


def _thaw(
    request: Request,
    opened: Sequence[int],
    names: Sequence[str],
    rates: Sequence[Mapping[str, float]],
    shares: Sequence[float],
    optimizer: str = "adamw",
) -> tuple[Stage, ...]:
    """One stage for each number of blocks below the head that are ``opened``; few steps end it
    early."""
    before, init = source_stage(request)
    *below, head = request.blocks
    stages = []
    for n, steps in enumerate(divided(request.steps, shares[: len(opened)])):
        closed, open_ = below[: len(below) - opened[n]], below[len(below) - opened[n] :]
        thawed = stage(
            request,
            names[n],
            request.target,
            steps,
            init="previous" if n else init,
            reinit=() if n else (head,),
            frozen=min(",".join(closed) or "none", f"all-but:{','.join((*open_, head))}", key=len),
            rates=rates[n],
            optimizer=optimizer,
            next_from="last",
        )
        stages.append(thawed)
    return (*before, *stages)
