"""Protocols say who is tested on; what contradicts them is refused, and what leaks is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medtl.config import TrainConfig
from medtl.data.case import Case, Cohort
from medtl.data.splits import write_splits
from medtl.data.task import choose_protocol
from medtl.errors import ConfigError
from medtl.evaluation.tables import warned
from medtl.runtime.console import Reporter
from medtl.runtime.table import Table
from medtl.training.split import split_as_asked
from medtl_brats.task import Brats

QUIET = Reporter(quiet=True)


class TwoWays(Brats):
    protocols = {"grouped": "as it should be.", "official": "as published."}  # noqa: RUF012


def cohort(**more: object) -> Cohort:
    cases = tuple(Case(f"c{n}", f"p{n}", {}, fold=n % 2) for n in range(10))
    return Cohort(Path("."), cases, **more)  # type: ignore[arg-type]


def test_first_protocol_is_the_default_and_names_are_forgiving() -> None:
    assert choose_protocol(TwoWays(), None) == "grouped"
    assert choose_protocol(TwoWays(), "Official") == "official"
    assert choose_protocol(Brats(), None) is None
    with pytest.raises(ConfigError, match="task brats has no protocols; drop it"):
        choose_protocol(Brats(), "official")
    with pytest.raises(ConfigError, match="did you mean 'official'"):
        choose_protocol(TwoWays(), "offical")


def test_locked_patients_are_tested_on_and_no_others() -> None:
    split = split_as_asked(TrainConfig(), cohort(test=("p3", "p7")), QUIET)
    assert split.test == ("p3", "p7")
    assert not {"p3", "p7"} & {*split.train, *split.val}


@pytest.mark.parametrize("setting", [{"test_cases": ("p1",)}, {"folds": 5, "fold": 0}, {"fold": 1}])
def test_locked_patients_cannot_be_chosen_anew(setting: dict[str, object]) -> None:
    config = TrainConfig(protocol="official", **setting)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--protocol official says who is tested on; drop --"):
        split_as_asked(config, cohort(test=("p3",)), QUIET)


def test_protocol_with_folds_wants_one_named() -> None:
    named = cohort(folds="0 CS (5), 1 DU (5)")
    with pytest.raises(ConfigError, match=r"name one fold by --fold; there are 0 CS \(5\), 1 DU"):
        split_as_asked(TrainConfig(protocol="hospitals"), named, QUIET)
    split = split_as_asked(TrainConfig(protocol="hospitals", fold=1), named, QUIET)
    assert split.test == ("p1", "p3", "p5", "p7", "p9")
    with pytest.raises(
        ConfigError, match=r"--fold 2: the folds of --protocol hospitals are 0 CS \(5\), 1 DU \(5\)"
    ):
        split_as_asked(TrainConfig(protocol="hospitals", fold=2), named, QUIET)


def test_a_list_may_only_say_what_the_protocol_says(tmp_path: Path) -> None:
    own = tmp_path / "splits.json"
    for named, config in (
        (cohort(test=("p3", "p7")), TrainConfig(protocol="official")),
        (cohort(folds="0 CS (5), 1 DU (5)"), TrainConfig(protocol="hospitals", fold=1)),
    ):
        split = split_as_asked(config, named, QUIET)
        write_splits(own, split, named.cases)
        again = config.model_copy(update={"splits": own, "fold": None})
        assert split_as_asked(again, named, QUIET) == split  # as a run goes on
        other = replace(split, test=split.test[:1], train=(*split.train, *split.test[1:]))
        write_splits(own, other, named.cases)
        with pytest.raises(ConfigError, match=f"not those of --protocol {config.protocol}; drop"):
            split_as_asked(again, named, QUIET)


def test_fold_of_one_hospital_is_told_by_its_name(capsys) -> None:
    cases = tuple(Case(f"c{n}", f"p{n}", {}, site="AB"[n % 2], fold=n % 2) for n in range(10))
    split_as_asked(TrainConfig(fold=1), Cohort(Path("."), cases), Reporter())
    assert "fold 1, B, of the data's own list is the locked test set" in capsys.readouterr().err


def test_leak_stands_under_every_table() -> None:
    tables = [Table("a", ("x",), (("1",),), ("n",)), Table("b", ("x",), ())]
    assert [table.notes for table in warned(tables, "LEAK")] == [("n", "LEAK"), ("LEAK",)]
    assert warned(tables, "") == tables


def test_no_title_says_unseen_where_patients_may_have_been_seen() -> None:
    table = Table("Scores of patients not seen in training [95% interval]", ("a",), (("1",),))
    assert warned([table], "LEAK")[0].title == "Scores of test cases [95% interval]"
    assert warned([table], "") == [table]


def test_distances_are_in_pixels_where_nobody_knows_their_size() -> None:
    table = Table("Scores", ("stage", "HD95 (mm)"), (("scratch", "3.0"),))
    assert warned([table], "", pixels=True)[0].columns == ("stage", "HD95 (pixels)")
    assert warned([table], "LEAK", pixels=True)[0].notes == ("LEAK",)
