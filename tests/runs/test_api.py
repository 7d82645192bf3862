"""The Python API against what the command line writes for the same settings."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import nibabel as nib
import numpy as np
import pytest
import torch

from medtl import api
from medtl.errors import ConfigError, MedtlError, RunError, UnknownNameError
from medtl.transfer.weights import BEST

SETTINGS: dict[str, Any] = {
    "network": "unet",
    "width": 4,
    "batch_size": 2,
    "spacing_mm": 7.5,
    "steps": 2,
    "device": "cpu",
    "precision": "fp32",
    "patch_size": (32, 32, 32),
    "transforms": "brain-mr-plain",
    "test_fraction": 0.4,
}
SCRATCH = {**SETTINGS, "strategy": "scratch", "dst": "flair,t1"}
CLASSES = {"network": "cbr-tiny", "width": 4, "steps": 2, "device": "cpu", "precision": "fp32"}
EXACT = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> api.Phantom:
    return api.phantom(tmp_path_factory.mktemp("made") / "heads", cases=10, size=24, seed=3)


@pytest.fixture(scope="module")
def by_command(
    heads: api.Phantom, tiny_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return tiny_run(tmp_path_factory.mktemp("command") / "run", heads.path)


@pytest.fixture(scope="module")
def run(heads: api.Phantom, tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    out = tmp_path_factory.mktemp("api") / "run"
    return api.train("brats", data=heads, out=out, **SETTINGS)


@pytest.fixture(scope="module")
def scratch(heads: api.Phantom, tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    return api.train("brats", data=heads, out=tmp_path_factory.mktemp("api") / "run", **SCRATCH)


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> api.Phantom:
    folder = tmp_path_factory.mktemp("made") / "slices"
    return api.phantom(folder, layout="lgg-mri", cases=8, size=32, seed=1)


@pytest.fixture(scope="module")
def classes(slices: api.Phantom, tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    out = tmp_path_factory.mktemp("api") / "classes"
    return api.train("lgg-mri", data=slices, out=out, patch_size=(32, 32), **CLASSES)


def printed(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str], *words: object
) -> Any:
    capsys.readouterr()
    command(*words)
    return json.loads(capsys.readouterr().out)


def plain(value: Any) -> Any:
    """As JSON has it: tuples are lists."""
    return json.loads(json.dumps(value))


# --- train ----------------------------------------------------------------------------------------


def test_a_call_trains_what_the_command_trains(run: api.Run, by_command: Path) -> None:
    assert run.stages == ("source", "adapt", "unfreeze")
    names = [f"{stage}/{BEST}" for stage in run.stages]
    for name in (*names, "splits.json", "metrics.csv", "config.yaml"):
        assert (run.path / name).read_bytes() == (by_command / name).read_bytes(), name
    ours, theirs = (json.loads((p / "summary.json").read_text()) for p in (run.path, by_command))
    assert ours == theirs


def test_a_plan_is_what_the_run_then_does(heads: api.Phantom, run: api.Run, tmp_path: Path) -> None:
    out = tmp_path / "none"
    plan = api.plan("brats", data=heads, out=out, **SETTINGS)
    assert not out.exists()
    assert [row["stage"] for row in plan.rows()] == list(run.stages)
    assert plan.split == run.split
    for stage, receipt in plan.receipts.items():
        assert receipt.shares == pytest.approx(run.receipts[stage].shares)
    assert plan.synthetic and "synthetic phantom" in repr(plan)
    json.dumps(plan.to_json())


def test_a_file_of_settings_goes_below_those_of_the_call(
    heads: api.Phantom, tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("strategy: fine-tune\nrate: 0.5\nsteps: 7\n")
    plan = api.plan("brats", config=file, data=heads, **SETTINGS)
    assert plan.config.strategy == "fine-tune" and plan.config.lr == 0.5
    assert plan.config.steps == SETTINGS["steps"]


def test_resume_scores_a_run_that_was_stopped_before_it_was_scored(
    scratch: api.Run, tmp_path: Path
) -> None:
    before = scratch.scores.to_json()
    shutil.copytree(scratch, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    stopped = api.open_run(tmp_path / "run")
    assert not stopped.finished and "not finished" in stopped._repr_html_()
    with pytest.raises(RunError, match="no scores yet"):
        _ = stopped.scores
    assert api.resume(stopped).scores.to_json() == before
    assert api.resume(stopped, workers=0) == stopped  # a finished run is left alone


def test_threads_train_to_the_same_weights_and_leave_the_process_as_it_was(
    heads: api.Phantom, scratch: api.Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    torch.manual_seed(1)

    def state() -> list[Any]:
        drawn = torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()
        look = matplotlib.get_backend(), dict(matplotlib.rcParams)
        return [*drawn, *look, [signal.getsignal(number) for number in signals]]

    def train(name: str) -> None:
        api.train("brats", data=heads, out=tmp_path / name, **SCRATCH)

    before = state()
    capfd.readouterr()
    threads = [threading.Thread(target=train, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr() == ("", "")
    assert state() == before
    for name in ("first", "second"):
        weights = (tmp_path / name / "scratch" / BEST).read_bytes()
        assert weights == (scratch.path / "scratch" / BEST).read_bytes()


def test_a_signal_handler_that_python_did_not_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from medtl.runtime.signals import watching

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr("medtl.runtime.signals.signal.getsignal", lambda number: None)
    with watching():
        pass
    monkeypatch.undo()
    assert {n: signal.getsignal(n) for n in before} == before


# --- a run read back ------------------------------------------------------------------------------


def test_scores_are_the_means_of_the_cases(run: api.Run) -> None:
    with (run.path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for row in run.scores.rows():
        own = [
            float(line[row["metric"]])
            for line in table
            if (line["stage"], line["region"]) == (row["stage"], row["output"])
        ]
        assert row["n"] == len(own) == len(run.split.patients_of("test"))
        assert row["mean"] == pytest.approx(np.mean(own), nan_ok=True)
    assert len(run.scores.cases) == len(table)
    assert run.scores.cases[0]["dice"] == float(table[0]["dice"])
    assert run.scores.cases[0]["patient"] == table[0]["patient"]


def test_a_run_holds_what_its_files_hold(run: api.Run) -> None:
    assert api.open_run(run.path) == run
    assert run.config.steps == SETTINGS["steps"]
    lines = [
        json.loads(line)
        for stage in run.stages
        for line in (run.path / stage / "metrics.jsonl").read_text().splitlines()
    ]
    assert [{k: v for k, v in row.items() if k != "stage"} for row in run.history] == lines
    receipts = json.loads((run.path / "receipt.json").read_text())
    assert plain({name: receipt.to_json() for name, receipt in run.receipts.items()}) == receipts
    assert run.figures["curves"].png == (run.path / "figures" / "curves.png").read_bytes()
    assert run.environment == json.loads((run.path / "environment.json").read_text())
    assert {row["patient"] for row in run.split.rows() if row["part"] == "test"} == set(
        run.split.patients_of("test")
    )
    json.dumps(run.to_json())


def test_a_damaged_run_is_one_line(run: api.Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((run.path / "config.yaml").read_text())
    damaged = api.open_run(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "receipt.json").write_text('{"source": []}')
    (tmp_path / "splits.json").write_text("[]")
    for read in (lambda: damaged.scores, lambda: damaged.receipts, lambda: damaged.split):
        with pytest.raises(RunError, match="damaged"):
            read()
    with pytest.raises(RunError, match="no such run folder"):
        api.open_run(tmp_path / "nowhere")


# --- a run at work --------------------------------------------------------------------------------


def test_evaluate_finds_what_the_command_prints(
    run: api.Run,
    heads: api.Phantom,
    command: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = {"stage": "unfreeze", "missing_modalities": True}
    found = api.evaluate(run, device="cpu", precision="fp32", **wanted)
    words = ("evaluate", run.path, "--stage", "unfreeze", "--missing-modalities", "--json", "-q")
    assert found.to_json() == printed(command, capsys, *words, *EXACT)
    own = [row for row in run.scores.cases if row["stage"] == "unfreeze"]
    assert [row["dice"] for row in found.cases] == pytest.approx([row["dice"] for row in own])
    assert found.summary["unfreeze"] == run.scores.summary["unfreeze"]
    assert len(found.tables()) == 2 and all("synthetic" in t.title for t in found.tables())


def test_predict_writes_what_the_command_writes(
    run: api.Run, heads: api.Phantom, command: Callable[..., None], tmp_path: Path
) -> None:
    # One case is enough: the first test patient's folder.
    name = run.split.test[0]
    study = next(path for path in heads.path.rglob(name) if path.is_dir())
    found = api.predict(run, study, tmp_path / "api", device="cpu", precision="fp32")
    command("predict", run.path, "-i", study, "-o", tmp_path / "command", "-q", *EXACT)
    (row,) = found.rows()
    assert row["case"] == name
    ours, theirs = (nib.load(tmp_path / w / row["file"].name) for w in ("api", "command"))
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
    assert found.synthetic and name in found._repr_html_()


def test_classes_read_back_with_their_probabilities(
    classes: api.Run, slices: api.Phantom, tmp_path: Path
) -> None:
    (stage,) = classes.stages
    assert {"all", "tumor", "no_tumor"} <= set(classes.scores.summary[stage])
    assert len(classes.scores.tables()) == 4
    rows = classes.scores.cases
    assert {row["class"] for row in rows} <= {"tumor", "no_tumor"}
    assert [row["p_tumor"] + row["p_no_tumor"] for row in rows] == pytest.approx([1] * len(rows))
    again = api.evaluate(classes, device="cpu", precision="fp32")
    assert [row["p_tumor"] for row in again.cases] == pytest.approx(
        [row["p_tumor"] for row in rows], abs=1e-5
    )
    found = api.predict([classes], slices, tmp_path / "out", device="cpu", precision="fp32")
    told = {row["case"]: row["p_tumor"] for row in found.rows()}
    assert [told[row["case"]] for row in rows] == pytest.approx(
        [row["p_tumor"] for row in rows], abs=1e-5
    )


def test_explain_finds_what_the_command_prints(
    classes: api.Run,
    command: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    wanted = {"cases": 2, "output": "tumor", "device": "cpu"}
    found = api.explain(classes, out=tmp_path / "api", **wanted)
    words = ("explain", classes.path, "--cases", 2, "--class", "tumor", "--device", "cpu", "-q")
    assert found.to_json() == printed(
        command, capsys, *words, "--out", tmp_path / "command", "--json"
    )
    assert found.figures["cam"].png == (tmp_path / "command" / "cam.png").read_bytes()
    assert "data:image/png" in found._repr_html_()


def test_shift_finds_what_the_command_prints(
    heads: api.Phantom,
    command: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    wanted = {"src": "flair", "dst": "t1", "metrics": ["mmd", "ks"], "permutations": 99}
    capsys.readouterr()
    found = api.shift(data=heads, attribute=False, **wanted)
    assert capsys.readouterr() == ("", "")
    words = ("shift", "--data", heads.path, "--src", "flair", "--dst", "t1", "--permutations", 99)
    words = (*words, "--metrics", "mmd,ks", "--no-attribute", "--json", "-q")
    assert found.to_json() == printed(command, capsys, *words, "--out", tmp_path / "written")
    assert found.p == found.rows()[0]["p"]
    kept = (tmp_path / "written" / "figures" / "appearance-densities.png").read_bytes()
    assert found.figures["appearance-densities"].png == kept
    assert found.synthetic and "synthetic phantom" in repr(found)


def test_a_phantom_is_that_of_the_command(
    heads: api.Phantom, command: Callable[..., None], tmp_path: Path
) -> None:
    words = ("--cases", 10, "--size", 24, "--seed", 3, "-q")
    command("data", "phantom", tmp_path / "heads", *words)

    def files(root: Path) -> dict[Path, bytes]:
        return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert files(heads.path) == files(tmp_path / "heads")


def test_weights_are_inspected_as_by_the_command(
    run: api.Run, command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    found = api.inspect_weights(run, network="unet", modalities=["t1", "flair"])
    words = ("weights", "inspect", run.path, "--network", "unet", "--modalities", "t1,flair")
    assert plain(found.to_json()) == printed(command, capsys, *words, "--json")
    assert found.receipt is not None and found.receipt.transferred == pytest.approx(1)
    assert not found.problem


def test_a_look_into_weights_leaves_torchs_randomness(run: api.Run) -> None:
    before = torch.random.get_rng_state()
    api.inspect_weights(run, network="unet", modalities=["t1", "flair"])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_predicted_cases_have_their_own_names(tmp_path: Path) -> None:
    files = tuple(tmp_path / name for name in ("1.2.840.nii.gz", "scan%3A1.nii.gz", "a.b.png"))
    found = api.Predictions(tmp_path, files, (), False)
    assert [row["case"] for row in found.rows()] == ["1.2.840", "scan:1", "a.b"]


def test_verbose_tells_what_the_command_tells(
    run: api.Run, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    api.evaluate(run, stage="adapt", device="cpu", precision="fp32", verbose=True)
    out, err = capfd.readouterr()
    assert out == "" and "scoring adapt" in err


# --- words that are wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: api.train(batchsize=2), ConfigError, "did you mean 'batch_size'?"),
        (lambda: api.plan("brts"), UnknownNameError, "did you mean 'brats'?"),
        (lambda: api.plan(network="unett"), UnknownNameError, "did you mean"),
        (lambda: api.plan(steps="many"), ConfigError, "steps: must be a whole number"),
        (lambda: api.plan(devices=2), ConfigError, "torchrun"),
        (lambda: api.shift(sorc="t1"), UnknownNameError, "did you mean 'src'?"),
        (
            lambda: api.shift(permutations="many"),
            ConfigError,
            "--permutations: must be a whole number",
        ),
        (lambda: api.shift(layer="stem"), ConfigError, "activations"),
        (lambda: api.components("network"), UnknownNameError, "did you mean 'networks'?"),
        (lambda: api.catalog(network={}), UnknownNameError, "did you mean 'networks'?"),
        (lambda: api.catalog(networks={"a b": 1}), ConfigError, "cannot name"),
        (lambda: api.doctor()["device"], UnknownNameError, "did you mean 'devices'?"),
    ],
)
def test_a_mistake_is_a_line_with_the_nearest_name(
    call: Callable[[], object], kind: type[MedtlError], message: str
) -> None:
    with pytest.raises(kind, match=message.replace("?", r"\?")) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- components of one's own ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def mine() -> Iterator[Any]:
    from medtl.transfer.strategies.base import stage
    from medtl_unet3d.plugin import medtl_networks

    unet = next(each for each in medtl_networks() if each.name == "unet").load()

    def at_once(request: Any) -> tuple[Any, ...]:
        """Train the target at once."""
        return (stage(request, "at-once", request.target, request.steps, init="random"),)

    yield api.catalog(networks={"mine": unet}, strategies={"at-once": at_once})


def test_components_of_a_program_are_used_and_stay_its_own(
    heads: api.Phantom, mine: Any, tmp_path: Path
) -> None:
    own = {**SCRATCH, "network": "mine", "strategy": "at-once"}
    run = api.train("brats", data=heads, out=tmp_path / "run", catalog=mine, **own)
    assert run.stages == ("at-once",)
    again = api.evaluate(run, device="cpu", precision="fp32", catalog=mine)
    assert again.summary == run.scores.summary
    assert ("own", "mine") in {
        (row["plugin"], row["name"]) for row in api.components("networks", catalog=mine)
    }
    assert "mine" not in api.components("networks").names()
    with pytest.raises(RunError, match=r"needs a plugin .* unknown network"):
        api.evaluate(run, device="cpu")


def test_home_is_written_out_in_calls_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RunError, match=f"{tmp_path}/run: no such run folder"):
        api.evaluate("~/run")
    with pytest.raises(RunError, match="~nobody-here/run: no such run folder"):
        api.evaluate("~nobody-here/run")
