"""The settings of ``medtl train``, each declared once: default, bounds, help and option.

The command's options, its help, shell completion, the keywords of ``api.train``, ``--config`` and
the reference page are made from the fields of ``TrainConfig``, or held to them by a test.
Settings are merged in the order defaults, ``--config``, ``--set``, options; the last one wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from medtl.data.modality import Modality, parse_mapping, parse_modality, parse_series
from medtl.errors import ConfigError, in_plain_words, near_or_known, shown
from medtl.runtime.files import from_home, read_regular, replacing
from medtl.runtime.yaml_text import MOST_LETTERS, MOST_YAML, check_values, parse_yaml

#: Former names of settings, which files and ``--set`` may still use.
RENAMED = {"rate": "lr"}

#: Groups of options on the help page.
DATA, TRANSFER, TRAINING = "Data", "Transfer", "Training"
SPLIT, HARDWARE, OUTPUT = "Split", "Hardware", "Output"


def _listed(value: Any) -> Any:
    """Text with commas, and a single value, are lists too."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value else None
    return [value] if isinstance(value, int) else value


def _canonical(names: tuple[str, ...] | None) -> tuple[Modality, ...] | None:
    return tuple(map(parse_modality, names)) if names else None


def _pairs(value: Any) -> Any:
    """A list such as ``["t1=t1ce,t2=flair"]``, as options give it, is a mapping too."""
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return parse_mapping([pair for text in value for pair in text.split(",")])
    return value


def _described(value: Any) -> Any:
    """A list such as ``["flair=AX FLAIR*"]``, as options give it, is a mapping too."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(text, str) for text in value):
        return parse_series(value)
    return value


def _modality_names(value: dict[str, str]) -> dict[Modality, Modality]:
    return {parse_modality(new): parse_modality(old) for new, old in value.items()}


Natural = Annotated[int, Field(ge=1, le=2**31 - 1)]


Index = Annotated[int, Field(ge=0)]


#: No node has more; the libraries below list them before they count them.
Devices = Annotated[int, Field(ge=1, le=1024)]


Positive = Annotated[float, Field(gt=0)]


NotNegative = Annotated[float, Field(ge=0)]


Fraction = Annotated[float, Field(ge=0, lt=1)]


def _patients(value: float) -> float:
    """A share below 1, or a whole number of patients."""
    if value >= 1 and value != int(value):
        raise PydanticCustomError("patients", "Input must be a whole number, or a share below 1")
    return value


Patients = Annotated[float, Field(gt=0, le=2**31), AfterValidator(_patients)]


UserPath = Annotated[Path, AfterValidator(from_home)]


PatchSize = Annotated[
    tuple[Natural, ...], BeforeValidator(_listed), Field(min_length=2, max_length=3)
]


def _per_axis(value: Any) -> Any:
    """Text with commas is one number per axis; three equal ones are one."""
    each = value.split(",") if isinstance(value, str) else value
    if not isinstance(each, list | tuple):
        return value
    if len(each) not in (1, 3):
        raise PydanticCustomError("spacing", "Input must be one number or one per axis")
    return each[0] if all(number == each[0] for number in each) else tuple(each)


SpacingMm = Annotated[Positive | tuple[Positive, Positive, Positive], BeforeValidator(_per_axis)]


Mapped = Annotated[dict[str, str], BeforeValidator(_pairs), AfterValidator(_modality_names)]


SeriesNames = Annotated[
    dict[str, str],
    BeforeValidator(_described),
    AfterValidator(lambda found: {parse_modality(n): text for n, text in found.items()}),
]


#: A path, or an object that stands for one.
Where = str | PathLike[str]


Names = Annotated[tuple[str, ...] | None, BeforeValidator(_listed)]


class Option(TypedDict):
    """How a setting is shown and given; the arguments of :func:`setting`."""

    group: str
    names: list[str]
    metavar: str
    kind: str
    unset: str


def setting(
    text: str,
    group: str = "",
    default: Any = None,
    *,
    names: Sequence[str] = (),
    metavar: str = "",
    kind: str = "",
    unset: str = "none",
) -> Any:
    """A field of ``TrainConfig``.

    Args:
        text: what it is; the help of the option.
        group: of options; "" for a setting without an option of its own, given by ``--set``.
        names: of the option, if not ``--`` and the field's name.
        metavar: what the help shows for the value, if not its type.
        kind: of the components that it names, for shell completion.
        unset: what a default of None means, in words.
    """
    option = Option(group=group, names=list(names), metavar=metavar, kind=kind, unset=unset)
    return Field(default, description=text, json_schema_extra=cast(Any, option))


def option_of(field: FieldInfo) -> Option:
    """What :func:`setting` declared beside the field's default and text."""
    return cast(Option, field.json_schema_extra)


class TrainConfig(BaseModel):
    """Every setting of ``medtl train``; None leaves the choice to the task."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True
    )

    task: str = setting("Task, e.g. brats (medtl list tasks).", default="", kind="tasks")
    data: UserPath | None = setting(
        "Folder or list of cases; default: a synthetic phantom.", DATA, unset="the phantom"
    )
    strategy: str | None = setting(
        "Transfer strategy (medtl list strategies).",
        TRANSFER,
        kind="strategies",
        unset="the task's",
    )
    src: str | None = setting("Source domain, e.g. flair,t1ce.", TRANSFER, unset="the task's")
    dst: str | None = setting(
        "Target domain, e.g. t1,t2 or mod:t1+t2,site:CS.", TRANSFER, unset="the task's"
    )
    network: str | None = setting(
        "Network, e.g. unet (medtl list networks).", TRAINING, kind="networks", unset="the task's"
    )
    width: Natural | None = setting(
        "Channels of the network's first level.", TRAINING, unset="the network's"
    )
    options: dict[str, Any] = setting(
        "Options of the network, for example options.head=...", default={}
    )
    transforms: str | None = setting(
        "Preset of preprocessing and augmentation (medtl list transforms).",
        DATA,
        kind="transforms",
        unset="the task's",
    )
    harmonise: str | None = setting(
        "Harmoniser of intensities, fitted on the training cases (medtl list harmonisers)."
    )
    spacing_mm: SpacingMm | None = setting(
        "Voxel spacing in mm: 2, or per axis (right,front,up) 1,1,4.", DATA, unset="the task's"
    )
    patch_size: PatchSize | None = setting(
        "Size of a training patch in voxels, for example 96,96,96.", unset="the task's"
    )
    batch_size: Natural | None = setting(
        "Patches per optimiser step.", TRAINING, unset="the task's"
    )
    steps: Natural | None = setting(
        "Optimiser steps on the source, and again on the target.", TRAINING, unset="the task's"
    )
    minutes: Positive | None = setting(
        "Training time per domain in minutes, instead of --steps.", TRAINING
    )
    lr: Positive | None = setting("Learning rate.", TRAINING, unset="the task's")
    schedule: Literal["cosine", "polynomial", "plateau", "constant"] = setting(
        "Schedule of the learning rate: cosine, polynomial, plateau or constant.", default="cosine"
    )
    warmup: Annotated[float, Field(ge=0, lt=1)] = setting(
        "Warm-up of the learning rate, as a share of the stage's steps.", default=0.05
    )
    loss: str | None = setting("Training loss (medtl list losses).", unset="the task's")
    modality_dropout: Annotated[float, Field(ge=0, le=1)] = setting(
        "Share of patches with missing modalities, 0 to 1.", TRAINING, 0.0, metavar="P"
    )
    alignment: Positive | None = setting(
        "Weight of the loss that aligns --src and --dst.", unset="the strategy's"
    )
    select_by: str | None = setting(
        "Score that selects the checkpoint when the target has no labels, e.g. entropy.",
        unset="the strategy's",
    )
    patience: Natural | None = setting("Validations without improvement that end a stage.")
    optimizer: Literal["adamw", "adam", "sgd"] | None = setting(
        "Optimiser: adamw, adam or sgd.", TRAINING, unset="the strategy's"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = setting(
        "Nesterov momentum of sgd.", default=0.9
    )
    weight_decay: NotNegative | None = setting(
        "Weight decay: decoupled for adamw, in the gradient for adam and sgd.",
        unset="the strategy's, or 0.01 for adamw, 0 for adam, 0.0001 for sgd",
    )
    average: Annotated[float, Field(ge=0, lt=1)] = setting(
        "Decay of the running average of the weights, which is kept; 0: the weights themselves.",
        default=0.99,
    )
    augmentation: Annotated[float, Field(ge=0, le=10)] = setting(
        "Factor on how often patches are changed at random; 0: never.", default=1.0
    )
    freeze: str | None = setting(
        'Frozen blocks: "2", "stem,encoder1", "layers:25" or "all-but:head".', TRANSFER
    )
    depth: Index | None = setting(
        "Number of blocks that the strategy transfers or unfreezes.",
        TRANSFER,
        metavar="K",
        unset="the strategy's",
    )
    keep_blocks: Natural | None = setting(
        "Keep only the first K blocks of the target network.", TRANSFER, metavar="K"
    )
    initialiser: str | None = setting(
        "Modify the initial weights: mean-var or gabor.", TRANSFER, kind="initialisers"
    )
    init: str | None = setting(
        "Initial weights: a file, a run, or imagenet.", TRANSFER, metavar="WEIGHTS"
    )
    weights: UserPath | None = setting(
        "ImageNet checkpoint, if not in torch's hub cache.", TRANSFER
    )
    weights_key: str | None = setting(
        "Which weights of the --init file, e.g. teacher or state_dict_ema.",
        TRANSFER,
        metavar="KEY",
        unset="the only ones",
    )
    init_modalities: Annotated[Names, AfterValidator(_canonical)] = setting(
        "Channel names of the --init file, if it has none.", TRANSFER
    )
    map: Mapped = setting(
        "Initialise a new modality from a known one, e.g. t1=t1ce.", TRANSFER, {}, metavar="NEW=OLD"
    )
    allow_partial: bool = setting("Train even if few weights of --init fit.", TRANSFER, False)
    skip_source: bool = setting(
        "Leave out the strategy's training on the source, from which no stage starts.",
        default=False,
    )
    with_control: bool = setting("Also train controls from scratch (A and B).", TRANSFER, False)
    labels: str | None = setting(
        "Label scheme. brats: 2013, 2014-2021, 2023 or msd; segmentation: WT=1+2,ET=2.",
        DATA,
        unset="as the data say",
    )
    ignore_column: Names = setting(
        "Columns of a table to leave out, e.g. notes,scanner.", DATA, metavar="NAME"
    )
    series: SeriesNames = setting(
        "DICOM series of a modality, e.g. flair='AX FLAIR*'; can be repeated.",
        DATA,
        {},
        metavar="MODALITY=DESCRIPTION",
    )
    protocol: str | None = setting("Published split, e.g. official or hospitals.", SPLIT)
    seed: Annotated[int, Field(ge=0, lt=2**32)] = setting(
        "Random seed of the split, the weights and the patches.", TRAINING, 0
    )
    test_fraction: Fraction | None = setting(
        "Share of the patients held out for testing.", unset="0.2, but at least 20 of 60 or more"
    )
    val_fraction: Fraction | None = setting(
        "Share of the other patients used for validation, not for training.",
        unset="0.2, if 10 or more",
    )
    train_patients: Patients | None = setting(
        "Labelled target patients to train and validate with: a number, or a share below 1.",
        SPLIT,
        metavar="N",
        unset="all outside of the test set",
    )
    splits: UserPath | None = setting(
        "Split file: splits.json, or nnU-Net's splits_final.json.", SPLIT
    )
    groups: UserPath | None = setting(
        "Table of case and group (medtl audit): a split keeps a group whole.",
        SPLIT,
        unset="each patient is a group",
    )
    folds: Annotated[int, Field(ge=2)] | None = setting("Number of cross-validation folds.", SPLIT)
    fold: Index | None = setting("Fold held out for testing, counted from 0.", SPLIT)
    test_cases: Names = setting("Patients or cases held out for testing, e.g. P1,P2.", SPLIT)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting(
        "Device: auto, cpu, cuda or mps.", HARDWARE, "auto"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "Precision: auto, fp32, bf16 or fp16.", HARDWARE, "auto"
    )
    devices: Devices = setting("Number of devices per node.", HARDWARE, 1)
    num_nodes: Annotated[int, Field(ge=1, le=10_000)] = setting("Number of nodes.", HARDWARE, 1)
    cache: Literal["auto", "memory", "disk", "none"] = setting(
        "Cache of prepared cases: auto, memory, disk or none.", HARDWARE, "auto"
    )
    workers: Index | None = setting(
        "Number of processes that prepare patches.", HARDWARE, unset="automatic"
    )
    figures: bool = setting("Draw figures of training, scores and predictions.", default=True)
    out: UserPath | None = setting(
        "New run folder.", OUTPUT, names=["--out", "-o"], unset="runs/TASK-STRATEGY-NN"
    )


class TrainSettings(TypedDict, total=False):
    """The keywords of :func:`medtl.api.train`: the fields of ``TrainConfig`` but ``task``."""

    data: Where | None
    strategy: str | None
    src: str | None
    dst: str | None
    network: str | None
    width: int | None
    options: Mapping[str, Any]
    transforms: str | None
    harmonise: str | None
    spacing_mm: float | Sequence[float] | None
    patch_size: Sequence[int] | None
    batch_size: int | None
    steps: int | None
    minutes: float | None
    lr: float | None
    schedule: str
    warmup: float
    loss: str | None
    modality_dropout: float
    alignment: float | None
    select_by: str | None
    patience: int | None
    optimizer: str | None
    momentum: float
    weight_decay: float | None
    average: float
    augmentation: float
    freeze: str | None
    depth: int | None
    keep_blocks: int | None
    initialiser: str | None
    init: Where | None
    weights: Where | None
    weights_key: str | None
    init_modalities: Sequence[str] | None
    map: Mapping[str, str]
    allow_partial: bool
    skip_source: bool
    with_control: bool
    labels: str | None
    ignore_column: Sequence[str] | None
    series: Mapping[str, str] | Sequence[str]
    protocol: str | None
    seed: int
    test_fraction: float | None
    val_fraction: float | None
    train_patients: float | None
    splits: Where | None
    groups: Where | None
    folds: int | None
    fold: int | None
    test_cases: Sequence[str] | None
    device: str
    precision: str
    devices: int
    num_nodes: int
    cache: str
    workers: int | None
    figures: bool
    out: Where | None


class ResolvedConfig(TrainConfig):
    """A ``TrainConfig`` with the strategy that the task chose where none was given."""

    strategy: str


def trains_target_alone(config: TrainConfig) -> bool:
    """Whether the strategy takes no ``--src``."""
    return (config.strategy or "").lower() in ("scratch", "core:scratch")


def contradictions(config: TrainConfig) -> Iterator[str]:
    """What is wrong with settings that cannot go together, whatever the data are.

    No part of the validation, as a run of an older version may hold such settings, and must still
    be read.
    """
    if config.weights and config.init != "imagenet":
        yield "--weights names the file of --init imagenet; other files go to --init"
    if config.weights_key is not None and not config.init:
        yield f"--weights-key {config.weights_key} names weights in a file; give it by --init"
    if config.minutes and config.steps:
        yield "--minutes chooses the number of steps; drop --minutes or --steps"
    if trains_target_alone(config):
        if config.src:
            yield f"--src {config.src}: strategy scratch trains on --dst alone; drop --src"
        if config.with_control:
            yield (
                "--with-control: strategy scratch is a control itself; drop --with-control, or "
                "name a --strategy that transfers"
            )
    if config.folds is None and config.fold is None:
        return
    if config.test_cases or config.test_fraction is not None:
        yield "--fold says who is tested on; drop --test-cases and test_fraction"
    if config.folds and config.splits:
        yield "--splits has folds of its own: drop --folds, and name one by --fold"
    if config.folds and config.fold is None and not config.protocol:
        yield f"--folds {config.folds}: name one by --fold, from 0 to {config.folds - 1}"


def option_name(name: str) -> str:
    """The option that gives a setting: ``spacing_mm`` -> ``--spacing``."""
    return f"--{name.removesuffix('_mm').replace('_', '-')}"


def read_config(path: Path) -> TrainConfig:
    """Read a whole configuration, as :func:`write_config` wrote it, also in an older version."""
    values, origins = _read_file(path)
    if not values:
        raise ConfigError(f"{path}: the file is empty; fetch the run again, or train anew")
    return _validated(values, origins)


#: Settings that change no weight.
HARDWARE_SETTINGS = ("workers", "cache", "device", "devices", "num_nodes")

#: Settings that say where something lies, which may be moved.
_PLACES = ("data", "splits", "init", "weights", "out")


def kept_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that must stay the same while a run goes on, as JSON, without paths."""
    return config.model_dump(mode="json", exclude={*HARDWARE_SETTINGS, *_PLACES})


def changed(config: TrainConfig, options: Mapping[str, Any]) -> TrainConfig:
    """The configuration with some options given anew. Raises ConfigError for a bad one."""
    origins = {key: option_name(key) for key in options}
    return _validated({**config.model_dump(), **options}, origins)


def write_config(path: Path, config: BaseModel) -> None:
    """Write every setting as YAML, defaults included."""
    import yaml

    with replacing(path) as temporary:
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        temporary.write_text(text, encoding="utf-8", newline="")


def resolve(*, file: Path | None, sets: Sequence[str], options: Mapping[str, Any]) -> TrainConfig:
    """Merge settings: ``options`` over ``sets`` ("a.b=c", c in YAML) over ``file`` over defaults.

    An option that is None was not given. A mapping given whole replaces the one below it, while
    ``--set map.t1=t1ce`` changes one of its entries.

    Raises:
        ConfigError: the file or a setting cannot be used; names it, and the values allowed.
    """
    values, origins = _read_file(file) if file is not None else ({}, {})
    _put_all(values, origins, sets)
    for key, value in options.items():
        if value is not None:
            values[key] = value
            origins[key] = option_name(key)
    return checked(values, origins)


def given_settings(sets: Sequence[str]) -> dict[str, Any]:
    """The settings that ``--set`` gives, by name. Raises ConfigError for one that is no setting."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    _put_all(values, origins, sets)
    _validated(values, origins)
    return values


def _put_all(values: dict[str, Any], origins: dict[str, str], sets: Sequence[str]) -> None:
    """Put each ``--set`` over ``values``; ``origins`` says where it was given."""
    for text in sets:
        key, equals, value = text.partition("=")
        text = text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set {text}: write KEY=VALUE, for example --set lr=0.001")
        first, *inner = key.split(".")
        first = _present(first)
        _put(values, [first, *inner], parse_yaml(value, f"--set {text}"), text)
        origins[first] = f"--set {text}"


def checked(values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> TrainConfig:
    """A configuration from settings by name; ``origins`` says where each was given.

    Raises:
        ConfigError: a setting is unknown (the message suggests the nearest) or cannot be used, or
            two contradict each other.
    """
    config = _validated(values, origins or {})
    for problem in contradictions(config):
        raise ConfigError(problem)
    return config


def _validated(values: Mapping[str, Any], origins: Mapping[str, str]) -> TrainConfig:
    for key, value in values.items():
        try:
            check_values([key, value])
        except ValueError as error:
            where = origins.get(key, key)[:MOST_LETTERS].encode(errors="replace").decode()
            raise ConfigError(f"{where}: {error}") from error
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_explain(error.errors()[0], origins)) from error


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a file under their present names, and where each stands."""
    found = read_settings(path)
    values = {_present(key): value for key, value in found.items()}
    return values, {_present(key): f"{path}: {key[:MOST_LETTERS]}" for key in found}


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises ConfigError where it holds none."""
    try:
        text = read_regular(from_home(path), MOST_YAML).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text file in UTF-8; save it as one") from error
    found = parse_yaml(text, str(path))
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError(f"{path}: must hold lines such as `seed: 1`")
    return dict(found)


def _present(name: str) -> str:
    return RENAMED.get(name, name)


def _put(values: dict[str, Any], keys: list[str], value: Any, text: str) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {text}: {key!r} is one value, not a mapping; set it whole")
        values = inner
    values[keys[-1]] = value


def _explain(error: ErrorDetails, origins: Mapping[str, str]) -> str:
    """The first of pydantic's complaints, in one line."""
    key = str(error["loc"][0])
    where = origins.get(key, key)
    if error["type"] == "extra_forbidden":
        known = near_or_known(key[:MOST_LETTERS], TrainConfig.model_fields)
        return f"{where}: there is no setting {shown(key)}; {known}"
    if error["type"] == "literal_error":
        return f"{where}: must be {error['ctx']['expected']}, not {shown(error['input'])}"
    return f"{where}: {in_plain_words(error['msg'])}, not {shown(error['input'])}"
