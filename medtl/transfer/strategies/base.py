"""The stages of a transfer, which strategies plan, as plain data; needs no torch.

The strategies themselves are in ``medtl.transfer.strategies.finetune``,
``medtl.transfer.strategies.unfreeze`` and ``medtl.transfer.strategies.compared``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from medtl.data.domain import Domain
from medtl.errors import ConfigError

#: Stage names: training on the source, and the from-scratch controls (A: the target's steps,
#: B: source + target steps).
SOURCE = "source"


CONTROL_A = "control-a"


CONTROL_B = "control-b"


#: Options that change only the target's network; the source's is whole.
CUTS = ("keep_blocks", "slim_from")


#: The head's learning rate over the stem's, if learning rates follow the depth.
SPAN = 10.0


#: Warm-up as a share of a stage's steps, momentum of sgd, decay of the running average.
WARMUP, MOMENTUM, AVERAGE = 0.05, 0.9, 0.99


@dataclass(frozen=True, slots=True)
class LossSpec:
    """One term of the objective, by component name.

    ``features_from``: the block whose features it takes, if any; "" is the one before the head.
    """

    name: str
    weight: float = 1.0
    params: Mapping[str, Any] = field(default_factory=dict)
    features_from: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a transfer: what is trained, on which domain, from which weights, how long.

    ``init`` is "random", "previous" (the stage before) or a weights file or run folder. ``frozen``
    is a freeze specification (``medtl.networks.blocks.select_blocks``). ``rates`` maps block
    names, or "*" for the rest, to learning rates. ``steps`` counts optimiser steps; a stage
    without steps trains nothing. ``initialiser`` names a component that changes the weights after
    loading (``medtl.transfer.initialisers``).

    ``beside`` is a second domain whose labelled cases the stage trains on as often.
    ``unlabelled`` is a domain whose training images the stage uses without labels; ``evaluate_on``
    is the domain whose test cases it is scored on, if not its own. ``norm_stats``: running
    statistics of norms follow the training batches ("train"), are not changed ("frozen"), or are
    estimated on the unlabelled images at the end ("target"). ``select_by`` is the score that
    selects the best weights: :mod:`medtl.evaluation.label_free`.
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
    warmup: float = WARMUP  #: of the rates, as a share of the steps
    momentum: float = MOMENTUM  #: of sgd
    average: float = AVERAGE  #: decay of the running average of the weights
    batch_size: int = 2
    losses: tuple[LossSpec, ...] = (LossSpec("dice-ce"),)
    beside: Domain | None = None
    unlabelled: Domain | None = None
    evaluate_on: Domain | None = None
    norm_stats: str = "train"
    select_by: str = "validation"
    next_from: str = "best"
    initialiser: str | None = None
    weight_decay: float | None = None  #: None: the optimiser's default
    options: Mapping[str, Any] = field(default_factory=dict)  #: the network's, over the config's

    def learnt_from(self) -> tuple[Domain, ...]:
        """The domains whose labels the stage trains or calibrates with."""
        return (self.domain,) if self.beside is None else (self.domain, self.beside)

    def domains(self) -> tuple[Domain, ...]:
        """Every domain that the stage uses."""
        domains = (self.domain, self.beside, self.unlabelled, self.evaluate_on)
        return tuple(dict.fromkeys(domain for domain in domains if domain is not None))


@dataclass(frozen=True, slots=True)
class Request:
    """The settings that a strategy plans for. ``steps`` are those of source and target each.

    ``blocks`` are the target network's in order, the head last. ``depth`` counts what the strategy
    defines. ``optimizer`` and ``weight_decay`` None: the strategy chooses.
    """

    source: Domain
    target: Domain
    steps: int
    batch_size: int
    rate: float
    init: str | None = None
    freeze: str | None = None
    schedule: str = "cosine"
    warmup: float = WARMUP
    momentum: float = MOMENTUM
    average: float = AVERAGE
    losses: tuple[LossSpec, ...] = (LossSpec("dice-ce"),)
    blocks: tuple[str, ...] = ("head",)
    depth: int | None = None
    keep_blocks: int | None = None
    optimizer: str | None = None
    weight_decay: float | None = None
    initialiser: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  #: the network's, as given
    init_steps: int | None = None  #: steps that the weights of ``init`` were trained for, if known
    alignment: float | None = None  #: weight of the loss that aligns source and target
    select_by: str | None = None  #: the selection score of stages with unlabelled images


class Strategy(Protocol):
    """The type of a strategy component: a function that plans stages.

    >>> from medtl.data.domain import parse_domain
    >>> from medtl.transfer.strategies.base import Request
    >>> from medtl.transfer.strategies.finetune import linear_probe
    >>> flair, t1 = parse_domain("flair"), parse_domain("t1")
    >>> stages = linear_probe(Request(flair, t1, steps=100, batch_size=2, rate=1e-3))
    >>> [(stage.name, stage.steps, stage.frozen) for stage in stages]
    [('source', 100, 'none'), ('linear-probe', 100, 'all-but:head')]
    """

    def __call__(self, request: Request) -> tuple[Stage, ...]: ...


def stage(request: Request, name: str, domain: Domain, steps: int, **changes: Any) -> Stage:
    """A stage with the request's settings, ``changes`` on top; ``rate`` scales every block's.

    An ``optimizer`` or a ``weight_decay`` among the changes is the strategy's default, which the
    request's replaces.
    """
    rate = request.rate * float(changes.pop("rate", 1.0))
    settings = {
        "rates": {"*": rate},
        "schedule": request.schedule,
        "warmup": request.warmup,
        "momentum": request.momentum,
        "average": request.average,
        "batch_size": request.batch_size,
        "losses": request.losses,
        **changes,
    }
    if request.optimizer:
        settings["optimizer"] = request.optimizer
    if request.weight_decay is not None:
        settings["weight_decay"] = request.weight_decay
    return Stage(name, domain, steps, **settings)


def source_stage(request: Request) -> tuple[tuple[Stage, ...], str]:
    """The first stages and the next ``init``: ``--init`` without training, else a source stage."""
    if request.init:
        return (), request.init
    source = stage(request, SOURCE, request.source, request.steps, init="random")
    return (source,), "previous"


def by_depth(request: Request, rate: float = 1.0) -> dict[str, float]:
    """``rate`` times the request's at the head, falling evenly to one ``SPAN``-th at the stem."""
    top, below = request.rate * rate, len(request.blocks) - 1
    rates = {
        block: top * SPAN ** ((index - below) / max(1, below))
        for index, block in enumerate(request.blocks)
    }
    return {**rates, "*": top}


def depth_of(request: Request, low: int, high: int, meaning: str, usual: int | None = None) -> int:
    """``--depth``, or the ``usual`` one; ConfigError with its ``meaning`` if out of range."""
    depth = usual if request.depth is None else request.depth
    if depth is None or not low <= depth <= high:
        given = "--depth is needed" if depth is None else f"--depth {depth}"
        raise ConfigError(
            f"{given}: {meaning}, {low} to {high}; the blocks are {', '.join(request.blocks)}"
        )
    return depth


def divided(steps: int, shares: Sequence[float]) -> list[int]:
    """Divide the steps by ``shares``, which do not decrease.

    Each part has at least one step, so there are at most as many parts as steps.
    """
    shares = shares[:steps]
    parts = [max(1, int(steps * share / sum(shares))) for share in shares]
    return [*parts[:-1], steps - sum(parts[:-1])]


def on_target(request: Request, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages with the request's options of the target's network and its initialiser.

    A source stage that is scored on the target is compared with the others, so it gets them too.
    """
    whole = {name: None for name in CUTS if name in request.options}
    cut = {"keep_blocks": request.keep_blocks} if request.keep_blocks else {}
    changed: list[Stage] = []
    started = False
    for planned in stages:
        if planned.name == SOURCE and planned.evaluate_on is None:
            changed.append(replace(planned, options={**planned.options, **whole}))
            continue
        starts = not started or planned.init != "previous"
        started = True
        initialiser = request.initialiser if starts else planned.initialiser
        options = {**planned.options, **cut}
        changed.append(replace(planned, options=options, initialiser=initialiser))
    return tuple(changed)


def controls(request: Request, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Controls trained from scratch on the target: A for the target's steps, B for all steps.

    With ``--init`` the steps recorded there count too; if none are known, there is only A.
    """
    on_source = sum(planned.steps for planned in stages if planned.name == SOURCE)
    # Nothing is trained on the target without target steps; its control has the usual number.
    steps = sum(planned.steps for planned in stages) - on_source or request.steps
    (arm_a,) = on_target(
        replace(request, initialiser=None),
        (stage(request, CONTROL_A, request.target, steps, init="random"),),
    )
    before = on_source + (request.init_steps or 0)
    return (arm_a, replace(arm_a, name=CONTROL_B, steps=steps + before)) if before else (arm_a,)


def carried_over(stages: Sequence[Stage]) -> bool:
    """Whether labelled training starts from trained weights, so that controls make sense."""
    labelled = all(planned.unlabelled is None for planned in stages)
    return labelled and any(planned.init != "random" for planned in stages)


def steps_so_far(stages: Sequence[Stage], before: int | None) -> dict[str, int | None]:
    """Training steps of each stage's weights in all; ``before``: those of ``--init``, if known."""
    taken: dict[str, int | None] = {}
    carried: int | None = 0
    for planned in stages:
        start = {"random": 0, "previous": carried}.get(planned.init, before)
        taken[planned.name] = None if start is None else start + planned.steps
        if planned.name not in (CONTROL_A, CONTROL_B):
            carried = taken[planned.name]
    return taken


def refuse(value: object, message: str) -> None:
    """Raise ConfigError with the message if ``value`` is given."""
    if value:
        raise ConfigError(message)
