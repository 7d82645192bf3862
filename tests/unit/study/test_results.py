"""What a study concludes from tables of scores, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from medtl.study.config import StudyConfig, resolve_study
from medtl.study.folder import ArmRecord
from medtl.study.results import find
from medtl.study.scores import RunScores, StudyScores
from medtl.study.tables import shown_starts

ARMS = (
    ArmRecord(name="control-a", role="control-a", own_control="", budgeted=True),
    ArmRecord(name="control-b", role="control-b", own_control="", budgeted=True),
    ArmRecord(name="own", role="control-a", own_control="", budgeted=True),
    ArmRecord(name="fine-tune", role="", own_control="own", budgeted=True),
    ArmRecord(name="probe", role="", own_control="", budgeted=True),
)
PATIENTS = [f"p{n:02}" for n in range(20)]


def study(**settings: Any) -> StudyConfig:
    named = [{"strategy": "fine-tune"}, {"strategy": "linear-probe", "name": "probe"}]
    return resolve_study(None, {"task": "brats", "strategies": named, **settings})


def scores(means: dict[str, float], *, seeds: int = 3, noise: float = 0.02) -> StudyScores:
    draw = np.random.default_rng(0)
    skill = draw.normal(0, 0.08, len(PATIENTS))
    cells = {}
    for arm, mean in means.items():
        runs = {}
        for seed in range(seeds):
            values = mean + skill + draw.normal(0, noise, len(PATIENTS))
            own = {"WT": dict(zip(PATIENTS, values.clip(0, 1).tolist(), strict=True))}
            runs[0, seed] = RunScores(own, own)
        cells["unet", arm, "5"] = runs
    return StudyScores(cells, "dice")


EQUAL = dict.fromkeys(("control-a", "control-b", "own", "fine-tune", "probe"), 0.6)


def verdicts(means: dict[str, float], **settings: Any) -> dict[str, str]:
    found = find(study(**settings), scores(means), ARMS)
    return {each.arm: each.judged.verdict for each in found.comparisons}


def test_a_gain_over_all_controls_is_helped_and_a_loss_is_hurt() -> None:
    assert verdicts({**EQUAL, "fine-tune": 0.7, "probe": 0.5}) == {
        "fine-tune": "helped",
        "probe": "hurt",
    }


def test_equal_arms_are_no_evidence_or_equivalent_with_a_margin() -> None:
    assert set(verdicts(EQUAL).values()) == {"no evidence"}
    assert set(verdicts(EQUAL, margin=0.05).values()) == {"equivalent"}


def test_the_better_control_a_counts() -> None:
    means = {**EQUAL, "fine-tune": 0.7}
    assert verdicts({**means, "own": 0.7})["fine-tune"] == "no evidence"
    # Only the arm that has this rate is held to it.
    assert verdicts({**EQUAL, "own": 0.75, "probe": 0.7})["probe"] == "helped"


def test_an_arm_that_is_worse_than_one_of_two_controls_a_is_not_hurt() -> None:
    assert verdicts({**EQUAL, "own": 0.75})["fine-tune"] == "no evidence"
    assert verdicts({**EQUAL, "control-a": 0.7, "own": 0.7})["fine-tune"] == "hurt"


def test_a_patient_whom_only_one_side_was_tested_on_is_left_out() -> None:
    table = scores({**EQUAL, "fine-tune": 0.7})
    for run in table.cells["unet", "fine-tune", "5"].values():
        del run.scores["WT"]["p03"]
    found = find(study(), table, ARMS)
    first = next(each for each in found.comparisons if each.arm == "fine-tune")
    assert first.against["control-a"].n == len(PATIENTS) - 1


def test_better_than_a_alone_is_faster() -> None:
    means = {**EQUAL, "fine-tune": 0.7, "control-b": 0.7}
    assert verdicts(means)["fine-tune"] == "faster, perhaps"


def test_networks_that_found_nothing_are_not_compared() -> None:
    assert set(verdicts(dict.fromkeys(EQUAL, 0.02)).values()) == {"too poor to compare"}


def test_one_seed_gives_the_paired_t_test_and_no_training_noise() -> None:
    table = scores({**EQUAL, "fine-tune": 0.62}, seeds=1)
    found = find(study(seeds=1), table, ARMS)
    effect = next(each for each in found.comparisons if each.arm == "fine-tune").against[
        "control-a"
    ]
    sides = [
        [table.cells["unet", arm, "5"][0, 0].scores["WT"][patient] for patient in PATIENTS]
        for arm in ("fine-tune", "control-a")
    ]
    tested = ttest_rel(*sides)
    assert effect.p == pytest.approx(tested.pvalue)
    assert effect.low == pytest.approx(tested.confidence_interval().low)
    assert effect.run_sd is None


def test_the_primary_comparison_is_not_adjusted() -> None:
    primary = {"strategy": "fine-tune", "budget": "5", "output": "WT"}
    means = {**EQUAL, "fine-tune": 0.62}
    found = find(study(budgets=[5], primary=primary), scores(means), ARMS)
    first = next(each for each in found.comparisons if each.arm == "fine-tune")
    assert first.primary
    assert first.judged.p_holm in (None, first.judged.p)


def test_runs_that_only_one_side_has_are_left_out() -> None:
    table = scores({**EQUAL, "fine-tune": 0.7})
    cells = {key: dict(runs) for key, runs in table.cells.items()}
    del cells["unet", "fine-tune", "5"][0, 1]
    found = find(study(), StudyScores(cells, "dice"), ARMS)
    first = next(each for each in found.comparisons if each.arm == "fine-tune")
    assert first.against["control-a"].runs == 2


def test_a_start_is_called_by_its_folder_unless_two_have_the_name() -> None:
    alone = shown_starts(["random", "runs/slices", "runs/best.safetensors"])
    assert list(alone.values()) == ["random", "slices", "runs/best.safetensors"]
    alike = shown_starts(["one/slices", "two/slices"])
    assert list(alike.values()) == ["one/slices", "two/slices"]
