"""Harmonisers, for measuring and in training. Axes: C modality, I J K voxels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from medtl.data.io.grids import resample_array
from medtl.data.io.images import read_volume
from medtl.data.modality import Modality
from medtl.errors import ConfigError, DataError, RunError
from medtl.inference.load import read_stage, restore_stage
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.runtime.run_folder import Run
from medtl.shift.contract import FeatureSettings, Harmoniser, View
from medtl.transfer.weights import BEST, read_weights
from medtl.transforms.histogram import HISTOGRAM, NYUL, Landmarks, Standard, moved
from medtl.transforms.presets import brain_mr_plain
from medtl_brats.task import Brats

EVERY = ("zscore", "histogram-matching", "nyul", "resampling")


def harmoniser(name: str) -> Harmoniser:
    found: Harmoniser = load_catalog().harmonisers[name].load()()
    return found


def view(seed: int = 0, modalities: tuple[str, ...] = ("t1",), edge: int = 24) -> View:
    shape = (len(modalities), edge, edge, edge)
    shown = np.zeros(shape, dtype=bool)
    shown[:, 2:-2, 3:-3, 4:-4] = True
    values = np.random.default_rng(seed).gamma(2, 100, shape)
    image = np.where(shown, values, 0).astype(np.float32)
    names = tuple(map(Modality, modalities))
    return View("one", names, image, shown, (1.0, 1.0, 1.0), "RAS", is_2d=False)


def changed(given: View, by) -> View:
    return replace(given, image_CIJK=by(given.image_CIJK).astype(np.float32))


def shown_values(given: View) -> np.ndarray:
    return given.image_CIJK[given.foreground_CIJK].astype(np.float64)


def test_harmonisers_and_presets_are_told_apart() -> None:
    catalog = load_catalog()
    with pytest.raises(ConfigError, match="'nyul' is no transforms preset but a harmoniser"):
        catalog.transforms.full_name("nyul")
    with pytest.raises(ConfigError, match="'brain-mr' is no harmoniser but a transforms preset"):
        catalog.harmonisers.full_name("brain-mr")


@pytest.mark.parametrize("name", EVERY)
def test_what_is_fitted_is_plain_data(name: str) -> None:
    chosen = harmoniser(name)
    fitted = chosen.fit([view(0), view(1)])
    read = {key: tuple(row) for key, row in json.loads(json.dumps(fitted)).items()}
    found, again = chosen.apply(view(2), fitted), chosen.apply(view(2), read)
    assert np.array_equal(found.image_CIJK, again.image_CIJK)
    assert chosen.name == name and np.isfinite(found.image_CIJK).all()


def test_nyul_maps_a_monotone_copy_back() -> None:
    chosen, given = harmoniser("nyul"), view()
    curved = changed(given, lambda values: 5000 * (values / 1500) ** 0.7 + 30)
    fitted = chosen.fit([given])
    one, other = (shown_values(chosen.apply(each, fitted)) for each in (given, curved))
    for percentile in NYUL.percentiles:
        marks = [np.percentile(each, percentile) for each in (one, other)]
        assert marks[0] == pytest.approx(marks[1], abs=0.01)
    between = (one > 0) & (one < 100)  # the landmarks; beyond them the map is straight
    assert np.abs(one - other)[between].max() < 1
    assert np.percentile(one, 1) == pytest.approx(0, abs=1e-3)
    assert np.percentile(one, 99) == pytest.approx(100, abs=1e-3)


def test_nyul_standard_is_the_mean_of_the_images_on_one_scale() -> None:
    given = [view(0), changed(view(1), lambda values: 1000 * values**1.5)]
    expected = []
    for each in given:
        marks = np.percentile(shown_values(each), NYUL.percentiles)
        expected.append(100 * (marks - marks[0]) / (marks[-1] - marks[0]))
    fitted = harmoniser("nyul").fit(given)
    assert np.allclose(fitted["t1"], np.mean(expected, axis=0), atol=1e-3)


def test_histogram_matching_gives_the_reference_its_quantiles() -> None:
    chosen, reference = harmoniser("histogram-matching"), view(0)
    other = changed(view(1), lambda values: 3 * values**1.3)
    found = chosen.apply(other, chosen.fit([reference]))
    percentiles = np.arange(0, 100.5, 0.5)
    wanted = np.percentile(shown_values(reference), percentiles)
    assert np.allclose(np.percentile(shown_values(found), percentiles), wanted, rtol=3e-3)


def test_harmonised_factor_is_no_shift() -> None:
    """The row of an image and of three times the image are the same afterwards."""
    rows = load_catalog().features["intensity"].load()(FeatureSettings()).rows
    given = view()
    brighter = changed(given, lambda values: 3 * values)
    for name in ("zscore", "histogram-matching", "nyul"):
        chosen = harmoniser(name)
        fitted = chosen.fit([given])
        one, other = (rows(chosen.apply(each, fitted)).values_NF for each in (given, brighter))
        assert np.allclose(one, other, atol=1e-2), name


def test_a_modality_is_brought_onto_its_own_standard() -> None:
    chosen = harmoniser("nyul")
    both = view(0, ("t1", "t2"))
    fitted = chosen.fit([both])
    alone = replace(
        both, modalities=both.modalities[1:], image_CIJK=both.image_CIJK[1:],
        foreground_CIJK=both.foreground_CIJK[1:],
    )  # fmt: skip
    assert np.array_equal(
        chosen.apply(both, fitted).image_CIJK[1:], chosen.apply(alone, fitted).image_CIJK
    )
    with pytest.raises(DataError, match="nyul was not fitted on flair; it knows t1, t2"):
        chosen.apply(view(0, ("flair",)), fitted)


def test_constant_images_stay_finite_and_set_no_standard() -> None:
    flat = changed(view(), lambda values: values * 0 + 7)
    for name in EVERY:
        chosen = harmoniser(name)
        fitted = chosen.fit([view(), flat])
        assert np.isfinite(chosen.apply(flat, fitted).image_CIJK).all()
    for name in ("nyul", "histogram-matching"):
        with pytest.raises(DataError, match="t1: no image whose intensities vary"):
            harmoniser(name).fit([flat])


def test_the_map_goes_on_straight_beyond_its_ends() -> None:
    given = np.array([-1.0, 0.0, 1.0, 2.0, 4.0], dtype=np.float32)
    assert moved(given, [0, 1, 2], [10, 12, 20]).tolist() == [8, 10, 12, 20, 36]
    assert moved(given, [1, 1, 2], [10, 12, 21]).tolist() == [-9, 1, 11, 21, 41]
    assert moved(given, [1, 1, 1], [1, 2, 3]).tolist() == [0, 1, 2, 3, 5]


def test_resampling_agrees_with_torch_and_keeps_the_mean() -> None:
    image_IJK = np.random.default_rng(0).normal(size=(9, 7, 6)).astype(np.float32)
    tensor = torch.from_numpy(image_IJK)[None, None]
    finer = functional.interpolate(tensor, (18, 10, 6), mode="trilinear", align_corners=False)
    assert np.allclose(resample_array(image_IJK, (18, 10, 6)), finer[0, 0].numpy(), atol=1e-5)
    halved = functional.interpolate(tensor, (3, 7, 2), mode="area")
    assert np.allclose(resample_array(image_IJK, (3, 7, 2)), halved[0, 0].numpy(), atol=1e-5)
    assert resample_array(image_IJK, (4, 5, 5)).mean() == pytest.approx(image_IJK.mean(), abs=1e-6)


def test_resampling_brings_volumes_to_the_median_spacing_and_pictures_to_the_median_edge() -> None:
    chosen = harmoniser("resampling")
    fine = replace(view(), spacing_mm=(0.5, 1.0, 2.0))
    target = np.ones((1, 24, 24, 24), dtype=bool)
    fitted = chosen.fit([view(), fine, view()])
    found = chosen.apply(replace(fine, target_LIJK=target), fitted)
    assert found.spacing_mm == (1.0, 1.0, 1.0) and found.image_CIJK.shape == (1, 12, 24, 48)
    assert found.foreground_CIJK.shape == found.target_LIJK.shape == (1, 12, 24, 48)
    flat = replace(view(), is_2d=True, image_CIJK=np.ones((1, 30, 20, 1), dtype=np.float32),
                   foreground_CIJK=np.ones((1, 30, 20, 1), dtype=bool))  # fmt: skip
    small = chosen.apply(flat, {"edge_px": (15.0,)})
    assert small.image_CIJK.shape == (1, 15, 10, 1)
    assert chosen.fit([flat]) == {"edge_px": (30.0,)}
    with pytest.raises(DataError, match="fitted on volumes, not on pictures"):
        chosen.apply(flat, fitted)


def test_a_standard_read_back_is_the_same_and_a_damaged_one_is_refused() -> None:
    standard = Standard("nyul", (1.0, 50.0, 99.0), (("t1", (0.0, 40.25, 100.0)),))
    assert Standard.from_json(json.loads(json.dumps(standard.to_json()))) == standard
    for damage in ({}, {"values": 3}):
        with pytest.raises((LookupError, TypeError)):
            Standard.from_json(damage)


NAN, HUGE = float("nan"), 10**400
DAMAGED = [
    ("values", [1], "without values by modality"),
    ("values", {}, "without values by modality"),
    ("values", {"t1": []}, "needs one value per percentile"),
    ("values", {"t1": [0, 1]}, "needs one value per percentile"),
    ("values", {"t1": [0, NAN, 2]}, "not finite"),
    ("values", {"t1": [0, 1, HUGE]}, "too large"),
    ("values", {"t1": [0, 2, 1]}, "descends"),
    ("percentiles", [], "percentiles of a standard"),
    ("percentiles", [50], "percentiles of a standard"),
    ("percentiles", [1, 50, 50], "percentiles of a standard"),
    ("percentiles", [1, 50, 500], "percentiles of a standard"),
    ("percentiles", [-1, 50, 99], "percentiles of a standard"),
    ("percentiles", [1, NAN, 99], "not finite"),
]


@pytest.mark.parametrize(("key", "value", "told"), DAMAGED)
def test_a_standard_that_cannot_be_one_is_refused(key, value, told) -> None:
    sound = Standard("nyul", (1.0, 50.0, 99.0), (("t1", (0.0, 0.0, 100.0)),)).to_json()
    assert Standard.from_json(sound).to_json() == sound
    with pytest.raises(ValueError, match=told):
        Standard.from_json({**sound, key: value})


def test_an_image_that_shows_nothing_stays_as_it_is_and_sets_no_standard() -> None:
    empty = replace(view(), foreground_CIJK=np.zeros_like(view().foreground_CIJK))
    for name in ("nyul", "histogram-matching"):
        chosen = harmoniser(name)
        fitted = chosen.fit([view(), empty])
        assert fitted == chosen.fit([view()])
        standard = Standard(name, chosen.landmarks.percentiles, tuple(fitted.items()))
        found = standard.apply("t1", empty.image_CIJK[0], empty.foreground_CIJK[0])
        assert np.array_equal(found, empty.image_CIJK[0])


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=8, size=24, sites=1, seed=3)


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory, tiny_run) -> Path:
    domains = ("--src", "flair,t1", "--dst", "t1,t2", "--strategy", "fine-tune")
    out = tmp_path_factory.mktemp("run") / "run"
    return tiny_run(out, phantom, *domains, "--set", "harmonise=nyul")


def test_training_fits_on_the_training_cases_and_records_the_standard(run, phantom) -> None:
    recorded = [
        read_weights(run / stage / BEST).metadata["preprocessing"]["harmonise"]
        for stage in ("source", "fine-tune")
    ]
    assert recorded[0] == recorded[1] and recorded[0]["name"] == "nyul"
    training = json.loads((run / "splits.json").read_text())[0]["train"]
    cases = [case for case in Brats().cases(phantom).cases if case.id in training]
    assert cases
    assert set(recorded[0]["values"]) == {"flair", "t1", "t2"}
    for modality, values in recorded[0]["values"].items():
        marks = []
        for case in cases:
            array_IJK, _ = read_volume(case.images[Modality(modality)])
            found = np.percentile(array_IJK[array_IJK != 0], NYUL.percentiles)
            marks.append(np.interp(found, found[[0, -1]], (0, 100)))
        assert np.allclose(values, np.mean(marks, axis=0), atol=1e-2)


@pytest.mark.parametrize("values", [[1], {"t1": [0, 1]}, None])
def test_a_damaged_standard_in_a_checkpoint_is_one_line(run, values) -> None:
    weights = read_weights(run / "fine-tune" / BEST)
    preprocessing = weights.metadata["preprocessing"]
    damaged = {**preprocessing["harmonise"], "values": values}
    metadata = {**weights.metadata, "preprocessing": {**preprocessing, "harmonise": damaged}}
    catalog, fabric = load_catalog(), build_fabric("cpu", "fp32")
    with pytest.raises(RunError, match="damaged medtl metadata") as caught:
        restore_stage(replace(weights, metadata=metadata), catalog, fabric)
    assert "\n" not in str(caught.value)


def test_prediction_prepares_a_curved_copy_as_the_image(run, phantom) -> None:
    """A standard takes away what a z-score cannot: a curve over the intensities."""
    trained = read_stage(Run(run), "fine-tune", load_catalog(), build_fabric("cpu", "fp32"))
    preprocessor = trained.predictor.preprocessor
    case = Brats().cases(phantom).cases[0]
    volumes = [read_volume(case.images[name])[0] for name in preprocessor.modalities]
    image_CIJK, affine = np.stack(volumes), read_volume(case.images[preprocessor.modalities[0]])[1]
    curved = (image_CIJK / image_CIJK.max()) ** 2 * 1000

    def apart(of) -> float:
        one, other = (of.prepare(given, affine)["image"] for given in (image_CIJK, curved))
        return float((one - other).abs().mean())

    without = replace(preprocessor, preset=replace(preprocessor.preset, standard=None))
    assert apart(preprocessor) < 0.25 * apart(without)


def test_a_run_with_a_standard_predicts_and_evaluates(run, phantom, command, tmp_path) -> None:
    words = ("--quiet", "--device", "cpu", "--precision", "fp32")
    command("predict", run, "-i", phantom, "-o", tmp_path / "out", *words)
    command("evaluate", run, *words)
    assert any((tmp_path / "out").rglob("*.nii.gz"))


def test_standards_change_what_is_prepared_and_presets_without_one_do_not() -> None:
    image, affine = view().image_CIJK, np.eye(4)
    standard = Standard("nyul", NYUL.percentiles, (("t1", tuple(np.linspace(0, 100, 11) ** 2)),))
    from medtl.transforms.preprocessor import Preprocessor

    plain = Preprocessor((Modality("t1"),), (), brain_mr_plain().with_spacing(1.0))
    onto = replace(plain, preset=replace(plain.preset, standard=standard))
    assert "harmonise" not in plain.preset.to_json()
    assert not torch.equal(
        plain.prepare(image, affine)["image"], onto.prepare(image, affine)["image"]
    )


@pytest.mark.parametrize("word", ["zscore", "resampling", "brain-mr", "nyull"])
def test_training_refuses_what_is_no_standard(
    word, phantom, tiny_run, tmp_path, command, capfd
) -> None:
    command("train", "brats", "--data", phantom, "--set", f"harmonise={word}", "--quiet", code=2)
    told = "".join(capfd.readouterr())
    wanted = {
        "zscore": "harmonise=zscore is for measuring shift",
        "resampling": "use nyul or histogram-matching",
        "brain-mr": "is no harmoniser but a transforms preset",
        "nyull": "did you mean 'nyul'?",
    }
    assert wanted[word] in told and told.count("\n") == 1


def test_landmarks_are_numpys_percentiles() -> None:
    given = view()
    own = HISTOGRAM.measure(given.image_CIJK[0], given.foreground_CIJK[0])
    assert np.allclose(own, np.percentile(shown_values(given), HISTOGRAM.percentiles), rtol=1e-5)
    assert isinstance(own[0], float) and Landmarks((50,)).ends is None
