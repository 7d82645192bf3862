"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, components, hookimpl

PLUGIN_API = 1

#: Former names of option values; checkpoints of older runs hold them.
RENAMED = {"head=s2-512-256": "head=hidden-512-256"}


@hookimpl
def medtl_networks() -> list[Component]:
    summaries = {
        f"resnet{layers}": f"classifies: MONAI ResNet-{layers} for whole images, with the layers "
        "and tensor names of torchvision; options head, keep_blocks, slim_from"
        for layers in (18, 34, 50)
    }
    return components("medtl_resnet_classifier.resnet", summaries, RENAMED)
