"""The training loop: what it promises on a network small enough to follow.

Axes: B batch, C channel, I J K voxels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medtl.data.domain import parse_domain
from medtl.errors import ConfigError, Interrupted, MedtlError, RunError
from medtl.networks.blocks import Block, Network, freeze, partition, tensors
from medtl.runtime.device import build_fabric
from medtl.runtime.records import read_lines
from medtl.training.loop import (
    Callbacks,
    Fit,
    Objective,
    Setup,
    fit,
    snapshot,
    validation_is_due,
)
from medtl.training.losses import dice_ce
from medtl.training.optimizer import EMA, build_optimizer, scheduled
from medtl.training.state import STATE
from medtl.transfer.strategies.base import Stage

GAP = "medtl.training.loop.VALIDATION_GAP"


@pytest.fixture(autouse=True)
def often_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times in the few steps of these tests."""
    monkeypatch.setattr(GAP, 1)


STAGE = Stage("adapt", parse_domain("t1,t2"), steps=20, rates={"*": 1e-2})


def small(seed: int = 0, dropout: float = 0.0, channels: int = 4) -> Network:
    """Three blocks, each but the head with a batch norm, whose buffers training moves."""
    torch.manual_seed(seed)

    def block(channels: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv3d(channels, outputs, 3, padding=1), nn.BatchNorm3d(outputs))

    module = nn.Sequential()
    module.add_module("stem", block(2, channels))
    module.add_module(
        "body", nn.Sequential(nn.ReLU(), block(channels, 4), nn.ReLU(), nn.Dropout(dropout))
    )
    module.add_module("head", nn.Conv3d(4, 1, 1))
    blocks = tuple(
        Block(name, role, (f"{name}.*",))
        for name, role in (("stem", "stem"), ("body", "encoder"), ("head", "head"))
    )
    return Network(
        "small", module, blocks, 2, 1, 3, 4, ("stem.0.weight",), ("head.weight", "head.bias")
    )


def batches(seed: int = 0) -> Iterator[Mapping[str, Tensor]]:
    """Two batches, over and over; the target is where the first channel is bright."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 2, 2, 8, 8, 8, generator=random)
    return cycle([{"image": i, "target": (i[:, :1] > 0.3).float()} for i in images])


def run(network: Network, folder: Path, stage: Stage = STAGE, frozen=(), loader=None, **options):
    folder.mkdir(exist_ok=True)
    setup = Setup(
        network,
        stage,
        tuple(frozen),
        [(1.0, dice_ce())],
        build_fabric("cpu", "fp32"),
        folder,
        seed=0,
        patience=options.pop("patience", None),
    )
    return fit(setup, lambda done: islice(loader or batches(), done, None), Callbacks(**options))


def frozen_block(network: Network, *blocks: str) -> tuple[str, ...]:
    names = tuple(name for name, owner in partition(network).items() if owner in blocks)
    freeze(network, names)
    return names


def test_training_lowers_the_loss_and_writes_a_row_per_step(tmp_path: Path) -> None:
    result = run(small(), tmp_path)
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert result.best_step == 20 and result.best_score is None
    assert all(torch.equal(result.best[name], result.last[name]) for name in result.last)


def test_same_seed_gives_bitwise_the_same_weights(tmp_path: Path) -> None:
    one, two = run(small(), tmp_path / "a"), run(small(), tmp_path / "b")
    assert all(torch.equal(one.last[name], two.last[name]) for name in one.last)


def test_frozen_blocks_are_bitwise_unchanged_buffers_included(tmp_path: Path) -> None:
    network = small()
    frozen = frozen_block(network, "stem")
    assert any("running_mean" in name for name in frozen)
    before = snapshot(network)

    def validate() -> dict[str, float]:  # leaves the network in evaluation mode, as inference does
        network.module.eval()
        return {"WT": 0.5}

    result = run(network, tmp_path, frozen=frozen, validate=validate)
    owners = partition(network)
    for state in (result.best, result.last):
        same = {name for name in state if torch.equal(state[name], before[name])}
        assert {name for name in state if owners[name] == "stem"} <= same
    changed = {n for n in result.last if not torch.equal(result.last[n], before[n])}
    assert {owners[n] for n in changed} == {"body", "head"}
    assert any("running_mean" in name for name in changed)


def test_best_is_what_the_validation_liked_and_last_what_came_after(tmp_path: Path) -> None:
    network = small()
    seen: list[dict[str, Tensor]] = []

    def validate() -> dict[str, float]:
        seen.append(snapshot(network))
        return {"WT": 1.0 if len(seen) == 3 else 0.0, "TC": 0.0}

    result = run(network, tmp_path, validate=validate)
    rows = [row for row in read_lines(tmp_path / "metrics.jsonl") if "validation" in row]
    assert len(rows) == len(seen)
    assert result.best_step == rows[2]["step"] and result.best_score == 0.5
    assert all(torch.equal(result.best[name], seen[2][name]) for name in result.best)
    assert all(torch.equal(result.last[name], seen[-1][name]) for name in result.last)
    assert not torch.equal(result.best["head.weight"], result.last["head.weight"])
    current = snapshot(network)
    assert all(torch.equal(result.last[name], current[name]) for name in result.last)


@pytest.mark.parametrize(
    ("steps", "validated"),
    [
        (1, [1]),
        (49, [49]),
        (50, [25, 50]),
        (80, [27, 54, 80]),
        (250, list(range(25, 251, 25))),
        (2000, list(range(200, 2001, 200))),
    ],
)
def test_validations_are_ten_and_some_steps_apart(
    steps: int, validated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GAP, 25)
    assert [step for step in range(1, steps + 1) if validation_is_due(step, steps)] == validated


def test_validation_does_not_disturb_training(tmp_path: Path) -> None:
    one = run(small(), tmp_path / "a")
    two = run(small(), tmp_path / "b", validate=lambda: {"WT": 0.0})
    assert all(torch.equal(one.last[name], two.last[name]) for name in one.last)


def test_patience_ends_a_stage_that_no_longer_improves(tmp_path: Path) -> None:
    scores = iter([0.1, 0.2, 0.2, 0.1, 0.9])
    result = run(small(), tmp_path, validate=lambda: {"WT": next(scores)}, patience=2)
    rows = [row for row in read_lines(tmp_path / "metrics.jsonl") if "validation" in row]
    assert [row["validation"]["WT"] for row in rows] == [0.1, 0.2, 0.2, 0.1]
    assert result.best_step == rows[1]["step"]
    assert rows[-1]["step"] < STAGE.steps


def test_plateau_halves_the_rate_when_validation_stalls(tmp_path: Path) -> None:
    stage = replace(STAGE, schedule="plateau")
    run(small(), tmp_path, stage, validate=lambda: {"WT": 0.5})
    scales = [row["rate_scale"] for row in read_lines(tmp_path / "metrics.jsonl")]
    assert max(scales) == 1.0 and scales[-1] < 1.0
    assert all(math.log2(scale).is_integer() for scale in scales[2:])


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_validation_without_a_score_stops_nothing(tmp_path: Path, schedule: str) -> None:
    """No validation case annotates a region: neither patience nor the rate depend on that."""
    stage = replace(STAGE, schedule=schedule)
    result = run(small(), tmp_path, stage, validate=dict, patience=1)
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert len(rows) == STAGE.steps and result.best_score is None
    assert schedule == "cosine" or {row["rate_scale"] for row in rows[2:]} == {1.0}
    assert all(torch.equal(result.best[name], result.last[name]) for name in result.last)


def test_loss_that_is_not_finite_ends_training(tmp_path: Path) -> None:
    good = next(batches())
    bad = {"image": good["image"] * math.nan, "target": good["target"]}
    with pytest.raises(MedtlError, match=r"stage adapt.*not finite at step 3.*--lr"):
        run(small(), tmp_path, loader=[good, good, bad])


class Stopper:
    """Asks to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def test_asked_to_stop_it_keeps_its_state_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"after step 7 of 20 of stage adapt") as stopped:
        run(small(), tmp_path, asked_to_stop=Stopper(7))
    assert stopped.value.exit_code == 130
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 7


@pytest.mark.parametrize("after", [1, 2, 7, 13, 19, 20])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_resumed_training_is_bitwise_the_uninterrupted_one(
    tmp_path: Path, after: int, optimizer: str, schedule: str
) -> None:
    stage = replace(STAGE, optimizer=optimizer, schedule=schedule)

    def trained(folder: Path, **options: Any) -> Fit:
        network = small(dropout=0.3)
        frozen = frozen_block(network, "stem")

        def validate() -> dict[str, float]:  # rises, then falls: stale validations count too
            network.module.eval()
            step = len(read_lines(folder / "metrics.jsonl")) + 1
            return {"WT": 1 - abs(step - 9) / 20}

        return run(network, folder, stage, frozen, validate=validate, patience=5, **options)

    (tmp_path / "whole").mkdir()
    whole = trained(tmp_path / "whole")
    steps = len(read_lines(tmp_path / "whole" / "metrics.jsonl"))
    (tmp_path / "cut").mkdir()
    if after < steps:
        with pytest.raises(Interrupted):
            trained(tmp_path / "cut", asked_to_stop=Stopper(after))
    # What was written after the state was kept, and a line that was cut off, go again.
    for name in ("metrics.jsonl", "times.jsonl"):
        with (tmp_path / "cut" / name).open("a") as rows:
            rows.write('{"step": 999, "loss": 1.0}\n{"step": 10')
    cut = trained(tmp_path / "cut")
    for name in whole.last:
        assert torch.equal(cut.last[name], whole.last[name])
        assert torch.equal(cut.best[name], whole.best[name])
    assert (cut.best_step, cut.best_score) == (whole.best_step, whole.best_score)
    assert (tmp_path / "cut" / "metrics.jsonl").read_text() == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_text()
    times = read_lines(tmp_path / "cut" / "times.jsonl")
    validated = [
        row["step"] for row in read_lines(tmp_path / "cut" / "metrics.jsonl") if "validation" in row
    ]
    assert [row["step"] for row in times] == validated
    assert [row["seconds"] for row in times] == sorted(row["seconds"] for row in times)


def test_dropout_is_another_at_every_step(tmp_path: Path) -> None:
    network = small(dropout=0.5)
    losses: list[float] = []
    stage = replace(STAGE, rates={"*": 0.0}, optimizer="adam", steps=4)
    same = [next(batches())] * 4
    run(network, tmp_path, stage, loader=same, advance=lambda step, loss: losses.append(loss))
    assert len(set(losses)) == 4


@pytest.mark.parametrize("damage", ["cut", "other network", "no state"])
def test_damaged_state_is_named_and_kept(tmp_path: Path, damage: str) -> None:
    with pytest.raises(Interrupted):
        run(small(), tmp_path, asked_to_stop=Stopper(7))
    state = tmp_path / STATE
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:1000])
    elif damage == "no state":
        save_file({"weight": torch.ones(2)}, state)
    network = small(channels=6) if damage == "other network" else small()
    content = state.read_bytes()
    with pytest.raises(RunError, match=rf"{state.name} is damaged.*delete it"):
        run(network, tmp_path)
    assert state.read_bytes() == content


def test_cosine_warms_up_and_falls_to_almost_nothing() -> None:
    factors = [scheduled("cosine", step, 200) for step in range(1, 201)]
    peak = factors.index(max(factors))
    assert 0 < factors[0] < factors[peak] <= 1 and peak < 20
    assert all(a >= b for a, b in zip(factors[peak:], factors[peak + 1 :], strict=False))
    assert factors[-1] < 0.001
    assert factors[100] == pytest.approx(0.5, abs=0.01)


def test_polynomial_is_that_of_torch_after_the_warm_up() -> None:
    """Isensee et al. 2021: (1 - step / steps) to the power of .9."""
    weight = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([weight], lr=1.0)
    reference = torch.optim.lr_scheduler.PolynomialLR(sgd, total_iters=50, power=0.9)
    for step in range(1, 51):
        expected = pytest.approx(reference.get_last_lr()[0], abs=1e-9)
        assert scheduled("polynomial", step, 50, warmup=0.0) == expected
        sgd.step()
        reference.step()
    assert scheduled("polynomial", 1, 50, warmup=0.2) == pytest.approx(0.1)


def test_warm_up_takes_the_share_that_is_asked_for() -> None:
    factors = [scheduled("constant", step, 100, warmup=0.4) for step in range(1, 101)]
    assert factors[:40] == pytest.approx([step / 40 for step in range(1, 41)])
    assert set(factors[40:]) == {1.0}


def test_sgd_is_nesterov_s_with_the_momentum_of_the_stage() -> None:
    weight, reference = small(), small()
    stage = replace(STAGE, optimizer="sgd", momentum=0.8, rates={"*": 0.1}, weight_decay=0.0)
    ours = build_optimizer(weight, stage, ())
    theirs = torch.optim.SGD(reference.module.parameters(), lr=0.1, momentum=0.8, nesterov=True)
    for _ in range(3):
        for network, optimizer in ((weight, ours), (reference, theirs)):
            for parameter in network.module.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
    for mine, other in zip(weight.module.parameters(), reference.module.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_average_without_memory_is_the_weights_themselves() -> None:
    network = small()
    average = EMA(network, decay=0.0)
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.add_(1.0)
    average.update(1)
    assert all(torch.equal(a, b) for a, b in zip(average.mean, average.live, strict=True))


@pytest.mark.parametrize("schedule", ["plateau", "constant"])
def test_other_schedules_stay_at_full_rate_after_the_warm_up(schedule: str) -> None:
    assert scheduled(schedule, 1, 200) < 1
    assert {scheduled(schedule, step, 200) for step in range(20, 201)} == {1.0}
    assert scheduled(schedule, 1, 1) == 1.0


def test_unknown_schedule_and_optimizer_are_named() -> None:
    with pytest.raises(ConfigError, match="linear"):
        scheduled("linear", 1, 2)
    with pytest.raises(ConfigError, match="lion"):
        build_optimizer(small(), replace(STAGE, optimizer="lion"), ())


def test_rates_are_per_block_and_frozen_tensors_left_out() -> None:
    network = small()
    stage = replace(STAGE, rates={"head": 0.3, "*": 0.1})
    optimizer = build_optimizer(network, stage, frozen_block(network, "stem"))
    state, owners = tensors(network), partition(network)
    by_rate = {
        group["lr"]: {name for name in state for p in group["params"] if state[name] is p}
        for group in optimizer.param_groups
    }
    assert {rate: {owners[n] for n in names} for rate, names in by_rate.items()} == {
        0.3: {"head"},
        0.1: {"body"},
    }


def test_nothing_left_to_train_is_refused() -> None:
    network = small()
    with pytest.raises(ConfigError, match="every block is frozen"):
        build_optimizer(network, STAGE, frozen_block(network, "stem", "body", "head"))


def test_first_step_uses_the_warmed_up_rate(tmp_path: Path) -> None:
    # Adam's first step is the rate, whatever the gradient.
    network = small()
    stage = replace(STAGE, steps=40, optimizer="adam", schedule="constant")
    before = network.module.get_submodule("head").weight.detach().clone()
    moves = []
    weight = network.module.get_submodule("head").weight
    run(network, tmp_path, stage, advance=lambda n, loss: moves.append(weight.detach().clone()))
    assert float((moves[0] - before).abs().max()) == pytest.approx(
        1e-2 * scheduled("constant", 1, 40), rel=1e-3
    )


def test_average_follows_an_exponential_mean_and_swaps_back() -> None:
    network = small()
    weight = network.module.get_submodule("head").weight
    average = EMA(network)
    expected = weight.detach().clone()
    for update in range(1, 30):
        with torch.no_grad():
            weight.add_(0.1)
        average.update(update)
        decay = min(0.99, update / (update + 9))
        expected = decay * expected + (1 - decay) * weight.detach()
    live = weight.detach().clone()
    average.swap()
    torch.testing.assert_close(weight.detach(), expected)
    average.swap()
    assert torch.equal(weight.detach(), live)


def test_objective_weighs_losses_and_levels() -> None:
    class TwoLevels(nn.Module):
        def forward(self, image: Tensor) -> list[Tensor]:
            return [image[:, :1], nn.functional.avg_pool3d(image[:, :1], 2)]

    image = torch.randn(2, 2, 8, 8, 8)
    target = (image[:, 1:] > 0).float()
    loss = dice_ce()
    got = Objective(TwoLevels(), [(2.0, loss)])(image, target)
    full, coarse = TwoLevels()(image)
    expected = (2 * loss(full, target) + 0.5 * 2 * loss(coarse, target[..., ::2, ::2, ::2])) / 1.5
    torch.testing.assert_close(got, expected)


def test_missing_device_is_one_clear_line() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="--device cuda"):
            build_fabric("cuda", "auto")


def test_rows_that_are_dropped_on_resume_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("\n5\n")
    said, warned = [], []
    run(small(), tmp_path, tell=said.append, warn=warned.append)
    assert warned == [f"{tmp_path}/metrics.jsonl: lines that cannot be read are dropped: 2"]
    assert not said
