"""``medtl evaluate RUN``: score a run's stages on cases that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtl.cli.complete import DEVICES, PRECISIONS, choice


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with labelled cases; without it the run's own.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="One stage; without it all.")] = None,
    cases: Annotated[
        str | None,
        typer.Option(
            help="test: the run's locked cases (its own data); all (with --data).",
            autocompletion=choice("test", "all"),
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="brats: scheme 2013, 2014-2021, 2023 or msd; segmentation: WT=1+2,ET=2."),
    ] = None,
    flips: Annotated[
        bool, typer.Option("--flips", help="Mean over mirrored windows: 8 passes, in 2-D 4.")
    ] = False,
    missing_modalities: Annotated[
        bool,
        typer.Option("--missing-modalities", help="Also score every subset of the modalities."),
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or mps.", autocompletion=choice(*DEVICES))
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16 or fp16.", autocompletion=choice(*PRECISIONS))
    ] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Devices that share the cases.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Score a run's stages, with intervals: Dice, HD95, lesions; of classes AUROC, F1 and more."""
    from medtl.catalog import load_catalog
    from medtl.config import TrainConfig, read_config
    from medtl.console import Reporter
    from medtl.errors import ConfigError, RunError
    from medtl.runs import CONFIG, open_run

    if cases not in (None, "all", "test"):
        raise ConfigError(f"--cases {cases}: use all or test")
    opened = open_run(run)
    config = read_config(opened.path / CONFIG, TrainConfig)
    catalog = load_catalog()

    from medtl.device import build_fabric
    from medtl.planning import read_cohort
    from medtl.report.tables import missing_table, warned
    from medtl.scoring import pick_cases, score_stages
    from medtl.task import bound
    from medtl.trained import finished_stages, read_stage, with_flips

    fabric = build_fabric(device, precision, devices)
    reporter = Reporter(quiet or not fabric.is_global_zero)
    names = (stage,) if stage else finished_stages(opened)
    if not names:
        raise RunError(f"{run} has no finished stage; let medtl train end first")
    stages = [read_stage(opened, name, catalog, fabric) for name in names]
    if flips:
        stages = with_flips(stages, reporter)
    needed = {name for each in stages for name in each.predictor.recipe.modalities}
    own = data is None or data.resolve() == config.data
    scheme = labels or (config.labels if own else None)
    offered = catalog.tasks[config.task].load()()
    task = bound(offered, data or config.data, scheme, stages[0].names)
    cohort = read_cohort(
        task,
        data or config.data,
        reporter,
        config.protocol if own else None,
        labels=scheme,
        required=sorted(needed),
    )
    picked = pick_cases(cohort, opened, cases or ("test" if own else "all"))
    scores = score_stages(
        stages,
        cohort,
        picked,
        opened,
        reporter,
        narrow=own,
        missing_modalities=missing_modalities,
    )
    if json and fabric.is_global_zero:
        import json as encoder

        print(encoder.dumps(scores.to_json(), indent=2))
    elif not json:
        tables = scores.kind.tables(scores.summary, cohort.synthetic)
        for table in warned(tables, cohort.leak, pixels=cohort.pixels):
            reporter.show(table)
        if missing_modalities:
            reporter.show(missing_table(scores.missing, cohort.synthetic))
        if scores.data["trained_on_synthetic"] and not cohort.synthetic:
            reporter.say("warning: these models were trained on the synthetic phantom alone")
