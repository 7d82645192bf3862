"""Strategies that train the target in one stage."""

from __future__ import annotations

from typing import Any

from medtl.transfer.strategies.base import (
    LossSpec,
    Request,
    Stage,
    by_depth,
    depth_of,
    refuse,
    source_stage,
    stage,
)

#: Factor of the learning rate for pretrained weights.
PRETRAINED_FACTOR = 0.5


def scratch(request: Request) -> tuple[Stage, ...]:
    """Train on the target alone from random weights.

    Use when no source is worth having, and as the control of every transfer.
    Source: He et al. 2019, Rethinking ImageNet Pre-training.
    """
    refuse(
        request.init,
        "scratch starts from random weights; name a --strategy that transfers, e.g. fine-tune, or "
        "drop --init",
    )
    refuse(request.freeze, "scratch trains every block; drop --freeze")
    return (stage(request, "scratch", request.target, request.steps, init="random"),)


def linear_probe(request: Request) -> tuple[Stage, ...]:
    """Keep the source's features as they are and train a new head alone.

    Use when target cases are very few, or to see how good the features are as they are.
    Source: Alain and Bengio 2016, Understanding intermediate layers using linear classifier probes.
    """
    refuse(request.freeze, "linear-probe freezes all but the head; drop --freeze")
    head = request.blocks[-1]
    return _tuned(request, "linear-probe", reinit=(head,), frozen=f"all-but:{head}")


def fine_tune(request: Request) -> tuple[Stage, ...]:
    """Start from the source's weights and train every block, early ones at lower learning rates.

    Use when source and target have the same classes or regions, and target cases are not few.
    Source: Howard and Ruder 2018 (ULMFiT), for rates that fall with the distance from the head.
    """
    return _tuned(request, "fine-tune", rates=by_depth(request, PRETRAINED_FACTOR))


def transfusion(request: Request) -> tuple[Stage, ...]:
    """Carry over the first ``depth`` blocks, leave the others random, and train all of them.

    Use when source and target are far apart: sweep ``--depth`` to see which blocks help.
    Source: Raghu et al. 2019, Transfusion.
    """
    blocks = request.blocks
    meaning = "the number of first blocks that transfusion carries over"
    depth = depth_of(request, 0, len(blocks), meaning)
    return _tuned(request, "transfusion", reinit=blocks[depth:])


def l2_sp(request: Request) -> tuple[Stage, ...]:
    """Train every block, but pull the weights towards their initial values.

    Use when target cases are few and the source is close: the pull replaces weight decay.
    Source: Li et al. 2018, Explicit Inductive Bias for Transfer Learning.
    """
    losses = (*request.losses, LossSpec("l2-sp"))
    return _tuned(request, "l2-sp", rate=PRETRAINED_FACTOR, losses=losses, weight_decay=0.0)


def _tuned(request: Request, name: str, **changes: Any) -> tuple[Stage, ...]:
    """One stage on the target after the source stage; ``--freeze`` says what is not trained."""
    before, init = source_stage(request)
    changes = {"init": init, "frozen": request.freeze or "none", **changes}
    return (*before, stage(request, name, request.target, request.steps, **changes))
