"""What a study tells the next one: patients for a difference and for a width, and seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import t
from terminal import exit_code

from medtl.errors import ConfigError
from medtl.study.config import StudyConfig, resolve_study
from medtl.study.folder import ArmRecord
from medtl.study.power import PowerPlan, _wanted, needed_by
from medtl.study.results import find
from medtl.study.scores import RunScores, StudyScores

ARMS = (
    ArmRecord(name="control-a", role="control-a", own_control="", budgeted=True),
    ArmRecord(name="control-b", role="control-b", own_control="", budgeted=True),
    ArmRecord(name="fine-tune", role="", own_control="", budgeted=True),
)


def study(**settings: Any) -> StudyConfig:
    return resolve_study(None, {"task": "brats", "strategies": ["fine-tune"], **settings})


def scores(seeds: int = 3, patients: int = 20) -> StudyScores:
    """Three arms of equal means, whose runs and patients vary by .01 and .06."""
    random = np.random.default_rng(0)
    skill_P = random.normal(0.6, 0.08, patients)
    cells = {}
    for arm in ARMS:
        of_arm_P = skill_P + random.normal(0, 0.06, patients)
        runs = {}
        for seed in range(seeds):
            values_P = of_arm_P + random.normal(0, 0.01) + random.normal(0, 0.02, patients)
            own = {"WT": {f"p{n}": float(value) for n, value in enumerate(values_P)}}
            runs[0, seed] = RunScores(own, own)
        cells["unet", arm.name, "5"] = runs
    return StudyScores(cells, "dice")


def plan(difference: float, width: float) -> PowerPlan:
    found = find(study(), scores(), ARMS)
    needed, unknown = needed_by(found, difference, width, seeds=3)
    assert not unknown
    return PowerPlan(needed, difference, width, 3, False)


def test_wider_intervals_and_larger_differences_take_fewer_patients() -> None:
    small, large = plan(0.03, 0.03).needed, plan(0.06, 0.06).needed
    assert [each.control for each in small] == ["control-a", "control-b"]
    for few, many in zip(large, small, strict=True):
        assert few.for_width is not None and few.patients is not None
        assert few.for_width < (many.for_width or 1e9)
        assert few.patients < (many.patients or 1e9)
        assert few.seeds is None or few.seeds <= (many.seeds or 1e9)


def test_width_is_planned_apart_from_the_difference() -> None:
    """The half width is at least that of a t interval on the pilot's spread of patients alone."""
    one, other = plan(0.03, 0.05), plan(0.06, 0.05)
    assert [each.for_width for each in one.needed] == [each.for_width for each in other.needed]
    assert "an interval 0.05 wide" in one.tables()[0].columns[-1]
    for each in one.needed:
        effect, n = each.comparison.against[each.control], each.for_width
        if n is not None:
            assert 2 * t.ppf(0.975, n - 1) * (effect.patient_sd or 0) / n**0.5 < 0.05
    assert one.to_json()["width"] == 0.05


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("brats", "--width", "0.05"), "--width is for planning; give --power STUDY with it"),
        (("--power", "nothing", "--steps", "5"), "--steps is for the study of a task"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("compare", *words) == 2
    told = capfd.readouterr().err.strip()
    assert said in told
    assert len(told.splitlines()) == 1


def test_widths_out_of_range_are_refused() -> None:
    assert _wanted(study(), None, 0.06) == (0.03, 0.06)
    assert _wanted(study(margin=0.02), None, None) == (0.02, 0.04)
    assert _wanted(study(margin=0.02), 0.05, 0.3) == (0.05, 0.3)
    for difference, width in ((None, None), (None, 3.0), (0.1, 0.0), (1.5, None)):
        with pytest.raises(ConfigError, match=r"--(margin|width|power)"):
            _wanted(study(), difference, width)
