"""Which network a run trains: as given, or of the data's defaults, with the levels of --init."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtl.config import TrainConfig, read_config, write_config
from medtl.data.phantom import INDEX
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Reporter
from medtl.training.plan import Plan, make_plan, network_settings
from medtl.transfer.weights import Weights
from medtl_brats.task import Brats

PHANTOM, REAL = Brats.phantom_defaults, Brats.defaults


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=6, size=24, sites=1, seed=2)


def plan(data: Path, **settings: Any) -> Plan:
    config = TrainConfig(task="brats", data=data, **settings)
    return make_plan(config, load_catalog(), Reporter(quiet=True))


def blocks(found: Plan) -> Any:
    return found.config.options.get("blocks")


def test_a_phantom_is_trained_with_the_network_chosen_for_it(phantom: Path, tmp_path: Path) -> None:
    found = plan(phantom)
    assert (found.network, found.config.width) == (PHANTOM.network, PHANTOM.width)
    assert dict(PHANTOM.options).items() <= found.config.options.items()
    assert found.topology is not None
    steps = PHANTOM.steps_for(len(found.split.train), PHANTOM.batch_size)
    assert (found.request.steps, found.request.rate) == (steps, PHANTOM.rate)
    within = tmp_path / "within"  # the data set in a folder of its own
    shutil.copytree(phantom, within / "data")
    assert plan(within).network == PHANTOM.network


def test_other_data_are_trained_with_the_network_of_the_task(phantom: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    shutil.copytree(phantom, real)
    (real / INDEX).unlink()
    found = plan(real)
    assert not found.cohort.synthetic and found.network == REAL.network
    assert not found.config.options and found.config.width is None


def test_settings_come_before_defaults(phantom: Path) -> None:
    named = plan(phantom, network="unet")
    assert named.network == "unet" and not named.config.options and named.config.width is None
    wider = plan(phantom, width=32, options={"blocks": [2, 2]})
    assert (wider.network, wider.config.width) == (PHANTOM.network, 32)
    assert blocks(wider) == [2, 2]
    assert wider.config.options["decoder_blocks"] == PHANTOM.options["decoder_blocks"]


@pytest.mark.parametrize("settings", [{}, {"network": "unet"}, {"width": 32}])
def test_a_run_s_configuration_plans_its_network_again(
    phantom: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    first = plan(phantom, **settings)
    write_config(tmp_path / "config.yaml", first.config)
    config = read_config(tmp_path / "config.yaml")
    again = make_plan(config, load_catalog(), Reporter(quiet=True))
    assert again.config.options == first.config.options
    assert (again.network, again.config.width) == (first.network, first.config.width)


@pytest.mark.parametrize(("given", "width"), [({}, 32), ({"width": 8}, 8)])
def test_weights_bring_their_levels_and_width(given: dict[str, Any], width: int) -> None:
    record = {"network": {"name": "plain-unet", "width": 32, "options": {"strides": [1, 2]}}}
    outside = Weights(Path("w"), {}, record, "medtl checkpoint")
    config = TrainConfig(task="brats", **given)
    found = network_settings(config, Brats(), PHANTOM, outside)
    assert found == {"network": "plain-unet", "width": width, "options": {"strides": [1, 2]}}
