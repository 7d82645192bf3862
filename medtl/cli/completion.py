"""``medtl completion SHELL``: the script that lets a shell complete medtl's words.

Each shell is a command and no argument: Typer would import pydantic to read one.
"""

from __future__ import annotations

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
