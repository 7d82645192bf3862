"""What a data set calls its channels and labels: ``dataset.json``, ``--labels``, or neither."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from medtl.data.modality import Modality, parse_modality
from medtl.errors import ConfigError, DataError, RunError

_EXAMPLE = "write for example --labels WT=1+2+3,TC=2+3,ET=3"


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions by name, the ones that hold others first, and all label values, 0 included.

    The first value of each region is its value in a label map. ``ignored`` values, which are among
    ``labels``, mark voxels that nobody labelled.
    """

    values: Mapping[str, tuple[int, ...]]
    labels: tuple[int, ...]
    ignored: tuple[int, ...] = ()

    @property
    def nested(self) -> bool:
        """Each region's values contain those of the next; true for one region."""
        return all(set(a) >= set(b) for a, b in pairwise(self.values.values()))

    @property
    def exclusive(self) -> bool:
        """No value belongs to two regions."""
        return not any(set(a) & set(b) for a, b in combinations(self.values.values(), 2))

    def to_json(self) -> dict[str, Any]:
        return {
            "regions": {name: list(values) for name, values in self.values.items()},
            "labels": list(self.labels),
            **({"ignored": list(self.ignored)} if self.ignored else {}),
        }


def recorded_regions(names: Mapping[str, Any]) -> Regions:
    """What :meth:`Regions.to_json` wrote, as a checkpoint kept it."""
    try:
        values = {str(name): tuple(map(int, found)) for name, found in names["regions"].items()}
        ignored = tuple(map(int, names.get("ignored", ())))
        return Regions(values, tuple(map(int, names["labels"])), ignored)
    except (LookupError, TypeError, ValueError, AttributeError) as problem:
        raise RunError(f"the checkpoint's names of regions are damaged ({problem})") from problem


def recorded_channels(names: Mapping[str, Any]) -> tuple[Modality, ...]:
    """The channels that a checkpoint kept."""
    try:
        return tuple(Modality(str(name)) for name in names["channels"])
    except (LookupError, TypeError) as problem:
        raise RunError(f"the checkpoint's names of channels are damaged ({problem})") from problem


def channel_names(stated: Any, where: Path) -> tuple[Modality, ...]:
    """``{"0": "FLAIR", "1": "T1w"}``, a list of names or one name -> modalities in channel order.

    MR contrasts get their usual names; of others, what a selector could not hold becomes ``-``.
    """
    if isinstance(stated, str):
        stated = [stated]
    if isinstance(stated, Mapping):
        stated = [stated.get(str(number)) for number in range(len(stated))]
    if not isinstance(stated, list) or not stated or not all(isinstance(n, str) for n in stated):
        raise DataError(
            f'{where}: its channels must be named from 0 on, as in {{"0": "FLAIR", "1": "T1"}}'
        )
    names = tuple(channel_name(name, where) for name in stated)
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{where}: {count} of its channels are called {name}; rename them")
    return names


def channel_name(stated: str, where: Path) -> Modality:
    try:
        return parse_modality(re.sub(r"[^a-z0-9_-]+", "-", stated.strip().lower()).strip("-_"))
    except ConfigError:
        raise DataError(f"{where}: {stated!r} cannot be the name of a channel; rename it") from None


def dataset_regions(content: Mapping[str, Any], where: Path) -> Regions | None:
    """The ``labels`` of a dataset.json: nnU-Net v2 (name -> value or values), or MSD and nnU-Net v1
    (value -> name). None where there are none.

    Raises:
        DataError: anything that is neither.
    """
    stated = content.get("labels")
    if stated is None:
        return None
    if not isinstance(stated, Mapping) or not stated:
        raise DataError(f'{where}: its "labels" must map names to values')
    if all(re.fullmatch(r"[0-9]+", str(key)) for key in stated):
        stated = _by_name(stated, where)
    values = {str(name): _values(found, name, where) for name, found in stated.items()}
    return _regions(values, content.get("regions_class_order"), where)


def _by_name(stated: Mapping[Any, Any], where: Path) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for value, name in stated.items():
        if not isinstance(name, str) or name in named:
            raise DataError(f"{where}: label {value} is called {name!r}; each needs its own name")
        if len(str(value)) > 9:
            raise DataError(f"{where}: label {str(value)[:9]}... is too large a number")
        named[name] = int(value)
    return named


def _values(found: Any, name: Any, where: Path) -> tuple[int, ...]:
    values = found if isinstance(found, list) else [found]
    good = [v for v in values if isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**15]
    if not values or len(good) < len(values) or len(set(good)) < len(good):
        raise DataError(f"{where}: label {name!r} is {found!r}; write a value or a list of them")
    return tuple(good)


def _regions(values: Mapping[str, tuple[int, ...]], order: Any, where: Path) -> Regions:
    """Regions of named values; those called "ignore" mark voxels that nobody labelled."""
    for name, found in values.items():
        if not name.strip() or not name.isprintable():
            raise DataError(f"{where}: {name!r} cannot be the name of a label; rename it")
        if name.strip().lower() == "background" and found != (0,):
            listed = ", ".join(map(str, found))
            raise DataError(f"{where}: background is {listed}, but must be 0 alone")
        if 0 in found and found != (0,):
            raise DataError(f"{where}: label {name!r} holds 0, which is background; drop the 0")
    spelt: dict[str, str] = {}
    for name in values:
        other = spelt.setdefault(name.strip().casefold(), name)
        if other != name:
            raise DataError(f"{where}: labels {other!r} and {name!r} are spelt alike; rename one")
    ignored = {v for name, found in values.items() if _is_ignore(name) for v in found}
    for name, found in values.items():
        shared = ignored.intersection(found)
        if shared and (found == (0,) or not _is_ignore(name)):
            raise DataError(
                f"{where}: value {min(shared)} is {name!r}, and marks voxels that nobody labelled "
                '("ignore"), too; give the latter a value of its own, above 0'
            )
    regions = {n: found for n, found in values.items() if found != (0,) and not _is_ignore(n)}
    if not regions:
        raise DataError(
            f"{where}: it names no label but background; add those of the segmentations"
        )
    if order is not None:
        regions = _ordered(regions, order, where)
    # Whatever holds another region comes before it: label maps are painted in this order.
    regions = dict(sorted(regions.items(), key=lambda item: -len(item[1])))
    every = {0, *ignored, *(v for found in regions.values() for v in found)}
    return Regions(regions, tuple(sorted(every)), tuple(sorted(ignored)))


def _is_ignore(name: str) -> bool:
    return name.strip().lower() == "ignore"


def _ordered(
    regions: Mapping[str, tuple[int, ...]], order: Any, where: Path
) -> dict[str, tuple[int, ...]]:
    """``regions_class_order``: each region's value in a label map goes first."""
    fits = isinstance(order, list) and len(order) == len(regions)
    if not fits or any(v not in found for v, found in zip(order, regions.values(), strict=True)):
        raise DataError(
            f"{where}: regions_class_order {order!r} must name, for each of "
            f"{', '.join(regions)}, one of its values"
        )
    return {
        name: (first, *(v for v in found if v != first))
        for first, (name, found) in zip(order, regions.items(), strict=True)
    }


def parse_labels(text: str) -> Regions:
    """``"WT=1+2+3,TC=2+3,ET=3"`` (``--labels``) -> regions."""
    values: dict[str, tuple[int, ...]] = {}
    for part in text.split(","):
        name, equals, numbers = part.partition("=")
        stated = [number.strip() for number in numbers.split("+")]
        if not equals or not all(re.fullmatch(r"[0-9]{1,9}", number) for number in stated):
            given, odd = (each[:60] + "..." * (len(each) > 60) for each in (text, part.strip()))
            raise ConfigError(f"--labels {given!r}: {odd!r} names no values; {_EXAMPLE}")
        if name.strip() in values:
            raise ConfigError(f"--labels {text!r} names {name.strip()} twice")
        values[name.strip()] = _values([int(n) for n in stated], name.strip(), Path("--labels"))
    return _regions(values, None, Path("--labels"))


def found_regions(values: Iterable[int], where: Path) -> Regions:
    """Names for label values without a name: label1, label2, ..."""
    positive = sorted(set(values) - {0})
    if not positive:
        raise DataError(
            f"{where}: its segmentations hold nothing but 0; are these the right files?"
        )
    return _regions({f"label{value}": (value,) for value in positive}, None, where)
