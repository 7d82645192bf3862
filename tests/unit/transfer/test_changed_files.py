"""Files of a run that were cut, edited or made by somebody else: read, or refused in one line."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from medtl.api.results import Run as ApiRun
from medtl.data.splits import read_splits
from medtl.errors import MedtlError, RunError, WeightsError
from medtl.evaluation.evaluate import test_ids as locked_ids
from medtl.inference.load import finished_stages, read_stage
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.runtime.records import read_lines, read_stages
from medtl.runtime.run_folder import STAGES, Run
from medtl.transfer.receipt import receipts_of
from medtl.transfer.weights import BEST, read_weights, write_checkpoint

CATALOG = load_catalog()
FABRIC = build_fabric("cpu", "fp32")

NETWORK = {
    "name": "unet",
    "width": 4,
    "in_channels": 1,
    "out_channels": 1,
    "spatial_dims": 3,
    "patch_size": [32, 32, 32],
    "options": {},
}

INTERVAL = {"mean": 0.5, "low": None, "high": None, "n": 2, "method": "none"}

FILES: dict[str, Any] = {
    "stages.json": ["source"],
    "splits.json": [{"train": ["a"], "val": [], "test": ["b"], "patients": {"a": "P1", "b": "P2"}}],
    "receipt.json": {
        "source": {
            "origin": "random",
            "shares": {"loaded": 0.0, "adapted": 0.0, "random": 1.0},
            "new_modalities": [],
            "identical_modalities": [["t1", "t2"]],
            "notes": ["a note"],
            "tensors": [
                {
                    "name": "w",
                    "block": "stem",
                    "status": "random",
                    "shape": [2, 3],
                    "numel": 6,
                    "parameter": True,
                    "source": "",
                    "note": "",
                    "factors": {"t1": 0.5},
                }
            ],
        }
    },
    "summary.json": {
        "data": {"synthetic": True, "patients": 2, "cases": 2, "leak": ""},
        "source": {"WT": dict.fromkeys(("dice", "hd95_mm", "lesion_f1"), INTERVAL)},
    },
    "environment.json": {"python": "3.11", "settings": {"lr": 0.1}},
}

READERS: dict[str, Callable[[Path], object]] = {
    "stages.json": lambda run: (read_stages(run / STAGES), finished_stages(Run(run))),
    "splits.json": lambda run: (
        read_splits(run / "splits.json"),
        locked_ids(Run(run)),
        ApiRun(run).split.rows(),
    ),
    "receipt.json": lambda run: [one.tables() for one in receipts_of(Run(run)).values()],
    "summary.json": lambda run: [ApiRun(run).scores.tables(), ApiRun(run).scores.title],
    "environment.json": lambda run: ApiRun(run).environment,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one stage with a network of width 4, as it was written."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    torch.manual_seed(0)
    network = CATALOG.networks["unet"].load()(
        in_channels=1, out_channels=1, width=4, spatial_dims=3, patch_size=(32, 32, 32)
    )
    preset = CATALOG.transforms["brain-mr"].load()()
    metadata = {
        "network": NETWORK,
        "task": "brats",
        "stage": "source",
        "domain": "mod:t1",
        "modalities": ["t1"],
        "regions": ["WT"],
        "nested": True,
        "min_component_ml": 0.5,
        "preprocessing": json.loads(json.dumps(preset.to_json())),
        "seen": ["ab"],
        "steps": 3,
        "synthetic": True,
    }
    write_checkpoint(folder / "source" / BEST, network.module.state_dict(), metadata)
    (folder / "config.yaml").write_text("task: brats\nstrategy: scratch\n")
    for name, content in FILES.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def with_metadata(source: Path, path: Path, change: Callable[[Any], Any], *, summed: bool) -> None:
    """Copy a checkpoint with other metadata; ``summed``: as if medtl had written these."""
    content = source.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    metadata = json.loads(header["__metadata__"]["medtl"])
    stated = metadata.pop("sha256")
    metadata = change(metadata)
    if isinstance(metadata, dict) and not summed:
        metadata["sha256"] = stated
    header["__metadata__"]["medtl"] = json.dumps(metadata)
    text = json.dumps(header).encode()
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


# --- checksums --------------------------------------------------------------------------------


def test_a_checkpoint_holds_the_hash_of_its_tensors_and_metadata(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(3, dtype=torch.int64)}
    tensors["c"] = torch.ones(2, dtype=torch.bfloat16)
    write_checkpoint(tmp_path / "w", tensors, {"steps": 4})
    found = hashlib.sha256(b'{"format": 1, "steps": 4}')
    found.update(b"\na torch.int64 ()\n" + struct.pack("<q", 3))
    found.update(b"\nb torch.float32 (2, 3)\n" + np.arange(6, dtype="<f4").tobytes())
    found.update(b"\nc torch.bfloat16 (2,)\n" + b"\x80\x3f" * 2)
    header = (tmp_path / "w").read_bytes()
    assert json.dumps({"sha256": found.hexdigest()})[1:-1].replace('"', '\\"').encode() in header
    assert read_weights(tmp_path / "w").metadata == {"format": 1, "steps": 4}


def test_every_bit_that_flips_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w"
    write_checkpoint(path, {"w": torch.linspace(-1, 1, 40)}, {"stage": "source", "steps": 70})
    whole, draw = path.read_bytes(), random.Random(3)
    bits = [*range(8 * (len(whole) - 160), 8 * len(whole), 7)]
    bits += draw.sample(range(8 * len(whole)), 300)
    for bit in bits:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = read_weights(path)
        except WeightsError:
            continue
        # What is no longer medtl's holds neither steps nor a stage that could mislead.
        assert found.format == "safetensors" and not found.metadata


def test_metadata_that_were_edited_are_refused(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "w"
    with_metadata(run / "source" / BEST, path, lambda m: {**m, "steps": 9}, summed=False)
    with pytest.raises(WeightsError, match="its content has changed since it was written"):
        read_weights(path)


def test_files_without_a_hash_are_read(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "w"
    with_metadata(run / "source" / BEST, path, lambda m: m, summed=True)
    found, whole = read_weights(path), read_weights(run / "source" / BEST)
    assert found.metadata == whole.metadata
    assert all(torch.equal(found.tensors[name], whole.tensors[name]) for name in whole.tensors)


# --- names and sizes --------------------------------------------------------------------------


def copied(run: Path, tmp_path: Path, change: Callable[[Any], Any]) -> Run:
    folder = Path(shutil.copytree(run, tmp_path / "copy"))
    with_metadata(run / "source" / BEST, folder / "source" / BEST, change, summed=True)
    return Run(folder)


def test_the_run_as_it_was_written_is_read(run: Path) -> None:
    assert read_stage(Run(run), "source", CATALOG, FABRIC).stage == "source"
    for read in READERS.values():
        read(run)


@pytest.mark.parametrize(
    "name", ["../../victim", "/tmp/victim", "..", ".", "", "a/b", "a\\b", "CON", "x\0", "s" * 300]
)
def test_no_name_of_a_stage_is_a_path(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(MedtlError, match=r"stage|characters"):
        read_stage(copied(run, tmp_path, lambda m: {**m, "stage": name}), "source", CATALOG, FABRIC)
    (tmp_path / "stages.json").write_text(json.dumps(["source", name]))
    with pytest.raises(RunError, match=r"stages\.json"):
        read_stages(tmp_path / STAGES)


def test_a_checkpoint_of_another_stage_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="says that it is of stage 'target', not of 'source'"):
        read_stage(
            copied(run, tmp_path, lambda m: {**m, "stage": "target"}), "source", CATALOG, FABRIC
        )


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("network.width", 10**5, "larger than its"),
        ("network.width", -4, r"network\.width"),
        ("network.width", "4", r"network\.width"),
        ("network.spatial_dims", 7, r"network\.spatial_dims"),
        ("network.patch_size", [16] * 9, r"network\.patch_size"),
        ("network.patch_size", [16, 16, -1], r"network\.patch_size"),
        ("network.options", {"in_channels": 5}, "in_channels is no option"),
        ("network.name", None, r"network\.name"),
        ("network", [1, 2], "network"),
        ("task", None, "task"),
        ("min_component_ml", "x", "min_component_ml"),
        ("min_component_ml", -1, "min_component_ml"),
        ("preprocessing.spacing_mm", 0, "spacing_mm"),
        ("preprocessing.spacing_mm", "3", "spacing_mm"),
        ("preprocessing.augmentation", None, "augmentation"),
        ("regions", {}, "regions"),
        ("seen", "ab", "seen"),
        ("steps", 1e300, "steps"),
        ("synthetic", "no", "synthetic"),
        ("temperature", 0, "temperature"),
        ("response_rms", {"a": -1}, "response_rms"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(
    run: Path, tmp_path: Path, field: str, value: object, told: str
) -> None:
    outer, _, inner = field.partition(".")

    def change(metadata: dict[str, Any]) -> dict[str, Any]:
        return metadata | {outer: metadata[outer] | {inner: value} if inner else value}

    changed = copied(run, tmp_path, change)
    with pytest.raises(MedtlError, match=told) as caught:
        read_stage(changed, "source", CATALOG, FABRIC)
    assert str(changed.path / "source" / BEST) in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_pipe_is_no_file_of_a_run(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "copy"))
    for name in (*FILES, f"source/{BEST}"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    for name, read in READERS.items():
        if name != "summary.json":  # which says that the run is finished
            with pytest.raises(MedtlError, match="a pipe, a socket or a device"):
                read(folder)
    with pytest.raises(MedtlError):
        read_stage(Run(folder), "source", CATALOG, FABRIC)


# --- any change -------------------------------------------------------------------------------


ODD = st.sampled_from(
    [None, True, -1, 0, 2**70, 1e308, float("nan"), "", "x", "../..", "\0", "\ud800", [], {}, [[]]]
)


def changed_somewhere(content: Any, data: st.DataObject) -> Any:
    """The content with one value, at any depth, replaced, dropped, renamed or doubled."""
    content = copy.deepcopy(content)
    here: Any = {"": content}
    key: Any = ""
    while isinstance(here[key], dict | list) and here[key] and data.draw(st.integers(0, 3)):
        here = here[key]
        keys = list(here) if isinstance(here, dict) else range(len(here))
        key = data.draw(st.sampled_from(list(keys)))
    act = data.draw(st.sampled_from(["replace", "drop", "wrap", "deep", "more"]))
    if act == "drop" and here is not None and key != "":
        del here[key]
    elif act == "wrap":
        here[key] = data.draw(st.sampled_from([[here[key]], {"a": here[key]}, str(here[key])]))
    elif act == "deep":
        for _ in range(data.draw(st.sampled_from([5, 40, 400]))):
            here[key] = [here[key]]
    elif act == "more" and isinstance(here[key], list):
        here[key] += here[key]
    else:
        here[key] = data.draw(ODD)
    return here.get("", content) if isinstance(here, dict) and "" in here else content


def refused_or_read(act: Callable[[], object]) -> None:
    try:
        act()
    except MedtlError as error:
        message = str(error)
        assert message and len(message) < 1000


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_change_of_a_file_is_read_or_one_line(
    run: Path, tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = run.with_name("changed")
    if not folder.exists():
        shutil.copytree(run, folder)
    (folder / name).write_text(json.dumps(changed_somewhere(FILES[name], data)))
    try:
        refused_or_read(lambda: READERS[name](folder))
    finally:
        (folder / name).write_text(json.dumps(FILES[name]))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_change_of_metadata_is_read_or_one_line(run: Path, data: st.DataObject) -> None:
    folder = run.with_name("changed-checkpoint")
    if not folder.exists():
        shutil.copytree(run, folder)

    def change(metadata: Any) -> Any:
        return changed_somewhere(metadata, data)

    with_metadata(run / "source" / BEST, folder / "source" / BEST, change, summed=True)
    refused_or_read(lambda: read_stage(Run(folder), "source", CATALOG, FABRIC))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    content=st.binary(max_size=60) | st.text(alphabet='[]{}":,0123456789.eE-\\u \n').map(str.encode)
)
def test_any_bytes_are_rows_or_one_line(run: Path, content: bytes) -> None:
    path = run.with_name("metrics.jsonl")
    path.write_bytes(content)
    refused_or_read(lambda: read_lines(path, torn=True))


def test_safetensors_of_others_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(save({"w": np.ones(3, np.float32)}, metadata={"sha256": "x"}))
    assert read_weights(tmp_path / "w").metadata == {}
    assert load((tmp_path / "w").read_bytes())["w"].sum() == 3
