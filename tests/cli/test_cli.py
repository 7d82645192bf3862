"""The command line as its users meet it: a process, its two streams and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import run_medtl

from medtl.cli.errors import guarded
from medtl.cli.main import _from_home
from medtl.errors import DataError
from medtl.plugins.builtin import COMMANDS

PLUGIN = """
from medtl import Component, hookimpl
PLUGIN_API = 1

@hookimpl
def medtl_commands():
    return [Component("greet", "{module}:greet", "Say hello."),
            Component("tools", "{module}:tools", "Group of tools.")]

def greet(name: str, loud: bool = False):
    if name == "bug":
        raise RuntimeError("boom")
    print("HELLO" if loud else "hello", name)

def __getattr__(attribute):
    if attribute != "tools":
        raise AttributeError(attribute)
    import typer
    tools = typer.Typer()
    tools.command("one")(lambda: print("one"))
    return tools
"""


def medtl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"COLUMNS": "100", "NO_COLOR": "1", **environment}
    return run_medtl(*arguments, environment=environment, timeout=120)


def installed_plugin(folder: Path, name: str, source: str) -> str:
    """What an installer leaves behind: a module and the metadata with its entry point."""
    module = f"third_party_{name}"
    (folder / f"{module}.py").write_text(source.replace("{module}", module))
    info = folder / f"{module}-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[medtl.plugins]\n{name} = {module}\n")
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def error_line(result: subprocess.CompletedProcess[str], code: int = 2) -> str:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_help_lists_every_command_with_its_summary() -> None:
    result = medtl("--help")
    assert result.returncode == 0
    assert medtl().stdout == result.stdout
    for component in COMMANDS:
        assert component.name in result.stdout
        assert component.summary in result.stdout


@pytest.mark.parametrize("component", COMMANDS, ids=lambda component: component.name)
def test_every_command_shows_its_own_help(component: object) -> None:
    result = medtl(component.name, "--help")  # type: ignore[attr-defined]
    assert result.returncode == 0, result.stderr
    assert f"medtl {component.name}" in result.stdout  # type: ignore[attr-defined]


def test_train_help_shows_its_options() -> None:
    text = medtl("train", "--help").stdout
    assert all(option in text for option in ("--strategy", "--src", "--dst", "--dry-run", "--set"))


def test_version_is_the_package_s() -> None:
    from medtl import __version__

    assert medtl("--version").stdout == f"medtl {__version__}\n"


MISTAKES = {
    ("trian",): "Did you mean 'train'",
    ("plugins", "lst"): "Did you mean 'list'",
    ("list", "stratgies"): "Did you mean 'strategies'",
    ("train", "--strateg", "x"): "No such option: --strateg",
    ("--versoin",): "No such option: --versoin",
    ("train",): "error: name a task, for example medtl train brats; there are brats, classif",
    ("train", "--data", "."): "error: name a task",
    ("train", "--steps", "many"): "error: --steps: must be a whole number, not 'many'; see",
    ("train", "--lr", "x"): "error: --lr: must be a number, not 'x'; see `medtl train --help`",
    ("evaluate", "run", "--devices", "0"): "--devices: must be greater than or equal to 1, not",
    ("train", "--set", "steps=x"): "--set steps=x: must be a whole number, not 'x'",
    ("train", "--task", "brats"): "no option --task; write medtl train TASK, without a name",
    ("train", "--harmonise", "nyul"): "no option --harmonise; use --set harmonise=VALUE",
    (
        "train",
        "--patch-size=3",
    ): "medtl train has no option --patch-size; use --set patch_size=VALUE",
    ("evaluate", "--harmonise", "nyul"): "No such option: --harmonise",
    ("plugins", "check", "nope"): "unknown plugin 'nope'; known: ",
    ("train", "--steps", "0"): "--steps: must be greater than or equal to 1",
    ("train", "brain"): "unknown task 'brain'",
    ("train", "--strategy", "modality-transfr"): "did you mean 'modality-transfer'",
    ("train", "--network", "unet3"): "unknown network 'unet3'; did you mean",
    ("train", "--config", "/no/such.yaml"): "/no/such.yaml",
    ("train", "--set", "stepps=3"): "did you mean 'steps'",
    ("evaluate",): "Missing argument",
    ("data",): "Missing command",
    ("weights",): "Missing command; see `medtl weights --help`",
    ("list", "tasts"): "Did you mean 'tasks'? See `medtl list --help`",
    ("data", "phantom", "x", "--cases", "0"): "cases",
}


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES.items(), ids=" ".join)
def test_mistake_is_one_line_and_exit_2(arguments: tuple[str, ...], expected: str) -> None:
    assert expected in error_line(medtl(*arguments))


def test_traceback_is_shown_only_with_debug() -> None:
    bad = ("train", "--device", "tpu")
    assert "Traceback" not in medtl(*bad).stderr
    for result in (
        medtl("--debug", *bad),
        medtl(*bad, "--debug"),
        medtl(*bad, MEDTL_DEBUG="1"),
    ):
        assert result.returncode == 2
        assert "Traceback" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("error: --device: must be 'auto'")
    assert "Traceback" not in medtl(*bad, MEDTL_DEBUG="0").stderr


@pytest.mark.parametrize("command", [["list"], ["plugins", "list"], ["list", "tasks"], ["doctor"]])
def test_json_is_the_only_thing_on_stdout(command: list[str]) -> None:
    result = medtl(*command, "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)


def test_list_shows_components_by_kind() -> None:
    listed = json.loads(medtl("list", "--json").stdout)
    (task,) = [row for row in listed["tasks"] if row["name"] == "brats"]
    assert task["plugin"] == "brats"
    assert list(json.loads(medtl("list", "networks", "--json").stdout)) == ["networks"]
    assert "modality-transfer" in medtl("list", "strategies").stdout


def test_broken_plugin_is_listed_with_its_reason_and_all_else_works(tmp_path: Path) -> None:
    path = installed_plugin(tmp_path, "broken", "import no_such_module_at_all\n")
    rows = {row["name"]: row for row in json.loads(medtl("plugins", "list", "--json").stdout)}
    assert "broken" not in rows
    result = medtl("plugins", "list", "--json", PYTHONPATH=path)
    assert (result.returncode, result.stderr) == (0, "")
    broken = {row["name"]: row for row in json.loads(result.stdout)}
    assert broken.pop("broken") == {
        "name": "broken",
        "distribution": "third_party_broken",
        "version": "2.5",
        "status": "broken",
        "reason": "third_party_broken cannot be imported: ModuleNotFoundError: "
        "No module named 'no_such_module_at_all'",
        "components": 0,
    }
    assert broken == rows
    assert "no_such_module_at_all" in medtl("plugins", "list", PYTHONPATH=path).stdout


def test_disabled_plugin_is_listed_and_its_components_are_gone() -> None:
    rows = json.loads(medtl("plugins", "list", "--json", MEDTL_DISABLE_PLUGINS="brats").stdout)
    assert {row["name"]: row["status"] for row in rows}["brats"] == "disabled"
    line = error_line(medtl("train", "brats", MEDTL_DISABLE_PLUGINS="brats"))
    assert "brats (disabled)" in line


def test_commands_of_a_plugin_are_mounted(tmp_path: Path) -> None:
    path = installed_plugin(tmp_path, "greeter", PLUGIN)
    assert "Say hello." in medtl("--help", PYTHONPATH=path).stdout
    assert medtl("greet", "Ada", "--loud", PYTHONPATH=path).stdout == "HELLO Ada\n"
    assert medtl("tools", "one", PYTHONPATH=path).stdout == "one\n"
    assert "Did you mean 'greet'" in error_line(medtl("gret", PYTHONPATH=path))


def test_bug_is_one_line_that_says_how_to_see_more(tmp_path: Path) -> None:
    path = installed_plugin(tmp_path, "greeter", PLUGIN)
    line = error_line(medtl("greet", "bug", PYTHONPATH=path), code=1)
    assert "RuntimeError: boom" in line
    assert "--debug" in line
    assert 'raise RuntimeError("boom")' in medtl("greet", "bug", "--debug", PYTHONPATH=path).stderr


def test_plugin_cannot_shadow_a_command_of_medtl(tmp_path: Path) -> None:
    path = installed_plugin(tmp_path, "shadow", PLUGIN.replace('"greet"', '"doctor"'))
    rows = json.loads(medtl("plugins", "list", "--json", PYTHONPATH=path).stdout)
    assert {row["name"]: row["status"] for row in rows}["shadow"] == "broken"


@pytest.mark.parametrize("redirection", ["| true", ">&-"])
def test_closed_stdout_is_quiet(redirection: str) -> None:
    code = f"{sys.executable} -m medtl list --json {redirection}"
    result = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_one_line() -> None:
    code = f"{sys.executable} -m medtl list > /dev/full"
    result = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: No space left on device; make room")
    assert result.stderr.count("\n") == 1


def test_phantom_is_written_and_announced_as_synthetic(tmp_path: Path) -> None:
    options = ("--cases", "2", "--size", "16", "--sites", "1", "--seed", "3")
    result = medtl("data", "phantom", str(tmp_path / "cohort"), *options)
    assert (result.returncode, result.stdout) == (0, "")
    assert "synthetic" in result.stderr
    assert len(list((tmp_path / "cohort").rglob("*_flair.nii*"))) == 2
    again = medtl("data", "phantom", str(tmp_path / "cohort"), *options)
    assert str(tmp_path / "cohort") in again.stderr.splitlines()[-1]
    assert again.returncode == 2


def raised(error: BaseException) -> int:
    def command() -> None:
        raise error

    return guarded(command, debug=False)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("a.nii: truncated"), 2, "error: a.nii: truncated"),
        (DataError("two\nlines"), 2, "error: two lines"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (OSError(28, "No space left on device", "x.nii"), 2, "x.nii: No space left on device"),
        (PermissionError(13, "Permission denied", "/out"), 2, "/out: Permission denied"),
        (MemoryError(), 2, "out of memory"),
        (AssertionError(), 1, "this is a bug in medtl or a plugin (AssertionError)"),
    ],
)
def test_every_failure_is_one_line_and_a_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raised(error) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_exit_code_of_a_command_is_kept() -> None:
    assert guarded(lambda: 7, debug=False) == 7
    assert guarded(lambda: None, debug=False) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "{}"),
        ("evaluate", "{}/run", "--data={}"),
        ("predict", "run", "-i{}", "--out={}"),
        ("shift", "--out={}"),
        ("plugins", "check", "{}"),
        ("weights", "inspect", "{}"),
    ],
    ids=" ".join,
)
def test_home_is_written_out_wherever_a_shell_leaves_it(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    meant = [word.format(tmp_path / "x") for word in words]
    assert [_from_home(word.format("~/x")) for word in words] == meant
    assert _from_home("~nobody-here/x") == "~nobody-here/x"
    assert _from_home("a~/x") == "a~/x"


def test_home_in_an_argument_is_no_folder_called_tilde(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    words = ("data", "phantom", "~/made", "--cases", "1", "--size", "16")
    made = subprocess.run(
        [sys.executable, "-m", "medtl", *words],
        env={**os.environ, "HOME": str(tmp_path)},
        cwd=tmp_path / "in",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "made").is_dir()
    assert not list((tmp_path / "in").iterdir())


@pytest.mark.parametrize("words", [(), ("train",), ("weights", "inspect"), ("list", "networks")])
def test_flags_are_shown_without_a_value(words: tuple[str, ...]) -> None:
    text = medtl(*words, "--help").stdout
    assert "--help" in text and "<bool>" not in text
