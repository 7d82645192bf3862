from __future__ import annotations

import io

import pytest
from rich.console import Console
from terminal import run_python

from medtl.evaluation.intervals import interval
from medtl.evaluation.tables import score_cell, score_table
from medtl.runtime.table import Table


def summary(n: int) -> dict:
    dice = interval({f"p{i}": 0.8 + 0.01 * (i % 7) for i in range(n)}).to_json()
    hd95_mm = interval({f"p{i}": 4.0 + i for i in range(n)}, bounds=(0, 1e9)).to_json()
    return {"adapt": {"WT": {"dice": dice, "hd95_mm": hd95_mm, "lesion_f1": dice}}}


def test_a_score_stands_with_n_interval_and_method():
    table = score_table(summary(24), synthetic=False)
    assert table.columns == ("stage", "region", "n", "Dice", "HD95 (mm)", "lesion F1")
    [(stage, region, n, dice, hd95_mm, lesion_f1)] = table.rows
    assert (stage, region, n) == ("adapt", "WT", "24")
    found = summary(24)["adapt"]["WT"]["dice"]
    assert dice == f"{found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
    assert hd95_mm.startswith("15.5 [") and lesion_f1 == dice
    assert table.notes == ("Intervals: BCa bootstrap by patient 95%, 9999 resamples.",)


def test_few_patients_are_listed_instead_of_an_interval():
    [(*_, n, dice, _, _)] = score_table(summary(3), synthetic=False).rows
    assert (n, dice) == ("3", "0.81 (0.80, 0.81, 0.82)")
    assert score_cell("dice", summary(3)["adapt"]["WT"]["dice"], listed=False).endswith(
        "no interval"
    )


def test_nothing_is_minus_nothing():
    assert score_cell("volume_error_ml", {"mean": -0.04, "low": -0.01, "high": 0.2}) == (
        "0.0 [0.0, 0.2]"
    )


@pytest.mark.parametrize("synthetic", [True, False])
def test_tables_of_synthetic_data_say_so_in_every_form(synthetic):
    table = score_table(summary(24), synthetic)
    for text in (table.plain(), table.markdown(), printed(table, True), printed(table, False)):
        assert ("synthetic phantom" in text) == synthetic


def printed(table: Table, terminal: bool) -> str:
    stream = io.StringIO()
    Console(file=stream, force_terminal=terminal, width=120, highlight=False).print(table)
    return stream.getvalue()


def test_plain_text_where_there_is_no_terminal():
    table = score_table(summary(24), synthetic=False)
    assert printed(table, False).strip() == table.plain()
    assert "\x1b[" in printed(table, True)
    assert all(line == line.rstrip() for line in table.plain().splitlines())


def test_plain_columns_line_up():
    table = Table("t", ("a", "long name"), (("wide cell", "1"), ("x", "2")))
    _, header, first, second = table.plain().splitlines()
    assert header.index("long name") == first.index("1") == second.index("2")


def test_a_stage_is_a_heading_over_its_rows():
    rows = (("source", "WT", "1"), ("source", "TC", "2"), ("transferred", "WT", "3"))
    text = Table("t", ("stage", "region", "n"), rows, grouped=True).plain()
    assert text == "t\n  region  n\nsource\n  WT      1\n  TC      2\ntransferred\n  WT      3"


def test_wide_tables_are_wrapped_between_words():
    rows = (("transferred-longest-name", "0.81 (0.80, 0.81, 0.82)", "0.71 (0.70, 0.71, 0.72)"),)
    table = Table("t", ("stage", "Dice", "lesion F1"), rows)
    lines = table.plain(50).splitlines()
    assert max(map(len, lines)) <= 50 < max(map(len, table.plain().splitlines()))
    assert sorted(" ".join(lines).split()) == sorted(table.plain().split())
    assert "transferred-longest-name" in table.plain(10)


def test_markdown_is_a_table_with_title_and_notes():
    text = Table("t", ("a", "b"), (("1|2", "3"),), ("note",)).markdown()
    assert text == "**t**\n\n| a | b |\n| --- | --- |\n| 1\\|2 | 3 |\n\nnote\n"


def test_brackets_are_text_not_markup():
    table = Table("[bold]t[/bold]", ("[red]a",), (("[0.1, 0.2]",),))
    assert "[0.1, 0.2]" in printed(table, True)
    assert "[bold]t[/bold]" in printed(table, False)


def test_tables_import_neither_rich_nor_anything_heavy():
    code = (
        "import sys, medtl.evaluation.tables;"
        "sys.exit(bool({'rich', 'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    run_python("-c", code, code=0)
