"""Frozen, validated settings: the command line over ``--set`` over the file over the defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from medtl.data.modality import Modality, parse_modality
from medtl.errors import ConfigError, in_plain_words, near_or_known
from medtl.runtime.files import from_home, replacing

Config = TypeVar("Config", bound=BaseModel)


def _listed(value: Any) -> Any:
    """``"a,b"`` and a single value are lists too."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [value] if isinstance(value, int) else value


def _expanded(path: Path | None) -> Path | None:
    return from_home(path) if path else path


def _canonical(names: tuple[str, ...] | None) -> tuple[Modality, ...] | None:
    return tuple(map(parse_modality, names)) if names else None


def _modality_names(value: dict[str, str]) -> dict[Modality, Modality]:
    return {parse_modality(new): parse_modality(old) for new, old in value.items()}


Natural = Annotated[int, Field(ge=1, le=2**31 - 1)]


Positive = Annotated[float, Field(gt=0)]


Fraction = Annotated[float, Field(ge=0, lt=1)]


UserPath = Annotated[Path, AfterValidator(_expanded)]


class TrainConfig(BaseModel):
    """Everything that ``medtl train`` can be told; None leaves the choice to the task."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True
    )

    task: str = ""  #: its name, which must be given
    data: UserPath | None = None
    strategy: str | None = None
    src: str | None = None
    dst: str | None = None
    network: str | None = None
    width: Natural | None = None
    options: dict[str, Any] = {}  #: the network's own, for example head or keep_blocks
    transforms: str | None = None
    harmonise: str | None = None  #: a harmoniser with landmarks, fitted on the training cases
    spacing_mm: Positive | None = None
    patch_size: Annotated[
        tuple[Natural, ...] | None, BeforeValidator(_listed), Field(min_length=2, max_length=3)
    ] = None
    batch_size: Natural | None = None
    steps: Natural | None = None  #: optimiser steps on the source, and again on the target
    minutes: Positive | None = None  #: per side; only chooses ``steps``
    rate: Positive | None = None
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    loss: str | None = None
    #: share of the patches that lack some of their modalities
    modality_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    alignment: Positive | None = None  #: weight of the loss that aligns --src and --dst
    select_by: str | None = None  #: how weights are selected beside unlabelled images
    patience: Natural | None = None  #: validations without improvement before a stage ends
    optimizer: Literal["adamw", "adam", "sgd"] | None = None
    freeze: str | None = None
    depth: Annotated[int, Field(ge=0)] | None = None  #: in blocks; the strategy says of what
    keep_blocks: Natural | None = None  #: of the target's network; those above are dropped
    initialiser: str | None = None  #: changes the weights that the target starts from
    init: str | None = None
    weights: UserPath | None = None  #: the file that ``init`` imagenet means
    init_modalities: Annotated[
        tuple[str, ...] | None, BeforeValidator(_listed), AfterValidator(_canonical)
    ] = None
    map: Annotated[dict[str, str], AfterValidator(_modality_names)] = {}
    allow_partial: bool = False
    with_control: bool = False
    labels: str | None = None
    protocol: str | None = None  #: how the task divides its patients, where it knows several ways
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    test_fraction: Fraction | None = None
    val_fraction: Fraction | None = None
    splits: UserPath | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] | None = None  #: of ``folds``, ``splits`` or the data's own
    test_cases: Annotated[tuple[str, ...] | None, BeforeValidator(_listed)] = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    devices: Natural = 1  #: processes per node, each on a device of its own
    num_nodes: Natural = 1
    cache: Literal["auto", "memory", "disk", "none"] = "auto"
    workers: Annotated[int, Field(ge=0)] | None = None  #: processes that make patches
    out: UserPath | None = None


class ResolvedConfig(TrainConfig):
    """A :class:`TrainConfig` with the strategy that the task chose where none was given."""

    strategy: str


def read_config(path: Path, cls: type[Config]) -> Config:
    """Read a whole configuration, as :func:`write_config` wrote it."""
    return resolve(cls, file=path, sets=(), options={})


def write_config(path: Path, config: BaseModel) -> None:
    """Write every setting as YAML, defaults included."""
    with replacing(path) as temporary:
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        temporary.write_text(text, encoding="utf-8", newline="")


def resolve(
    cls: type[Config], *, file: Path | None, sets: Sequence[str], options: Mapping[str, Any]
) -> Config:
    """Merge settings: ``options`` over ``sets`` ("a.b=c", c in YAML) over ``file`` over defaults.

    An option that is None was not given. A mapping given whole replaces the one below it, while
    ``--set map.t1=t1ce`` changes one of its entries.

    Raises:
        ConfigError: the file or a setting cannot be used; names it, and the values allowed.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if file is not None:
        values = _read_mapping(file)
        origins = {key: f"{file}: {key}" for key in values}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set {text}: write KEY=VALUE, for example --set rate=0.001")
        _put(values, key.split("."), _parse_yaml(value, f"--set {text}"), text)
        origins[key.partition(".")[0]] = f"--set {text}"
    for key, value in options.items():
        if value is not None:
            values[key] = value
            origins[key] = f"--{key.removesuffix('_mm').replace('_', '-')}"
    return checked(cls, values, origins)


def checked(
    cls: type[Config], values: Mapping[str, Any], origins: Mapping[str, str] | None = None
) -> Config:
    """A configuration from settings by name; ``origins`` says where each was given.

    Raises:
        ConfigError: a setting is unknown (the message suggests the nearest) or cannot be used.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_explain(error.errors()[0], cls, origins or {})) from error


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        text = from_home(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text file in UTF-8; save it as one") from error
    values = _parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: must hold lines such as `rate: 0.001`")
    return values


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{where}: not YAML{line} ({problem})") from error


def _put(values: dict[str, Any], keys: list[str], value: Any, text: str) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f"--set {text}: {key!r} is a single value, not a mapping; set it whole"
            )
        values = inner
    values[keys[-1]] = value


def _explain(error: ErrorDetails, cls: type[BaseModel], origins: Mapping[str, str]) -> str:
    """The first of pydantic's complaints, in one line."""
    key = str(error["loc"][0])
    where = origins.get(key, key)
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no setting {key!r}; {near_or_known(key, cls.model_fields)}"
    if error["type"] == "literal_error":
        return f"{where}: must be {error['ctx']['expected']}, not {error['input']!r}"
    return f"{where}: {in_plain_words(error['msg'])}, not {error['input']!r}"
