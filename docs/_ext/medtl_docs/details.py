"""What a component's own objects tell of it, per kind: titles and Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any

from medtl import Component
from medtl.config import RENAMED
from medtl.data.domain import parse_domain
from medtl.errors import ConfigError
from medtl.plugins.catalog import load_catalog
from medtl.training.losses import FeatureLoss, WeightLoss
from medtl.transfer.strategies.base import Request, Stage
from medtl_docs.markdown import code, documented, table, text

Section = tuple[str, str]
#: What a plan is shown for; as strategies see no data, a hundred steps tell the shares.
SOURCE, TARGET, STEPS, RATE = "flair,t1ce", "t1,t2", 100, 1e-3
#: The network whose blocks a plan names.
NETWORK = "unet"
#: Where a strategy cannot do without ``--depth``.
DEPTH = 2
#: Fields of extractors and metrics, and what a reader calls them.
FIELDS = {
    "joint": "sees all modalities of a domain at once",
    "target": "needs the target or the class",
    "jackknife": "has an interval, by leaving patients out",
    "tested": "has a p-value",
    "no_shift_value": "value where there is no shift",
    "warning": "to know",
}


def task_details(component: Component, target: Callable[[], Any]) -> Iterator[Section]:
    task = target()
    if not hasattr(task, "regions"):
        return  # the data name them
    facts = {
        "kind": task.kind,
        "regions or classes": ", ".join(task.regions),
        "modalities": ", ".join(task.modalities),
    }
    yield "What it knows", _facts(facts)
    protocols = getattr(task, "protocols", {})
    rows = [(code(name), text(words)) for name, words in protocols.items()]
    yield "Protocols", table(("--protocol", "how patients are divided"), rows)
    real, phantom = asdict(task.defaults), asdict(task.phantom_defaults)
    rows = [
        (code(RENAMED.get(name, name)), _value(real[name]), _value(phantom[name])) for name in real
    ]
    yield "Defaults", table(("setting", "with `--data`", "on the phantom"), rows)


def network_details(component: Component, builder: Callable[..., Any]) -> Iterator[Section]:
    from medtl.networks.blocks import describe_blocks

    network = _built(builder, in_channels=4, out_channels=3)
    if not network.dense:
        network = _built(builder, in_channels=3, out_channels=1000, spatial_dims=2)
    rows = describe_blocks(network)
    yield "Options", _options(network.options)
    total = sum(row.parameters for row in rows)
    counted = [
        *((code(row.block), row.role, f"{row.parameters:,}", f"{row.buffers:,}") for row in rows),
        ("all", "", f"**{total:,}**", f"{sum(row.buffers for row in rows):,}"),
    ]
    facts = (
        f"In {network.spatial_dims}-D with {network.in_channels} channels, "
        f"{network.out_channels:,} outputs and the published width {network.width}."
    )
    if max(network.multiples) > 1:
        of = ", ".join(map(str, dict.fromkeys(network.multiples)))
        facts += f" Patch edges are multiples of {of}."
    head = ("block", "role", "parameters", "buffers")
    yield "Blocks", f"{facts}\n\n{table(head, counted, right=2)}"


def _built(builder: Callable[..., Any], **numbers: int) -> Any:
    """On shapes alone, where the network's constructor reads no values."""
    import torch

    try:
        with torch.device("meta"):
            return builder(**numbers)
    except ConfigError:
        return builder(**numbers)


def strategy_details(component: Component, plan: Callable[..., Any]) -> Iterator[Section]:
    request = Request(
        parse_domain(SOURCE), parse_domain(TARGET), STEPS, 2, RATE, blocks=block_names()
    )
    depth = ""
    try:
        stages = plan(request)
    except ConfigError:
        depth = f"`--depth {DEPTH}`, "
        stages = plan(replace(request, depth=DEPTH))
    told = (
        f"From {code(SOURCE)} to {code(TARGET)} with {depth}`--steps {STEPS}`, `--lr {RATE:g}` "
        f"and the network {code(NETWORK)}; `--dry-run` prints it for your own."
    )
    head = ("stage", "trains on", "steps", "starts from", "frozen", "optimiser and rate", "beside")
    rows = [_stage(stage) for stage in stages]
    filled = [number for number in range(len(head)) if any(row[number] for row in rows)]
    shown = table([head[n] for n in filled], ([row[n] for n in filled] for row in rows))
    yield "Its plan", f"{told}\n\n{shown}"


@cache
def block_names() -> tuple[str, ...]:
    network = _built(load_catalog().networks[NETWORK].load(), in_channels=2, out_channels=3)
    return tuple(block.name for block in network.blocks)


def _stage(stage: Stage) -> tuple[str, ...]:
    low, high = f"{min(stage.rates.values()):.2g}", f"{max(stage.rates.values()):.2g}"
    rate = f"{stage.optimizer} {low}" + (f" to {high}" if high != low else "")
    losses = [spec.name for spec in stage.losses[1:]]
    beside = {
        "anew": ", ".join(stage.reinit),
        "loss": ", ".join(losses),
        "unlabelled": "+".join(stage.unlabelled.modalities) if stage.unlabelled else "",
        "norm statistics": "" if stage.norm_stats == "train" else stage.norm_stats,
        "selected by": "" if stage.select_by == "validation" else stage.select_by,
    }
    return (
        code(stage.name),
        "+".join(stage.domain.modalities),
        str(stage.steps),
        stage.init,
        code(stage.frozen),
        rate if stage.steps else "",
        text("; ".join(f"{name}: {value}" for name, value in beside.items() if value)),
    )


def preset_details(component: Component, make: Callable[[], Any]) -> Iterator[Section]:
    recorded = make().to_json()
    augmentation = recorded.pop("augmentation")
    yield "Preparation", _facts(recorded, "recorded in every checkpoint")
    yield "Augmentation", _facts(augmentation, "value")


def harmoniser_details(component: Component, make: Callable[[], Any]) -> Iterator[Section]:
    fits = make().landmarks is not None
    words = "measuring shift, and training" if fits else "measuring shift (`medtl shift`)"
    yield "Used for", f"{words[0].upper()}{words[1:]}."


def plain_details(make: Callable[[], Any]) -> Iterator[Section]:
    """The fields of a dataclass that are plain data."""
    made = make()
    values = {each.name: getattr(made, each.name) for each in fields(made)}
    plain = {words: values[name] for name, words in FIELDS.items() if values.get(name, "") != ""}
    yield "What it is", _facts(plain)


def feature_details(component: Component, make: Callable[..., Any]) -> Iterator[Section]:
    from medtl.shift.contract import FeatureSettings

    if component.name == "activations":
        return  # takes a run
    yield from plain_details(lambda: make(FeatureSettings()))


def metric_details(component: Component, make: Callable[[], Any]) -> Iterator[Section]:
    yield from plain_details(make)


def loss_details(component: Component, make: Callable[..., Any]) -> Iterator[Section]:
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(make).parameters.items()
    }
    yield "Options", _options(defaults, "as `LossSpec.params` of a stage")
    made = type(make())
    # Where it comes with medtl's core, the reference has it, too.
    index = ["no-index"] if made.__module__.startswith("medtl.") else []
    where = f"{made.__module__}.{made.__qualname__}"
    yield "What it computes", documented("autoclass", where, *index)
    words = "logits and labels"
    if issubclass(made, FeatureLoss):
        words = "features of labelled and unlabelled images, and no label"
    elif issubclass(made, WeightLoss):
        words = "the weights, and where they started"
    yield "What it sees", f"It sees {words}."


def _options(defaults: Mapping[str, Any], how: str = "by `--set options.NAME=VALUE`") -> str:
    rows = [(code(name), _value(value)) for name, value in defaults.items()]
    return f"Given {how}.\n\n{table(('option', 'default'), rows)}" if rows else ""


def _facts(facts: Mapping[str, Any], head: str = "value") -> str:
    rows = [(text(name.replace("_", " ")), _value(value)) for name, value in facts.items()]
    return table(("", head), [row for row in rows if row[1]])


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{text(str(name))}: {_value(held)}" for name, held in value.items())
    return f"{value:g}" if isinstance(value, float) else text(str(value))


#: Kind -> what a page of it tells beside the docstring.
DETAILS: Mapping[str, Callable[[Component, Any], Iterable[Section]]] = {
    "tasks": task_details,
    "networks": network_details,
    "transforms": preset_details,
    "harmonisers": harmoniser_details,
    "strategies": strategy_details,
    "losses": loss_details,
    "features": feature_details,
    "shift_metrics": metric_details,
}
