"""Tensor names of a file, in the words of a network."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from medtl.networks import Network, names_of
from medtl.nnunet import dynunet_names


def match_names(network: Network, saved: Collection[str]) -> dict[str, str]:
    """Network tensor -> name in the file (``saved``), under whichever renaming fits most of them.

    Tried: the names as they are, nnU-Net's as DynUNet's, and the names without their first part
    or behind a first part of the network's (Lightning modules and bare encoders).
    """
    aliases = names_of(network.module)
    renamings = [{name: name for name in saved}]
    renamings.append({new: old for old, new in dynunet_names(saved).items()})
    for prefix in sorted({name.partition(".")[0] + "." for name in saved}):
        renamings.append({n.removeprefix(prefix): n for n in saved if n.startswith(prefix)})
    for prefix in sorted({name.partition(".")[0] + "." for name in aliases}):
        renamings.append({prefix + name: name for name in saved})

    def match(renaming: Mapping[str, str]) -> dict[str, str]:
        hits = {first: [a for a in known if a in renaming] for first, known in aliases.items()}
        return {first: renaming[known[0]] for first, known in hits.items() if known}

    return max(map(match, renamings), key=len)
