"""Strategies that transfers are compared with: the source as it is, and both domains at once."""

from __future__ import annotations

from dataclasses import replace

from medtl.data.domain import Domain
from medtl.data.modality import NEAREST
from medtl.transfer.strategies.base import Request, Stage, refuse, source_stage, stage


def zero_shot(request: Request) -> tuple[Stage, ...]:
    """Score the source's network on the target as it is; no label of the target is used.

    Use to see what carries over without any target label. Where the target has other modalities,
    their channels come from the nearest ones of the source.
    Source: AlBadawy et al. 2018, Deep learning for segmentation of brain tumors: impact of
    cross-institutional training and testing.
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

    Use to see whether training one after the other is needed at all. Every pass shows as many
    source cases as target cases: those of the smaller domain are shown more often. Where the target
    has other modalities, the nearest one of the source takes the channel of each.
    Source: Daume 2007, Frustratingly Easy Domain Adaptation (the baseline All).
    """
    refuse(
        request.init,
        "joint trains on source and target at once from random weights; drop --init, or name "
        "another --strategy",
    )
    refuse(request.freeze, "joint trains every block; drop --freeze")
    beside = _in_the_channels_of(request.target, request.source)
    refuse(
        beside == request.target,
        "joint: --src has the images of --dst, so that both are the same; name another --src",
    )
    return (
        stage(
            request,
            "joint",
            request.target,
            2 * request.steps,
            init="random",
            beside=beside,
        ),
    )


def _in_the_channels_of(target: Domain, source: Domain) -> Domain:
    """The source with one of its modalities for each of the target's: itself, its nearest one, the
    one at its place, or else the first."""
    ours, theirs = target.modalities, source.modalities
    chosen = []
    for place, name in enumerate(ours):
        near = [other for other in (name, *NEAREST.get(name, ())) if other in theirs]
        chosen.append([*near, *theirs[place : place + 1], theirs[0]][0])
    return replace(source, modalities=tuple(chosen))
