"""What the shell offers for an option or argument whose values are names; light and fast."""

from __future__ import annotations

from collections.abc import Callable

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
#: incomplete word -> (value, help) of each that fits
Complete = Callable[[str], list[tuple[str, str]]]


def component(kind: str) -> Complete:
    """Names of the installed components of a kind, with their summaries.

    A list with commas is completed at its last name. Where plugins share a name, it is completed
    in full.
    """

    def complete(incomplete: str) -> list[tuple[str, str]]:
        from medtl.catalog import load_catalog

        before, comma, last = incomplete.rpartition(",")
        registry = load_catalog().registries()[kind]
        bare = [name.partition(":")[2] for name in registry]
        found = []
        for full_name, each in sorted(registry.items()):
            name = full_name.partition(":")[2]
            shown = name if bare.count(name) == 1 else full_name
            if shown.startswith(last):
                found.append((before + comma + shown, " ".join(each.summary.split())))
        return found

    return complete


def choice(*values: str) -> Complete:
    """These words."""
    return lambda incomplete: [(value, "") for value in values if value.startswith(incomplete)]
