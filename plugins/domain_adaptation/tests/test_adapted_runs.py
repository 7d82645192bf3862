"""``medtl train --strategy dann`` and its kin on pictures of two sites, one of them unlabelled."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medtl.cli.start import main
from medtl.training.trainer import LAST
from medtl.transfer.weights import BEST, read_weights

CLASSES = ("dark", "light")
DOMAINS = ("--src", "grey,site:A", "--dst", "grey,site:B")
TINY = ("--network", "resnet18", "--width", "4", "--device", "cpu", "--precision", "fp32")
BY_IM = ("--set=select_by=im",)
TINY += ("--batch-size", "4", "--steps", "3", "--set=patch_size=32,32", "-q")


def write_table(
    folder: Path, unlabelled: tuple[str, ...] = (), wrong: tuple[str, ...] = ()
) -> Path:
    """Squares on noise at two sites, of which B is darker. These cases have no class, or the other
    one."""
    random = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for number in range(40):
        site, name = "AB"[number % 2], CLASSES[number // 2 % 2]
        levels = random.normal(90, 12, (32, 32))
        levels[8:24, 8:24] += 60 if name == "light" else -40
        levels *= 0.5 if site == "B" else 1
        path = folder / f"{number:02}.png"
        Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(path)
        told = CLASSES[1 - CLASSES.index(name)] if path.stem in wrong else name
        rows.append((path.stem, path.name, "" if path.stem in unlabelled else told, site))
    with (folder / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("case", "grey", "class", "site"), *rows])
    return folder / "list.csv"


def medtl(*words: object, code: int = 0) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["medtl", *map(str, words)])
        main()
    assert ended.value.code == code


def turn(names: list[str], folder: Path) -> None:
    """Turn these pictures upside down, and make them lighter."""
    assert names
    for name in names:
        levels = np.asarray(Image.open(folder / f"{name}.png"))[::-1] // 2 + 100
        Image.fromarray(levels).save(folder / f"{name}.png")


def same_weights(one: Path, other: Path, stage: str) -> bool:
    first, second = (read_weights(folder / stage / BEST).tensors for folder in (one, other))
    return all(torch.equal(second[name], first[name]) for name in first)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("pictures") / "data")


def train(data: Path, out: Path, strategy: str, *words: object) -> Path:
    medtl("train", "classification", "--data", data, *DOMAINS, *TINY, "--strategy", strategy,
          *words, "--out", out)  # fmt: skip
    return out


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(table, tmp_path_factory.mktemp("runs") / "dann", "dann", *BY_IM)


def test_labels_and_test_images_of_the_target_change_no_weight(run: Path, tmp_path: Path) -> None:
    (split,) = json.loads((run / "splits.json").read_text())
    train_B, val_B, (first, *test_B) = (
        [name for name in split[part] if int(name) % 2] for part in ("train", "val", "test")
    )
    others = write_table(tmp_path / "data", (*train_B, *val_B, first), tuple(test_B))
    turn([*val_B, *test_B], others.parent)
    other = train(others, tmp_path / "run", "dann", *BY_IM, "--splits", run / "splits.json")
    assert same_weights(run, other, "source") and same_weights(run, other, "dann")
    rows = [(folder / "dann" / "metrics.jsonl").read_text() for folder in (run, other)]
    assert rows[0] == rows[1]
    with (other / "predictions.csv").open(newline="") as stream:
        assert {row["case"] for row in csv.DictReader(stream)} == set(test_B)
    # They do decide how the target's test cases are scored.
    scores = [json.loads((folder / "summary.json").read_text()) for folder in (run, other)]
    assert scores[0]["dann"]["all"] != scores[1]["dann"]["all"]


def test_method_trains_on_the_very_samples_of_the_source_stage(table: Path, tmp_path: Path) -> None:
    """Without norms and dropout, a loss that weighs next to nothing changes next to nothing."""
    still = ("--network", "vgg11", "--set=options.keep_blocks=3", "--set=alignment=1e-9")
    run = train(table, tmp_path / "run", "coral", *still)
    first, second = (read_weights(run / stage / LAST).tensors for stage in ("source", "coral"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-4, atol=1e-5)


def test_both_stages_are_scored_on_the_target_alone(run: Path) -> None:
    (split,) = json.loads((run / "splits.json").read_text())
    on_target = {name for name in split["test"] if int(name) % 2}
    with (run / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for stage in ("source", "dann"):
        assert {row["case"] for row in rows if row["stage"] == stage} == on_target


def test_checkpoint_says_what_selected_it(run: Path) -> None:
    assert "im_of_unlabelled_images" in read_weights(run / "dann" / BEST).metadata
    assert "validation_soft_balanced_accuracy" in read_weights(run / "source" / BEST).metadata


def test_adabn_changes_running_statistics_alone(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "adabn"
    loud = [word for word in TINY if word != "-q"]
    medtl("train", "classification", "--data", table, *DOMAINS, *loud, "--strategy", "adabn",
          "--out", run)  # fmt: skip
    told = [line for line in "".join(capsys.readouterr()).splitlines() if line.startswith("adabn")]
    assert not any("trainable" in line or "100.0%  " in line for line in told)
    kept = [read_weights(run / stage / BEST) for stage in ("source", "adabn")]
    source, adapted = (weights.tensors for weights in kept)
    changed = {name for name in source if not torch.equal(source[name], adapted[name])}
    assert changed and all("running_" in name for name in changed)
    assert {name for name in source if "running_" in name} == changed
    # Fitted on the source's cases, which its own statistics are for.
    first, second = (weights.metadata["temperature"] for weights in kept)
    assert first == second != 1
    assert set(json.loads((run / "summary.json").read_text())) == {"data", "source", "adabn"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--src", "grey", "--dst", "grey"), "--src mod:grey,site:A --dst mod:grey,site:B"),
        (("--with-control",), "drop --with-control"),
        (("--set=select_by=sdn",), "must be validation, source-validation, entropy, im, snd"),
        (("--dst", "grey,site:C"), "no case is from site 'C'"),
        (("--strategy", "fine-tune", "--set=loss=coral"), "compares two domains"),
        (("--strategy", "fine-tune", "--set=loss=l2-sp"), "sees no labels"),
        (("--strategy", "adabn", "--set=alignment=2"), "drop alignment and select_by"),
        (("--set=alignment=0",), "greater than 0"),
        (("--strategy", "fine-tune", "--set=select_by=im"), "sees no unlabelled images"),
    ],
)
def test_refusals_are_one_clear_line(
    words: tuple[str, ...],
    told: str,
    table: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    given = ("train", "classification", "--data", table, *DOMAINS, *TINY, "--strategy", "mmd")
    medtl(*given, *words, "--out", tmp_path / "run", code=2)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ") and told in line


def test_site_without_a_training_patient_does_not_stop_harmonising(
    table: Path, run: Path, tmp_path: Path
) -> None:
    """Site C has one case, which is tested on."""
    lines = table.read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if line.endswith(",A"))
    lines[number] = lines[number][:-1] + "C"
    other = table.with_name("three.csv")
    other.write_text("\n".join(lines) + "\n")
    name = lines[number].partition(",")[0]
    medtl("train", "classification", "--data", other, *TINY, "--strategy", "scratch",
          "--dst", "grey,site:A+C", "--set=harmonise=nyul", "--test-cases", name,
          "--out", tmp_path / "run", "--dry-run")  # fmt: skip
