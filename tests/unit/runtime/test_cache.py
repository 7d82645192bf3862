"""Facts about files: of their content alone, whatever is done to times, names and the index."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl.runtime import cache, index
from medtl.runtime.cache import cache_dir, content_of, remembered

QUICK = settings(deadline=None, max_examples=30, derandomize=True)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_said", set())
    monkeypatch.setattr(index, "_given_up", set())


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """As a later process: nothing is known, and the files are no longer new."""
    now = time.time_ns

    def call() -> None:
        monkeypatch.setattr(cache, "_known", {})
        monkeypatch.setattr(time, "time_ns", lambda: now() + 10**10)

    return call


def first_byte(path: Path) -> Any:
    return remembered("first byte", path, None, lambda: path.read_bytes()[0])


def files_index() -> Path:
    return cache_dir() / "files.sqlite"


def replaced_with_its_time(path: Path, content: bytes, way: str) -> None:
    """As ``cp -p`` (in place) or ``rsync -a`` (another file of that name)."""
    stat = path.stat()
    target = path if way == "in place" else path.with_name("new")
    target.write_bytes(content)
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(target, path)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


@pytest.mark.parametrize("size", [10, cache.LARGE + 10])
@pytest.mark.parametrize("way", ["in place", "renamed"])
@pytest.mark.parametrize("process", ["same", "later"])
def test_file_replaced_within_its_size_and_time_is_another(tmp_path, later, size, way, process):
    path = tmp_path / "a.nii"
    path.write_bytes(b"a" * size)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    later()
    assert first_byte(path) == ord("a")
    time.sleep(0.02)  # a tick of the file system's clock
    replaced_with_its_time(path, b"b" * size, way)
    if process == "later":
        later()
    assert first_byte(path) == ord("b")
    assert content_of(path) == hashlib.blake2b(b"b" * size, digest_size=16).hexdigest()


def test_file_written_twice_within_one_tick_is_another(tmp_path, monkeypatch):
    """A state that may hold for two contents is not believed."""
    path = tmp_path / "a.nii"
    states = iter(range(10))

    def same_state(_: os.stat_result) -> cache.State:
        next(states)
        return cache.State(1, 1, 10, time.time_ns(), time.time_ns())

    monkeypatch.setattr(cache.State, "of", same_state)
    for content in (b"a" * 10, b"b" * 10):
        path.write_bytes(content)
        assert content_of(path) == hashlib.blake2b(content, digest_size=16).hexdigest()


def test_two_data_sets_under_one_relative_path_share_nothing(tmp_path, monkeypatch, later):
    for name in ("one", "two"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "a.nii").write_bytes(name.encode() * cache.LARGE)
    later()
    found = []
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        found.append(first_byte(Path("data/a.nii")))
    assert found == [ord("o"), ord("t")]


def test_large_file_is_read_once_and_a_copy_shares_its_facts(tmp_path, later, monkeypatch):
    path, copy = tmp_path / "a.nii", tmp_path / "copy.nii"
    for one in (path, copy):
        one.write_bytes(b"a" * cache.LARGE)
    later()
    first_byte(path)
    assert remembered("first byte", copy, None, pytest.fail) == ord("a")
    later()
    monkeypatch.setattr(cache, "_CHUNK", "read again")
    assert first_byte(path) == ord("a")


def test_without_times_of_change_large_files_are_read_in_every_process(
    tmp_path, later, monkeypatch
):
    path = tmp_path / "a.nii"
    path.write_bytes(b"a" * cache.LARGE)
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    monkeypatch.setattr(cache, "_mounted", lambda: {number: "fuse.sshfs"})
    assert not cache.tells_changes(device)
    later()
    content_of(path)
    assert not files_index().exists()
    monkeypatch.setattr(cache, "_mounted", lambda: {number: "ext4"})
    assert cache.tells_changes(device)


def test_file_that_changes_while_it_is_read_is_not_remembered(tmp_path, later):
    path = tmp_path / "a.nii"
    path.write_bytes(b"a" * 10)
    later()

    def torn() -> str:
        path.write_bytes(b"b" * 10)
        return "half a, half b"

    assert remembered("torn", path, None, torn) == "half a, half b"
    for content in (b"a" * 10, b"b" * 10):
        path.write_bytes(content)
        assert remembered("torn", path, None, lambda: "new") == "new"


@pytest.mark.parametrize(
    "value", ["null", "[]", '"x"', "{", "1e999", "[" * 5000, None, 7, b"\xff\xfe", "'; DROP"]
)
def test_damaged_facts_are_told_once_and_made_anew(tmp_path, capfd, value):
    paths = [tmp_path / "a.nii", tmp_path / "b.nii"]
    for path in paths:
        path.write_bytes(b"abc")
        first_byte(path)
    with sqlite3.connect(files_index()) as connection:
        connection.execute("UPDATE facts SET value = ?", (value,))
    connection.close()
    for path in paths:
        assert first_byte(path) == ord("a")
    said = capfd.readouterr().err.splitlines()
    assert len(said) <= 1 and all("made anew" in line for line in said)
    assert remembered("first byte", paths[0], None, pytest.fail) == ord("a")


def test_facts_of_another_file_are_damaged_facts(tmp_path):
    paths = [tmp_path / "a.nii", tmp_path / "b.nii"]
    for path in paths:
        path.write_bytes(path.stem.encode())
        first_byte(path)
    with sqlite3.connect(files_index()) as connection:
        (one,), (two,) = connection.execute("SELECT value FROM facts ORDER BY key").fetchall()
        connection.execute("UPDATE facts SET value = ? WHERE value = ?", ("swap", one))
        connection.execute("UPDATE facts SET value = ? WHERE value = ?", (one, two))
        connection.execute("UPDATE facts SET value = ? WHERE value = ?", (two, "swap"))
    connection.close()
    assert [first_byte(path) for path in paths] == [ord("a"), ord("b")]


@pytest.mark.parametrize(
    "content",
    [b"not a database at all" * 100, b"SQLite format 3\0" + bytes(4000), b"", b"\0" * 512],
)
def test_damaged_index_is_made_anew(tmp_path, capfd, content):
    path = tmp_path / "a.nii"
    path.write_bytes(b"abc")
    files_index().parent.mkdir()
    files_index().write_bytes(content)
    assert first_byte(path) == first_byte(path) == ord("a")
    assert remembered("first byte", path, None, pytest.fail) == ord("a")
    assert len(capfd.readouterr().err.splitlines()) == bool(content)


@pytest.mark.parametrize("schema", ["CREATE TABLE facts (x)", "CREATE VIEW facts AS SELECT 1"])
def test_index_with_other_tables_is_made_anew(tmp_path, schema):
    path = tmp_path / "a.nii"
    path.write_bytes(b"abc")
    files_index().parent.mkdir()
    with sqlite3.connect(files_index()) as connection:
        connection.execute(schema)
    connection.close()
    assert first_byte(path) == first_byte(path) == ord("a")
    assert remembered("first byte", path, None, pytest.fail) == ord("a")


@pytest.mark.parametrize("what", ["pipe", "folder", "device", "circle", "pipe beside it"])
def test_index_that_is_no_file_is_left_alone(tmp_path, capfd, what):
    path = tmp_path / "a.nii"
    path.write_bytes(b"abc")
    place = files_index()
    place.parent.mkdir()
    match what:
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "device":
            place.symlink_to("/dev/zero")
        case "circle":
            place.symlink_to(place)
        case _:
            first_byte(path)
            os.mkfifo(f"{place}-journal")
    for _ in range(3):
        assert first_byte(path) == ord("a")
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_locked_index_is_waited_for_once(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(index, "BUSY_TIMEOUT_S", 0.3)
    paths = [tmp_path / f"{n}.nii" for n in range(20)]
    for path in paths:
        path.write_bytes(b"abc" + path.stem.encode())
    first_byte(paths[0])
    holder = sqlite3.connect(files_index(), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    assert {first_byte(path) for path in paths} == {ord("a")}
    assert time.monotonic() - started < 3
    holder.close()
    (line,) = capfd.readouterr().err.splitlines()
    assert "another process holds" in line


@QUICK
@given(
    st.binary(min_size=1, max_size=60),
    st.sampled_from(["f", "g"]),
    st.sampled_from([None, 0, 1]),
    st.binary(min_size=1, max_size=60),
    st.sampled_from(["f", "g"]),
    st.sampled_from([None, 0, 1]),
)
def test_a_fact_is_shared_exactly_by_equal_inputs(one, fact, channel, other, fact2, channel2):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDTL_CACHE", f"{folder}/cache")
        a, b = Path(folder, "a.nii"), Path(folder, "b.nii")
        a.write_bytes(one)
        b.write_bytes(other)
        remembered(fact, a, channel, lambda: "of a")
        found = remembered(fact2, b, channel2, lambda: "of b")
    same = (one, fact, channel) == (other, fact2, channel2)
    assert found == ("of a" if same else "of b")


@QUICK
@given(st.data())
def test_any_flipped_bit_of_a_stored_fact_is_noticed(data):
    value = data.draw(st.recursive(st.integers() | st.text(), st.lists, max_leaves=4))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "i")
        index.store(place, "key", json.dumps(value))
        with sqlite3.connect(place) as connection:
            (stored,) = connection.execute("SELECT value FROM facts").fetchone()
            flipped = bytearray(stored, "utf-8")
            bit = data.draw(st.integers(0, 8 * len(flipped) - 1))
            flipped[bit // 8] ^= 1 << bit % 8
            blob = bytes(flipped)
            connection.execute("UPDATE facts SET value = CAST(? AS TEXT)", (blob,))
        connection.close()
        assert index.recall(place, "key") is None
