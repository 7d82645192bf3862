"""What the benchmarks on pictures read of runs."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from places import ROOT

from medtl.data.case import Case
from medtl.data.domain import parse_domain
from medtl.data.modality import parse_mapping
from medtl.data.splits import split_patients
from medtl.plugins.catalog import load_catalog
from medtl.transfer.channel_adaptation import identical_pairs, plan_channels
from medtl.transforms.augment import NONE
from medtl_lgg_mri.task import LggMri

STUDIES = ROOT / "examples" / "studies"


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(STUDIES)
    return import_module("arms")


def test_benchmarks_read_the_transfers_last_stage_and_patients_not_dates(
    tmp_path: Path, arms: ModuleType
) -> None:
    (tmp_path / "stages.json").write_text(json.dumps(["head", "all"]))
    (tmp_path / "predictions.csv").write_text(
        "stage,case,patient,class,p_no_tumor,p_tumor,predicted\n"
        "head,TCGA_CS_4941_19960909_1,x,tumor,0.9,0.1,no_tumor\n"
        "all,TCGA_CS_4941_19960909_1,x,tumor,0.25,0.75,tumor\n"
        "all,TCGA_CS_4941_20010101_2,x,tumor,0.5,0.5,no_tumor\n"
        "control_a,TCGA_CS_4941_19960909_1,x,tumor,1,0,no_tumor\n"
    )
    rows = arms.rows_of(tmp_path)
    assert [row["probability"] for row in rows] == [
        {"no_tumor": 0.25, "tumor": 0.75}, {"no_tumor": 0.5, "tumor": 0.5},
    ]  # fmt: skip
    assert {arms.tcga_patient(row["case"]) for row in rows} == {"TCGA_CS_4941"}
    assert [row["predicted"] for row in arms.rows_of(tmp_path, "head")] == ["no_tumor"]


def test_arm_of_other_data_is_not_read_as_this_one(tmp_path: Path, arms: ModuleType) -> None:
    run = tmp_path / "arm"
    run.mkdir()
    (run / "summary.json").touch()
    (tmp_path / "arm.words.json").write_text('["lgg-mri", "--data", "a", "--steps", "2"]')
    assert arms.train(run, "lgg-mri", "--data", Path("a"), "--steps", 2) == run
    with pytest.raises(SystemExit, match="arm was trained with other settings; remove it"):
        arms.train(run, "lgg-mri", "--data", Path("b"), "--steps", 2)


def test_frozen_networks_of_the_lgg_study_tell_the_modalities_apart(arms: ModuleType) -> None:
    studies = import_module("studies")
    source = parse_domain(studies.COLOURS).modalities
    channels = plan_channels(source, LggMri.modalities, parse_mapping(studies.MAP.split(",")))
    assert not identical_pairs(channels)
    assert not any(channel.origin.startswith("mean") for channel in channels)


def test_every_network_and_preset_of_the_studies_is_there(arms: ModuleType) -> None:
    studies, catalog = import_module("studies"), load_catalog()
    for network in (*studies.VGG, *studies.TRANSFUSED):
        assert catalog.networks[network].name == network
    for name, blocks in studies.TRANSFUSED.items():
        made = catalog.networks[name].load()(
            in_channels=1, out_channels=4, spatial_dims=2, width=4, patch_size=(64, 64)
        )
        assert len(made.blocks) == blocks + 1
    for name in (studies.RAW, studies.NORMALISED):
        augmented, plain = (catalog.transforms[name + end].load()() for end in ("", studies.PLAIN))
        assert plain.augmentation == NONE != augmented.augmentation
        assert plain.scaling == augmented.scaling


def test_no_score_is_shown_without_n(arms: ModuleType) -> None:
    assert (
        arms.shown({"mean": 0.912, "low": 0.8, "high": 1.0, "n": 9}) == "0.91 [0.80, 1.00], n = 9"
    )
    assert arms.shown({"mean": 0.5, "low": None, "high": None, "n": 3}) == "0.50, n = 3"
    assert arms.shown({"mean": None, "low": None, "high": None, "n": 0}) == "undefined"


def test_sizes_that_the_data_do_not_have_are_left_out(arms: ModuleType) -> None:
    experiment = import_module("transfer_experiment")
    cases = [Case(str(n), str(n), {}, stratum="ab"[n % 3 == 0]) for n in range(200)]
    split = split_patients(cases, seed=0)
    assert experiment.sizes_for(split) == [50, 100, None]
    fewer = experiment.fewer(cases, 50, 1)
    assert (fewer.val, fewer.test) == (split.val, split.test)
    assert len(fewer.train) == 50 and set(fewer.train) < set(split.train)


def test_differences_of_arms_are_those_of_their_accuracies(arms: ModuleType) -> None:
    def run(*said: str) -> list[dict[str, object]]:  # two groups, of three images and one
        return [
            {"patient": "abbb"[n], "class": "x", "predicted": name,
             "probability": {"x": 0.6, "y": 0.4} if name == "x" else {"x": 0.4, "y": 0.6}}
            for n, name in enumerate(said)
        ]  # fmt: skip

    runs = {"transferred": [run(*"xxxy")], "control A": [run(*"yxxy")], "control B": [run(*"yyyy")]}
    found = import_module("transfer_experiment").summary(runs)
    ours, theirs = (found[arm]["accuracy"]["mean"] for arm in ("transferred", "control A"))
    assert (ours, theirs) == pytest.approx((5 / 6, 1 / 3))
    difference = found["transferred - control A, accuracy"]
    assert difference["mean"] == pytest.approx(ours - theirs) and difference["n"] == 2
