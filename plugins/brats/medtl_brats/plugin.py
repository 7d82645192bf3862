"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_tasks() -> list[Component]:
    summary = "glioma segmentation (WT, TC, ET) on BraTS 2013-2025, MSD and DeepMedic layouts"
    return [Component("brats", "medtl_brats.task:Brats", summary)]
