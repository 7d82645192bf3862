"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_tasks() -> list[Component]:
    summary = "brain MR pictures: glioma, meningioma, pituitary tumour or none, a folder per class"
    return [Component("kaggle-mri", "medtl_kaggle_mri.task:KaggleMri", summary)]
