"""``medtl train TASK``: from words to a TrainConfig; the rest is ``medtl.training.run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.completion import DEVICES, PRECISIONS, choice, component

Setting = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting of the config.")
]


def train(
    task: Annotated[
        str | None,
        typer.Argument(
            help="Task, e.g. brats (medtl list tasks).", autocompletion=component("tasks")
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder (or list) of cases; without it the synthetic phantom."),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="How to transfer (medtl list strategies).", autocompletion=component("strategies")
        ),
    ] = None,
    src: Annotated[str | None, typer.Option(help="Source domain, e.g. flair,t1ce.")] = None,
    dst: Annotated[
        str | None, typer.Option(help="Target domain, e.g. t1,t2 or mod:t1+t2,site:CS.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="Network, e.g. unet (medtl list networks).", autocompletion=component("networks")
        ),
    ] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the first level.")] = None,
    transforms: Annotated[
        str | None,
        typer.Option(
            help="Preset of preparation (medtl list transforms).",
            autocompletion=component("transforms"),
        ),
    ] = None,
    spacing: Annotated[float | None, typer.Option(help="Voxel spacing to train at, mm.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Patches per step.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps on the source, and again on the target.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Choose --steps by a timed trial: minutes per side.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    modality_dropout: Annotated[
        float | None,
        typer.Option(metavar="P", help="Share of the patches that lack modalities, 0 to 1."),
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(help='"2" blocks, "stem,encoder1", "layers:25", "all-but:head".')
    ] = None,
    depth: Annotated[
        int | None, typer.Option(metavar="K", help="Blocks that the strategy carries or thaws.")
    ] = None,
    keep_blocks: Annotated[
        int | None, typer.Option(metavar="K", help="Drop the target's blocks above the first K.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="adamw, adam or sgd.", autocompletion=choice("adamw", "adam", "sgd")),
    ] = None,
    initialiser: Annotated[
        str | None,
        typer.Option(
            help="Change the target's first weights: mean-var or gabor.",
            autocompletion=component("initialisers"),
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="FILE|RUN|imagenet", help="Start from these weights."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The file of --init imagenet, if torch's hub has it not.")
    ] = None,
    init_modalities: Annotated[
        str | None, typer.Option(help="Channel names of --init where the file has none.")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NEW=OLD", help="Seed a new modality, e.g. t1=t1ce."),
    ] = None,
    allow_partial: Annotated[
        bool | None,
        typer.Option("--allow-partial", help="Train even where few weights of --init fit."),
    ] = None,
    with_control: Annotated[
        bool | None, typer.Option("--with-control", help="Also train from scratch (A and B).")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="brats: scheme 2013, 2014-2021, 2023 or msd; segmentation: WT=1+2,ET=2."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="How patients are divided, e.g. official or hospitals."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of split, weights and patches.")] = None,
    splits: Annotated[
        Path | None, typer.Option(help="splits.json, or nnU-Net's splits_final.json, to use.")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Divide the patients into so many.")] = None,
    fold: Annotated[int | None, typer.Option(help="The fold to lock away, from 0.")] = None,
    test_cases: Annotated[
        str | None, typer.Option(help="Patients or cases to lock away, comma-separated.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or mps.", autocompletion=choice(*DEVICES))
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto, fp32, bf16 or fp16.", autocompletion=choice(*PRECISIONS)),
    ] = None,
    devices: Annotated[int | None, typer.Option(help="Devices to train on, per node.")] = None,
    num_nodes: Annotated[int | None, typer.Option(help="Nodes to train on.")] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            help="auto, memory, disk or none.",
            autocompletion=choice("auto", "memory", "disk", "none"),
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that make patches.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    settings: Setting = None,
    out: Annotated[Path | None, typer.Option(help="New run folder.")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read every header, print the plan, train nothing.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Measure where the time of a step goes.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Train a task with a transfer strategy and score it on locked test patients."""
    from medtl.config import TrainConfig, resolve
    from medtl.data.modality import parse_mapping
    from medtl.errors import ConfigError
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter
    from medtl.runtime.run_folder import Run, check_out, open_run
    from medtl.training.launch import launch
    from medtl.training.resume import going_on, requeued

    options = {
        "task": task,
        "data": data,
        "strategy": strategy,
        "src": src,
        "dst": dst,
        "network": network,
        "width": width,
        "transforms": transforms,
        "spacing_mm": spacing,
        "batch_size": batch_size,
        "steps": steps,
        "minutes": minutes,
        "rate": rate,
        "modality_dropout": modality_dropout,
        "freeze": freeze,
        "depth": depth,
        "keep_blocks": keep_blocks,
        "optimizer": optimizer,
        "initialiser": initialiser,
        "init": init,
        "weights": weights,
        "init_modalities": init_modalities.split(",") if init_modalities else None,
        "map": parse_mapping([p for text in map_ for p in text.split(",")]) if map_ else None,
        "allow_partial": allow_partial,
        "with_control": with_control,
        "labels": labels,
        "protocol": protocol,
        "seed": seed,
        "splits": splits,
        "folds": folds,
        "fold": fold,
        "test_cases": test_cases.split(",") if test_cases else None,
        "device": device,
        "precision": precision,
        "devices": devices,
        "num_nodes": num_nodes,
        "cache": cache,
        "workers": workers,
        "out": out,
    }
    reporter = Reporter(quiet)
    if profile and dry_run:
        raise ConfigError("--profile measures steps of training; drop --dry-run")
    if resume and (config or settings):
        raise ConfigError("--resume goes on with the run's own settings; drop --config and --set")
    run = open_run(resume) if resume else Run(out) if out and requeued(out) else None
    if run is None:
        resolved = resolve(TrainConfig, file=config, sets=settings or [], options=options)
        check_out(resolved.out)
    else:
        own = going_on(run, options if resume else {})
        if own is None:
            reporter.say(f"{run.path} is finished: there is nothing to go on with")
            return
        resolved = own
    launch(resolved, load_catalog(), reporter, run, dry_run=dry_run, profile=profile)
