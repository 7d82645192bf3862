"""``medtl completion SHELL``: the script that lets a shell complete medtl's words.

Each shell is a command and no argument: Typer would import pydantic to read one.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from medtl.cli.light import LightCommand, LightGroup

#: Shell -> what its user does with the script.
SHELLS = {
    "bash": 'put eval "$(medtl completion bash)" into ~/.bashrc',
    "zsh": 'put eval "$(medtl completion zsh)" into ~/.zshrc, after compinit',
    "fish": "write it to ~/.config/fish/completions/medtl.fish",
    "powershell": "put medtl completion powershell | Out-String | Invoke-Expression into $PROFILE",
}


app = typer.Typer(cls=LightGroup, add_completion=False)


@app.callback()
def completion() -> None:
    """Print the script that lets a shell complete commands, options and names of components."""


def _add_command(shell: str, use: str) -> None:
    @app.command(shell, cls=LightCommand, help=f"Print the script for {shell}: {use}.")
    def print_script() -> None:
        from typer.completion import get_completion_script  # type: ignore[attr-defined]

        print(get_completion_script(prog_name="medtl", complete_var="_MEDTL_COMPLETE", shell=shell))


for _shell, _use in SHELLS.items():
    _add_command(_shell, _use)


#: incomplete word -> (value, help) of each that fits
Complete = Callable[[str], list[tuple[str, str]]]


def component(kind: str) -> Complete:
    """Names of the installed components of a kind, with their summaries.

    A list with commas is completed at its last name. Where plugins share a name, it is completed
    in full.
    """

    def complete(incomplete: str) -> list[tuple[str, str]]:
        from medtl.plugins.catalog import load_catalog

        before, comma, last = incomplete.rpartition(",")
        registry = load_catalog().registries()[kind]
        bare = [name.partition(":")[2] for name in registry]
        found = []
        for full_name, each in sorted(registry.items()):
            name = full_name.partition(":")[2]
            shown = name if bare.count(name) == 1 else full_name
            if shown.startswith(last):
                found.append((before + comma + shown, " ".join(each.summary.split())))
        return found

    return complete


def choice(*values: str) -> Complete:
    """These words."""
    return lambda incomplete: [(value, "") for value in values if value.startswith(incomplete)]
