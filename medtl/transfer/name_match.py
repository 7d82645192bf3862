"""Which tensor of a file is which of a network: by name, under the prefixes that fit best.

Lightning modules, wrappers and methods of self-supervision put prefixes of any depth before the
names of a network (``model.net.``, ``module.encoder_q.``); files of an encoder alone lack one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from medtl.networks.blocks import Network, names_of, tensors
from medtl.transfer.nnunet_names import dynunet_names
from medtl.transfer.wrapped import MOST_COPIES, differ

#: A prefix of the network's names, to be missing in the file, holds this share of its tensors.
_WHOLE_PART = 0.25

#: A second place in the file that matches this share of the first's tensors is its copy.
_COPY = 0.5


@dataclass(frozen=True, slots=True)
class NameMatch:
    """The tensors of a network in a file.

    ``names``: network tensor -> name in the file. ``here``, ``there``: the prefixes of the
    network's and of the file's names that are left out. ``rivals``: prefixes in the file under
    which other weights of the same tensors stand, with their numbers; the first is ``there``.
    """

    names: Mapping[str, str]
    here: str = ""
    there: str = ""
    rivals: Mapping[str, int] | None = None

    def name_here(self, saved: str) -> str | None:
        """What a tensor of the file would be called in the network; None: it is of another."""
        return self.here + saved[len(self.there) :] if saved.startswith(self.there) else None


def match_names(network: Network, saved: Mapping[str, Tensor]) -> NameMatch:
    """The prefixes and names that match most tensors of ``saved``, by shape and then by name.

    Tried: the names as they are; nnU-Net's as DynUNet's; without a prefix of the file's, with one
    of the network's in front, or both.
    """
    aliases, shapes = names_of(network.module), _shapes(tensors(network).items())
    known = {alias: first for first, every in aliases.items() for alias in every}
    found = [_under(known, saved, "", "")]
    renamed = {new: old for old, new in dynunet_names(saved).items()}
    found.append(NameMatch(_first(known, renamed)))
    for here in _parts(known):
        relative = {name.removeprefix(here) for name in known if name.startswith(here)}
        found += (_under(known, saved, here, there) for there in _prefixes(saved, relative))

    def fits(match: NameMatch) -> tuple[int, int]:
        same = sum(shapes[name] == saved[old].shape for name, old in match.names.items())
        return same, len(match.names)

    best = max(found, key=fits)
    return NameMatch(best.names, best.here, best.there, _rivals(best, found, saved))


def _shapes(items: Iterable[tuple[str, Tensor]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in items}


def _first(known: Mapping[str, str], renaming: Mapping[str, str]) -> dict[str, str]:
    """Network tensor -> name in the file; of tied names in the file, the first is taken."""
    names: dict[str, str] = {}
    for alias, first in known.items():
        if alias in renaming:
            names.setdefault(first, renaming[alias])
    return names


def _under(
    known: Mapping[str, str], saved: Mapping[str, Tensor], here: str, there: str
) -> NameMatch:
    renaming = {
        alias: there + alias[len(here) :]
        for alias in known
        if alias.startswith(here) and there + alias[len(here) :] in saved
    }
    return NameMatch(_first(known, renaming), here, there)


def _parts(known: Iterable[str]) -> list[str]:
    """No prefix, and those under which a large part of the network stands."""
    names = list(known)
    counts: Counter[str] = Counter()
    for name in names:
        pieces = name.split(".")
        counts.update(".".join(pieces[:depth]) + "." for depth in range(1, len(pieces)))
    return ["", *sorted(p for p, count in counts.items() if count >= _WHOLE_PART * len(names))]


def _prefixes(saved: Iterable[str], wanted: set[str]) -> list[str]:
    """The prefixes in the file under which names that are wanted stand, the fullest first."""
    counts: Counter[str] = Counter()
    for name in saved:
        at = 0
        while True:
            if name[at:] in wanted:
                counts[name[:at]] += 1
            dot = name.find(".", at)
            if dot < 0:
                break
            at = dot + 1
    most = max(counts.values(), default=0)
    near = [prefix for prefix, count in counts.items() if count >= _COPY * most]
    near.sort(key=lambda prefix: (-counts[prefix], prefix.count("."), prefix))
    return near[:MOST_COPIES]


def _rivals(
    best: NameMatch, found: Iterable[NameMatch], saved: Mapping[str, Tensor]
) -> dict[str, int] | None:
    """The places in the file with other values of the tensors matched; None if there is one."""
    places: dict[str, int] = {}
    for match in found:
        if match.there == best.there or match.there in places or match.here != best.here:
            continue
        pairs = [
            (saved[old], saved[match.names[n]]) for n, old in best.names.items() if n in match.names
        ]
        same = [(one, other) for one, other in pairs if one.shape == other.shape]
        weights = [(one, other) for one, other in same if one.ndim]
        if len(weights) >= max(2, _COPY * len(best.names)) and differ(weights):
            places[match.there] = len(match.names)
    return {best.there: len(best.names), **places} if places else None
