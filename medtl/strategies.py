"""Strategies plan the Stages of a transfer as plain data; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from medtl.domain import Domain
from medtl.errors import ConfigError

#: Stage names: training on the source, and the from-scratch controls (A: the target's steps,
#: B: source + target steps).
SOURCE = "source"
CONTROL_A = "control-a"
CONTROL_B = "control-b"


@dataclass(frozen=True, slots=True)
class LossSpec:
    """One term of the objective, by component name.

    ``features_from``: the block whose features it sees, if it sees any; "" is the one before the
    head.
    """

    name: str
    weight: float = 1.0
    params: Mapping[str, Any] = field(default_factory=dict)
    features_from: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One leg of a transfer: what is trained where, from what, for how long.

    ``init`` is "random", "previous" (the stage before) or a weights file or run folder. ``frozen``
    is a freeze specification (``medtl.networks.select_blocks``). ``rates`` maps block names, or
    "*" for the rest, to learning rates. ``steps`` counts optimiser steps; a stage without steps
    trains nothing.

    ``unlabelled`` is a domain of which the stage sees training images beside the labelled ones, and
    no label; ``evaluate_on``, the domain whose test cases it is scored on, if not its own.
    ``norm_stats``: running statistics of norms follow the training batches ("train"), stay as they
    are ("frozen"), or are taken from the unlabelled images at the end ("target").
    ``select_by`` says how the best weights are told: :mod:`medtl.selection`.
    """

    name: str
    domain: Domain
    steps: int
    init: str = "previous"
    reinit: tuple[str, ...] = ()
    frozen: str = "none"
    optimizer: str = "adamw"
    rates: Mapping[str, float] = field(default_factory=lambda: {"*": 2e-3})
    schedule: str = "cosine"
    batch_size: int = 2
    losses: tuple[LossSpec, ...] = (LossSpec("dice-ce"),)
    unlabelled: Domain | None = None
    evaluate_on: Domain | None = None
    norm_stats: str = "train"
    select_by: str = "validation"
    next_from: str = "best"

    def domains(self) -> tuple[Domain, ...]:
        """Every domain that the stage sees."""
        seen = (self.domain, self.unlabelled, self.evaluate_on)
        return tuple(dict.fromkeys(domain for domain in seen if domain is not None))


@dataclass(frozen=True, slots=True)
class Request:
    """What a strategy plans for. ``steps`` is the budget of each side, source and target."""

    source: Domain
    target: Domain
    steps: int
    batch_size: int
    rate: float
    init: str | None = None
    freeze: str | None = None
    schedule: str = "cosine"
    losses: tuple[LossSpec, ...] = (LossSpec("dice-ce"),)
    alignment: float | None = None  #: weight of the loss that aligns source and target
    select_by: str | None = None  #: how a stage with unlabelled images selects


class Strategy(Protocol):
    """What a strategy component's target must be: a function that plans."""

    def __call__(self, request: Request) -> tuple[Stage, ...]: ...


def stage(request: Request, name: str, domain: Domain, steps: int, **changes: Any) -> Stage:
    """A stage with the request's settings, ``changes`` on top; ``rate`` scales every block's."""
    rate = request.rate * float(changes.pop("rate", 1.0))
    return Stage(
        name,
        domain,
        steps,
        rates=changes.pop("rates", {"*": rate}),
        schedule=request.schedule,
        batch_size=request.batch_size,
        losses=request.losses,
        **changes,
    )


def opening(request: Request) -> tuple[tuple[Stage, ...], str]:
    """How a transfer starts: from ``--init`` without training, else with a stage on the source."""
    if request.init:
        return (), request.init
    source = stage(request, SOURCE, request.source, request.steps, init="random")
    return (source,), "previous"


def scratch(request: Request) -> tuple[Stage, ...]:
    """Train on the target alone from random weights: the control of every transfer."""
    _refuse(request.init, "scratch starts from random weights; drop --init")
    _refuse(request.freeze, "scratch trains every block; drop --freeze")
    return (stage(request, "scratch", request.target, request.steps, init="random"),)


def fine_tune(request: Request) -> tuple[Stage, ...]:
    """Start from the source's weights and train every block at a lower rate."""
    before, init = opening(request)
    return (
        *before,
        stage(
            request,
            "fine-tune",
            request.target,
            request.steps,
            init=init,
            frozen=request.freeze or "none",
            rate=0.5,
        ),
    )


def linear_probe(request: Request) -> tuple[Stage, ...]:
    """Keep the source's features and train a new head only: how good are they as they are?"""
    _refuse(request.freeze, "linear-probe freezes all but the head; drop --freeze")
    before, init = opening(request)
    probe = stage(
        request,
        "linear-probe",
        request.target,
        request.steps,
        init=init,
        reinit=("head",),
        frozen="all-but:head",
    )
    return (*before, probe)


def controls(request: Request, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """From-scratch arms for a plan, on the target: A gets the target's steps, B all steps.

    A plan that starts from ``--init`` spent no steps on the source that are known here: only A.
    """
    total = sum(each.steps for each in stages)
    on_target = total - sum(each.steps for each in stages if each.name == SOURCE)
    arm_a = stage(request, CONTROL_A, request.target, on_target, init="random")
    return (arm_a, replace(arm_a, name=CONTROL_B, steps=total)) if total > on_target else (arm_a,)


def _refuse(value: str | None, message: str) -> None:
    if value:
        raise ConfigError(message)
