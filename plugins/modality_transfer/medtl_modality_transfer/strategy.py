"""The plan of modality-transfer: source, adapt (early blocks frozen), unfreeze (lower rate)."""

from __future__ import annotations

from medtl.transfer.strategies.base import Request, Stage, source_stage, stage

#: The stem is exempt where it holds a new modality, so two blocks mean: freeze the first encoder.
FROZEN_BLOCKS = "2"
ADAPT_SHARE = 0.5
UNFREEZE_RATE = 0.5


def modality_transfer(request: Request) -> tuple[Stage, ...]:
    """Use when source and target show the same anatomy in other contrasts.

    The source's weights are carried over channel by channel; the first blocks stay frozen, norm
    statistics included, while the rest adapts; then everything trains on at a lower rate, so the
    adaptation and the unfreezing share the target's steps.
    Source: Howard and Ruder 2018 (ULMFiT), for unfreezing at a lower rate.
    """
    before, init = source_stage(request)
    adapt_steps = max(1, round(ADAPT_SHARE * request.steps))
    adapt = stage(
        request,
        "adapt",
        request.target,
        adapt_steps,
        init=init,
        frozen=request.freeze or FROZEN_BLOCKS,
        next_from="last",
    )
    rest = request.steps - adapt_steps
    if rest < 1:
        return (*before, adapt)
    unfreeze = stage(request, "unfreeze", request.target, rest, rate=UNFREEZE_RATE)
    return (*before, adapt, unfreeze)
