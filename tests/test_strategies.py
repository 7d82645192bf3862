"""Strategies as plain data: what is trained where, from what, for how long."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from medtl.domain import parse_domain
from medtl.errors import ConfigError
from medtl.strategies import (
    CONTROL_A,
    CONTROL_B,
    LossSpec,
    Request,
    controls,
    stage,
)
from medtl.task import Defaults
from medtl.transferring import fine_tune, linear_probe, scratch

SOURCE, TARGET = parse_domain("flair,t1ce"), parse_domain("t1,t2")
REQUEST = Request(SOURCE, TARGET, steps=100, batch_size=3, rate=1e-3)


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
    code = "import medtl.strategies, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("patients", "batch_size", "steps"), [(4, 1, 600), (4, 2, 300), (100, 2, 1600), (1, 500, 1)]
)
def test_few_patients_get_few_steps(patients: int, batch_size: int, steps: int) -> None:
    assert Defaults("flair", "t1").steps_for(patients, batch_size) == steps
