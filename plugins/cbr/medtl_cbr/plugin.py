"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, components, hookimpl

PLUGIN_API = 1

LAYOUTS = {
    "cbr-larget": "CBR-LargeT: five 7x7 blocks of 32 to 512 channels",
    "cbr-largew": "CBR-LargeW: four 7x7 blocks of 64 to 512 channels",
    "cbr-small": "CBR-Small: four 7x7 blocks of 32 to 256 channels",
    "cbr-tiny": "CBR-Tiny: four 5x5 blocks of 64 to 512 channels",
    "cbr-tiny-table": "CBR-Tiny as the paper's table of parameters counts it, 32 to 256 channels",
}


@hookimpl
def medtl_networks() -> list[Component]:
    text = "classifies: {}, for whole images; options keep_blocks, slim_from"
    return components(
        "medtl_cbr.cbr", {name: text.format(layout) for name, layout in LAYOUTS.items()}
    )
