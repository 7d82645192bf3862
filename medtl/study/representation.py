"""How alike the features of a study's networks are, block by block, on the same test images.

Every arm is compared with what it starts from (the source's network, or random weights), with
control A of its seed, and with itself of another seed: the noise that the others are to be judged
by. No label of a test image is read.

Of segmentation, rows are cells of the blocks' maps. CKA sets those of one image against each other
and averages over images; canonical correlations take the rows of all images at once. Each network
sees its own modalities of the image: where those of the source are others, an arm differs from its
start in them, too.

Axes: N row, F feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import add

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from medtl.data.case import Case, Cohort
from medtl.data.splits import read_splits
from medtl.errors import ConfigError, DataError, MedtlError, RunError
from medtl.inference.load import LoadedStage
from medtl.plugins.catalog import Catalog
from medtl.runtime.console import Reporter
from medtl.study.arms import PlannedRun
from medtl.study.features.block_rows import (
    Window,
    block_names,
    choose_window,
    draw_cells,
    image_rows,
    rows_at,
    window_maps,
)
from medtl.study.features.representation_results import (
    CONTROL,
    SEED,
    START,
    BlockSimilarity,
    Pair,
    Side,
    Similarity,
)
from medtl.study.features.trained_runs import (
    ended_runs,
    open_cases,
    read_source,
    reference_stage,
    target_cases,
    trained_stage,
    with_random_weights,
)
from medtl.study.folder import StudyFolder
from medtl.study.similarity.cca import pwcca, svcca
from medtl.study.similarity.cka import FEWEST_EXAMPLES, batch_hsic
from medtl.training.samples.augmented import blind
from medtl.transfer.strategies.base import CONTROL_A, SOURCE

Rows = NDArray[np.float32]

#: Cells of a block's map that each image gives.
CELLS = 128

#: Test images, unless asked otherwise.
CASES = 20

#: Seeds whose networks are compared.
SEEDS = (0, 1)


@dataclass(frozen=True, slots=True)
class BlockRows:
    """What a block computes of the images, in a batch of rows each. ``shape``: of its map."""

    shape: tuple[int, ...]
    batches: tuple[Rows, ...]

    @property
    def rows_NF(self) -> Rows:
        return np.concatenate(self.batches)


def measure_similarity(
    folder: StudyFolder,
    catalog: Catalog,
    fabric: Fabric,
    reporter: Reporter,
    *,
    cases: int = CASES,
) -> Similarity:
    """Compare the networks of the first fold on its first test images of the target.

    Runs that have not ended, or cannot be read, are left out; a note names the latter.

    Args:
        cases: the largest number of test images.

    Raises:
        ConfigError: no image is asked for.
        RunError: no run of an arm has ended.
    """
    if cases < 1:
        raise ConfigError(f"similarity on {cases} images: give 1 or more")
    runs = ended_runs(folder)
    pairs = list(study_pairs(runs, [arm.name for arm in folder.plan.arms if not arm.budgeted]))
    cohort = open_cases(folder, runs, catalog, reporter)
    reader = Reader(folder, catalog, fabric, {run.name: run for run in runs}, {})
    for network in dict.fromkeys(run.network for run in runs):
        target = reference_stage(folder, runs, network, catalog, fabric)
        reader.images[network] = _images(folder, cohort, target, cases)
    found, notes = _compare_all(pairs, reader, reporter)
    if not found:
        reason = notes[0] if notes else "of no two that are to be compared both have ended"
        raise RunError(f"{folder.path}: no two networks can be compared: {reason}")
    images = len(next(iter(reader.images.values())))
    synthetic = folder.plan.synthetic
    return Similarity(folder.path.name, tuple(found), images, tuple(notes), synthetic)


def study_pairs(runs: Sequence[PlannedRun], free: Sequence[str]) -> Iterator[Pair]:
    """The pairs of networks to compare; ``free``: the arms without a budget."""
    names = {run.name for run in runs}
    controls = {(r.network, r.budget, r.seed): r for r in runs if r.arm == CONTROL_A}
    cells = {(r.network, r.budget, r.arm, r.seed): r for r in runs}
    for run in runs:
        if run.seed not in SEEDS:
            continue
        budget = "" if run.arm in (SOURCE, *free) else run.budget
        place, own = (run.network, budget, run.arm, run.seed), Side(run.name)
        if not run.after or run.after in names:
            yield Pair(*place, START, own, _start(run))
        control = controls.get((run.network, run.budget, run.seed))
        if control and run.arm not in (CONTROL_A, SOURCE):
            at = (run.network, run.budget, run.arm, run.seed)
            yield Pair(*at, CONTROL, own, Side(control.name))
        again = cells.get((run.network, run.budget, run.arm, SEEDS[1]))
        if again and run.seed == SEEDS[0]:
            yield Pair(*place, SEED, own, Side(again.name))


def _start(run: PlannedRun) -> Side:
    if run.after:
        return Side(run.after)
    if outside := run.settings.get("init"):
        return Side(run.name, weights=outside)
    return Side(run.name, random=run.seed)


Image = tuple[Case, Window | None]


def _images(folder: StudyFolder, cohort: Cohort, target: LoadedStage, most: int) -> list[Image]:
    """The first test images of the target, without labels, each with the window to look at."""
    patients = read_splits(folder.split(0), cohort.cases).test
    found: list[Image] = []
    for case in blind(target_cases(cohort, target, patients)[:most]):
        window = None
        if target.task_type.dense:
            window = choose_window(target, target.predictor.preprocessor(case, with_target=False))
        found.append((case, window))
    return found


@dataclass(frozen=True, slots=True)
class Features:
    """What a network computes of the images, by block, and the modalities that it sees."""

    modalities: tuple[str, ...]
    blocks: Mapping[str, BlockRows]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads what networks compute of the images (by kind of network), one network at a time."""

    folder: StudyFolder
    catalog: Catalog
    fabric: Fabric
    runs: Mapping[str, PlannedRun]
    images: dict[str, list[Image]]
    held: dict[Side, Features] = field(default_factory=dict)
    failed: dict[Side, MedtlError] = field(default_factory=dict)

    def __call__(self, side: Side, network: str) -> Features:
        """Raises MedtlError, each time, for a network that cannot be read."""
        if side in self.failed:
            raise self.failed[side]
        if side not in self.held:
            try:
                self.held[side] = read_features(self._load(side), self.images[network])
            except MedtlError as problem:
                self.failed[side] = problem
                raise
        return self.held[side]

    def _load(self, side: Side) -> LoadedStage:
        trained = trained_stage(self.folder, side.run, self.catalog, self.fabric)
        if side.weights:
            run = self.runs[side.run]
            return read_source(self.folder, run, trained, self.catalog, self.fabric).trained
        if side.random is None:
            return trained
        return with_random_weights(trained, self.catalog, self.fabric, side.random)


def read_features(trained: LoadedStage, images: Sequence[Image]) -> Features:
    """What a network computes of the images.

    Raises:
        DataError: an image lacks a modality of the network, or has voxels of another size.
    """
    names = block_names(trained.predictor.network)
    batches: dict[str, list[Rows]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for case, window in images:
        prepared = trained.predictor.preprocessor(case, with_target=False)
        if window is None:
            rows = image_rows(trained, prepared, names)
        else:
            maps = window_maps(trained, prepared, window, names)
            shapes |= {name: tuple(map_Fx.shape[1:]) for name, map_Fx in maps.items()}
            rows = {
                name: rows_at(x, draw_cells(window.shown_IJK, x.shape[1:], case.id, CELLS))
                for name, x in maps.items()
            }
        for name, rows_NF in rows.items():
            batches.setdefault(name, []).append(rows_NF)
    blocks = {name: BlockRows(shapes.get(name, ()), tuple(own)) for name, own in batches.items()}
    return Features(trained.metadata.modalities, blocks)


def _compare_all(
    pairs: Sequence[Pair], reader: Reader, reporter: Reporter
) -> tuple[list[BlockSimilarity], list[str]]:
    """Every pair that can be compared, and notes. A network is forgotten after its last pair."""
    last = {side: n for n, pair in enumerate(pairs) for side in (pair.one, pair.other)}
    found: list[BlockSimilarity] = []
    missing: dict[str, list[str]] = {}
    notes: list[str] = []
    with reporter.progress("comparing features", len(pairs)) as advance:
        for number, pair in enumerate(pairs):
            try:
                one, other = (reader(side, pair.network) for side in (pair.one, pair.other))
            except MedtlError:
                pass  # the reader keeps it
            else:
                found += compare_blocks(pair, one, other, missing)
                notes += _modality_note(pair, one, other)
            for side in (pair.one, pair.other):
                if last[side] == number:
                    reader.held.pop(side, None)
            advance(number + 1)
    lost = [f"{side.name} is left out: {problem}" for side, problem in reader.failed.items()]
    for note in lost:
        reporter.warn(note)
    return found, [*dict.fromkeys([*lost, *notes]), *_missing_notes(missing, len(found))]


def _modality_note(pair: Pair, one: Features, other: Features) -> Iterator[str]:
    if pair.against == START and one.modalities != other.modalities:
        arms, source = (", ".join(side.modalities) for side in (one, other))
        yield (
            f"Arms see {arms}, their start sees {source} of the same patients: they would differ "
            "without any training on the target, as zero-shot does."
        )


def compare_blocks(
    pair: Pair, one: Features, other: Features, missing: dict[str, list[str]]
) -> Iterator[BlockSimilarity]:
    """The blocks that both have, with maps of the same size.

    ``missing``: takes, by the name of a number, why it is missing.
    """

    def told(measure: str, ask: Callable[[], float]) -> float | None:
        try:
            return ask()
        except DataError as problem:
            missing.setdefault(measure, []).append(f"{block}: {problem}")
            return None

    for block, x in one.blocks.items():
        y = other.blocks.get(block)
        if y is None or x.shape != y.shape:
            continue
        x_NF, y_NG = x.rows_NF, y.rows_NF
        yield BlockSimilarity(
            pair,
            block,
            len(x_NF),
            told("CKA", partial(_cka, x, y)),
            told("SVCCA", partial(svcca, x_NF, y_NG)),
            told("PWCCA", partial(pwcca, x_NF, y_NG)),
        )


def _cka(x: BlockRows, y: BlockRows) -> float:
    """Of the cells of each image, averaged over images; of all rows where images give too few."""
    both = list(zip(x.batches, y.batches, strict=True))
    if min(len(rows_NF) for rows_NF in x.batches) < FEWEST_EXAMPLES:
        both = [(x.rows_NF, y.rows_NF)]
    parts = [batch_hsic([x_NF], [y_NG]) for x_NF, y_NG in both]
    return float(reduce(add, parts).cka_AB[0, 0])


def _missing_notes(missing: Mapping[str, Sequence[str]], every: int) -> Iterator[str]:
    for measure, reasons in missing.items():
        yield f"No {measure} in {len(reasons)} of {every} comparisons of a block, as {reasons[0]}"
