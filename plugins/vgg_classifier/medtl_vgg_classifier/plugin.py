"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, components, hookimpl

PLUGIN_API = 1

#: Former names of option values; checkpoints of older runs hold them.
RENAMED = {
    "head=s0-2048-256": "head=hidden-2048-256",
    "head=s0-128": "head=hidden-128",
    "head=s0-gap-128": "head=gap-128",
}


@hookimpl
def medtl_networks() -> list[Component]:
    summaries = {
        f"vgg{layers}{suffix}": f"classifies: VGG-{layers} {norm}for whole images, with the layers "
        "and tensor names of torchvision; options head, keep_blocks, slim_from"
        for layers in (11, 13, 16, 19)
        for suffix, norm in (("", ""), ("-bn", "with batch norm "))
    }
    return components("medtl_vgg_classifier.vgg", summaries, RENAMED)
