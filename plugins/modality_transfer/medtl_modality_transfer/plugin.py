"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_strategies() -> list[Component]:
    return [
        Component(
            "modality-transfer",
            "medtl_modality_transfer.strategy:modality_transfer",
            "train on the source contrasts, adapt on others with early blocks frozen, unfreeze",
        )
    ]
