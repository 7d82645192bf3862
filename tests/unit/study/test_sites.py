"""Leaving each site out: who is tested, what choosing without labels costs, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr, t

from medtl import api
from medtl.config import TrainConfig
from medtl.data.case import Case
from medtl.data.domain import parse_domain
from medtl.data.phantom import write_phantom
from medtl.errors import ConfigError, DataError
from medtl.evaluation.comparison.effects import paired_effect
from medtl.plugins.catalog import load_catalog
from medtl.runtime.console import Recorder
from medtl.study.config import resolve_study
from medtl.study.scores import RunScores
from medtl.study.sites.division import divided, sites_of
from medtl.study.sites.regret import mean_regret, pick, random_regret, rank_correlation, regret
from medtl.study.sites.results import SiteFindings, find_sites
from medtl.study.sites.scores import SiteScores
from medtl.study.sites.shift import SiteShift, measure_sites
from medtl.study.sites.tables import site_tables

SIZES = {"A": 9, "B": 6, "C": 3, "D": 1}


def cohort(sizes: dict[str, int] = SIZES) -> list[Case]:
    return [
        Case(f"{site}{n}-{scan}", f"{site}{n}", {}, site=site, stratum="xy"[n % 2])
        for site, size in sizes.items()
        for n in range(size)
        for scan in range(2)
    ]


@pytest.mark.parametrize("site", SIZES)
def test_half_of_a_site_is_tested_and_no_patient_is_on_two_sides(site: str) -> None:
    cases = cohort()
    each = divided(cases, site, seed=0)
    sides = (each.split.train, each.split.val, each.split.test)
    assert sorted(sum(sides, ())) == sorted({case.patient for case in cases})
    assert len(each.tested) == -(-SIZES[site] // 2)
    assert len(each.tested) + len(each.unlabelled) == SIZES[site]
    assert not [patient for patient in each.split.val if patient[0] == site]
    held_out = [patient for patient in each.split.test if patient[0] != site]
    assert held_out, "the source's score would be of patients that it was trained on"


def test_the_test_patients_of_a_site_depend_on_the_seed_of_the_split_alone() -> None:
    cases = cohort()
    assert divided(cases, "A", seed=1) == divided(cases[::-1], "A", seed=1)
    assert divided(cases, "A", seed=1).tested != divided(cases, "A", seed=3).tested


@pytest.mark.parametrize(
    ("cases", "problem", "said"),
    [
        (
            cohort({"A": 3, "B": 3}),
            ConfigError,
            "3 sites or more, and there are A, B.*--dst site:B",
        ),
        ([*cohort(), Case("x", "x", {})], DataError, r"1 of 39 cases \(x, ...\) have no site"),
        ([*cohort(), Case("x", "A0", {}, site="B")], DataError, "patient A0 .* sites A and B"),
        ([*cohort(), Case("x", "x", {}, site="a")], ConfigError, "cannot be told from others"),
    ],
)
def test_sites_that_cannot_be_left_out_are_refused(
    cases: list[Case], problem: type[Exception], said: str
) -> None:
    with pytest.raises(problem, match=said):
        sites_of(cases)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folds": 5}, "drop --folds"),
        ({"budgets": [5]}, "drop --budgets"),
        ({"inits": ["run"]}, "drop --inits"),
        ({"skip": ["joint"]}, "drop --skip"),
        ({"networks": ["unet", "resnet18"]}, "one network"),
        ({"settings": {"src": "mod:t1,site:A"}}, "--src mod:t1,site:A names a site"),
        ({"settings": {"src": "t1", "dst": "t2"}}, "differ in more than the site"),
        ({"settings": {"protocol": "hospitals"}}, "settings.protocol"),
    ],
)
def test_settings_that_contradict_it_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve_study(None, {"task": "lgg-mri", "leave_site_out": True, **changes})


TESTED = {"zero-shot": 0.6, "adabn": 0.7, "dann": 0.5}


def test_regret_is_what_the_best_arm_would_have_had_more() -> None:
    assert regret(TESTED, "zero-shot") == pytest.approx(0.1)
    assert regret(TESTED, "adabn") == 0
    assert random_regret(TESTED) == pytest.approx((0.1 + 0.0 + 0.2) / 3)
    assert pick({"zero-shot": 1.0, "adabn": 1.0, "dann": 0.5}) == "zero-shot"
    found = mean_regret("im", [("A", 0.1), ("A", 0.3), ("B", 0.0)])
    assert (found.mean, found.runs) == (pytest.approx(0.4 / 3), 3)
    assert found.by_site == {"A": pytest.approx(0.2), "B": 0}


@pytest.mark.parametrize("count", [3, 5, 8])
def test_rank_correlation_is_that_of_scipy(count: int) -> None:
    draw = np.random.default_rng(count)
    values = dict(zip("ABCDEFGH", draw.normal(size=count).round(1).tolist(), strict=False))
    others = {site: value + float(draw.normal()) for site, value in values.items()}
    found = rank_correlation(values, others)
    expected = spearmanr([*values.values()], [*others.values()]).statistic
    assert found.spearman == pytest.approx(expected)
    assert found.sites == count
    if count < 5:
        assert found.low is None
    else:
        half = 1.96 * ((1 + expected**2 / 2) / (count - 3)) ** 0.5
        ends = np.tanh([np.arctanh(expected) - half, np.arctanh(expected) + half])
        assert [found.low, found.high] == pytest.approx(ends.tolist(), abs=1e-4)


def test_rank_correlation_of_sites_that_are_all_alike_is_undefined() -> None:
    assert rank_correlation({"A": 1, "B": 1, "C": 1}, {"A": 1, "B": 2, "C": 3}).spearman is None
    assert rank_correlation({"A": 1}, {"A": 2}).sites == 1


ARMS = ("source", "zero-shot", "adabn", "dann")


def scores(patients: int, seeds: int = 2) -> SiteScores:
    """Three sites; the arms differ by a constant and noise, dann is missing at the last site."""
    draw = np.random.default_rng(0)
    arms: dict[str, dict[tuple[int, int], RunScores]] = {arm: {} for arm in ARMS}
    for fold in range(3):
        for seed in range(seeds):
            for arm, mean in zip(ARMS, (0.8, 0.6, 0.7, 0.5), strict=True):
                if (arm, fold) == ("dann", 2):
                    continue
                who = "source" if arm == "source" else f"{fold}-"
                values = mean - 0.1 * fold + draw.normal(0, 0.02, patients)
                own = {f"{who}{n}": float(value) for n, value in enumerate(values)}
                arms[arm][fold, seed] = RunScores({"all": own}, {})
    names = {arm: {key: f"{arm}-{key}" for key in runs} for arm, runs in arms.items()}
    return SiteScores(("A", "B", "C"), "accuracy", arms, names)


def found_of(own: SiteScores) -> SiteFindings:
    shifts = {s: SiteShift("mmd", v, 0.1, 4) for s, v in (("A", 0.1), ("B", 0.3), ("C", 0.2))}
    told = {
        own.names[arm][key]: {"im": value}
        for arm, value in (("zero-shot", 1.0), ("adabn", 0.5), ("dann", 2.0))
        for key in own.arms[arm]
        if key != (0, 1) or arm != "dann"
    }
    return find_sites(own, shifts, told)


def test_gains_and_losses_are_those_of_the_same_patients_and_runs() -> None:
    own = scores(6)
    found = found_of(own)
    first = found.rows[0]
    pair = [own.runs(arm, "all", 0) for arm in ("adabn", "zero-shot")]
    assert first.gains["adabn"] == paired_effect(*pair)
    every = [own.runs(arm, "all") for arm in ("adabn", "zero-shot")]
    pooled = {gain.arm: gain for gain in found.gains}
    assert pooled["adabn"].effect == paired_effect(*every)
    assert pooled["adabn"].judged.verdict == "better"
    assert pooled["dann"].judged.verdict == "worse"
    assert "dann" not in found.rows[2].gains
    assert pooled["dann"].effect.n == 12


def test_the_interval_of_a_loss_is_that_of_welch() -> None:
    own = scores(6)
    loss = found_of(own).rows[1].loss
    assert loss is not None and loss.low is not None
    sides = [
        np.mean([list(run.values()) for run in own.runs(arm, "all", 1).values()], axis=0)
        for arm in ("source", "zero-shot")
    ]
    squares = [side.var(ddof=1) / 6 for side in sides]
    df = sum(squares) ** 2 / sum(each**2 / 5 for each in squares)
    mean = sides[0].mean() - sides[1].mean()
    half = t.ppf(0.975, df) * sum(squares) ** 0.5
    assert [loss.mean, loss.low, loss.high] == pytest.approx([mean, mean - half, mean + half])


def test_sites_with_few_patients_have_no_interval_and_no_verdict() -> None:
    found = found_of(scores(4))
    assert all(row.loss and row.loss.low is None for row in found.rows)
    assert all(effect.low is None for row in found.rows for effect in row.gains.values())
    assert {gain.effect.low for gain in found.gains} == {None}
    assert {gain.judged.verdict for gain in found.gains} == {"no interval"}


def test_a_selector_is_compared_with_the_source_and_with_chance() -> None:
    own = scores(6)
    found = found_of(own)
    # im picks dann where it has a score of it, else zero-shot; adabn is the best everywhere.
    assert found.rows[0].picks == {"im": ("dann", "zero-shot")}
    assert found.rows[2].picks == {"im": ("zero-shot", "zero-shot")}

    def mean(arm: str, fold: int, seed: int) -> float:
        return float(np.mean([*own.arms[arm][fold, seed].scores["all"].values()]))

    expected = [
        mean("adabn", f, s) - mean("zero-shot" if f == 2 or (f, s) == (0, 1) else "dann", f, s)
        for f in range(3)
        for s in range(2)
    ]
    regrets = {each.selector: each.mean for each in found.regrets["all"]}
    assert regrets["im"] == pytest.approx(np.mean(expected))
    always = [mean("adabn", f, s) - mean("zero-shot", f, s) for f in range(3) for s in range(2)]
    assert regrets["always zero-shot"] == pytest.approx(np.mean(always))
    assert set(regrets) == {"im", "always zero-shot", "a random arm"}


def test_the_shift_of_a_site_is_that_of_the_shift_test(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_phantom(data, layout="lgg-mri", cases=9, size=16, sites=3, seed=2, shift=2.0)
    config = TrainConfig(task="lgg-mri", data=data)
    domain = parse_domain("mod:t1+flair")
    found = measure_sites(config, domain, ("CS", "DU", "EZ"), load_catalog(), Recorder(silent=True))
    measured = api.shift(
        "lgg-mri",
        data=data,
        src="mod:t1+flair,site:CS+EZ",
        dst="mod:t1+flair,site:DU",
        metrics="mmd",
        attribute=False,
    ).measured[0]
    assert found["DU"].value == pytest.approx(measured.value, rel=1e-9)
    assert found["DU"].p == measured.p
    assert found["DU"].patients == measured.n_target


def test_regions_have_a_row_each_and_notes_say_why_cells_are_empty() -> None:
    own = scores(4)
    arms = {
        arm: {
            key: RunScores({name: each.scores["all"] for name in ("WT", "TC")}, {})
            for key, each in runs.items()
        }
        for arm, runs in own.arms.items()
    }
    found = found_of(replace(own, arms=arms, metric="dice"))
    every, gains, chosen, shift = site_tables(found, synthetic=True)
    assert every.columns[:3] == ("region", "site", "n")
    assert [row[:2] for row in every.rows] == [(r, s) for r in ("WT", "TC") for s in "ABC"]
    assert every.rows[2][-2] == "left out"  # dann at C
    assert every.rows[2][-1] == f"zero-shot: {found.rows[2].regrets['im']:.3f}"
    assert "No interval for A, B, C" in " ".join(every.notes)
    assert "left out (C)" in " ".join(every.notes)
    assert len(gains.rows) == 4
    assert {row[1] for row in chosen.rows} == {"im", "always zero-shot", "a random arm"}
    assert [row[1] for row in shift.rows] == ["3", "3"]
