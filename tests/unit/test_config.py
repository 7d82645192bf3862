"""Settings: where each comes from, that they survive a file, and what a bad one is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medtl.config import TrainConfig, checked, option_of, read_config, resolve, write_config
from medtl.errors import ConfigError, MedtlError, near_or_known

#: What a file can hold in place of a setting's value: text, numbers, lists and mappings of them.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def resolved(file: Path | None = None, sets: Sequence[str] = (), **options: Any) -> TrainConfig:
    return resolve(file=file, sets=sets, options=options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text("steps: 1\nbatch_size: 1\nlr: 1e-3\nmap: {t1: t1ce}\nfreeze: 2\n")
    return path


def test_options_come_before_sets_before_the_file_before_defaults(file: Path) -> None:
    config = resolved(file, ["steps=2", "batch_size=2"], steps=3, seed=None)
    assert (config.steps, config.batch_size, config.lr, config.seed) == (3, 2, 0.001, 0)
    assert resolved() == TrainConfig()


def test_set_changes_one_entry_and_an_option_replaces_the_mapping(file: Path) -> None:
    assert resolved(file, ["map.t2=flair"]).map == {"t1": "t1ce", "t2": "flair"}
    assert resolved(file, map={"t2": "FLAIR"}).map == {"t2": "flair"}


@pytest.mark.parametrize("text", ["[64, 48, 32]", "64,48,32"])
def test_lists_are_read_as_yaml_or_by_commas(text: str) -> None:
    assert resolved(sets=[f"patch_size={text}"]).patch_size == (64, 48, 32)


def test_numbers_are_text_where_text_is_wanted(file: Path) -> None:
    config = resolved(file, ["test_cases=[17, 003a]", "labels=2013"])
    assert (config.freeze, config.test_cases, config.labels) == ("2", ("17", "003a"), "2013")


def test_every_setting_survives_a_file(tmp_path: Path) -> None:
    config = resolved(
        data=Path("/mri"),
        src="site:CS,mod:flair+t1ce",
        patch_size=(64, 64),
        map={"t1": "t1ce"},
        test_cases=["0012", "null", "yes"],
        lr=1e-5,
        seed=2**32 - 1,
        with_control=True,
    )
    path = tmp_path / "new" / "config.yaml"
    write_config(path, config)
    assert read_config(path) == config
    assert set(TrainConfig.model_fields) == {
        line.partition(":")[0] for line in path.read_text().splitlines() if line[0] not in " -"
    }


def test_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        TrainConfig().steps = 3  # type: ignore[misc]


def test_home_folder_is_expanded() -> None:
    assert resolved(sets=["data=~/mri"]).data == Path.home() / "mri"


BAD_SETS = {
    "devcie=cpu": "did you mean 'device'",
    "device=tpu": "must be 'auto', 'cpu', 'cuda' or 'mps', not 'tpu'",
    "steps=0": "greater than or equal to 1",
    "devices=99999999999999999999": "less than or equal to",
    "modality_dropout=1.5": "less than or equal to 1",
    "steps=1.5": "must be a whole number, not 1.5",
    "lr=fast": "must be a number, not 'fast'",
    "lr=.nan": "finite",
    "spacing_mm=-1": "greater than 0",
    "spacing_mm=1,2": "must be one number or one per axis",
    "test_fraction=1": "less than 1",
    "patch_size=64,0,64": "greater than or equal to 1",
    "patch_size=64": "at least 2 items",
    "allow_partial=perhaps": "must be true or false",
    "task=null": "must be text, not",
    "map=t1": "must be a mapping such as {",
    "map.t1.x=t1ce": "must be text, not",
    "seed=-1": "greater than or equal to 0",
    "steps": "write KEY=VALUE",
    "=3": "write KEY=VALUE",
    "steps={": "not YAML",
}


@pytest.mark.parametrize(("text", "expected"), BAD_SETS.items(), ids=BAD_SETS)
def test_bad_set_is_named_with_what_is_allowed(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(sets=[text])
    message = str(caught.value)
    assert message.startswith(f"--set {text}: ")
    assert expected in message
    assert "\n" not in message


BAD_FILES = {
    "unknown": ("stepps: 3", "stepps: there is no setting 'stepps'; did you mean 'steps'"),
    "value": ("cache: ram", "cache: must be 'auto', 'memory', 'disk' or 'none'"),
    "list": ("- steps", "must hold lines such as"),
    "not YAML": ("steps: 3\nlr: [1", "not YAML in line 2"),
    "python object": ("steps: !!python/object/apply:os.getcwd []", "not YAML"),
    "control character": ("a: \x01", "not YAML"),
}


@pytest.mark.parametrize(("text", "expected"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolved(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)


@pytest.mark.parametrize("name", TrainConfig.model_fields)
@settings(max_examples=60, deadline=None)
@given(value=ANYTHING)
def test_any_value_of_a_setting_is_taken_or_refused(name: str, value: Any) -> None:
    try:
        checked({name: value})
    except MedtlError as error:
        assert str(error)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (binary, tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(ConfigError, match=str(path)):
            resolved(path)


def test_former_names_are_read_from_files_and_sets(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("rate: 1e-3\n")
    assert resolved(path).lr == read_config(path).lr == 0.001
    assert resolved(path, ["rate=0.5"]).lr == 0.5
    assert resolved(path, lr=0.25).lr == 0.25
    path.write_text("rate: fast\n")
    with pytest.raises(ConfigError, match=f"^{path}: rate: must be a number"):
        resolved(path)


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "--weights names the file of --init imagenet": {"weights": "x.pth", "init": "y.pth"},
    "--minutes chooses the number of steps": {"minutes": 5, "steps": 7},
    "--src flair: strategy scratch": {"strategy": "scratch", "src": "flair"},
    "--with-control: strategy scratch": {"strategy": "core:scratch", "with_control": True},
    "drop --test-cases and test_fraction": {"folds": 5, "fold": 0, "test_cases": "P1"},
    "--splits has folds of its own": {"folds": 5, "fold": 0, "splits": "splits.json"},
    "--folds 5: name one by --fold, from 0 to 4": {"folds": 5},
}


@pytest.mark.parametrize(("message", "given"), CONTRADICTIONS.items(), ids=CONTRADICTIONS)
def test_contradictions_are_refused_but_read_from_old_runs(
    tmp_path: Path, message: str, given: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved(**given)
    with pytest.raises(ConfigError, match=message):
        checked(given)
    write_config(tmp_path / "config.yaml", TrainConfig.model_validate(given))
    assert read_config(tmp_path / "config.yaml") == TrainConfig.model_validate(given)


@pytest.mark.parametrize(
    "given",
    [
        {"weights": "x.pth", "init": "imagenet"},
        {"folds": 5, "fold": 0},
        {"fold": 0, "splits": "splits_final.json"},
        {"strategy": "scratch", "dst": "flair"},
        {"strategy": "other:scratch", "src": "flair", "with_control": True},
    ],
)
def test_what_can_go_together_is_allowed(given: dict[str, Any]) -> None:
    assert checked(given) == TrainConfig.model_validate(given)


@pytest.mark.parametrize("name", TrainConfig.model_fields)
def test_every_setting_has_a_sentence_and_a_default(name: str) -> None:
    field = TrainConfig.model_fields[name]
    text = field.description or ""
    assert text[0].isupper() and (text.endswith((".", "..."))) and len(text) < 90
    assert field.default is not None or option_of(field)["unset"]


def test_empty_file_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert resolved(path) == TrainConfig()


@pytest.mark.parametrize(
    ("given", "expected"),
    [("2", 2.0), (2, 2.0), ("1,1,4", (1, 1, 4)), ([1, 1, 4], (1, 1, 4)), ("2,2,2", 2.0)],
)
def test_spacing_is_one_number_or_one_per_axis(given: object, expected: object) -> None:
    config = resolved(spacing_mm=given)
    assert config.spacing_mm == expected
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_bad_option_is_named_as_typed() -> None:
    with pytest.raises(ConfigError, match=r"^--batch-size: must be greater than or equal to 1"):
        resolved(batch_size=0)
    with pytest.raises(ConfigError, match=r"^--spacing: must be greater than 0"):
        resolved(spacing_mm=0.0)


def test_names_that_are_far_from_all_are_answered_by_a_short_list() -> None:
    with pytest.raises(ConfigError, match="no setting 'zzz'; known: task, data,") as raised:
        resolved(sets=["zzz=1"])
    told = str(raised.value)
    assert told.endswith(", ...") and told.count(", ") == 12
    assert near_or_known("stepz", ["steps", "lr"]) == "did you mean 'steps'?"
    assert near_or_known("x", []) == "known: none"
