"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_networks() -> list[Component]:
    return [
        Component(
            f"vgg{layers}{'-bn' if norm else ''}",
            f"medtl_vgg_classifier.vgg:vgg{layers}{'_bn' if norm else ''}",
            f"classifies: VGG-{layers} {'with batch norm ' if norm else ''}for whole images, laid "
            "out and named as torchvision's; options head, keep_blocks, slim_from",
        )
        for layers in (11, 13, 16, 19)
        for norm in (False, True)
    ]
