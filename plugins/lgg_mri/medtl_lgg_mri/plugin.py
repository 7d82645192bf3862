"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_tasks() -> list[Component]:
    classes = "TCGA slices (T1, FLAIR, T1ce) with a glioma or without, from 5 hospitals"
    regions = "the glioma's FLAIR abnormality in TCGA slices, in 2-D"
    return [
        Component("lgg-mri", "medtl_lgg_mri.task:LggMri", classes),
        Component("lgg-mri-seg", "medtl_lgg_mri.task:LggMriSegmentation", regions),
    ]
