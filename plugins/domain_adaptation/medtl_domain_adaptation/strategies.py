"""Plans that use images of the target without their labels.

All have the same two stages, so they can be compared. The stage ``source`` trains on the source
alone. The method's own stage starts from the same weights, takes as many steps on the source's
labels, and also sees unlabelled images of the target. Both are scored on the target.
"""

from __future__ import annotations

from dataclasses import replace

from medtl.errors import ConfigError
from medtl.transfer.strategies.base import SOURCE, LossSpec, Request, Stage, stage

#: Weight of each method's loss, where none is given.
WEIGHTS = {"dann": 1.0, "coral": 10.0, "mmd": 1.0}


def dann(request: Request) -> tuple[Stage, ...]:
    """Train on the source while a critic keeps its features from separating the target.

    Use when target images are many and the kind of shift is unknown.
    Source: Ganin et al. 2016 (DANN).
    """
    return _aligned(request, "dann")


def coral(request: Request) -> tuple[Stage, ...]:
    """Train on the source with equal covariances of both domains' features.

    Use when contrast and scale differ and batches are large.
    Source: Sun and Saenko 2016 (Deep CORAL).
    """
    return _aligned(request, "coral")


def mmd(request: Request) -> tuple[Stage, ...]:
    """Train on the source with equal distributions of both domains' features.

    Use where more than the covariances of features differs.
    Source: Long et al. 2015 (DAN).
    """
    return _aligned(request, "mmd")


def adabn(request: Request) -> tuple[Stage, ...]:
    """Train on the source, then take the statistics of batch norm from the target.

    Use first: no weight is trained, one pass over the images per norm layer. Needs batch norm.
    Source: Li et al. 2016 (AdaBN).
    """
    if request.freeze:
        raise ConfigError("adabn trains nothing on the target; drop --freeze")
    if request.alignment is not None or request.select_by is not None:
        raise ConfigError("adabn aligns and selects nothing; drop alignment and select_by")
    source = _source(request)
    adapted = replace(
        source,
        name="adabn",
        steps=0,
        init=request.init or "previous",
        unlabelled=request.target,
        norm_stats="target",
    )
    return (adapted,) if request.init else (source, adapted)


def _aligned(request: Request, method: str) -> tuple[Stage, ...]:
    source = _source(request)
    weight = WEIGHTS[method] if request.alignment is None else request.alignment
    adapted = replace(
        source,
        name=method,
        unlabelled=request.target,
        losses=(*request.losses, LossSpec(method, weight)),
        select_by=request.select_by or "source-validation",
    )
    return source, adapted


def _source(request: Request) -> Stage:
    return stage(
        request,
        SOURCE,
        request.source,
        request.steps,
        init=request.init or "random",
        frozen=request.freeze or "none",
        evaluate_on=request.target,
        select_by="source-validation",
    )
