"""Every check of the kit catches a component that was broken on purpose.

Axes: N M row, R permutation, U unit, B batch, C channel, I J K voxels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medtl import Component
from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.modality import Modality
from medtl.data.phantom.cohort import read_index
from medtl.data.task import Defaults, Task
from medtl.errors import ConfigError, DataError, MedtlError
from medtl.networks.blocks import Block, Network, tensors
from medtl.networks.builder import finish
from medtl.plugins.catalog import GROUP, Catalog, Registry, load_catalog
from medtl.plugins.loader import COMPONENT_KINDS
from medtl.shift.contract import FeatureExtractor, FeatureRows, Harmoniser, Rows, ShiftMetric, View
from medtl.testing import (
    CheckFailed,
    commands,
    components,
    features,
    harmonisers,
    initialisers,
    losses,
    networks,
    shift_metrics,
    strategies,
    tasks,
    transforms,
)
from medtl.testing.check import Tried
from medtl.testing.collect import checks_in, kind_checks
from medtl.testing.find import Found
from medtl.training.losses import PartialLoss, WeightLoss
from medtl.transfer.receipt import Receipt
from medtl.transfer.strategies.base import LossSpec, Request, Stage, stage
from medtl.transforms.augment import FULL, NONE
from medtl.transforms.presets import Preset

NAME = "odd"
Broken = tuple[Callable[[Tried], None], Any, str]


@dataclass(frozen=True, eq=False)
class Given(Tried):
    """A component whose target is there already."""

    made: Any = None

    def target(self) -> Any:
        return self.made


def given(made: Any, kind: str = "network", **changes: Any) -> Tried:
    component = Component(NAME, "os:getcwd", "An odd one.")
    plugin = Found(EntryPoint("odd-plugin", "odd.plugin", GROUP))
    catalog = changes.pop("catalog", load_catalog)
    return Given(plugin, kind, replace(component, **changes), catalog, made)


# Networks

BLOCKS = tuple(
    Block(name, role, (f"{part}.*",))
    for name, role, part in (
        ("stem", "stem", "first"),
        ("encoder1", "encoder", "second"),
        ("bottleneck", "bottleneck", "third"),
        ("head", "head", "last"),
    )
)


class Net(nn.Module):
    """What the broken ones are made from: four blocks of a layer each."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.second, self.third = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, out_channels, 1)

    def forward(self, images_BCIJ: Tensor) -> Tensor:
        found: Tensor = self.last(self.third(self.second(self.first(images_BCIJ)).relu()))
        return found


class Halved(Net):
    def forward(self, images_BCIJ: Tensor) -> Tensor:
        return super().forward(images_BCIJ)[..., ::2]


class Pooled(Net):
    """Takes edges that are multiples of 8 alone."""

    def forward(self, images_BCIJ: Tensor) -> Tensor:
        found = super().forward(nn.functional.max_pool2d(images_BCIJ, 8))
        return nn.functional.interpolate(found, scale_factor=8)


class BesideOthers(Net):
    def forward(self, images_BCIJ: Tensor) -> Tensor:
        return super().forward(images_BCIJ - images_BCIJ[:1])


class Idle(Net):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.first.register_parameter("idle", nn.Parameter(torch.ones(1)))


class Forgetful(Net):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.register_buffer("scale", torch.rand(1), persistent=False)

    def forward(self, images_BCIJ: Tensor) -> Tensor:
        return super().forward(images_BCIJ) * self.scale


class Restless(Net):
    def forward(self, images_BCIJ: Tensor) -> Tensor:
        found = super().forward(images_BCIJ)
        if self.training:
            self.first.weight.data.mul_(0.9)
        return found


def builder(
    make: type[Net] = Net, blocks: tuple[Block, ...] = BLOCKS, **changes: Any
) -> Callable[..., Network]:
    def build(
        *, spatial_dims: int = 2, width: int | None = None, patch_size: Any = None, **numbers: int
    ) -> Network:
        if spatial_dims != 2:
            raise ConfigError("it is a 2-D network")
        network = finish(NAME, make, blocks, spatial_dims=2, width=width or 4, **numbers)
        return replace(network, **changes)

    return build


def crashing(**settings: Any) -> Network:
    raise KeyError("width")


NETWORKS: tuple[Broken, ...] = (
    (networks.says_what_it_was_built_for, builder(in_channels=7), "in_channels is 7, built with 2"),
    (networks.says_what_it_was_built_for, crashing, "raised KeyError.*raise ConfigError"),
    (networks.outputs_fit_the_image, builder(Halved), "outputs of 1x3x16x8, not 1x3x16x16"),
    (networks.patches_of_its_multiple_fit, builder(Pooled), "but patch_multiple is 1; state"),
    (networks.outputs_depend_on_the_image_alone, builder(BesideOthers), "place in the batch"),
    (networks.gradients_reach_every_parameter, builder(Idle), "no gradient reaches first.idle"),
    (networks.blocks_cover_every_tensor_once, builder(blocks=BLOCKS[:2] + BLOCKS[3:]), "no block"),
    (
        networks.encoder_blocks_run_in_their_order,
        builder(blocks=(BLOCKS[1], BLOCKS[0], *BLOCKS[2:])),
        "encoder1, stem, bottleneck run in the order stem, encoder1",
    ),
    (
        networks.first_layers_count_the_channels,
        builder(input_tensors=("second.weight",)),
        "by the channels: name it|does not count channels",
    ),
    (
        networks.another_head_changes_the_head_alone,
        builder(head_tensors=("last.weight",)),
        "last.bias is 3 or 1, by the outputs",
    ),
    (networks.saved_weights_give_the_same_outputs, builder(Forgetful), "persistent buffers"),
    (networks.frozen_blocks_stay_bitwise_still, builder(Restless), "first.weight changed while"),
)

# Shift metrics


def metric(
    score: Callable[[np.ndarray, np.ndarray], float],
    prepared: Callable[[Rows], Rows] = lambda rows: rows,
    together: Callable[[np.ndarray], np.ndarray] = lambda values_R: values_R,
    empty: float = np.nan,
    **changes: Any,
) -> Callable[[], ShiftMetric]:
    def prepare(rows: Rows) -> Any:
        rows = prepared(rows)

        def scorer(source_RU: np.ndarray, target_RU: np.ndarray) -> np.ndarray:
            found = []
            for sides in zip(source_RU, target_RU, strict=True):
                x_NF, y_MF = (rows.values_NF[side_U[rows.unit_N]] for side_U in sides)
                found.append(score(x_NF, y_MF) if min(len(x_NF), len(y_MF)) else empty)
            return together(np.array(found))

        return scorer

    return lambda: replace(ShiftMetric(NAME, prepare), **changes)


def apart(x_NF: np.ndarray, y_MF: np.ndarray) -> float:
    return float(((x_NF.mean(0) - y_MF.mean(0)) ** 2).sum())


def centred_in_place(rows: Rows) -> Rows:
    rows.values_NF[:] -= rows.values_NF.mean(0)
    return rows


drawn = np.random.default_rng(0)
METRICS: tuple[Broken, ...] = (
    (shift_metrics.says_what_it_is, metric(apart, name="other"), "its name is 'other'"),
    (
        shift_metrics.values_are_finite_and_repeatable,
        metric(lambda x, y: apart(x, y) + drawn.random()),
        "seed what is random",
    ),
    (
        shift_metrics.values_are_finite_and_repeatable,
        metric(apart, together=lambda values_R: values_R[:1]),
        "return one for each",
    ),
    (shift_metrics.rows_are_left_as_they_are, metric(apart, centred_in_place), "work on a copy"),
    (
        shift_metrics.arrangements_are_scored_as_each_alone,
        metric(apart, together=lambda values_R: values_R / values_R.max()),
        "scores differently beside others",
    ),
    (shift_metrics.an_empty_side_has_no_value, metric(apart, empty=0.0), "give NaN"),
    (
        shift_metrics.equal_samples_are_no_shift,
        metric(lambda x, y: 100 + apart(x, y)),
        "one domain give 100, but no_shift_value is 0",
    ),
    (
        shift_metrics.equal_samples_are_no_shift,
        metric(lambda x, y: 1 / (1 + apart(x, y))),
        "equal samples give 1, but no_shift_value is 0",
    ),
    (
        shift_metrics.a_larger_shift_gives_a_larger_value,
        metric(lambda x, y: -apart(x, y)),
        "larger must mean farther apart",
    ),
    (
        shift_metrics.sides_change_places_as_declared,
        metric(lambda x, y: apart(x, y) / float(y.var())),
        "set symmetric=False",
    ),
    (
        shift_metrics.order_of_rows_does_not_matter,
        metric(lambda x, y: apart(x[::5], y[::5])),
        "rows in the opposite order",
    ),
)

# Presets


class Noisy:
    """A standard that moves intensities at random."""

    def apply(self, modality: str, image_IJK: np.ndarray, foreground_IJK: np.ndarray) -> np.ndarray:
        return (image_IJK + drawn.random(image_IJK.shape)).astype(np.float32)


def preset(**changes: Any) -> Callable[[], Preset]:
    return lambda: replace(Preset(NAME, NONE), **changes)


PRESETS: tuple[Broken, ...] = (
    (transforms.says_what_it_is, preset(name="other"), "its name is 'other'"),
    (transforms.says_what_it_is, preset(spacing_mm=float("nan")), "its settings are no JSON"),
    (transforms.preparation_is_deterministic, preset(standard=Noisy()), "to other numbers"),
    (transforms.preparation_keeps_place_and_labels, preset(spacing_mm=25.0), "finer spacing_mm"),
    (
        transforms.same_seed_gives_the_same_sample,
        preset(augmentation=replace(NONE, noise=0.5)),
        "8 seeds give the same sample",
    ),
    (
        transforms.augmented_labels_stay_on_the_image,
        preset(augmentation=replace(FULL, noise=100.0, noise_p=1.0)),
        "lower noise",
    ),
)

# Strategies


def plan(
    changes: Callable[[Request], Mapping[str, Any]] = lambda request: {}, twice: bool = False
) -> Any:
    def odd(request: Request) -> tuple[Stage, ...]:
        start = {"init": request.init or "random"}
        one = replace(
            stage(request, NAME, request.target, request.steps, **start), **changes(request)
        )
        return (one, one) if twice else (one,)

    odd.catalog = with_meddling  # type: ignore[attr-defined]
    return odd


class Meddling(WeightLoss):
    """A loss that writes into the weights it is bound to."""

    def bind_weights(self, network: Network, new: object) -> None:
        self.tensor = tensors(network)["first.0.weight"]

    def forward(self) -> Tensor:
        self.tensor.data.add_(1.0)
        return torch.zeros(())


def with_meddling() -> Catalog:
    """What is installed, and a loss that meddles."""
    catalog = load_catalog()
    meddling = Component("meddling", f"{__name__}:Meddling", "")
    known = {**{name: catalog.losses[name] for name in catalog.losses}, "test:meddling": meddling}
    return replace(catalog, losses=Registry("loss", known))


both = (LossSpec("dice-ce"), LossSpec("meddling"))
rates = count(1)
STRATEGIES: tuple[Broken, ...] = (
    (
        strategies.plans_are_plain_data,
        plan(lambda r: {"rates": {"*": next(rates)}}),
        "another plan",
    ),
    (strategies.plans_are_plain_data, plan(lambda r: {"options": {"a": Path}}), "JSON cannot"),
    (strategies.stages_have_names_of_their_own, plan(twice=True), "two stages are called odd"),
    (strategies.stages_have_names_of_their_own, plan(lambda r: {"name": "../odd"}), "letters"),
    (strategies.settings_are_known, plan(lambda r: {"optimizer": "adamww"}), "optimizer.*adamww"),
    (strategies.settings_are_known, plan(lambda r: {"frozen": "stemm"}), "did you mean 'stem'"),
    (strategies.settings_are_known, plan(lambda r: {"losses": (LossSpec("dise"),)}), "dise"),
    (strategies.settings_are_known, plan(lambda r: {"rates": {"stem": 1.0}}), "other blocks"),
    (
        strategies.steps_keep_to_the_budget,
        plan(lambda r: {"steps": 2 * r.steps}),
        "take 2 steps of a budget of 1",
    ),
    (strategies.steps_keep_to_the_budget, plan(lambda r: {"steps": r.steps // 2}), "has 0 steps"),
    (strategies.weights_that_are_given_are_used, plan(lambda r: {"init": "random"}), "--init"),
    (
        strategies.frozen_tensors_stay_bitwise_still,
        plan(lambda r: {"frozen": "all"}),
        "freezes all",
    ),
    (
        strategies.frozen_tensors_stay_bitwise_still,
        plan(lambda r: {"frozen": "stem", "losses": both}),
        "first.0.weight changed, though frozen",
    ),
    (strategies.says_when_to_use_it, plan(), "when to use it"),
)

# Initialisers


def filled(value: float) -> Any:
    def odd(network: Network, receipt: Receipt, seed: int) -> Receipt:
        tensors(network)["first.0.weight"].data.fill_(value)
        return receipt

    return odd


def at_random(network: Network, receipt: Receipt, seed: int) -> Receipt:
    tensors(network)["first.0.weight"].data.normal_()
    return receipt


INITIALISERS: tuple[Broken, ...] = (
    (initialisers.weights_stay_finite, filled(float("nan")), "first.0.weight is not finite"),
    (initialisers.same_seed_gives_the_same_weights, at_random, "torch.Generator of the seed"),
    (initialisers.receipt_says_what_it_changed, filled(1.0), "its receipt does not say so"),
)

# with_meddling


class Simple(nn.Module):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.of((logits.sigmoid() - target) ** 2)

    def of(self, squares: Tensor) -> Tensor:
        return squares.mean()


class PerVoxel(Simple):
    def of(self, squares: Tensor) -> Tensor:
        return squares


class Detached(Simple):
    def of(self, squares: Tensor) -> Tensor:
        return squares.mean().detach()


class Negative(Simple):
    def of(self, squares: Tensor) -> Tensor:
        return -squares.mean()


class TakesUnknownForBackground(PartialLoss):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return ((logits.sigmoid() - target.nan_to_num()) ** 2).mean()


class Growing(Simple):
    sizes = count(1)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(next(self.sizes)))


LOSSES: tuple[Broken, ...] = (
    (losses.value_is_one_finite_number, PerVoxel, "average it to a scalar"),
    (losses.gradient_reaches_what_it_sees, Detached, "no gradient leads back"),
    (losses.right_answers_cost_less, Negative, "turn its sign"),
    (
        losses.what_nobody_annotated_costs_nothing,
        TakesUnknownForBackground,
        "leave out what is NaN",
    ),
    (losses.parameters_of_its_own_can_be_kept, Growing, "size mismatch"),
)

# Features


def extractor(
    values: Callable[[View], Any] = lambda view: [[view.image_CIJK.mean(), 1.0]],
    names: Callable[[View], tuple[str, ...]] = lambda view: ("a/mean", "a/one"),
    **changes: Any,
) -> Any:
    def rows(view: View) -> FeatureRows:
        return FeatureRows(np.array(values(view), dtype=np.float64), names(view))

    return lambda settings: replace(FeatureExtractor(NAME, rows), **changes)


def refused(view: View) -> Any:
    if not view.foreground_CIJK.any():
        raise DataError("nothing to see")
    return [[0.0, 1.0]]


def halved(values_NF: np.ndarray) -> FeatureRows:
    return FeatureRows(values_NF[::2], ("a/mean", "a/one"))


EXTRACTORS: tuple[Broken, ...] = (
    (features.says_what_it_is, extractor(name="other"), "its name is 'other'"),
    (
        features.rows_have_named_columns,
        extractor(lambda view: [[np.nan, 1]]),
        "a/mean is not finite",
    ),
    (features.rows_have_named_columns, extractor(names=lambda view: ("a/b",)), "2 columns and 1"),
    (
        features.columns_are_the_same_for_every_image,
        extractor(names=lambda view: (f"a/{view.case}", "a/one")),
        "return the same ones",
    ),
    (
        features.an_image_is_measured_the_same_again,
        extractor(lambda view: [[drawn.random(), 1]]),
        "seed what is random",
    ),
    (
        features.embedding_keeps_a_row_for_each,
        extractor(embed=halved),
        "6 rows are embedded into 3",
    ),
    (features.problems_name_the_image, extractor(refused), "does not name the image"),
)

# Harmonisers


def harmoniser(
    fit: Callable[[list[View]], Any] = lambda views: {"t1": (1.0,)},
    apply: Callable[[View, Any], View] = lambda view, fitted: view,
) -> Any:
    return lambda: Harmoniser(NAME, lambda views: fit(list(views)), apply)


def brightened(view: View, fitted: Any) -> View:
    view.image_CIJK[:] += 1
    return view


def looked_up(view: View, fitted: Any) -> View:
    return replace(view, image_CIJK=view.image_CIJK * fitted[view.modalities[0]][0])


HARMONISERS: tuple[Broken, ...] = (
    (
        harmonisers.what_is_fitted_is_plain_data,
        harmoniser(lambda views: {"t1": views}),
        "are no JSON",
    ),
    (
        harmonisers.images_stay_finite_and_whole,
        harmoniser(apply=lambda view, fitted: replace(view, image_CIJK=view.image_CIJK * np.nan)),
        "not finite",
    ),
    (harmonisers.images_are_left_as_they_are, harmoniser(apply=brightened), "work on a copy"),
    (
        harmonisers.fitting_is_repeatable,
        harmoniser(lambda views: {"t1": (drawn.random(),)}),
        "other fitted values",
    ),
    (harmonisers.unknown_modalities_are_refused, harmoniser(apply=looked_up), "raises KeyError"),
)

# Commands


def unreadable(number: int | Path = 0) -> None:
    """An option of a type that Typer does not know."""


def silent(number: int = 0) -> None:
    """An option without a word."""


COMMANDS: tuple[Broken, ...] = (
    (commands.help_is_shown, "unreadable", "raised AssertionError"),
    (commands.every_option_says_what_it_does, "silent", "--number says nothing"),
)

# Tasks


class Organ(Task):
    """A task with a writer of its own; each broken one changes a piece."""

    name, kind, nested = NAME, "segmentation", False
    regions: tuple[str, ...] = ("organ",)
    modalities = ("t2",)
    exclusive = True
    defaults = Defaults(src="mod:t2", dst="mod:t2", transforms="mr", strategy="scratch")
    phantom_defaults = defaults
    noise = 10.0

    def write_phantom(self, folder: Path, cases: int, seed: int) -> None:
        affine = np.diag([4.0, 4.0, 4.0, 1.0])
        for number in range(cases):
            label_IJK = np.zeros((16, 16, 16), np.uint8)
            label_IJK[4:9, 5:11, 6:12] = 1
            noise_IJK = np.random.default_rng(number).normal(0, self.noise, label_IJK.shape)
            image_IJK = (100 + 50 * label_IJK + noise_IJK).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(image_IJK, affine), folder / f"{number}_t2.nii.gz")
            nibabel.save(nibabel.Nifti1Image(label_IJK, affine), folder / f"{number}_seg.nii.gz")

    def cases(self, root: Path, *options: Any, **more: Any) -> Cohort:
        found = [self.case(path) for path in sorted(root.glob("*_t2.nii.gz"))]
        if not found:
            raise DataError(f"{root}: holds no *_t2.nii.gz")
        return Cohort(root, tuple(found), synthetic=bool(read_index(root).get("synthetic")))

    def case(self, path: Path) -> Case:
        number = path.name.partition("_")[0]
        return Case(
            id=f"case{number}",
            patient=f"patient{number}",
            images={Modality("t2"): ImageFile(path)},
            target=ImageFile(path.with_name(f"{number}_seg.nii.gz")),
            regions={"organ": (1,), "never": (2,)},
            labels=(0, 1, 2),
        )


class Unmarked(Organ):
    def cases(self, root: Path, *options: Any, **more: Any) -> Cohort:
        return replace(super().cases(root), synthetic=False)


class Forgetting(Organ):
    def cases(self, root: Path, *options: Any, need_target: bool = True, **more: Any) -> Cohort:
        found = super().cases(root)
        return found if need_target else replace(found, cases=found.cases[1:])


class Shuffled(Organ):
    def cases(self, root: Path, *options: Any, **more: Any) -> Cohort:
        found = super().cases(root)
        return replace(found, cases=tuple(random.sample(found.cases, len(found.cases))))


class Changed(Organ):
    """Its cases differ in one field."""

    changes: ClassVar[Mapping[str, Any]] = {}

    def case(self, path: Path) -> Case:
        return replace(super().case(path), **self.changes)


class Twins(Changed):
    changes: ClassVar = {"id": "one"}


class Nobodys(Changed):
    changes: ClassVar = {"patient": " "}


class Lost(Changed):
    changes: ClassVar = {"images": {Modality("t2"): ImageFile(Path("gone.nii.gz"))}}


class Never(Organ):
    regions = ("organ", "never")


class Copied(Organ):
    def write_phantom(self, folder: Path, cases: int, seed: int) -> None:
        super().write_phantom(folder, cases, seed)
        first = (folder / "0_t2.nii.gz").read_bytes()
        for path in folder.glob("*_t2.nii.gz"):
            path.write_bytes(first)


class Networkless(Organ):
    defaults = replace(Organ.defaults, network="unett")


class Misspelt(Organ):
    defaults = replace(Organ.defaults, network="plain-unet", options={"blokcs": [1]})


class Constant(Organ):
    def write_phantom(self, folder: Path, cases: int, seed: int) -> None:
        super().write_phantom(folder, cases, seed)
        flat = nibabel.Nifti1Image(np.ones((16, 16, 16), np.float32), np.diag([4.0, 4, 4, 1]))
        nibabel.save(flat, folder / "0_t2.nii.gz")


class Wordless(Organ):
    def cases(self, root: Path, *options: Any, **more: Any) -> Cohort:
        return super().cases(root) if list(root.iterdir()) else Cohort(root, ())


class Elsewhere(Organ):
    """It says another place than where it looks."""

    modalities = ("t2",)

    def image_path(self, case: str, modality: str, number: int) -> str:
        return f"{case}.nii"


TASKS: tuple[Broken, ...] = (
    (tasks.phantom_is_read, Unmarked, "is not marked as synthetic"),
    (tasks.reading_is_repeatable, Shuffled, "sort what is found"),
    (tasks.cases_without_a_target_can_be_read, Forgetting, "without need_target, case0.* is not"),
    (tasks.case_ids_are_unique, Twins, "two cases are called one"),
    (tasks.patients_are_known_or_said_unknown, Nobodys, "case case0 has no patient"),
    (tasks.declared_labels_occur_and_no_other, Never, "never occurs in no case"),
    (tasks.images_can_be_read, Lost, "gone.nii.gz"),
    (tasks.no_patient_is_in_two_splits, Copied, "hold the same image"),
    (tasks.defaults_can_be_used, Networkless, "unett.*did you mean 'unet'"),
    (tasks.defaults_can_be_used, Misspelt, "no option 'blokcs'"),
    (tasks.a_case_can_be_prepared, Constant, "every voxel is 1"),
    (tasks.what_is_made_of_dicom_is_read, Elsewhere, "not read what lies at its image_path"),
    (tasks.a_folder_without_data_is_refused, Wordless, "without an error"),
)

OF_ANY_KIND = (
    (components.name_is_canonical, {"name": "Odd_One"}, "'odd-one'; write it so"),
    (components.summary_is_one_line, {"summary": "two\nlines"}, "must be one line"),
    (components.target_can_be_imported, {"target": "os:no_such"}, "correct the target"),
    (components.target_can_be_imported, {"target": "os:sep"}, "name a class or function"),
)
BY_KIND: dict[str, tuple[Broken, ...]] = {
    "tasks": TASKS,
    "networks": NETWORKS,
    "initialisers": INITIALISERS,
    "transforms": PRESETS,
    "harmonisers": HARMONISERS,
    "strategies": STRATEGIES,
    "losses": LOSSES,
    "features": EXTRACTORS,
    "shift_metrics": METRICS,
    "commands": COMMANDS,
}
EVERY = [row for rows in BY_KIND.values() for row in rows]


def named(rows: Sequence[Any]) -> list[Any]:
    return [pytest.param(*row, id=f"{row[0].__name__}-{number}") for number, row in enumerate(rows)]


@pytest.mark.parametrize("kind", COMPONENT_KINDS)
def test_every_check_has_something_that_it_catches(kind: str) -> None:
    caught = {check for check, _, _ in (*BY_KIND[kind], *OF_ANY_KIND)}
    assert caught == set(kind_checks(kind))


@pytest.mark.parametrize(("check", "made", "words"), named(EVERY))
def test_broken_component_is_caught(check: Any, made: Any, words: str) -> None:
    if isinstance(made, str):
        tried = given(None, target=f"{__name__}:{made}")
    else:
        tried = given(made, catalog=getattr(made, "catalog", load_catalog))
    with pytest.raises((CheckFailed, MedtlError, RuntimeError), match=words) as caught:
        check(tried)
    assert "\n" not in str(caught.value) or isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(("check", "changes", "words"), named(OF_ANY_KIND))
def test_broken_listing_is_caught(check: Any, changes: dict[str, str], words: str) -> None:
    tried = given(None, **changes)
    with pytest.raises(CheckFailed, match=words):
        check(Tried(tried.plugin, tried.kind, tried.component, tried.catalog))


@pytest.mark.parametrize("check", checks_in(tasks), ids=lambda check: check.__name__)
def test_task_with_its_own_writer_keeps_all(check: Any) -> None:
    check(given(Organ))


@pytest.mark.parametrize("check", checks_in(networks), ids=lambda check: check.__name__)
def test_plain_network_keeps_all(check: Any) -> None:
    check(given(builder()))


@pytest.mark.parametrize("check", checks_in(shift_metrics), ids=lambda check: check.__name__)
def test_plain_metric_keeps_all(check: Any) -> None:
    check(given(metric(apart)))


class Halfway(Task):
    """Its author has not come to the end."""

    name, kind, regions, modalities, nested = NAME, "segmentation", ("organ",), ("t2",), False
    cases = Organ.cases


class Foreign(Halfway):
    """Reads nothing that medtl can write."""

    defaults = phantom_defaults = Organ.defaults


def test_task_is_told_what_it_lacks() -> None:
    with pytest.raises(CheckFailed, match="it has no defaults, no phantom_defaults; see"):
        tasks.phantom_is_read(given(Halfway))


def test_task_without_a_phantom_is_told_how_to_bring_one() -> None:
    with pytest.raises(CheckFailed, match=r"holds no .*give it write_phantom"):
        tasks.phantom_is_read(given(Foreign))
    with pytest.raises(CheckFailed, match="see phantom-is-read"):
        tasks.case_ids_are_unique(given(Foreign))
