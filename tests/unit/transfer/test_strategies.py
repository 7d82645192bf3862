"""Strategies as plain data: what is trained where, from what, for how long."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from terminal import run_python

from medtl.config import TrainConfig
from medtl.data.domain import parse_domain
from medtl.data.task import Defaults
from medtl.errors import ConfigError
from medtl.plugins.catalog import load_catalog
from medtl.training.stages import lay_out, unused
from medtl.transfer.strategies.base import (
    CONTROL_A,
    CONTROL_B,
    LossSpec,
    Request,
    Stage,
    by_depth,
    controls,
    divided,
    on_target,
    stage,
    steps_so_far,
)
from medtl.transfer.strategies.finetune import fine_tune, l2_sp, linear_probe, scratch, transfusion
from medtl.transfer.strategies.unfreeze import gradual_unfreeze, head_first

SOURCE, TARGET = parse_domain("flair,t1ce"), parse_domain("t1,t2")
REQUEST = Request(SOURCE, TARGET, steps=100, batch_size=3, rate=1e-3)
BLOCKS = ("stem", "encoder1", "encoder2", "head")
BLOCKED = replace(REQUEST, blocks=BLOCKS, init="source.safetensors")


def test_scratch_trains_on_the_target_alone_from_random_weights() -> None:
    (only,) = scratch(REQUEST)
    assert (only.domain, only.steps, only.init, only.frozen) == (TARGET, 100, "random", "none")


@pytest.mark.parametrize("plan", [fine_tune, linear_probe])
def test_transfers_open_on_the_source_and_carry_its_weights_over(plan) -> None:
    before, after = plan(REQUEST)
    assert (before.name, before.domain, before.init) == ("source", SOURCE, "random")
    assert (after.domain, after.init) == (TARGET, "previous")
    assert before.steps == after.steps == 100


@pytest.mark.parametrize("plan", [fine_tune, linear_probe])
def test_transfers_start_from_given_weights_without_the_source(plan) -> None:
    (only,) = plan(replace(REQUEST, init="weights.pt"))
    assert (only.domain, only.init) == (TARGET, "weights.pt")


def test_fine_tuning_trains_everything_more_gently() -> None:
    before, after = fine_tune(REQUEST)
    assert after.frozen == "none"
    assert after.rates["*"] < before.rates["*"]
    assert fine_tune(replace(REQUEST, freeze="stem"))[1].frozen == "stem"


def test_linear_probe_trains_a_new_head_only() -> None:
    _, probe = linear_probe(REQUEST)
    assert (probe.frozen, probe.reinit) == ("all-but:head", ("head",))


@pytest.mark.parametrize(
    ("plan", "changes"),
    [(scratch, {"init": "x.pt"}), (scratch, {"freeze": "2"}), (linear_probe, {"freeze": "2"})],
)
def test_options_that_contradict_the_plan_are_refused(plan, changes: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="drop --"):
        plan(replace(REQUEST, **changes))


def test_control_a_gets_the_targets_steps_and_b_all_of_them() -> None:
    first, second = controls(REQUEST, fine_tune(REQUEST))
    assert (first.name, second.name) == (CONTROL_A, CONTROL_B)
    assert (first.steps, second.steps) == (100, 200)
    for arm in (first, second):
        assert (arm.domain, arm.init, arm.frozen) == (TARGET, "random", "none")
        assert arm.rates == {"*": REQUEST.rate}


def test_plan_without_a_source_stage_has_control_a_only() -> None:
    request = replace(REQUEST, init="weights.pt")
    (only,) = controls(request, fine_tune(request))
    assert (only.name, only.steps) == (CONTROL_A, 100)


def test_every_stage_takes_the_requests_settings() -> None:
    losses = (LossSpec("dice-ce", 0.5, {"smooth": 2.0}),)
    request = replace(REQUEST, schedule="plateau", losses=losses)
    stages = fine_tune(request)
    for each in (*stages, *controls(request, stages)):
        assert (each.schedule, each.batch_size, each.losses) == ("plateau", 3, losses)


def test_rate_scales_every_block() -> None:
    assert stage(REQUEST, "x", TARGET, 1, rate=0.1).rates == {"*": pytest.approx(1e-4)}
    own = {"stem": 1e-5, "*": 1e-3}
    assert stage(REQUEST, "x", TARGET, 1, rates=own).rates == own


def test_plans_are_plain_data() -> None:
    text = json.dumps([asdict(each) for each in fine_tune(REQUEST)], default=str)
    assert json.loads(text)[1]["name"] == "fine-tune"


def test_planning_needs_no_torch() -> None:
    code = "import medtl.transfer.strategies.base, sys; sys.exit('torch' in sys.modules)"
    run_python("-c", code, code=0)


@pytest.mark.parametrize(
    ("patients", "batch_size", "steps"), [(4, 1, 600), (4, 2, 300), (100, 2, 1600), (1, 500, 1)]
)
def test_few_patients_get_few_steps(patients: int, batch_size: int, steps: int) -> None:
    assert Defaults("flair", "t1").steps_for(patients, batch_size) == steps


def test_rates_fall_evenly_to_a_tenth_at_the_stem() -> None:
    rates = by_depth(replace(BLOCKED, rate=0.8), 0.5)
    assert rates["head"] == rates["*"] == 0.4
    assert rates["stem"] == pytest.approx(0.04)
    steps = [rates[later] / rates[one] for one, later in pairwise(BLOCKS)]
    assert steps == pytest.approx([10 ** (1 / 3)] * 3)
    assert fine_tune(BLOCKED)[0].rates == by_depth(BLOCKED, 0.5)


def test_head_first_warms_up_the_head_then_opens_the_last_block_then_all() -> None:
    warm_up, last, deeper = head_first(BLOCKED)
    assert [each.name for each in (warm_up, last, deeper)] == ["head", "last-block", "deeper"]
    assert [each.frozen for each in (warm_up, last, deeper)] == [
        "all-but:head",
        "stem,encoder1",
        "none",
    ]
    assert [each.steps for each in (warm_up, last, deeper)] == [20, 30, 50]
    assert [each.reinit for each in (warm_up, last, deeper)] == [("head",), (), ()]
    assert [each.init for each in (warm_up, last, deeper)] == [BLOCKED.init, "previous", "previous"]
    assert {each.optimizer for each in (warm_up, last, deeper)} == {"sgd"}
    assert warm_up.rates["*"] == pytest.approx(10 * last.rates["head"])
    assert last.rates == deeper.rates == by_depth(BLOCKED)


def test_strategys_optimizer_is_its_own_until_one_is_asked_for() -> None:
    source, *after = head_first(replace(BLOCKED, init=None))
    assert source.optimizer == "adamw" and after[0].optimizer == "sgd"
    stages = head_first(replace(BLOCKED, init=None, optimizer="adam"))
    assert {each.optimizer for each in stages} == {"adam"}
    # Adam's steps are larger: what is trained already moves at a tenth of the rate.
    assert stages[1].rates == {"*": pytest.approx(BLOCKED.rate)}
    assert stages[-1].rates["head"] == pytest.approx(BLOCKED.rate / 10)
    assert controls(replace(BLOCKED, optimizer="sgd"), stages)[0].optimizer == "sgd"


def test_weight_decay_is_the_strategys_until_some_is_asked_for() -> None:
    (scratched,), (pulled,) = scratch(REQUEST), l2_sp(BLOCKED)
    assert scratched.weight_decay is None and pulled.weight_decay == 0
    for decay in (0.0, 0.1):
        for plan, request in ((scratch, REQUEST), (l2_sp, BLOCKED), (gradual_unfreeze, BLOCKED)):
            stages = plan(replace(request, weight_decay=decay))
            assert {stage.weight_decay for stage in stages} == {decay}


def test_gradual_unfreezing_opens_one_block_more_per_stage() -> None:
    stages = gradual_unfreeze(BLOCKED)
    assert [each.frozen for each in stages] == [
        "all-but:head",
        "stem,encoder1",
        "stem",
        "none",
    ]
    assert [each.steps for each in stages] == [16, 16, 16, 52]
    deep = replace(BLOCKED, blocks=(*(f"block{n}" for n in range(20)), "head"))
    assert len(gradual_unfreeze(deep)) == 6 and gradual_unfreeze(deep)[-1].frozen == "none"
    part = gradual_unfreeze(replace(BLOCKED, depth=1))
    assert [each.frozen for each in part] == ["all-but:head", "stem,encoder1"]


@pytest.mark.parametrize("plan", [head_first, gradual_unfreeze])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 100])
@pytest.mark.parametrize("depth", [0, 1, 2, 3, None])
def test_no_step_of_the_budget_is_lost(plan, steps: int, depth: int | None) -> None:
    stages = plan(replace(BLOCKED, steps=steps, depth=depth))
    assert sum(each.steps for each in stages) == steps
    assert all(each.steps >= 1 for each in stages)


def test_steps_are_divided_by_shares() -> None:
    assert divided(10, (0.2, 0.3, 0.5)) == [2, 3, 5]
    assert divided(2, (0.2, 0.3, 0.5)) == [1, 1]


@pytest.mark.parametrize(("depth", "random"), [(0, BLOCKS), (2, BLOCKS[2:]), (4, ())])
def test_transfusion_leaves_what_is_above_the_depth_random(
    depth: int, random: tuple[str, ...]
) -> None:
    (only,) = transfusion(replace(BLOCKED, depth=depth))
    assert only.reinit == random and only.frozen == "none"
    assert only.rates == {"*": BLOCKED.rate}


@pytest.mark.parametrize("plan", [transfusion, head_first, gradual_unfreeze])
def test_depth_that_the_network_has_not_is_refused_with_its_blocks(plan) -> None:
    with pytest.raises(ConfigError, match=r"--depth 9.*stem, encoder1, encoder2, head"):
        plan(replace(BLOCKED, depth=9))
    with pytest.raises(ConfigError, match="--depth is needed"):
        transfusion(BLOCKED)


@pytest.mark.parametrize("name", ["transfusion", "head-first", "gradual-unfreeze"])
def test_depth_counts_in_the_smallest_network_too(name: str) -> None:
    config = TrainConfig(strategy=name, depth=1)
    lay_out(config, load_catalog(), replace(BLOCKED, blocks=("stem", "head"), depth=1))
    with pytest.raises(ConfigError, match="strategy fine-tune has no --depth"):
        lay_out(config.model_copy(update={"strategy": "fine-tune"}), load_catalog(), BLOCKED)


def test_l2_sp_replaces_weight_decay_by_the_pull_to_the_start() -> None:
    (only,) = l2_sp(BLOCKED)
    assert [loss.name for loss in only.losses] == ["dice-ce", "l2-sp"]
    assert only.weight_decay == 0 and only.frozen == "none"


def test_initialiser_meets_the_first_weights_of_the_target_alone() -> None:
    request = replace(BLOCKED, init=None, initialiser="mean-var")
    stages = on_target(request, head_first(request))
    assert [each.initialiser for each in stages] == [None, "mean-var", None, None]
    assert {each.initialiser for each in controls(request, stages)} == {None}
    (only,) = on_target(request, scratch(request))
    assert only.initialiser == "mean-var"


def test_arms_that_are_held_against_each_other_get_the_same_network_and_weights() -> None:
    request = replace(BLOCKED, init=None, initialiser="gabor", keep_blocks=2)
    stages = on_target(request, load_catalog().strategies["dann"].load()(request))
    assert [each.name for each in stages] == ["source", "dann"]
    assert {each.initialiser for each in stages} == {"gabor"}
    assert all(each.options == {"keep_blocks": 2} for each in stages)


def test_target_alone_and_its_controls_have_a_cut_network() -> None:
    request = replace(BLOCKED, init=None, keep_blocks=2, options={"slim_from": 2, "head": "plain"})
    source, tuned = on_target(request, fine_tune(request))
    assert source.options == {"slim_from": None}  # over the config's: the source's is whole
    assert tuned.options == {"keep_blocks": 2}
    assert all(arm.options == {"keep_blocks": 2} for arm in controls(request, (source, tuned)))


def test_control_b_counts_the_steps_that_the_weights_tell() -> None:
    request = replace(BLOCKED, init_steps=700)
    first, second = controls(request, head_first(request))
    assert (first.steps, second.steps) == (100, 800)


def test_steps_add_up_along_what_each_stage_starts_from() -> None:
    request = replace(BLOCKED, init=None)
    stages = head_first(request)
    everything = (*stages, *controls(request, stages))
    expected = {"source": 100, "head": 120, "last-block": 150, "deeper": 200}
    assert steps_so_far(everything, None) == {**expected, CONTROL_A: 100, CONTROL_B: 200}
    assert list(steps_so_far(head_first(BLOCKED), 700).values()) == [720, 750, 800]
    assert list(steps_so_far(head_first(BLOCKED), None).values()) == [None, None, None]


@pytest.mark.parametrize("name", load_catalog().strategies)
def test_every_strategy_says_when_to_use_it_and_where_it_is_from(name: str) -> None:
    component = load_catalog().strategies[name]
    told = " ".join((component.load().__doc__ or "").split())
    when, _, source = component.summary.partition("; use ")[2].rpartition(" (")
    assert when and f"Use {when}" in told
    assert source.partition(" ")[0] in told.partition("Source: ")[2]
    assert source.rstrip(")")[-4:] in told.partition("Source: ")[2]


@pytest.mark.parametrize("name", load_catalog().strategies)
def test_every_strategy_plans_serialisable_stages_by_request_alone(name: str) -> None:
    plan = load_catalog().strategies[name].load()
    request = replace(BLOCKED, init=None, depth=2 if name == "core:transfusion" else None)
    stages = plan(request)
    assert stages == plan(request)
    assert len({each.name for each in stages}) == len(stages)
    assert json.dumps([asdict(each) for each in stages], default=str)


def test_what_was_given_and_changes_nothing_is_told() -> None:
    config = TrainConfig(strategy="scratch", src="flair,t1ce")
    told = list(unused(config, REQUEST, scratch(REQUEST)))
    assert told == [
        "--src flair,t1ce is not used: strategy scratch starts from random weights",
    ]
    tuned = replace(REQUEST, init="weights.pt")
    told = list(unused(TrainConfig(strategy="fine-tune", src="t2"), tuned, fine_tune(tuned)))
    assert told == [
        "--src t2 is not used: strategy fine-tune starts from the weights of --init",
    ]
    assert not list(
        unused(TrainConfig(strategy="fine-tune", src="t2"), REQUEST, fine_tune(REQUEST))
    )
    assert not list(unused(TrainConfig(strategy="scratch", minutes=5), REQUEST, scratch(REQUEST)))


def test_a_depth_is_refused_where_it_changes_nothing() -> None:
    catalog = load_catalog()
    for name in ("fine-tune", "scratch", "l2-sp"):
        request = replace(BLOCKED, depth=2, init=None)
        with pytest.raises(ConfigError, match=f"strategy {name} has no --depth; drop it"):
            lay_out(TrainConfig(strategy=name, depth=2), catalog, request)
    for name in ("transfusion", "head-first", "gradual-unfreeze"):
        request = replace(BLOCKED, depth=2)
        assert lay_out(TrainConfig(strategy=name, depth=2), catalog, request)


def test_a_strategy_is_called_twice_at_most_to_plan_with_a_depth() -> None:
    calls: list[Request] = []

    def counted(request: Request) -> tuple[Stage, ...]:
        calls.append(request)
        return transfusion(request)

    catalog = SimpleNamespace(strategies={"counted": SimpleNamespace(load=lambda: counted)})
    lay_out(TrainConfig(strategy="counted", depth=2), catalog, replace(BLOCKED, depth=2))
    assert len(calls) == 2
