"""Texts in YAML are bounded before they are built, and what they hold can be written."""

from __future__ import annotations

import time
import tracemalloc

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl.config import resolve
from medtl.errors import ConfigError
from medtl.runtime.yaml_text import MOST_VALUES, parse_yaml


def nested_aliases(levels: int) -> str:
    """10 values at the first level, ten times as many at each further one."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize("levels", [5, 9, 100])
def test_aliases_that_grow_are_refused_before_they_do(levels: int) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(ConfigError, match="holds more than 20,000 values"):
        parse_yaml(nested_aliases(levels), "c.yaml")
    assert tracemalloc.get_traced_memory()[1] < 20e6 and time.perf_counter() - began < 5
    tracemalloc.stop()


def test_a_few_aliases_are_as_good_as_what_they_stand_for() -> None:
    text = "base: &base {a: 1, b: [1, 2]}\nfirst: *base\nsecond: {<<: *base, a: 2}\n"
    plain = {"a": 1, "b": [1, 2]}
    assert parse_yaml(text, "") == {"base": plain, "first": plain, "second": {**plain, "a": 2}}
    assert len(parse_yaml(nested_aliases(4), "")["a3"]) == 10  # 11,110 values


def test_long_lists_are_counted_without_aliases_too() -> None:
    assert len(parse_yaml(f"[{'x,' * (MOST_VALUES - 2)}]", "")) == MOST_VALUES - 2
    with pytest.raises(ConfigError, match="more than"):
        parse_yaml(f"[{'x,' * MOST_VALUES}]", "")


@pytest.mark.parametrize(
    "text",
    [
        *("2020-99-99", "2001-12-14 21:59:43 -99:99", "0b_", "0x_", "9" * 5000, "[" * 5000),
        *("{a: " * 1000, "- " * 1000, "&a [*a]", "*nothing", "<<: [1]", "? {a: b}\n: 1", "a\0b"),
        *("!!python/object/apply:os.system [ls]", "!!int x", "!!float ''", "--- a\n--- b", "\t- a"),
    ],
)
def test_values_that_are_none_are_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "c.yaml")
    assert str(caught.value).startswith("c.yaml: ") and len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ('task="\\0"', "NUL"),
        ('task="\\ud800"', "not in UTF-8"),
        ('options={"\\udfff": 1}', "not in UTF-8"),
        ("options={a: [{b: 0x" + "f" * 5000 + "}]}", "100 digits at most"),
        ("task=" + "a" * 100_000, "characters at most"),
        ("num_nodes=1000000", "less than or equal to 10000"),
        ("rate=" + str([["x" * 50] * 20] * 20), "must be a number"),
    ],
)
def test_settings_that_no_file_can_hold_are_named(setting: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        resolve(file=None, sets=[setting], options={})
    assert len(str(caught.value)) < 350
    str(caught.value).encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(VALUES)
def test_what_is_within_the_bounds_is_read_as_pyyaml_reads_it(value: object) -> None:
    text = yaml.safe_dump(value)
    assert parse_yaml(text, "") == yaml.safe_load(text)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(alphabet="[]{}:-,?&*!|>'\"%#@ \nab0123_.xo", max_size=60))
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    try:
        resolve(file=None, sets=[f"options={text}"], options={})
    except ConfigError as error:
        assert str(error)
