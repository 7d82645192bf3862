"""The calls: train, evaluate, predict, explain, measure shift, look at what is there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Unpack

from medtl.api.results import (
    Conversion,
    DataInfo,
    Explanation,
    Listing,
    Phantom,
    Plan,
    Predictions,
    Run,
    open_run,
    plan_of,
)
from medtl.api.settings import (
    ShiftSettings,
    Where,
    check_processes,
    path_or_none,
    plain,
    renamed,
)
from medtl.errors import UnknownNameError
from medtl.evaluation.scores import Scores
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.plugins.loader import COMPONENT_KINDS, canonical
from medtl.runtime.console import Recorder
from medtl.runtime.doctor import Machine, examine
from medtl.runtime.files import from_home
from medtl.runtime.run_folder import check_out
from medtl.shift.report.result import Shift
from medtl.transfer.inspect import WeightsFile, inspect

if TYPE_CHECKING:
    from medtl.config import TrainConfig, TrainSettings
    from medtl.evaluation.several.pooled import PooledScores

#: What goes before the names of components that a program brings itself.
OWN = "own"


@renamed(flips="tta")
def evaluate(
    run: Where,
    *,
    data: Where | None = None,
    stage: str | None = None,
    cases: str | None = None,
    labels: str | None = None,
    ignore_column: Sequence[str] = (),
    series: Sequence[str] = (),
    tta: bool = False,
    missing_modalities: bool = False,
    device: str = "auto",
    precision: str = "auto",
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Scores:
    """Score a run's stages on cases that their training has not seen.

    Args:
        data: a folder of labelled cases; None: the run's own, of which the locked ones are scored.
        stage: one of them; None: all.
        cases: "test" or "all"; None: "test" of the run's own data, all of others.
        labels: how the data set's labels are to be read, where it does not say.
        ignore_column: columns of a table to leave out.
        series: of DICOM, ``MODALITY=DESCRIPTION`` each, where headers do not tell.
        tta: test-time augmentation: average over mirrored windows, eight times the work (in 2-D
            four).
        missing_modalities: also score every subset of the modalities.
    """
    opened, catalog = open_run(run), catalog or load_catalog()

    from medtl.evaluation.evaluate import evaluate as score
    from medtl.runtime.device import build_fabric, own_randomness

    with own_randomness():
        return score(
            opened,
            catalog,
            build_fabric(device, precision),
            Recorder(silent=not verbose),
            data=path_or_none(data),
            stage=stage,
            cases=cases,
            labels=labels,
            ignored=ignore_column,
            series=series,
            flips=tta,
            missing_modalities=missing_modalities,
        )


def evaluate_all(
    runs: Sequence[Where], *, out: Where | None = None, **options: Any
) -> PooledScores:
    """Score several runs that differ in seed or fold alone, and all of them together.

    Folds are pooled; of several seeds, the mean of each patient counts.

    Args:
        out: a new folder for ``cases.csv``, ``scores.md`` and ``scores.tex``; None: nothing is
            written.
        options: those of :func:`evaluate`, the same for all runs.

    Raises:
        ConfigError: the runs differ in other settings; names them.
        RunError: locked test sets overlap, or ``out`` holds something.
    """
    from medtl.evaluation.several.pooled import check_alike, pool, write_scores

    opened = [open_run(run) for run in runs]
    data, folder = path_or_none(options.get("data")), path_or_none(out)
    check_alike(opened, data, options.get("cases"))
    if folder is not None:
        check_out(folder)
    pooled = pool({str(run.path): evaluate(run.path, **options) for run in opened})
    if folder is not None:
        write_scores(folder, pooled.runs, pooled.tables())
    return pooled


@renamed(flips="tta")
def predict(
    runs: Where | Sequence[Where],
    inputs: Where,
    out: Where,
    *,
    labels: str | None = None,
    ignore_column: Sequence[str] = (),
    series: Sequence[str] = (),
    tta: bool = False,
    skip_existing: bool = False,
    shard: str | None = None,
    register: bool = False,
    probabilities: bool = False,
    uncertainty: bool = False,
    profile: bool = False,
    device: str = "auto",
    precision: str = "auto",
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Predictions:
    """Segment the cases under ``inputs`` in their own grids, or tell their classes, into ``out``.

    Args:
        runs: a run, a stage's folder inside one, or several, of which the mean is taken.
        series: of DICOM, ``MODALITY=DESCRIPTION`` each, where headers do not tell.
        skip_existing: leave out cases that have a label map in ``out``.
        shard: ``"2/4"``: the second of four parts of the cases; None: all.
        register: move the images of each case onto one of them first.
        probabilities: write the probabilities of each region to ``probabilities/REGION``, too.
        uncertainty: write how undecided the prediction is, from 0 to 1, to ``uncertainty``, too.
        profile: end ``notes`` with a table of where the time went.
    """
    from medtl.inference.outputs import Options, Shard
    from medtl.inference.predict import predict as predict_with
    from medtl.runtime.device import build_fabric, own_randomness

    reported = Recorder(silent=not verbose)
    several = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    folder = from_home(out)
    with own_randomness():
        ensemble, done = predict_with(
            [str(from_home(run)) for run in several],
            from_home(inputs),
            folder,
            catalog or load_catalog(),
            build_fabric(device, precision),
            reported,
            labels=labels,
            ignored=ignore_column,
            series=series,
            flips=tta,
            options=Options(
                shard=Shard.parse(shard),
                skip_existing=skip_existing,
                register=register,
                probabilities=probabilities,
                uncertainty=uncertainty,
                profile=profile,
            ),
        )
    lines = tuple(reported.lines)
    return Predictions(folder, done.files, lines, ensemble.synthetic, done.failed)


def data_info(
    data: Where, *, task: str | None = None, paths: bool = False, catalog: Catalog | None = None
) -> DataInfo:
    """What a folder, a list, a table or an archive holds: its cases, or its series of DICOM.

    Args:
        task: who reads it; None: whichever task does.
        paths: of DICOM, where the first file of each series lies; it may name the patient.

    Raises:
        DataError: nothing there is read.
        ConfigError: an unknown task.
    """
    from medtl.data.info import describe_data

    root = from_home(data)
    found = describe_data(root, catalog or load_catalog(), task, paths=paths)
    return DataInfo(str(root), *found)


def convert_data(
    data: Where,
    out: Where,
    *,
    to: str = "nifti",
    task: str | None = None,
    labels: str | None = None,
    series: Sequence[str] = (),
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Conversion:
    """Write volumes and their labels in another layout; text of their headers is dropped.

    Args:
        out: a new or empty folder.
        to: "nifti" (with a table), "nnunet" or "bids".
        task: who reads the data; None: whichever task does.
        labels: how the data set's labels are to be read, where it does not say.
        series: of DICOM, ``MODALITY=DESCRIPTION`` each.
    """
    from medtl.data.convert import convert_data as convert

    reported = Recorder(silent=not verbose)
    folder = from_home(out)
    cohort = convert(
        from_home(data), folder, to, catalog or load_catalog(), reported,
        task=task, labels=labels, series=series,
    )  # fmt: skip
    cases = tuple(case.id for case in cohort.cases)
    lines = tuple(reported.lines)
    return Conversion(folder, to, cases, lines, cohort.synthetic, cohort.failed)


def phantom(
    folder: Where,
    *,
    layout: str = "brats",
    cases: int = 20,
    size: int = 64,
    sites: int = 2,
    seed: int = 0,
    shift: float = 1.0,
    verbose: bool = False,
) -> Phantom:
    """Write synthetic MR of heads with tumours, in the layout of a public data set.

    Args:
        folder: new or empty.
        layout: "brats" (volumes), "kaggle-mri" (class folders) or "lgg-mri" (slices).
        size: voxels along each edge of 180 mm.
        shift: how far the scanners of the sites differ; 0: not at all.

    Raises:
        ConfigError: impossible numbers.
        DataError: the folder holds something, or cannot be written.
    """
    from medtl.data.phantom import write_phantom

    path = from_home(folder)
    with Recorder(silent=not verbose).progress("synthetic phantom", cases) as advance:
        write_phantom(
            path,
            cases=cases,
            size=size,
            sites=sites,
            seed=seed,
            shift=shift,
            layout=layout,
            progress=lambda done, total: advance(done),
        )
    return Phantom(path, layout, cases, size, sites, seed, shift)


def explain(
    run: Where,
    *,
    inputs: Where | None = None,
    out: Where | None = None,
    stage: str | None = None,
    output: str | None = None,
    layer: str | None = None,
    cases: int = 8,
    threshold: float = 0.5,
    labels: str | None = None,
    ignore_column: Sequence[str] = (),
    series: Sequence[str] = (),
    device: str = "auto",
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Explanation:
    """Grad-CAM maps, activations and filters of a trained stage.

    Args:
        inputs: cases to explain; None: the run's locked test cases.
        out: folder; None: ``explain/STAGE`` in the run.
        stage: None: the last of the transfer.
        output: a class or region (``--class``); None: each case's own, the first region.
        layer: block whose maps are weighted; None: the last with maps.
        cases: how many to show, 1 to 64.
        threshold: share of its maximum at which a map is cut for Dice, 0.01 to 1.
    """
    opened, catalog = open_run(run), catalog or load_catalog()

    from medtl.explain.run import ExplainOptions, explain_run
    from medtl.runtime.device import build_fabric, own_randomness

    reported = Recorder(silent=not verbose)
    with own_randomness():
        folder, summary = explain_run(
            opened,
            catalog,
            build_fabric(device, "fp32"),
            reported,
            ExplainOptions(output, layer, cases, threshold),
            inputs=path_or_none(inputs),
            out=path_or_none(out),
            stage=stage,
            labels=labels,
            ignored=ignore_column,
            series=series,
        )
    return Explanation(folder, summary, tuple(reported.lines))


def catalog(**own: Mapping[str, Any]) -> Catalog:
    """What is installed, and components of your own, for the ``catalog`` of the other calls.

    Each keyword is a kind, with the objects that a component's target would be by name::

        mine = api.catalog(networks={"tiny": build_tiny}, strategies={"gently": gently})
        run = api.train("brats", network="tiny", strategy="gently", catalog=mine)

    :mod:`medtl.plugins.hookspecs` documents what each kind must be. A run that was trained with a
    network of your own can be used only with it. Where the name is taken, write ``own:NAME``.
    """
    return load_catalog().including(OWN, own)


def components(kind: str | None = None, *, catalog: Catalog | None = None) -> Listing:
    """Tasks, networks, strategies and so on; ``kind``: one of these alone. ``medtl list``."""
    registries = (catalog or load_catalog()).registries()
    kinds: Sequence[str] = tuple(COMPONENT_KINDS)
    if kind is not None:
        wanted = canonical(kind).replace("-", "_")
        if wanted not in COMPONENT_KINDS:
            raise UnknownNameError("kind of component", kind, COMPONENT_KINDS)
        kinds = (wanted,)
    rows = [
        {"kind": COMPONENT_KINDS[one], **row} for one in kinds for row in registries[one].rows()
    ]
    what = kinds[0].replace("_", " ") if kind is not None else "components"
    return Listing(what, tuple(rows))


def plugins() -> Listing:
    """The plugins found: ok, broken or disabled, and why. ``medtl plugins list``."""
    return Listing("plugins", tuple(asdict(row) for row in load_catalog().plugins))


def doctor() -> Machine:
    """What this machine offers, and what is missing. ``medtl doctor``."""
    return examine(load_catalog().plugin_rows())


@renamed(draws="permutations")
def shift(
    task: str = "brats",
    *,
    out: Where | None = None,
    verbose: bool = False,
    catalog: Catalog | None = None,
    **settings: Unpack[ShiftSettings],
) -> Shift:
    """Measure the shift between two domains, with p-values by patient; ``medtl shift``.

    Args:
        out: a new folder to write rows and figures to; None: nothing is written.
        settings: those of the command line: ``data``, ``src``, ``dst``, ``across``, ``features``,
            ``metrics``, ``permutations``, ``seed``, ...

    Raises:
        ConfigError: a setting is unknown or cannot be used.
    """
    from medtl.runtime.device import own_randomness
    from medtl.shift.report.write import write_shift
    from medtl.shift.request import build_request
    from medtl.shift.run import measure_shift

    request = build_request(plain({"task": task, **settings}))
    folder = path_or_none(out)
    if folder is not None:
        check_out(folder)
    with own_randomness():
        recorder = Recorder(silent=not verbose)
        measured = measure_shift(request, catalog or load_catalog(), recorder)
    if folder is not None:
        write_shift(measured, task, folder, request.to_json(), recorder)
    return replace(measured, folder=folder)


@renamed(rate="lr")
def train(
    task: str | None = None,
    *,
    config: Where | None = None,
    profile: bool = False,
    verbose: bool = False,
    catalog: Catalog | None = None,
    **settings: Unpack[TrainSettings],
) -> Run:
    """Train ``task`` with a transfer strategy and score it on locked test patients.

    Without ``data`` the built-in synthetic phantom is used. The run goes to ``out``, or a numbered
    folder below ``runs/``.

    Args:
        config: a YAML file of settings, over which those given here go.
        profile: also measure where the time of a step goes.
        catalog: components of your own, see :func:`medtl.api.catalog`.
        settings: those of :class:`medtl.config.TrainConfig`, for example ``strategy``, ``src``,
            ``dst``, ``steps``, ``with_control``, ``out``.

    Raises:
        ConfigError: a setting is unknown or cannot be used.
        DataError: cases are missing or damaged.
        Interrupted: a signal came; :func:`resume` goes on.
    """
    from medtl.runtime.device import own_randomness
    from medtl.training.launch import launch

    resolved = _resolve(task, config, settings)
    check_out(resolved.out)
    reported = Recorder(silent=not verbose)
    with own_randomness():
        _, finished = launch(resolved, catalog or load_catalog(), reported, profile=profile)
    assert finished is not None  # it was no dry run
    return Run(finished.path, tuple(reported.lines))


@renamed(rate="lr")
def plan(
    task: str | None = None,
    *,
    config: Where | None = None,
    verbose: bool = False,
    catalog: Catalog | None = None,
    **settings: Unpack[TrainSettings],
) -> Plan:
    """What :func:`train` would do with the same settings: reads every header, trains nothing."""
    from medtl.runtime.device import own_randomness
    from medtl.training.launch import launch

    resolved = _resolve(task, config, settings)
    reported = Recorder(silent=not verbose)
    with own_randomness():
        preview, _ = launch(resolved, catalog or load_catalog(), reported, dry_run=True)
    return plan_of(preview, reported)


def resume(
    run: Where,
    *,
    device: str | None = None,
    devices: int | None = None,
    num_nodes: int | None = None,
    workers: int | None = None,
    cache: str | None = None,
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Run:
    """Go on with a run that was stopped, to the very same weights; a finished one is left alone.

    What is given here may differ from the run's own settings, as it changes no weight.
    """
    from medtl.runtime.device import own_randomness
    from medtl.training.launch import going_on, launch

    given = {
        "device": device,
        "devices": devices,
        "num_nodes": num_nodes,
        "workers": workers,
        "cache": cache,
    }
    folder = open_run(run)
    resolved = going_on(folder, given)
    if resolved is None:
        return folder
    check_processes(resolved.devices, resolved.num_nodes)
    reported = Recorder(silent=not verbose)
    with own_randomness():
        launch(resolved, catalog or load_catalog(), reported, folder)
    return replace(folder, notes=tuple(reported.lines))


def _resolve(task: str | None, config: Where | None, settings: Any) -> TrainConfig:
    from medtl.config import checked, read_config

    given = plain({"task": task, **settings})
    if config is not None:
        file = read_config(from_home(config))
        given = {**file.model_dump(exclude_unset=True), **given}
    resolved = checked(given)
    check_processes(resolved.devices, resolved.num_nodes)
    return resolved


def inspect_weights(
    file: Where,
    *,
    network: str | None = None,
    width: int | None = None,
    modalities: Sequence[str] = (),
    regions: Sequence[str] = (),
    map: Mapping[str, str] | None = None,
    init_modalities: Sequence[str] = (),
    weights_key: str = "",
    catalog: Catalog | None = None,
) -> WeightsFile:
    """What a file, a run or a stage holds and, with ``network``, what would become of each tensor.

    Args:
        width, modalities, regions: of that network; left out, they are the file's.
        map: a new modality -> the one that it starts from.
        init_modalities: the file's input channels, where it does not name them.
        weights_key: which weights of the file, where it holds several, such as "teacher".
    """
    from medtl.runtime.device import own_randomness

    with own_randomness():
        return inspect(
            str(from_home(file)),
            catalog or load_catalog(),
            network=network or "",
            width=width,
            modalities=_joined(modalities),
            regions=_joined(regions),
            mapping=[f"{new}={old}" for new, old in (map or {}).items()],
            init_modalities=_joined(init_modalities),
            weights_key=weights_key,
        )


def _joined(names: Sequence[str]) -> str:
    return names if isinstance(names, str) else ",".join(names)
