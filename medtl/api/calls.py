"""A trained run at work: scores on cases it has not seen, predictions of new ones."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack
from urllib.parse import unquote

from medtl.api.results import (
    Pictures,
    Receipt,
    Run,
    Scores,
    Shown,
    open_run,
    read_pictures,
    scores_of,
)
from medtl.api.settings import (
    ShiftSettings,
    TrainSettings,
    Where,
    check_processes,
    one_process,
    own_randomness,
    path_of,
    path_or_none,
    plain,
    recorder,
    renamed,
)
from medtl.errors import UnknownNameError
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.plugins.loader import COMPONENT_KINDS, canonical

if TYPE_CHECKING:
    from medtl.api.results import Plan
    from medtl.config import TrainConfig
    from medtl.plugins.catalog import Catalog
    from medtl.runtime.table import Table
    from medtl.shift.report import result


@renamed(flips="tta")
def evaluate(
    run: Where,
    *,
    data: Where | None = None,
    stage: str | None = None,
    cases: str | None = None,
    labels: str | None = None,
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
        tta: test-time augmentation: average over mirrored windows, eight times the work (in 2-D
            four).
        missing_modalities: also score every subset of the modalities.
    """
    from medtl.evaluation.evaluate import evaluate as score
    from medtl.runtime.run_folder import open_run

    opened = open_run(path_of(run))
    with own_randomness():
        found = score(
            opened,
            catalog or load_catalog(),
            one_process(device, precision),
            recorder(verbose),
            data=path_or_none(data),
            stage=stage,
            cases=cases,
            labels=labels,
            flips=tta,
            missing_modalities=missing_modalities,
        )
    return scores_of(found)


@dataclass(frozen=True, slots=True, repr=False)
class Predictions(Shown):
    """``files``: a label map per case, or ``predictions.csv``. ``notes``: what was told."""

    folder: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    trained_on_synthetic: bool

    @property
    def title(self) -> str:
        what = f"{len(self.files)} files" if len(self.files) != 1 else self.files[0].name
        return f"{what} in {self.folder}"

    @property
    def synthetic(self) -> bool:
        """Whether what predicted was trained on the phantom alone."""
        return self.trained_on_synthetic

    def rows(self) -> list[dict[str, Any]]:
        """Of classes: case, probability of each (``p_CLASS``), predicted. Else: case, file."""
        if [path.suffix for path in self.files] != [".csv"]:
            return [{"case": _case_of(path), "file": path} for path in self.files]
        with self.files[0].open(newline="", encoding="utf-8") as file:
            return [
                {key: float(text) if key.startswith("p_") else text for key, text in row.items()}
                for row in csv.DictReader(file)
            ]

    def tables(self) -> list[Table]:
        from medtl.runtime.table import Table

        rows = self.rows()
        cells = [tuple(_cell(value) for value in row.values()) for row in rows]
        return [Table("Predictions", tuple(rows[0]), tuple(cells))] if rows else []

    def to_json(self) -> dict[str, Any]:
        rows = [{key: _plain(value) for key, value in row.items()} for row in self.rows()]
        return {"folder": str(self.folder), "synthetic": self.synthetic, "cases": rows}


@renamed(flips="tta")
def predict(
    runs: Where | Sequence[Where],
    inputs: Where,
    out: Where,
    *,
    labels: str | None = None,
    tta: bool = False,
    device: str = "auto",
    precision: str = "auto",
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Predictions:
    """Segment the cases under ``inputs`` in their own grids, or tell their classes, into ``out``.

    ``runs``: a run, a stage's folder inside one, or several, of which the mean is taken.
    """
    from medtl.inference.predict import predict as predict_with

    told = recorder(verbose)
    several = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    folder = path_of(out)
    with own_randomness():
        ensemble, files = predict_with(
            [str(path_of(run)) for run in several],
            path_of(inputs),
            folder,
            catalog or load_catalog(),
            one_process(device, precision),
            told,
            labels=labels,
            flips=tta,
        )
    return Predictions(folder, tuple(files), tuple(told.lines), ensemble.synthetic)


def _case_of(path: Path) -> str:
    """The case that a label map is of, as the data set calls it (:mod:`medtl.runtime.files`)."""
    return unquote(path.name.removesuffix(".nii.gz").removesuffix(".png"))


def _cell(value: Any) -> str:
    if isinstance(value, Path):
        return value.name
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True, slots=True, repr=False)
class Phantom(Shown):
    """A synthetic cohort on disk; it stands for its path in every call that takes ``data``."""

    path: Path
    layout: str
    cases: int
    size: int
    sites: int
    seed: int
    shift: float

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def title(self) -> str:
        return (
            f"{self.cases} cases in the layout of {self.layout}, {self.sites} sites, "
            f"shift {self.shift:g}, {self.path.name}"
        )

    @property
    def synthetic(self) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "layout": self.layout,
            "cases": self.cases,
            "size": self.size,
            "sites": self.sites,
            "seed": self.seed,
            "shift": self.shift,
            "synthetic": True,
        }


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

    path = path_of(folder)
    with recorder(verbose).progress("synthetic phantom", cases) as advance:
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


@dataclass(frozen=True, slots=True, repr=False)
class Explanation(Shown):
    """``found`` is what ``saliency.json`` holds: the block explained and, where cases have masks,
    how well the maps find them."""

    folder: Path
    found: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        found = self.found
        return f"{found['method']} of {found['stage']}, {found['block']}: {found['images']} images"

    @property
    def synthetic(self) -> bool:
        return bool(self.found["synthetic"])

    @property
    def figures(self) -> Pictures:
        """cam, activations and, where the first layer looks at neighbours, filters."""
        return read_pictures(self.folder)

    def rows(self) -> list[dict[str, Any]]:
        """The scores of the maps, with intervals over patients; none without masks."""
        scores = self.found.get("localisation", {})
        return [{"score": name, **interval} for name, interval in scores.items()]

    def tables(self) -> list[Table]:
        from medtl.explain.run import explained_tables

        return explained_tables(self.found)

    def _more(self) -> tuple[Pictures, ...]:
        return (self.figures.only("cam"),)

    def to_json(self) -> dict[str, Any]:
        return dict(self.found)


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
    from medtl.explain.run import Wanted, explain_run
    from medtl.runtime.run_folder import open_run

    told = recorder(verbose)
    opened = open_run(path_of(run))
    with own_randomness():
        folder, found = explain_run(
            opened,
            catalog or load_catalog(),
            one_process(device, "fp32"),
            told,
            Wanted(output, layer, cases, threshold),
            inputs=path_or_none(inputs),
            out=path_or_none(out),
            stage=stage,
            labels=labels,
        )
    return Explanation(folder, found, tuple(told.lines))


#: What goes before the names of components that a program brings itself.
OWN = "own"


@dataclass(frozen=True, slots=True, repr=False)
class Listing(Shown):
    """Rows of equal keys."""

    what: str
    listed: tuple[Mapping[str, Any], ...]

    @property
    def title(self) -> str:
        return f"{len(self.listed)} {self.what}"

    def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.listed]

    def names(self) -> tuple[str, ...]:
        return tuple(str(row["name"]) for row in self.listed)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.listed)

    def __len__(self) -> int:
        return len(self.listed)

    def tables(self) -> list[Table]:
        from medtl.runtime.table import Table

        if not self.listed:
            return []
        cells = tuple(tuple(map(str, row.values())) for row in self.listed)
        return [Table(self.what, tuple(self.listed[0]), cells)]

    def to_json(self) -> list[dict[str, Any]]:
        return self.rows()


def catalog(**own: Mapping[str, Any]) -> Catalog:
    """What is installed, and components of your own, for the ``catalog`` of the other calls.

    Each keyword is a kind, with the objects that a component's target would be by name::

        mine = api.catalog(networks={"tiny": build_tiny}, strategies={"gently": gently})
        run = api.train("brats", network="tiny", strategy="gently", catalog=mine)

    What each kind must be is told in :mod:`medtl.plugins.hookspecs`. A run that was trained with
    a network of your own can be used only with it. Where the name is taken, write ``own:NAME``.
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
        {"kind": COMPONENT_KINDS[each], **row} for each in kinds for row in registries[each].rows()
    ]
    what = kinds[0].replace("_", " ") if kind is not None else "components"
    return Listing(what, tuple(rows))


def plugins() -> Listing:
    """The plugins found: ok, broken or disabled, and why. ``medtl plugins list``."""
    return Listing("plugins", tuple(asdict(row) for row in load_catalog().plugins))


@dataclass(frozen=True, slots=True, repr=False)
class Machine(Shown):
    """Versions, devices, memory (GB), cache, plugins and extras, by section."""

    report: Mapping[str, Mapping[str, Any]]

    @property
    def title(self) -> str:
        versions = self.report["versions"]
        return f"medtl {versions['medtl']}, Python {versions['python']}, {versions['system']}"

    def __getitem__(self, section: str) -> Mapping[str, Any]:
        if section not in self.report:
            raise UnknownNameError("section", section, self.report)
        return self.report[section]

    def tables(self) -> list[Table]:
        from medtl.runtime.doctor import shown
        from medtl.runtime.table import Table

        return [
            Table(
                section.replace("_", " "),
                ("what", "value"),
                tuple((name, shown(value)) for name, value in content.items()),
            )
            for section, content in self.report.items()
        ]

    def to_json(self) -> dict[str, Any]:
        return {section: dict(content) for section, content in self.report.items()}


def doctor() -> Machine:
    """What this machine offers, and what is missing. ``medtl doctor``."""
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.doctor import examine

    return Machine(examine(load_catalog().plugin_rows()))


@dataclass(frozen=True, slots=True, repr=False)
class Shift(Shown):
    """A measured shift. ``folder``: where it was written, if it was."""

    found: result.Shift
    folder: Path | None = None

    @property
    def title(self) -> str:
        return self.verdict

    @property
    def synthetic(self) -> bool:
        return self.found.synthetic

    @property
    def verdict(self) -> str:
        """A sentence on the primary metric, with p and the numbers of patients."""
        return self.found.verdict

    @property
    def p(self) -> float | None:
        """Of the primary metric; None where nothing could be tested."""
        return self.found.primary.p

    @property
    def advice(self) -> tuple[str, ...]:
        return self.found.advice

    @property
    def notes(self) -> tuple[str, ...]:
        return self.found.notes

    def rows(self) -> list[dict[str, Any]]:
        """One per source, target, features and metric; the one with the verdict first."""
        return self.found.to_json()

    @property
    def figures(self) -> Pictures:
        """Embeddings, densities, and the grid of cells where there is one."""
        from medtl.shift.report.write import draw_shift

        if self.folder is not None:
            return read_pictures(self.folder / "figures")
        with TemporaryDirectory() as folder:
            draw_shift(self.found, Path(folder))
            return read_pictures(Path(folder))

    def tables(self) -> list[Table]:
        from medtl.shift.report.result import tables

        return tables(self.found)

    def _more(self) -> tuple[Pictures, ...]:
        return (self.figures,)

    def to_json(self) -> list[dict[str, Any]]:
        """As ``medtl shift --json`` prints it."""
        return self.found.to_json()


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
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.run_folder import check_out
    from medtl.shift.report.write import write_shift
    from medtl.shift.request import build_request
    from medtl.shift.run import measure_shift

    request = build_request(plain({"task": task, **settings}))
    folder = path_or_none(out)
    if folder is not None:
        check_out(folder)
    with own_randomness():
        found = measure_shift(request, catalog or load_catalog(), recorder(verbose))
    if folder is not None:
        write_shift(found, task, folder, request.to_json())
    return Shift(found, folder)


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
    from medtl.runtime.run_folder import check_out
    from medtl.training.launch import launch

    resolved = _resolve(task, config, settings)
    check_out(resolved.out)
    told = recorder(verbose)
    with own_randomness():
        launched = launch(resolved, catalog or _installed(), told, profile=profile)
    assert launched.run is not None  # it was no dry run
    return Run(launched.run.path, tuple(told.lines))


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
    from medtl.api.results import plan_of
    from medtl.training.launch import launch

    resolved = _resolve(task, config, settings)
    told = recorder(verbose)
    with own_randomness():
        launched = launch(resolved, catalog or _installed(), told, dry_run=True)
    return plan_of(launched, told)


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
    from medtl.runtime.run_folder import open_run as recognise
    from medtl.training.launch import launch
    from medtl.training.resume import going_on

    given = {
        "device": device,
        "devices": devices,
        "num_nodes": num_nodes,
        "workers": workers,
        "cache": cache,
    }
    folder = recognise(path_of(run))
    resolved = going_on(folder, given)
    if resolved is None:
        return open_run(folder.path)
    check_processes(resolved.devices, resolved.num_nodes)
    told = recorder(verbose)
    with own_randomness():
        launch(resolved, catalog or _installed(), told, folder)
    return Run(folder.path, tuple(told.lines))


def _resolve(task: str | None, config: Where | None, settings: Any) -> TrainConfig:
    from medtl.config import checked, read_config

    given = plain({"task": task, **settings})
    if config is not None:
        file = read_config(path_of(config))
        given = {**file.model_dump(exclude_unset=True), **given}
    resolved = checked(given)
    check_processes(resolved.devices, resolved.num_nodes)
    return resolved


def _installed() -> Catalog:
    from medtl.plugins.catalog import load_catalog

    return load_catalog()


@dataclass(frozen=True, slots=True, repr=False)
class WeightsFile(Shown):
    """``facts``: format, network, modalities, regions, parameters, ... ``receipt``: of loading them
    into the network that was named. ``problem``: why training would refuse that; "": it would not.
    """

    facts: Mapping[str, Any]
    receipt: Receipt | None
    problem: str

    @property
    def title(self) -> str:
        return (
            f"{self.facts['path']}: {self.facts['parameters']:,} numbers ({self.facts['format']})"
        )

    @property
    def synthetic(self) -> bool:
        return bool(self.facts["synthetic"])

    def tables(self) -> list[Table]:
        from medtl.runtime.table import Table

        shown = [
            (name, _weights_cell(value))
            for name, value in self.facts.items()
            if name not in ("path", "receipt") and value is not None
        ]
        facts = Table("Weights", ("what", "value"), tuple(shown))
        return [facts, *(self.receipt.tables() if self.receipt else ())]

    def to_json(self) -> dict[str, Any]:
        """As ``medtl weights inspect --json`` prints it."""
        return dict(self.facts)


def inspect_weights(
    file: Where,
    *,
    network: str | None = None,
    width: int | None = None,
    modalities: Sequence[str] = (),
    regions: Sequence[str] = (),
    map: Mapping[str, str] | None = None,
    init_modalities: Sequence[str] = (),
    catalog: Catalog | None = None,
) -> WeightsFile:
    """What a file, a run or a stage holds and, with ``network``, what would become of each tensor.

    Args:
        width, modalities, regions: of that network; left out, they are the file's.
        map: a new modality -> the one that it starts from.
        init_modalities: the file's input channels, where it does not name them.
    """
    from medtl.plugins.catalog import load_catalog
    from medtl.transfer.inspect import inspect

    with own_randomness():
        found = inspect(
            str(path_of(file)),
            catalog or load_catalog(),
            network=network or "",
            width=width,
            modalities=_joined(modalities),
            regions=_joined(regions),
            mapping=[f"{new}={old}" for new, old in (map or {}).items()],
            init_modalities=_joined(init_modalities),
        )
    receipt = Receipt(network, found.receipt) if network and found.receipt else None
    return WeightsFile(found.facts, receipt, found.problem)


def _joined(names: Sequence[str]) -> str:
    return names if isinstance(names, str) else ",".join(names)


def _weights_cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "not stated"
    return str(value)
