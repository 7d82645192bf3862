"""Find the state dict in a checkpoint of another program, or the one that the user names.

Programs wrap it (``{"state_dict": ..., "epoch": 3}``) and put others beside it: a teacher, an
average (EMA), one per fold. Which of several is meant cannot be told, so the user names one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medtl.errors import WeightsError, shortened
from medtl.transfer.file_bounds import check_sizes, is_plain

#: Keys of the state dict in checkpoints of other programs, the first that is there wins.
WRAPPERS = (
    "state_dict",
    "network_weights",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "params",
    "weights",
)

#: The key of the weights that stand without a prefix, beside others with one.
PLAIN_KEY = "."

#: What trainers keep beside weights, never weights themselves.
_BESIDE = re.compile(r"optim|sched|scaler|^rng|^loops$|^callbacks$")

#: What wraps modules puts into the names of tensors: torch.compile, FSDP, saved activations.
_ADDED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")

#: The deepest wrapper.
_DEEPEST = 12

#: The share of its tensors in which a network's copy agrees with it, in name and shape.
ALIKE = 0.5

#: The fewest tensors that make two parts copies of one network.
_FEWEST = 3

#: The most parts that are compared with each other.
MOST_COPIES = 64

Tree = dict[str, Any]


def unwrapped(path: Path, content: Any, key: str = "") -> tuple[str, dict[str, Tensor]]:
    """The form of a checkpoint in words, and its state dict.

    Args:
        key: of the weights to take: a wrapper's, or the first part of tensor names; ".": those
            without a prefix, where a copy stands under one.

    Raises:
        WeightsError: there are no weights, or several copies of a network and no ``key``.
    """
    plain = key.strip() == PLAIN_KEY
    tree = _tree(path, content, everything=bool(key) and not plain)
    check_sizes(path, {name: each for name, each in flat(tree).items() if is_plain(each)})
    if key and not plain:
        return f"checkpoint[{key!r}]", taken(path, flat(tree), key)
    trail: list[str] = []
    while (choice := _choice(path, tree, trail, plain=plain)) is not None:
        trail.append(choice)
        tree = tree[choice]
    form = f"checkpoint[{trail[-1]!r}]" if trail else "state dict"
    return form, taken(path, flat(tree), PLAIN_KEY) if plain else flat(tree)


def taken(path: Path, tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    """The tensors that ``--weights-key`` names; errors as :func:`named`."""
    cleaned = without_wrappers(tensors)
    return _without_copies(cleaned) if key.strip() == PLAIN_KEY else named(path, cleaned, key)


def without_wrappers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop what torch.compile, FSDP and DistributedDataParallel (``module.``) add to names."""
    cleaned = {_ADDED.sub("", name): tensor for name, tensor in tensors.items()}
    if len(cleaned) < len(tensors):  # the same network stands beside it without the addition
        cleaned = dict(tensors)
    while cleaned and all(name.startswith("module.") for name in cleaned):
        cleaned = {name.removeprefix("module."): tensor for name, tensor in cleaned.items()}
    return cleaned


def _tree(path: Path, content: Any, *, everything: bool) -> Tree:
    """The tensors of nested mappings and lists; parts that stand in several places once.

    Raises:
        WeightsError: a part holds itself, or they are nested too deeply.
    """
    seen: set[int] = set()

    def members(node: Any, above: tuple[int, ...]) -> Tree:
        seen.add(id(node))
        found: Tree = {}
        for name, value in _items(node):
            if not everything and _BESIDE.search(name.lower()) and not isinstance(value, Tensor):
                continue
            if isinstance(value, Tensor):
                found[name] = value.detach()
            elif id(value) in (*above, id(node)) or len(above) >= _DEEPEST:
                raise WeightsError(
                    f"{path} holds itself under the key {name[:40]!r}, or is nested more than "
                    f"{_DEEPEST} deep; save the network's state_dict() alone"
                )
            elif id(value) not in seen and _has_items(value):
                found[name] = members(value, (*above, id(node)))
        return {name: value for name, value in found.items() if isinstance(value, Tensor) or value}

    return members(content, ())


def _has_items(node: Any) -> bool:
    return isinstance(node, Mapping | list | tuple)


def _items(node: Any) -> Iterator[tuple[str, Any]]:
    """A mapping's members, or those of a list that are no tensors: these have no names."""
    if isinstance(node, Mapping) and not {"state", "param_groups"} <= node.keys():
        yield from ((str(name), value) for name, value in node.items())
    elif isinstance(node, list | tuple):
        yield from ((str(i), each) for i, each in enumerate(node) if not isinstance(each, Tensor))


def flat(tree: Tree) -> dict[str, Tensor]:
    """``{"a": {"b": tensor}}`` -> ``{"a.b": tensor}``."""
    tensors: dict[str, Tensor] = {}
    for name, value in tree.items():
        if isinstance(value, Tensor):
            tensors[name] = value
        else:
            tensors |= {f"{name}.{inner}": tensor for inner, tensor in flat(value).items()}
    return tensors


def _choice(path: Path, tree: Tree, trail: Sequence[str], *, plain: bool) -> str | None:
    """The key to go down to; None: the tensors here are the state dict."""
    parts = {name: flat(value) for name, value in tree.items() if isinstance(value, dict)}
    own = {name: value for name, value in tree.items() if isinstance(value, Tensor)}
    weighty = any(value.ndim for value in own.values())
    if plain and weighty:
        return None
    rivals = {PLAIN_KEY: own, **parts} if weighty else parts
    if twins := copies(rivals):
        sizes = {".".join((*trail, name)): len(rivals[name]) for name in twins}
        raise several(path, {PLAIN_KEY if k.endswith(".") else k: n for k, n in sizes.items()})
    if weighty or not parts:
        return None
    known = [name for name in WRAPPERS if name in parts]
    return known[0] if known else next(iter(parts)) if len(parts) == 1 else None


def several(path: Path, sizes: Mapping[str, int], network: str = "") -> WeightsError:
    """The error for several copies of a network: ``sizes``, key -> number of tensors."""
    shown = shortened([f"{name} ({size} tensors)" for name, size in sizes.items()], 8)
    return WeightsError(
        f"{path} holds {len(sizes)} copies of {network or 'one network'} with different weights: "
        f"{shown}; name one by --weights-key, for example --weights-key {next(iter(sizes))}"
    )


def copies(parts: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """Names of the parts that are one network with different weights; empty if none are."""
    if len(parts) > MOST_COPIES:
        return []
    bare = {name: _bare(part) for name, part in parts.items()}
    for name, part in bare.items():
        alike = [other for other in bare if other != name and _alike(part, bare[other])]
        if alike:
            return [each for each in bare if each == name or each in alike]
    return []


def _bare(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the first part of names that all share; a lone counter needs not share it."""
    named = {name: tensor for name, tensor in part.items() if tensor.ndim or "." in name}
    while named and len({name.partition(".")[0] for name in named}) == 1:
        if not all("." in name for name in named):
            break
        named = {name.partition(".")[2]: tensor for name, tensor in named.items()}
    return named


def _alike(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    both = [name for name in one.keys() & other.keys() if one[name].shape == other[name].shape]
    if len(both) < max(_FEWEST, ALIKE * min(len(one), len(other))):
        return False
    return differ((one[name], other[name]) for name in both)


def differ(pairs: Iterable[tuple[Tensor, Tensor]]) -> bool:
    """Whether tensors of a pair differ in type or value; packed and sparse ones count as such."""
    return any(not _same(one, other) for one, other in pairs)


def _same(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or not (is_plain(one) and is_plain(other)):
        return False
    if one.data_ptr() == other.data_ptr() and one.stride() == other.stride():
        return True
    first, second = (each.reshape(-1).view(torch.uint8) for each in (one, other))
    return torch.equal(first, second)


def named(path: Path, tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    """The tensors under ``key``, without it: ``teacher`` takes ``model.teacher.conv`` as ``conv``.

    Of several places, the one with the fewest parts before it is taken.

    Raises:
        WeightsError: there is no such key, or it stands in several places.
    """
    wanted = f".{key.strip().strip('.')}."
    places: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        at = f".{name}".find(wanted)
        if at >= 0:
            prefix, rest = name[: at + len(wanted) - 2], name[at + len(wanted) - 1 :]
            places.setdefault(prefix, {})[rest] = tensor
    if not places:
        first = dict.fromkeys(name.partition(".")[0] for name in tensors)
        raise WeightsError(
            f"{path} has no weights under the key {key!r}; its first keys are "
            f"{shortened(list(first), 8) or 'none'}"
        )
    fewest = min(place.count(".") for place in places)
    nearest = [place for place in places if place.count(".") == fewest]
    if len(nearest) > 1:
        raise several(path, {place: len(places[place]) for place in nearest})
    return places[nearest[0]]


def _without_copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors but those below a prefix that repeats the names of most others."""
    under: dict[str, list[str]] = {}
    for name in tensors:
        parts = name.split(".")
        for depth in range(1, min(len(parts), _DEEPEST)):
            if ".".join(parts[depth:]) in tensors:
                under.setdefault(".".join(parts[:depth]), []).append(name)
    gone = {
        name
        for names in under.values()
        if len(names) >= max(_FEWEST, ALIKE * (len(tensors) - len(names)))
        for name in names
    }
    return {name: tensor for name, tensor in tensors.items() if name not in gone}
