"""Files of weights: what is read, what is refused, and that nothing in them is ever run."""

from __future__ import annotations

import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from monai.networks.nets import DynUNet
from torch import nn

from medtl.errors import RunError, WeightsError
from medtl.transfer.weights import BEST, read_weights, resolve_weights, write_checkpoint

STATE = {"stem.weight": torch.arange(6.0).view(1, 2, 3), "stem.bias": torch.ones(1)}
METADATA = {"modalities": ["flair", "t1ce"], "regions": ["WT"], "seen": ["ab", "cd"]}


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_a_checkpoint_comes_back_as_written(tmp_path):
    path = tmp_path / "new" / "checkpoint.safetensors"
    write_checkpoint(path, STATE, METADATA)
    weights = read_weights(path)
    assert same(weights.tensors, STATE)
    assert weights.format == "medtl"
    assert weights.metadata == {"format": 1, **METADATA}
    assert weights.modalities == ("flair", "t1ce")
    assert weights.regions == ("WT",)
    assert weights.seen == {"ab", "cd"}
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.safetensors"]


def test_checkpoints_are_told_whatever_the_length_of_their_metadata(tmp_path):
    """A safetensors file begins with the length of its header, a pickle with the byte 0x80."""
    path, first = tmp_path / "w", set()
    for length in range(0, 512, 8):
        write_checkpoint(path, STATE, {**METADATA, "domain": "s" * length})
        first.add(path.read_bytes()[0])
        assert same(read_weights(path).tensors, STATE)
        assert read_weights(path).modalities == ("flair", "t1ce")
    assert 0x80 in first


def test_the_same_checkpoint_is_the_same_file(tmp_path):
    for name in ("a", "b"):
        write_checkpoint(tmp_path / name, STATE, METADATA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_shared_and_strided_tensors_are_written_once_and_whole(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    state = {"a": base, "b": base, "part": base[:, 1:3], "turned": base.t(), "empty": base[:0]}
    write_checkpoint(tmp_path / "w", state, {})
    found = read_weights(tmp_path / "w").tensors
    assert same(found, {name: state[name] for name in ("a", "part", "turned", "empty")})


def test_shared_tensors_of_dynunet_are_saved_once(tmp_path):
    module = DynUNet(3, 2, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4, 8, 16, 16])
    write_checkpoint(tmp_path / "w", module.state_dict(), {})
    found = read_weights(tmp_path / "w").tensors
    assert sum(t.numel() for t in found.values()) == sum(p.numel() for p in module.parameters())
    assert len(found) < len(module.state_dict())


def test_an_unwritable_checkpoint_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_checkpoint(tmp_path / "file" / "w", STATE, {})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("wrap", "form"),
    [
        (lambda s: s, "state dict"),
        (lambda s: {"state_dict": s, "epoch": 3}, "checkpoint['state_dict']"),
        (lambda s: {"model": s, "optimizer": {"lr": 1.0}}, "checkpoint['model']"),
        (lambda s: {"net": {"state_dict": s}}, "checkpoint['state_dict']"),
        (lambda s: {"module." + k: v for k, v in s.items()}, "state dict"),
        (lambda s: {"module._orig_mod." + k: v for k, v in s.items()}, "state dict"),
        (lambda s: {k: nn.Parameter(v) for k, v in s.items()}, "state dict"),
        (lambda s: {**s, "epoch": 3, "loss": np.float64(0.5)}, "state dict"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_of_other_programs_are_unwrapped(tmp_path, wrap, form, zipped):
    path = tmp_path / "w.pt"
    torch.save(wrap(OrderedDict(STATE)), path, _use_new_zipfile_serialization=zipped)
    weights = read_weights(path)
    assert same(weights.tensors, STATE)
    assert not any(tensor.requires_grad for tensor in weights.tensors.values())
    assert (weights.format, weights.metadata) == (form, {})


def test_plain_safetensors_are_read(tmp_path):
    safetensors.torch.save_file(STATE, tmp_path / "w.bin", metadata={"format": "pt"})
    weights = read_weights(tmp_path / "w.bin")
    assert same(weights.tensors, STATE)
    assert (weights.format, weights.metadata) == ("safetensors", {})


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "beside the weights"])
def test_a_malicious_pickle_is_not_executed(tmp_path, form):
    path, target = tmp_path / "w.pt", tmp_path / "exploded"
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(Bomb(target), protocol=2))
    else:
        content = {"state_dict": STATE, "x": Bomb(target)} if "beside" in form else Bomb(target)
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    refused(path)
    assert not target.exists()


@pytest.mark.parametrize("module", ["numpy", "numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_names_in_a_pickle_call_nothing_of_numpy(tmp_path, module):
    # numpy.memmap and friends could touch files; only scalars and arrays have stand-ins.
    path = tmp_path / "w.pt"
    path.write_bytes(b"\x80\x02c" + module.encode() + b"\nmemmap\n(U\x01xtR.")
    assert f"{module}.memmap" in refused(path)
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]


def test_a_whole_pickled_model_is_explained(tmp_path):
    torch.save(nn.Conv1d(1, 1, 1), tmp_path / "w.pt")
    message = refused(tmp_path / "w.pt")
    assert "torch.nn.modules.conv.Conv1d" in message
    assert "weights_only=False" in message and "state_dict()" in message


def test_the_recipe_for_a_pickled_model_works(tmp_path):
    path = tmp_path / "w.pt"
    model = nn.Conv1d(1, 1, 1)
    torch.save(model, path)
    recipe = refused(path).split("in Python: ")[1]
    exec(recipe.replace("'weights.pt'", repr(str(path))), {"torch": torch})
    assert same(read_weights(path).tensors, dict(model.state_dict()))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_explained(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Conv1d(1, 1, 1), torch.zeros(1, 1, 4)), tmp_path / "w.pt")
    assert "TorchScript" in refused(tmp_path / "w.pt")


def test_nnunet_checkpoints_are_read_past_their_numpy_scalars(tmp_path):
    content = {
        "network_weights": STATE,
        "trainer_name": "nnUNetTrainer",
        "init_args": {
            "dataset_json": {"channel_names": {"1": "T1c", "0": "FLAIR"}},
            "device": torch.device("cpu"),
            "patch": np.arange(3),
        },
        "logging": {"dice": [np.float32(0.5), np.float64(0.25)]},
        "_best_ema": np.float64(0.75),
    }
    torch.save(content, tmp_path / "checkpoint_final.pth")
    weights = read_weights(tmp_path / "checkpoint_final.pth")
    assert same(weights.tensors, STATE)
    assert weights.format == "nnU-Net v2"
    assert weights.modalities == ("flair", "t1ce")


@pytest.mark.parametrize("keep", [0, 3, 40, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_truncated_files_are_one_line(tmp_path, kind, keep):
    path = tmp_path / "w"
    if kind == "safetensors":
        write_checkpoint(path, STATE, METADATA)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    refused(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><title>Sign in</title>" + b" " * 40, "not a weights file"),
        (b"\xff" * 8 + b"{" + b"x" * 50, "damaged"),
        (b"PK\x03\x04" + b"\0" * 200, "damaged"),
    ],
)
def test_files_of_other_kinds_are_named_for_what_they_are(tmp_path, content, words):
    (tmp_path / "w.pt").write_bytes(content)
    assert words in refused(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.zeros(3), "holds a Tensor"),
        ([torch.zeros(3)], "holds a list"),
        ({"epoch": 3, "best": 0.5}, "its keys: epoch, best"),
        ({}, "its keys: none"),
        ({"a": torch.tensor([1.0, float("nan")])}, "a holds NaN"),
        ({"a": torch.tensor([1.0, float("inf")])}, "a holds NaN or infinite"),
        ({"a": torch.zeros(2), "b": torch.zeros(1).byte()}, "all its values are 0"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "complex"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "sparse"),
    ],
)
def test_contents_that_are_no_plain_state_dict_are_refused(tmp_path, content, words):
    torch.save(content, tmp_path / "w.pt")
    assert words in refused(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"format": 99}',
        '{"format": 1, "seen": "abc"}',
        '{"format": 1, "modalities": [1]}',
    ],
)
def test_damaged_medtl_metadata_is_refused(tmp_path, text):
    safetensors.torch.save_file(STATE, tmp_path / "w", metadata={"medtl": text})
    refused(tmp_path / "w")


def make_stage(run: Path, stage: str, time: int) -> Path:
    path = run / stage / BEST
    write_checkpoint(path, STATE, {"stage": stage})
    os.utime(path, (time, time))
    return path


def test_a_run_stands_for_its_last_stage_and_a_stage_for_itself(tmp_path):
    source, adapt = make_stage(tmp_path, "source", 200), make_stage(tmp_path, "adapt", 100)
    assert resolve_weights(str(tmp_path)) == source  # by age
    (tmp_path / "stages.json").write_text(json.dumps(["source", "adapt"]))
    assert resolve_weights(str(tmp_path)) == adapt
    assert resolve_weights(str(tmp_path / "source")) == source
    assert resolve_weights(str(source)) == source


def test_an_unfinished_run_names_the_stages_there_are(tmp_path):
    make_stage(tmp_path, "source", 1)
    (tmp_path / "stages.json").write_text('["source", "adapt"]')
    with pytest.raises(WeightsError, match=r"'adapt' has no checkpoint; there is .*source"):
        resolve_weights(str(tmp_path))


def test_missing_weights_say_what_exists(tmp_path):
    make_stage(tmp_path / "runs" / "x", "source", 1)
    with pytest.raises(WeightsError, match="holds source"):
        resolve_weights(str(tmp_path / "runs" / "x" / "adapt"))
    with pytest.raises(WeightsError, match="holds x"):
        resolve_weights(str(tmp_path / "runs" / "y"))
    (tmp_path / "bare").mkdir()
    (tmp_path / "w.pt").touch()
    with pytest.raises(WeightsError, match=r"v\.pt: no such file or run; .* holds w\.pt$"):
        resolve_weights(str(tmp_path / "v.pt"))
    with pytest.raises(WeightsError, match="holds no checkpoint_best"):
        resolve_weights(str(tmp_path / "bare"))
    refused(tmp_path / "bare")


@pytest.mark.parametrize("text", ["{", "{}", "[1]"])
def test_a_damaged_list_of_stages_is_refused(tmp_path, text):
    make_stage(tmp_path, "source", 1)
    (tmp_path / "stages.json").write_text(text)
    with pytest.raises(WeightsError, match=r"stages\.json"):
        resolve_weights(str(tmp_path))
