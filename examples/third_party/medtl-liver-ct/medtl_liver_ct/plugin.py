"""What this plugin offers. Every medtl command imports this file, so it imports nothing heavy."""

from __future__ import annotations

from medtl import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_tasks() -> list[Component]:
    return [
        Component(
            "liver-ct",
            "medtl_liver_ct.task:LiverCt",
            "liver and its tumours in CT, in the layout of LiTS (Bilic et al. 2023)",
        )
    ]


@hookimpl
def medtl_transforms() -> list[Component]:
    return [
        Component(
            "abdomen-ct",
            "medtl_liver_ct.preset:abdomen_ct",
            "CT through the window -150 to 250 HU; augmented without mirroring",
        )
    ]


@hookimpl
def medtl_networks() -> list[Component]:
    return [
        Component(
            "coarse-unet",
            "medtl_liver_ct.network:coarse_unet",
            "a U-Net that computes at half resolution: fast, for large organs, in 2-D and 3-D",
        )
    ]


@hookimpl
def medtl_shift_metrics() -> list[Component]:
    return [
        Component(
            "histogram-overlap",
            "medtl_liver_ct.metric:histogram_overlap",
            "share of the features' histograms that does not overlap, 0 to 1",
        )
    ]
