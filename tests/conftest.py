"""No test reads or writes the user's cache; runs that take seconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from terminal import Terminal, exit_code

from medtl.data.phantom import write_phantom

TINY = (
    "--network",
    "unet",
    "--width",
    "4",
    "--batch-size",
    "2",
    "--spacing",
    "7.5",
    "--steps",
    "2",
)
TINY += ("--device", "cpu", "--precision", "fp32", "--set=patch_size=32,32,32", "--quiet")
TINY += ("--transforms", "brain-mr-plain", "--set=test_fraction=0.4")

#: Folders whose tests start processes or train. They come first, so that the others fill what is
#: left of the time in the last process at work; each such test is marked as slow.
SLOW_FOLDERS = ("runs", "contract", "cli")


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0] if _is_ours(item) else "plugins"


def _is_ours(item: pytest.Item) -> bool:
    return item.path.is_relative_to(Path(__file__).parent)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    turns = {name: turn for turn, name in enumerate((*SLOW_FOLDERS, "plugins"))}
    items.sort(key=lambda item: turns.get(_folder(item), len(turns)))
    for item in items:
        if _folder(item) in SLOW_FOLDERS:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def command() -> Callable[..., None]:
    """The command line in this process."""

    def run(*words: object, code: int = 0) -> None:
        assert exit_code(*words) == code

    return run


@pytest.fixture
def medtl(capfd: pytest.CaptureFixture[str]) -> Terminal:
    """The command line in this process, with its two streams."""
    return Terminal(capfd)


@pytest.fixture(scope="session")
def small_phantom(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``small_phantom(cases=, size=, sites=, seed=)``: its folder, written once; not to change."""

    @cache
    def write(**settings: int) -> Path:
        return write_phantom(tmp_path_factory.mktemp("phantom") / "data", workers=1, **settings)

    return write


@pytest.fixture(scope="session")
def tiny_run(command: Callable[..., None]) -> Callable[..., Path]:
    """``tiny_run(out, data, *words)``: train two steps and give the run folder."""

    def train(out: Path, data: Path, *words: object) -> Path:
        command("train", "brats", "--data", data, *TINY, "--out", out, *words)
        return out

    return train
