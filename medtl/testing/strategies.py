"""What a strategy must keep: its plans are tried on a small network of four blocks."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch

from medtl.errors import ConfigError
from medtl.evaluation.label_free import check_selector
from medtl.networks.blocks import select_blocks
from medtl.runtime.device import build_fabric
from medtl.testing.check import CheckFailed, Tried, require
from medtl.testing.toys import (
    BATCH,
    BLOCKS,
    REGIONS,
    SOURCE,
    TARGET,
    changed,
    copied,
    toy_batches,
    toy_network,
    toy_weights,
)
from medtl.training.build import build_losses
from medtl.training.loop import Setup, fit
from medtl.training.optimizer import WEIGHT_DECAY, scheduled
from medtl.transfer.prepare import prepare_network
from medtl.transfer.strategies.base import LossSpec, Request, Stage, on_target
from medtl.transfer.weights import Weights

INIT = "source.safetensors"


STEPS, RATE = 3, 1e-2


BUDGETS = (1, 2, 7, 100)


NORM_STATS, NEXT_FROM = ("train", "frozen", "target"), ("best", "last")


NAMES = tuple(block.name for block in BLOCKS)


_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


_YEAR = re.compile(r"\b(19|20)\d\d\b")


Plan = tuple[Request, tuple[Stage, ...]]


def request(**changes: Any) -> Request:
    return replace(
        Request(SOURCE, TARGET, STEPS, BATCH, RATE, losses=(LossSpec("dice-ce"),), blocks=NAMES),
        **changes,
    )


@lru_cache(maxsize=2)
def plans(strategy: Callable[[Request], tuple[Stage, ...]]) -> tuple[Plan, ...]:
    """What it plans with and without weights, a depth and blocks to freeze, as far as it does.

    Raises CheckFailed where it refuses all of that, or plans something else than Stages.
    """
    found, refused = [], ""
    for init, depth, freeze in product((None, INIT), (None, 1), (None, "1")):
        asked = request(init=init, depth=depth, freeze=freeze)
        try:
            found.append((asked, _planned(strategy, asked)))
        except ConfigError as error:
            refused = refused or str(error)
    require(found, f"it refuses every request ({refused}); plan for some")
    return tuple(found)


def _planned(strategy: Callable[[Request], tuple[Stage, ...]], asked: Request) -> tuple[Stage, ...]:
    stages = strategy(asked)
    whole = isinstance(stages, tuple) and stages and all(isinstance(s, Stage) for s in stages)
    wanted = "a tuple of medtl.transfer.strategies.base.Stage"
    require(whole, f"it returns {type(stages).__name__}, not {wanted}")
    return on_target(asked, stages)


def _stages(tried: Tried) -> Iterator[tuple[Request, int, Stage]]:
    for asked, stages in plans(tried.target()):
        for number, stage in enumerate(stages):
            yield asked, number, stage


def plans_are_plain_data(tried: Tried) -> None:
    """The same request gives the same stages, which can be written as JSON."""
    for asked, stages in plans(tried.target()):
        same = _planned(tried.target(), asked) == stages
        require(same, "the same request gives another plan; plan from the request only")
        for stage in stages:
            try:
                json.dumps(asdict(stage), allow_nan=False, default=_path)
            except (TypeError, ValueError) as error:
                problem = f"stage {stage.name} holds what JSON cannot ({error})"
                raise CheckFailed(f"{problem}; use numbers and text") from error


def _path(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def stages_have_names_of_their_own(tried: Tried) -> None:
    """Names are unique, and each can be the name of a folder."""
    for _, stages in plans(tried.target()):
        names = [stage.name for stage in stages]
        twice = next((name for name in names if names.count(name) > 1), None)
        require(twice is None, f"two stages are called {twice}; each has a folder of its own")
        for name in names:
            valid = _PLACE.fullmatch(name)
            require(valid, f"a stage is called {name!r}; use letters, digits and -")


def settings_are_known(tried: Tried) -> None:
    """Optimisers, schedules, losses, blocks and all that a stage names are there."""
    catalog, network = tried.catalog(), toy_network()
    for asked, number, stage in _stages(tried):
        at = f"stage {stage.name}:"
        _one_of(f"{at} optimizer", stage.optimizer, WEIGHT_DECAY)
        _one_of(f"{at} norm_stats", stage.norm_stats, NORM_STATS)
        _one_of(f"{at} next_from", stage.next_from, NEXT_FROM)
        first = ("random", asked.init) if number == 0 else ("random", "previous", asked.init)
        _one_of(f"{at} init", stage.init, [start for start in first if start])
        for block in (*stage.reinit, *(set(stage.rates) - {"*"})):
            _one_of(f"{at} block", block, NAMES)
        for rate in stage.rates.values():
            require(math.isfinite(rate) and rate >= 0, f"{at} a rate is {rate}; give 0 or more")
        named = ", ".join(stage.rates)
        covered = "*" in stage.rates or set(NAMES) <= set(stage.rates)
        require(covered, f'{at} rates name only {named}; give "*" for the other blocks')
        require(stage.batch_size > 0, f"{at} batch_size is {stage.batch_size}; give 1 or more")
        for domain in stage.domains():
            require(domain in (SOURCE, TARGET), f"{at} {domain} is neither source nor target")
        try:
            scheduled(stage.schedule, 1, max(1, stage.steps))
            select_blocks(network, stage.frozen)
            check_selector(stage.select_by, unlabelled=stage.unlabelled is not None)
            for loss in stage.losses:
                catalog.losses.full_name(loss.name)
            if stage.initialiser is not None:
                catalog.initialisers.full_name(stage.initialiser)
        except ConfigError as error:
            raise CheckFailed(f"{at} {error}") from error


def _one_of(what: str, value: Any, known: Any) -> None:
    require(value in known, f"{what} is {value!r}; known: {', '.join(map(str, known))}")


def steps_keep_to_the_budget(tried: Tried) -> None:
    """The stages of a side take at most the steps of its budget, and at least one step each unless
    they only adapt norm statistics, or leave trained weights as they are. Steps on both sides at
    once count half for each."""
    basic, _ = plans(tried.target())[0]
    for steps in BUDGETS:
        stages = _planned(tried.target(), replace(basic, steps=steps))
        taken = {"source": 0, "target": 0}
        for stage in stages:
            trained_before = stage.init != "random"
            idle = stage.steps == 0 and (trained_before or stage.norm_stats == "target")
            found = f"stage {stage.name} has {stage.steps!r} steps of {steps}"
            whole = type(stage.steps) is int and (stage.steps > 0 or idle)
            require(whole, f"{found}; give whole ones, or 0 after other stages")
            side = "target" if TARGET in (stage.domain, stage.unlabelled) else "source"
            both = stage.steps // 2 if stage.beside else 0
            taken[side] += stage.steps - both
            taken["source"] += both
        for side, used in taken.items():
            found = f"the {side}'s stages take {used} steps of a budget of {steps}"
            require(used <= steps, f"{found}; see medtl.transfer.strategies.base.divided")


def weights_that_are_given_are_used(tried: Tried) -> None:
    """With ``--init`` a stage starts from there; without, none waits for weights."""
    for asked, stages in plans(tried.target()):
        starts = [stage.init for stage in stages]
        if asked.init:
            remedy = "see medtl.transfer.strategies.base.source_stage, or raise ConfigError"
            used = asked.init in starts
            require(used, f"no stage starts from the weights of --init; {remedy}")


def frozen_tensors_stay_bitwise_still(tried: Tried) -> None:
    """Each stage, really trained, changes no tensor that it says is frozen, and some other."""
    for asked, stages in _distinct(plans(tried.target())):
        for stage, frozen, moved in trained(asked, stages, tried):
            wrong = ", ".join(sorted(moved & set(frozen))[:3])
            found = f"stage {stage.name}: {wrong} changed, though frozen by {stage.frozen!r}"
            require(not wrong, f"{found}; let no loss or initialiser write into weights")
            require(moved, f"stage {stage.name} trains nothing; are its rates 0?")


def _distinct(found: tuple[Plan, ...]) -> list[Plan]:
    kept: list[Plan] = []
    for plan in found:
        if all(plan[1] != other[1] for other in kept):
            kept.append(plan)
    return kept


def trained(
    asked: Request, stages: tuple[Stage, ...], tried: Tried
) -> Iterator[tuple[Stage, tuple[str, ...], set[str]]]:
    """Train each stage that has steps: the stage, what was frozen, and what changed."""
    fabric = build_fabric("cpu", "fp32")
    last: Weights | None = None
    for stage in stages:
        if not stage.steps:
            continue
        network = toy_network()
        weights = {"random": None, "previous": last}.get(stage.init, toy_weights())
        prepared = prepare_network(network, stage, weights, REGIONS, mapping={})
        before, paired = copied(network), stage.unlabelled is not None
        frozen_all = f"stage {stage.name} trains nothing: {stage.frozen!r} freezes all"
        require(len(prepared.frozen) < len(before), f"{frozen_all}; give it no steps")
        image = next(toy_batches())["image"]
        losses = build_losses(stage, tried.catalog(), network, image, ())

        def batches(done: int, paired: bool = paired) -> Iterator[Mapping[str, torch.Tensor]]:
            return toy_batches(done, unlabelled=paired)

        with tempfile.TemporaryDirectory() as folder:
            setup = Setup(network, stage, prepared.frozen, losses, fabric, Path(folder), seed=0)
            result = fit(setup, batches)
        moved = {name for name, old in before.items() if not torch.equal(result.last[name], old)}
        yield stage, prepared.frozen, moved | changed(network, before)
        last = Weights(Path(INIT), dict(result.last), toy_weights().metadata, "medtl")


def says_when_to_use_it(tried: Tried) -> None:
    """Its summary or docstring says when it is the one to use, and where it comes from."""
    text = f"{tried.component.summary} {getattr(tried.target(), '__doc__', None) or ''}".lower()
    use, source = re.search(r"\buse\b", text), _YEAR.search(text) or "source:" in text
    require(use, "it does not say when to use it; write e.g. 'use when target cases are few'")
    require(source, "it names no source; name the paper and its year, or write 'Source: own'")
