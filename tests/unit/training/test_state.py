"""The state of an unfinished stage: changed ones are refused, with what was changed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medtl.config import TrainConfig, kept_settings, write_config
from medtl.errors import ConfigError, RunError
from medtl.networks.blocks import Block, Network
from medtl.runtime.device import build_fabric
from medtl.runtime.run_folder import Run
from medtl.training.launch import going_on
from medtl.training.optimizer import EMA
from medtl.training.state import Progress, Resumable, cut_rows


def resumable(seed: int) -> Resumable:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    network = Network(
        "small", module, (Block("all", "encoder", ("*",)),), 1, 2, 2, 4, ("0.weight",), ("0.bias",)
    )
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    module(torch.ones(2, 1, 3, 3)).sum().backward()
    optimizer.step()
    precision = build_fabric("cpu", "fp32").strategy.precision
    return Resumable(network, nn.Identity(), optimizer, EMA(network), precision)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "resume.safetensors"
    resumable(0).write(path, Progress(step=5, best_step=4, best_score=0.5, seconds=2.5))
    return path


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    record = json.loads(header["__metadata__"]["medtl"])
    del record["sha256"]  # as older versions wrote it
    change(record)
    header["__metadata__"]["medtl"] = json.dumps(record)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


def test_a_state_comes_back_also_without_a_hash(state: Path) -> None:
    for change in (None, lambda record: None):
        if change is not None:
            rewritten(state, change)
        there, wanted = resumable(1), resumable(0)
        found = there.read(state)
        assert (found.step, found.best_step, found.best_score) == (5, 4, 0.5)
        for ours, theirs in zip(
            there.network.module.parameters(), wanted.network.module.parameters(), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_every_byte_of_the_tensors_counts(state: Path) -> None:
    whole = state.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    for place in range(8 + size, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        state.write_bytes(changed)
        with pytest.raises(RunError, match="content has changed"):
            resumable(1).read(state)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step", -1),
        ("step", "5"),
        ("step", None),
        ("best_score", float("nan")),
        ("factor", 0),
        ("factor", 1e9),
        ("seconds", -1),
        ("at_once", 0),
    ],
)
def test_a_field_of_the_progress_is_named(state: Path, field: str, value: object) -> None:
    rewritten(state, lambda record: record["progress"].update({field: value}))
    with pytest.raises(RunError, match=rf"progress\.{field}: .*delete it to train this stage anew"):
        resumable(1).read(state)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(progress=[]),
        lambda record: record.update(progress={}),
        lambda record: record.update(precision=5),
        lambda record: record.update(format="1"),
        lambda record: record.clear(),
    ],
)
def test_a_record_that_is_none_is_one_line(state: Path, change: Any) -> None:
    rewritten(state, change)
    with pytest.raises(RunError, match=r"resume\.safetensors"):
        resumable(1).read(state)


def test_rows_that_cannot_be_read_are_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    good = [json.dumps({"step": step, "loss": 0.5}) for step in (1, 2, 3)]
    bad = ["", "5", '{"loss": 1}', "[" * 100_000, "\0" * 20, '{"step": "4"}']
    path.write_text("\n".join([good[0], *bad, good[1], good[2]]) + "\n" + '{"st')
    assert cut_rows(path, 2) == len(bad)
    assert path.read_text() == "\n".join(good[:2]) + "\n"


# --- settings ---------------------------------------------------------------------------------


def begun(folder: Path, **settings: Any) -> Run:
    folder.mkdir()
    config = TrainConfig(task="brats", strategy="scratch", lr=0.01, **settings)
    run = Run(folder)
    run.write_json("environment.json", {"settings": kept_settings(config)})
    write_config(folder / "config.yaml", config)
    return run


@pytest.mark.parametrize(
    ("line", "edited", "told"),
    [
        ("lr: 0.01", "lr: 0.02", r"lr is 0\.02, but training began with 0\.01"),
        ("seed: 0", "seed: 1", "seed is 1, but training began with 0"),
        ("map: {}", "map: {t1: t1ce}", "map is"),
        ("width: null", "width: 8", "width is 8, but training began with None"),
    ],
)
def test_settings_edited_while_a_run_is_stopped_are_named(
    tmp_path: Path, line: str, edited: str, told: str
) -> None:
    run = begun(tmp_path / "run")
    assert going_on(run, {}) is not None
    path = run.path / "config.yaml"
    assert line in path.read_text()
    path.write_text(path.read_text().replace(line, edited))
    with pytest.raises(ConfigError, match=told):
        going_on(run, {})


def test_data_that_moved_and_other_hardware_go_on(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", data=tmp_path / "old")
    config = going_on(run, {"data": tmp_path / "new", "workers": 0})
    assert config is not None
    assert (config.data, config.workers, config.lr) == (tmp_path / "new", 0, 0.01)


def test_a_run_that_does_not_say_how_it_began_goes_on(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.write_json("environment.json", {"python": "3.11.7"})
    assert going_on(run, {}) is not None
    (run.path / "environment.json").unlink()
    assert going_on(run, {}) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("device", "gpu"), ("device", "cuda:0"), ("workers", -1), ("cache", "ram")),
        *(("devices", 0), ("num_nodes", 0), ("lr", -1), ("seed", -1), ("batch_size", 0)),
        *(("width", -3), ("patch_size", [0]), ("data", "\0"), ("test_fraction", 2.0)),
    ],
)
def test_bad_options_beside_resume_are_named(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}"):
        going_on(begun(tmp_path / "run"), {name: value})
