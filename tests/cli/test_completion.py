"""Completion as shells ask for it: the scripts, and the protocol behind them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import run_medtl, run_python

from medtl.cli.completion import SHELLS, choice, component
from medtl.plugins.catalog import load_catalog


def medtl(*words: str, **environment: str) -> str:
    """What medtl prints."""
    done = run_medtl(*words, environment=environment, encoding="utf-8")
    assert done.stderr == "", done.stderr
    return done.stdout


def in_bash(line: str) -> list[str]:
    """What the script for bash is told of this line, the cursor at its end."""
    place = str(len(line.split()) - (not line.endswith(" ")))
    told = medtl(_MEDTL_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=place)
    return told.split()


def in_zsh(line: str) -> str:
    return medtl(_MEDTL_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("medtl tr", {"train"}),
        ("medtl list ini", {"initialisers"}),
        ("medtl train bra", {"brats"}),
        ("medtl train brats --strategy f", {"fine-tune"}),
        ("medtl train brats --network=resnet", {"resnet18", "resnet34", "resnet50"}),
        ("medtl shift --metrics mmd,ene", {"mmd,energy"}),
        ("medtl train --with", {"--with-control"}),
        ("medtl predict run --device c", {"cpu", "cuda"}),
        ("medtl train --data /", set()),  # the shell then offers files
        ("medtl trian --str", set()),
        ("medtl completion ", set(SHELLS)),
    ],
)
def test_bash_is_offered_commands_options_and_names(line: str, offered: set[str]) -> None:
    assert set(in_bash(line)) == offered


def test_zsh_is_offered_names_with_their_summaries_and_files_elsewhere() -> None:
    told = in_zsh("medtl train brats --strategy linear")
    assert told.startswith("_arguments ") and '"linear-probe":"train a new head alone' in told
    assert in_zsh("medtl train --data ").strip() == "_files"


@pytest.mark.parametrize("kind", ["tasks", "networks", "strategies", "transforms", "features"])
def test_every_component_is_offered(kind: str) -> None:
    registry = load_catalog().registries()[kind]
    assert {name for name, _ in component(kind)("")} == {n.partition(":")[2] for n in registry}


def test_choices_are_offered_by_their_beginning() -> None:
    assert choice("site", "part")("s") == [("site", "")]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_its_script(shell: str) -> None:
    script = medtl("completion", shell)
    assert f"complete_{shell}" in script and "_MEDTL_COMPLETE" in script
    assert "~" in SHELLS[shell] or "$PROFILE" in SHELLS[shell]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script_as_it_is_printed(tmp_path: Path) -> None:
    program = tmp_path / "medtl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m medtl "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    asked = (
        'eval "$(medtl completion bash)"\n'
        "COMP_WORDS=(medtl train brats --strategy gradual); COMP_CWORD=4\n"
        "_medtl_completion medtl\n"
        'echo "${COMPREPLY[@]}"; complete -p medtl'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", asked],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        check=True,
    )
    assert done.stdout.splitlines() == [
        "gradual-unfreeze",
        "complete -o default -F _medtl_completion medtl",
    ]


def test_completion_imports_nothing_heavy() -> None:
    code = (
        "import os, sys\n"
        "from medtl.cli.start import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'monai', 'numpy', 'nibabel', 'yaml'} & set(sys.modules)\n"
        "    print('heavy:', *heavy)\n"
    )
    line = {"COMP_WORDS": "medtl train --network une", "COMP_CWORD": "3"}
    environment = {**line, "_MEDTL_COMPLETE": "complete_bash"}
    done = run_python("-c", code, environment=environment)
    assert done.stdout.splitlines()[-1].strip() == "heavy:" and "unet3d" in done.stdout
