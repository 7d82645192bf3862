"""Checkpoints as other programs write them: the right weights, or one line that says what to do.

The right weights are those that went into the file.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from medtl.errors import MedtlError, WeightsError
from medtl.networks.blocks import Block, Network, tensors
from medtl.networks.budget import TooLargeError, at_most
from medtl.transfer import file_bounds
from medtl.transfer.file_bounds import MOST_TENSORS
from medtl.transfer.inspect import WeightsFile, facts_of
from medtl.transfer.mismatch import misfit
from medtl.transfer.receipt import Receipt
from medtl.transfer.transfer import transfer
from medtl.transfer.weights import no_larger_than, read_weights, write_checkpoint

State = dict[str, Tensor]


class Small(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, width, 3)
        self.body = nn.Sequential(nn.Conv3d(width, width, 3), nn.BatchNorm3d(width))
        self.head = nn.Conv3d(width, 2, 1)


def small(width: int = 4) -> Network:
    blocks = (
        Block("stem", "stem", ("stem.*",)),
        Block("body", "encoder", ("body.*",)),
        Block("head", "head", ("head.*",)),
    )
    heads = ("head.weight", "head.bias")
    return Network("small", Small(width), blocks, 1, 2, 3, width, ("stem.weight",), heads)


def state(seed: int = 0, width: int = 4) -> State:
    torch.manual_seed(seed)
    return {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in Small(width).state_dict().items()
    }


def under(prefix: str, values: State) -> State:
    return {prefix + name: value for name, value in values.items()}


def saved(tmp_path: Path, content: Any, **how: Any) -> Path:
    torch.save(content, tmp_path / "w.pt", **how)
    return tmp_path / "w.pt"


def loaded(path: Path, key: str = "") -> Receipt:
    network = small()
    receipt = transfer(network, read_weights(path, key), modalities=("t1",), regions=("a", "b"))
    state_of.update(tensors(network))
    return receipt


#: The tensors of the network that was loaded last.
state_of: State = {}


def holds(values: State) -> bool:
    return all(torch.equal(state_of[name], value) for name, value in values.items())


def refused(path: Path, key: str = "") -> str:
    with pytest.raises(MedtlError) as caught:
        loaded(path, key)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 1000
    return message


ONE, OTHER = state(1), state(2)


@pytest.mark.parametrize(
    "content",
    [
        under("model.net.", ONE),
        {"state_dict": under("model.module.", ONE), "epoch": 3},
        {"state_dict": under("model._orig_mod.", ONE)},
        {"model": under("backbone.", ONE)},
        under("a.b.c.d.", ONE),
        {"n_averaged": torch.tensor(5), **under("module.", ONE)},
        under("_fsdp_wrapped_module.model.", ONE),
        {"state_dict_ema": ONE, "epoch": 3},
        {"model_ema": ONE, "args": None},
        {"teacher": ONE},
        {"module": ONE},
        {"generator": ONE},
        {"encoder": ONE, "decoder": {"w": torch.zeros(3)}},
        {"weights": ONE},
        {"params": ONE},
        {"optimizer_state_dict": {}, "model_state": ONE},
        {"a": {"b": {"state_dict": ONE}}},
        {"state_dict": ONE, "optimizer": {"state": {0: {"exp_avg": torch.tensor(torch.inf)}}}},
        {"model": ONE, "args": argparse.Namespace(lr=1e-3)},
        {"state_dict": ONE, "config": Path("x.yaml")},
        {"state_dict": collections.defaultdict(None, ONE)},
        {"state_dict": ONE, "log": collections.deque([1.0, 2.0]), "hp": SimpleNamespace(a=1)},
        {"state_dict": {**under("encoder.", ONE), "decoder.0.weight": torch.zeros(8, 8, 3)}},
        {"student": ONE, "teacher": {name: value.clone() for name, value in ONE.items()}},
        [ONE],
    ],
)
def test_wrapped_weights_are_found(tmp_path, content):
    loaded(saved(tmp_path, content))
    assert holds(ONE)


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch_are_read(tmp_path, zipped):
    content = {"state_dict": under("model.net.", ONE), "hp": argparse.Namespace()}
    loaded(saved(tmp_path, content, _use_new_zipfile_serialization=zipped))
    assert holds(ONE)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    prefix=st.lists(st.sampled_from(["model", "net", "module", "backbone", "x0", "_orig_mod"])),
    wrappers=st.lists(
        st.sampled_from(["state_dict", "model", "net", "ema", "teacher", "w 1"]), max_size=4
    ),
)
def test_any_prefix_in_any_wrapper_is_left_out(tmp_path_factory, prefix, wrappers):
    content: Any = under("".join(f"{part}." for part in prefix), ONE)
    for key in wrappers:
        content = {key: content, "epoch": 1}
    loaded(saved(tmp_path_factory.mktemp("w"), content))
    assert holds(ONE)


TWINS = [
    ({"state_dict": ONE, "state_dict_ema": OTHER}, "state_dict", "state_dict_ema"),
    ({"params": ONE, "params_ema": OTHER}, "params", "params_ema"),
    ({"model": under("module.", ONE), "model_ema": OTHER}, "model", "model_ema"),
    ({"teacher": ONE, "student": OTHER}, "teacher", "student"),
    ({"state_dict": under("student.", ONE) | under("teacher.", OTHER)}, "student", "teacher"),
    (
        {"state_dict": under("module.encoder_q.", ONE) | under("module.encoder_k.", OTHER)},
        "encoder_q",
        "encoder_k",
    ),
    ({"state_dicts": [ONE, OTHER]}, "state_dicts.0", "state_dicts.1"),
    ([ONE, OTHER], "0", "1"),
    ({**ONE, **under("ema.", OTHER)}, ".", "ema"),
    ({**ONE, "ema": OTHER}, ".", "ema"),
    ({"state_dict": {**ONE, **under("ema.", OTHER)}}, ".", "ema"),
    (under("net._orig_mod.", ONE) | under("net_ema.", OTHER), "net", "net_ema"),
]


@pytest.mark.parametrize(("content", "first", "second"), TWINS)
def test_several_copies_are_listed_and_one_can_be_named(tmp_path, content, first, second):
    path = saved(tmp_path, content)
    message = refused(path)
    assert f"{first} (" in message and f"{second} (" in message
    advised = message.rpartition("--weights-key ")[2]
    loaded(path, advised)  # what is printed works
    for key, values in ((first, ONE), (second, OTHER)):
        loaded(path, key)
        assert holds(values)


def test_a_key_works_in_safetensors_too(tmp_path):
    write_checkpoint(tmp_path / "w", under("student.", ONE) | under("teacher.", OTHER), {})
    assert "student (" in refused(tmp_path / "w")
    loaded(tmp_path / "w", "teacher")
    assert holds(OTHER)


def test_an_unknown_key_names_those_there_are(tmp_path):
    path = saved(tmp_path, {"student": ONE, "teacher": OTHER})
    assert "its first keys are student, teacher" in refused(path, "tacher")


def test_a_width_of_another_copy_is_no_copy(tmp_path):
    loaded(saved(tmp_path, {"generator": ONE, "discriminator": state(3, width=8)}))
    assert holds(ONE)


def test_layers_that_are_alike_are_no_copies(tmp_path):
    module = nn.ModuleDict({f"layer{n}": Small() for n in range(3)})
    blocks = (Block("all", "encoder", ("*",)),)
    network = Network("three", module, blocks, 1, 2, 3, 4, ("layer0.stem.weight",), ())
    values = {name: torch.rand_like(v) for name, v in module.state_dict().items() if v.ndim}
    weights = read_weights(saved(tmp_path, {"state_dict": under("net.", values)}))
    transfer(network, weights, modalities=("t1",), regions=("a", "b"))
    found = tensors(network)
    assert all(torch.equal(found[name], value) for name, value in values.items())


def test_an_encoder_alone_is_called_one(tmp_path):
    stem = {name: value for name, value in ONE.items() if name.startswith("stem")}
    content = {"state_dict": under("encoder.", stem) | {"projector.0.weight": torch.zeros(64, 64)}}
    message = refused(saved(tmp_path, content))
    assert "all 2 tensors of the file under encoder fit, and it has none for body" in message
    assert "architecture" not in message


def test_a_decoder_beside_the_encoder_does_not_count_against_it(tmp_path):
    foreign = {"body.9.weight": torch.zeros(4, 4, 9, 9, 9)}
    path = saved(tmp_path, {"state_dict": under("encoder.", ONE) | foreign})
    network, weights = small(), read_weights(path)
    receipt = transfer(network, weights, modalities=("t1",), regions=("a", "b"))
    assert misfit(network, weights, receipt) == ""
    assert receipt.transferred == 1


def test_the_recipe_for_foreign_objects_works(tmp_path):
    class Tracker:
        pass

    globals()["Tracker"] = Tracker  # where pickle looks for it
    Tracker.__qualname__ = "Tracker"
    module = Small()
    path = saved(tmp_path, {"net": module, "best": Tracker(), "optimizer": {"state": {}}, "n": 3})
    recipe = refused(path).split("in Python: ")[1]
    exec(recipe.replace("'weights.pt'", repr(str(tmp_path / "new.pt"))), {})
    loaded(tmp_path / "new.pt")
    assert holds(dict(module.state_dict()))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_recipe_for_torchscript_works(tmp_path):
    module = nn.Sequential(nn.Conv1d(1, 2, 1))
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, 1, 4)), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="TorchScript") as caught:
        read_weights(tmp_path / "w.pt")
    recipe = str(caught.value).split("in Python: ")[1]
    exec(recipe.replace("'weights.pt'", repr(str(tmp_path / "new.pt"))), {})
    assert torch.equal(read_weights(tmp_path / "new.pt").tensors["0.weight"], module[0].weight)


def test_scores_that_nnunet_logs_do_not_count_as_tensors(tmp_path):
    epochs, classes = 1000, 25
    scores = [[np.float64(n) for n in range(classes)] for _ in range(epochs)]
    content = {
        "network_weights": {f"{n}.w": torch.full((2,), float(n)) for n in range(4)},
        "logging": {"dice_per_class_or_region": scores},
        "current_epoch": epochs,
    }
    found = read_weights(saved(tmp_path, content)).tensors
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        f"{n}.w": [n, n] for n in range(4)
    }


def circle() -> Any:
    content: dict[str, Any] = {"w": torch.zeros(1)}
    content["state_dict"] = content
    return content


def nest() -> Any:
    content: dict[str, Any] = {"w": torch.zeros(1)}
    for _ in range(50):
        content = {"a": content, "b": content}
    return content


BASE = torch.zeros(100_000)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (circle(), "holds itself"),
        (nest(), "nested more than"),
        ({"w": torch.zeros(1).expand(3_000_000_000)}, "w states 3,000,000,000 numbers"),
        ({"w": torch.zeros(1).expand(10**13)}, "w states 10,000,000,000,000 numbers"),
        ({f"w{n}": BASE[n:] for n in range(200)}, "contiguous copies"),
        ({f"w{n}": torch.zeros(1) for n in range(MOST_TENSORS + 1)}, "more than 20,000"),
        ({"w" * 2000: torch.zeros(1)}, "in 2,000 letters"),
        ({"w": torch.zeros(8, dtype=torch.uint8).view(torch.bits8)}, "w.pt"),
        ({"w": torch.zeros(10**12, device="meta")}, "empty-shell"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_claims_beyond_the_file_are_refused(tmp_path, content, words, zipped):
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert words in str(caught.value)


def rezipped(path: Path, change: Any, method: int = zipfile.ZIP_STORED) -> Path:
    """A file of torch.save with each record as ``change(name, content)`` gives it."""
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(4)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return path


def test_records_that_unpack_to_more_than_the_file_are_refused(tmp_path):
    def grown(name: str, content: bytes) -> bytes:
        return bytes(10**7) if name.endswith("data/0") else content

    path = rezipped(tmp_path / "w.pt", grown, zipfile.ZIP_DEFLATED)
    assert "compressed records (10,0" in refused(path)


@pytest.mark.parametrize("record", ["byteorder", ".format_version", "version"])
def test_large_records_beside_the_tensors_are_refused(tmp_path, record):
    def grown(name: str, content: bytes) -> bytes:
        return bytes(2**24 + 1) if name.endswith(record) else content

    assert "lists more than" in refused(rezipped(tmp_path / "w.pt", grown))


@pytest.mark.parametrize("count", [5, 100, 2_000_000_000])
def test_numbers_beyond_a_record_are_refused(tmp_path, count):
    claimed = struct.pack("<i", count)

    def grown(name: str, content: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return content
        assert b"K\x04t" in content and b"K\x00K\x04\x85" in content
        content = content.replace(b"K\x04t", b"J" + claimed + b"t")
        return content.replace(b"K\x00K\x04\x85", b"K\x00J" + claimed + b"\x85")

    refused(rezipped(tmp_path / "w.pt", grown))


def test_a_bytearray_of_any_size_is_not_made(tmp_path):
    claim = b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R"
    content = b"\x80\x02}X\x01\x00\x00\x00a" + claim + b"s."
    path = rezipped(tmp_path / "w.pt", lambda n, old: content if n.endswith("data.pkl") else old)
    assert "bytearray" in refused(path)
    (tmp_path / "w.pt").write_bytes(b"\x80\x02" + claim + b".")
    assert "bytearray" in refused(path)


def test_many_records_are_refused_before_they_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(file_bounds, "MOST_LISTED", 1000)
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        for number in range(100):
            archive.writestr(f"archive/data/{number}", b"")
    assert "lists more than" in refused(tmp_path / "w.pt")


def write_safetensors(path: Path, tensor: dict[str, Any], metadata: str = "") -> Path:
    header: dict[str, Any] = {"w": tensor}
    if metadata:
        header["__metadata__"] = {"medtl": metadata}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + struct.pack("<f", 1))
    return path


PLAIN = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("tensor", "metadata"),
    [
        ({"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}, ""),
        ({"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]}, ""),
        ({"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}, ""),
        ({"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 4]}, ""),
        (PLAIN, "[" * 100_000),
        (PLAIN, '{"format": 1, "network": [1, 2]}'),
        (PLAIN, '{"format": 1, "network": {"width": "500"}}'),
        (PLAIN, '{"format": 1, "network": {"options": []}}'),
        (PLAIN, '{"format": 1, "task": ["a"]}'),
        (PLAIN, '{"format": ' + "9" * 5000 + "}"),
    ],
)
def test_hostile_safetensors_are_one_line(tmp_path, tensor, metadata):
    refused(write_safetensors(tmp_path / "w", tensor, metadata))


def test_markup_in_metadata_is_text(tmp_path):
    text = json.dumps({"format": 1, "task": "[/x]", "stage": "[bold]s"})
    path = write_safetensors(tmp_path / "w", PLAIN, text)
    rows = dict(WeightsFile(facts_of(read_weights(path))).tables()[0].rows)
    assert (rows["task"], rows["stage"]) == ("[/x]", "[bold]s")


def test_a_recorded_network_is_bounded_by_its_weights(tmp_path):
    write_checkpoint(tmp_path / "w", ONE, {"network": {"name": "small", "width": 4}})
    weights = read_weights(tmp_path / "w")
    with no_larger_than(weights):
        Small(4)
    with pytest.raises(WeightsError, match="larger than its"), no_larger_than(weights):
        Small(3000)


def test_the_budget_counts_before_memory_is_taken():
    with pytest.raises(TooLargeError), at_most(10**6):
        torch.ones(10**13)
    with pytest.raises(TooLargeError), at_most(10**6):
        for _ in range(10**6):
            torch.zeros(1)
    with at_most(1000), torch.device("meta"):
        assert torch.empty(10**13).is_meta
