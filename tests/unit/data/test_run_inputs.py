"""Files replaced between a stop and ``--resume`` are named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medtl.data.case import Case, ImageFile
from medtl.data.content_hash import contents_of
from medtl.data.modality import Modality
from medtl.data.run_inputs import check_inputs, inputs_of
from medtl.errors import DataError, RunError
from medtl.runtime.run_folder import INPUTS, Run

T1, T2 = Modality("t1"), Modality("t2")


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Two cases, of one class each; the second has no label map."""
    folder = tmp_path / "somebody"
    folder.mkdir()
    for name in ("a_t1", "a_t2", "a_seg", "b_t1", "b_t2", "weights"):
        (folder / name).write_text(f"content of {name}")
    files = {name: {m: ImageFile(folder / f"{name}_{m}") for m in (T1, T2)} for name in "ab"}
    first = Case("a", "P1", files["a"], ImageFile(folder / "a_seg"), class_name="glioma")
    return [first, Case("b", "P2", files["b"], class_name="healthy")]


def begun(folder: Path, cases: list[Case]) -> Run:
    run = Run(folder / "run")
    run.path.mkdir()
    inputs = inputs_of(cases, contents_of(cases), folder / "somebody" / "weights")
    run.write_json(INPUTS, inputs.model_dump(mode="json"))
    return run


def go_on(run: Run, cases: list[Case]) -> None:
    weights = next(iter(cases[0].images.values())).path.parent / "weights"
    check_inputs(run, cases, inputs_of(cases, contents_of(cases), weights), weights)


def test_what_is_kept_is_hashes_without_paths(tmp_path: Path, cases: list[Case]) -> None:
    run = begun(tmp_path, cases)
    text = (run.path / INPUTS).read_text()
    kept = json.loads(text)
    found = hashlib.blake2b(b"content of a_t2", digest_size=16).hexdigest()
    assert kept["cases"]["a"]["images"]["t2"] == found
    assert kept["cases"]["b"]["label"] is None and kept["weights"]
    assert "somebody" not in text and "a_t2" not in text
    go_on(run, cases)


def test_data_that_moved_or_came_in_another_order_go_on(tmp_path: Path, cases: list[Case]) -> None:
    run = begun(tmp_path, cases)
    (tmp_path / "somebody").rename(tmp_path / "moved")

    def moved(file: ImageFile) -> ImageFile:
        return ImageFile(tmp_path / "moved" / file.path.name)

    there = [
        replace(
            case,
            images={m: moved(case.images[m]) for m in (T2, T1)},
            target=moved(case.target) if case.target else None,
        )
        for case in reversed(cases)
    ]
    go_on(run, there)


@pytest.mark.parametrize("name", ["a_t1", "a_seg", "b_t2", "weights"])
def test_a_file_that_was_replaced_is_named(tmp_path: Path, cases: list[Case], name: str) -> None:
    run = begun(tmp_path, cases)
    (tmp_path / "somebody" / name).write_text(f"Content of {name}")
    with pytest.raises(
        DataError, match=rf"somebody/{name}: changed since .*run began; put"
    ) as seen:
        go_on(run, cases)
    assert "\n" not in str(seen.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a, b: [a], "b: is gone"),
        (lambda a, b: [a, b, replace(b, id="c")], "c: is no case that"),
        (lambda a, b: [replace(a, class_name="healthy"), b], "a: its class is healthy, but"),
        (lambda a, b: [replace(a, target=None), b], "a: has t1, t2, but .* with t1, t2, label"),
        (lambda a, b: [a, replace(b, images={T1: b.images[T1]})], "b: has t1, but"),
    ],
)
def test_other_cases_than_the_run_began_with_are_named(
    tmp_path: Path, cases: list[Case], change: Callable[..., list[Case]], told: str
) -> None:
    run = begun(tmp_path, cases)
    with pytest.raises(DataError, match=told):
        go_on(run, change(*cases))


def test_an_older_run_goes_on_and_a_damaged_list_is_named(
    tmp_path: Path, cases: list[Case]
) -> None:
    run = begun(tmp_path, cases)
    run.write_json(INPUTS, {"cases": {"a": {"images": {"t1": 5}}}, "weights": None})
    with pytest.raises(RunError, match=r"inputs\.json: cases\.a\.images\.t1"):
        go_on(run, cases)
    (run.path / INPUTS).unlink()
    (tmp_path / "somebody" / "a_t1").write_text("another")
    go_on(run, cases)
