"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, components, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_strategies() -> list[Component]:
    summary = (
        "adapt with early blocks frozen, then unfreeze; use when source and target show the same "
        "anatomy in other contrasts (Howard and Ruder 2018)"
    )
    return components("medtl_modality_transfer.strategy", {"modality-transfer": summary})
