"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_networks() -> list[Component]:
    return [
        Component(
            f"resnet{layers}",
            f"medtl_resnet_classifier.resnet:resnet{layers}",
            f"classifies: MONAI ResNet-{layers} for whole images, laid out and named as "
            "torchvision's; options head, keep_blocks, slim_from",
        )
        for layers in (18, 34, 50)
    ]
