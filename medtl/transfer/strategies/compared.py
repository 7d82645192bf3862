"""Strategies that transfers are compared with: the source as it is, and both domains at once."""

from __future__ import annotations

from dataclasses import replace

from medtl.transfer.strategies.base import Request, Stage, refuse, source_stage, stage


def zero_shot(request: Request) -> tuple[Stage, ...]:
    """Score the source's network on the target as it is; no label of the target is used.

    Use to see how much of the source's skill carries over without any training. Where the target
    has other modalities, their channels come from the nearest ones of the source.
    """
    refuse(request.freeze, "zero-shot trains nothing on the target; drop --freeze")
    before, init = source_stage(request)
    same = request.source.modalities == request.target.modalities
    unchanged = stage(request, "zero-shot", request.target, 0, init=init)
    if same:  # what is fitted on labels stays the source's
        unchanged = replace(unchanged, domain=request.source, evaluate_on=request.target)
    return (*before, unchanged)


def joint(request: Request) -> tuple[Stage, ...]:
    """Train on source and target together from random weights, for the steps of both.

    Use when source and target have the same modalities. Every pass shows as many source cases as
    target cases; those of the smaller domain are shown more often.
    """
    refuse(
        request.init,
        "joint trains on source and target at once from random weights; drop --init, or name "
        "another --strategy",
    )
    refuse(request.freeze, "joint trains every block; drop --freeze")
    ours, theirs = request.source.modalities, request.target.modalities
    refuse(
        ours != theirs,
        f"joint: --src has {'+'.join(ours)}, --dst {'+'.join(theirs)}; both need the same "
        "modalities (for other ones: fine-tune or modality-transfer)",
    )
    refuse(request.source == request.target, "joint: --src and --dst are the same; name another")
    return (
        stage(
            request, "joint", request.target, 2 * request.steps, init="random",
            beside=request.source,
        ),
    )  # fmt: skip
