"""The settings of ``medtl shift``. Wrong ones are refused before numpy is imported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtl.errors import ConfigError, UnknownNameError
from medtl.plugins.loader import canonical
from medtl.runtime.files import from_home, portable

if TYPE_CHECKING:
    from medtl.shift.contract import FeatureSettings

#: The metric that carries the verdict.
PRIMARY = "mmd"

METRICS = ("mmd", "energy", "frechet", "coral", "sliced-wasserstein", "ks", "domain-auroc")

FEATURES = ("appearance",)

PERMUTATIONS = 999

#: The fewest permutations give p = .05 at best.
FEWEST_PERMUTATIONS, MOST_PERMUTATIONS = 19, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftRequest:
    """What to compare and how. None: the default of the task or of this module."""

    task: str = "brats"
    data: Path | None = None
    src: str | None = None
    dst: str | None = None
    across: str | None = None  #: "site" or "part": all of them, instead of two domains
    features: tuple[str, ...] = FEATURES
    metrics: tuple[str, ...] = METRICS
    settings: FeatureSettings
    permutations: int = PERMUTATIONS
    rows_per_image: int | None = None
    labels: str | None = None
    ignore_column: tuple[str, ...] = ()  #: columns of a table to leave out
    series: tuple[str, ...] = ()  #: of DICOM, MODALITY=DESCRIPTION each
    attribute: bool = True  #: also measure the kind of the shift
    power: bool = False  #: also plan patients, with this measurement as the pilot
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The content of ``config.json``, where the permutations are called draws.

        Paths are written without the user's name.
        """
        content = json.loads(json.dumps(asdict(self), default=portable))
        return {"draws" if name == "permutations" else name: content[name] for name in content}


def build_request(options: Mapping[str, Any]) -> ShiftRequest:
    """Make a ShiftRequest from settings by name: its fields, and ``run`` and ``layer``.

    Lists may be text with commas. None leaves the default.

    Raises:
        ConfigError: a name is unknown, or two options contradict each other.
    """
    given = {name: value for name, value in options.items() if value is not None}
    known = {column.name for column in fields(ShiftRequest)} - {"settings"} | {"run", "layer"}
    for name in given:
        if name not in known:
            raise UnknownNameError("setting of medtl shift", name, known)
    for name in ("features", "metrics", "ignore_column"):
        if names := _listed(given.pop(name, None)):
            given[name] = names
    if series := given.pop("series", None):
        given["series"] = (series,) if isinstance(series, str) else tuple(series)
    run, layer = given.pop("run", None), given.pop("layer", None)
    if (run or layer) and "activations" not in map(canonical, given.get("features", ())):
        raise ConfigError("--run and --layer are for --features activations; add that")
    for name, least in (("permutations", 1), ("rows_per_image", 1), ("seed", 0)):
        number = given.get(name, least)
        if not isinstance(number, int) or number < least:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: must be a whole number, {least} or more, not {number!r}")
    number = given.get("permutations", PERMUTATIONS)
    if not FEWEST_PERMUTATIONS <= number <= MOST_PERMUTATIONS:
        limits = f"{FEWEST_PERMUTATIONS} (p = .05) to {MOST_PERMUTATIONS}"
        raise ConfigError(f"--permutations {number}: choose {limits}; 999 is usual")
    if given.get("power") and given.get("across"):
        raise ConfigError("--power plans a test of two domains; drop --across or --power")
    if "data" in given:
        given["data"] = from_home(given["data"])
    from medtl.shift.contract import FeatureSettings  # imports numpy: only for valid settings

    return ShiftRequest(settings=FeatureSettings(from_home(run) if run else None, layer), **given)


def _listed(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(part.strip() for part in parts if part.strip())
