"""Rows of lines, slices, patches, components, labels and activations.

Axes: B batch, C modality or channel, I J K voxels, N row, F feature.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medtl.data.modality import Modality
from medtl.data.phantom import write_phantom
from medtl.errors import ConfigError, DataError, UnknownNameError
from medtl.inference.load import read_stage
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.runtime.run_folder import Run
from medtl.shift.contract import FeatureExtractor, FeatureSettings, View
from medtl.shift.features.pca import principal_components


def features(name: str, **settings: object) -> FeatureExtractor:
    found: FeatureExtractor = load_catalog().features[name].load()(FeatureSettings(**settings))
    return found


def view(shape: tuple[int, int, int] = (20, 24, 28), channels: int = 1) -> View:
    """A box of patient in air; the spacing is finest in the plane of slices."""
    random = np.random.default_rng(0)
    shown = np.zeros((channels, *shape), dtype=bool)
    shown[:, 4:16, 3:20, 2:26] = True
    image = np.where(shown, random.normal(100, 20, shown.shape), 0).astype(np.float32)
    names = tuple(Modality(name) for name in ("flair", "t1", "t1ce", "t2")[:channels])
    return View("one", names, image, shown, (1.0, 1.0, 1.0), "RAS", is_2d=False)


def test_lines_run_along_the_first_axis_and_leave_out_air() -> None:
    shown = view()
    measured = features("lines").rows(shown)
    assert measured.values_NF.shape == (17 * 24, 20)
    assert np.array_equal(measured.values_NF[0], shown.image_CIJK[0, :, 3, 2])
    assert np.array_equal(measured.values_NF[25], shown.image_CIJK[0, :, 4, 3])
    assert (measured.values_NF != 0).any(axis=1).all()


def test_slices_lie_across_the_thickest_voxels_and_are_at_most_sixteen() -> None:
    rows = features("slices").rows
    assert len(rows(view()).values_NF) == 16  # of 24 along the last axis
    assert len(rows(replace(view(), spacing_mm=(4.0, 1.0, 1.0))).values_NF) == 12
    assert len(rows(view((20, 24, 1))).values_NF) == 1


def test_slices_that_show_little_are_left_out() -> None:
    little = view()
    little.foreground_CIJK[0, :, :, 10:] = False
    little.foreground_CIJK[0, 4:7, 3:6, 10:] = True  # 9 of 204 voxels
    assert len(features("slices").rows(little).values_NF) == 8


def test_a_slice_is_measured_as_an_image_of_its_own() -> None:
    whole = view((20, 24, 1))
    whole.foreground_CIJK[0, 4:16, 3:20] = True
    appearance = features("appearance").rows(whole)
    one = features("slices").rows(whole)
    columns = [appearance.names.index(name) for name in one.names]
    assert np.array_equal(one.values_NF[0], appearance.values_NF[0, columns])


def test_patches_come_from_the_same_shown_places_every_time() -> None:
    rows = features("patches").rows
    first, again = rows(view()), rows(view())
    assert first.values_NF.shape == (64, 64)
    assert np.array_equal(first.values_NF, again.values_NF)
    places = view()
    places.image_CIJK[0] = places.foreground_CIJK[0]
    assert (rows(places).values_NF.mean(axis=1) >= 0.5).all()
    doubled = replace(view(), image_CIJK=2 * view().image_CIJK)
    assert np.allclose(rows(doubled).values_NF, 2 * first.values_NF)


def test_patches_of_a_picture_are_flat() -> None:
    picture = replace(view((40, 40, 1)), is_2d=True)
    picture.foreground_CIJK[:] = True
    picture.image_CIJK[:] = np.arange(40, dtype=np.float32)[None, :, None, None]
    values_NF = features("patches").rows(picture).values_NF
    steps = np.diff(values_NF.reshape(-1, 8, 8), axis=1)
    assert np.allclose(steps, 2)  # blocks of two rows


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    random = np.random.default_rng(3)
    for shape in ((40, 12), (12, 40)):
        values_NF = random.normal(size=shape) * np.linspace(3, 1, shape[1])
        centred = values_NF - values_NF.mean(axis=0)
        _, _, loadings = np.linalg.svd(centred, full_matrices=False)
        loadings = loadings[: min(16, shape[0] - 1)]
        signs = np.sign(loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)])
        found = principal_components(values_NF)
        assert np.allclose(found.values_NF, centred @ loadings.T * signs, atol=1e-8)
        assert found.names[0] == "pca/01"


def test_empty_components_are_left_out() -> None:
    line = np.outer(np.arange(30.0), np.ones(5))
    assert principal_components(line).values_NF.shape == (30, 1)
    assert principal_components(np.ones((4, 3))).values_NF.shape == (4, 1)


def test_thumbnails_know_neither_factor_nor_offset() -> None:
    rows = features("pca").rows
    brighter = replace(view(), image_CIJK=3 * view().image_CIJK + 50)
    assert np.allclose(rows(view()).values_NF, rows(brighter).values_NF, atol=1e-3)
    assert rows(view()).values_NF.shape == (1, 16**3)
    assert rows(replace(view((32, 32, 1)), is_2d=True)).values_NF.shape == (1, 32**2)


def test_labels_are_shares_and_volumes_of_the_regions() -> None:
    target = np.zeros((2, 20, 24, 28), dtype=bool)
    target[0, 4:14, 3:13, 2:12] = True
    labelled = replace(view(), target_LIJK=target, spacing_mm=(1.0, 1.0, 2.0))
    measured = features("labels", regions=("WT", "ET")).rows(labelled)
    found = dict(zip(measured.names, measured.values_NF[0], strict=True))
    assert found["label/WT"] == pytest.approx(1000 / (12 * 17 * 24))
    assert found["label/WT_ml"] == pytest.approx(np.log(3))
    assert found["label/ET"] == found["label/ET_ml"] == 0


def test_labels_of_pictures_are_their_class() -> None:
    known = features("labels", regions=("cat", "dog"))
    assert known.target and known.joint
    found = known.rows(replace(view(), class_name="dog"))
    assert found.names == ("label/cat", "label/dog") and found.values_NF.tolist() == [[0, 1]]
    with pytest.raises(DataError, match="of class cow; known: cat, dog"):
        known.rows(replace(view(), class_name="cow"))
    with pytest.raises(DataError, match="one has no label"):
        known.rows(view())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_run) -> Path:
    root = tmp_path_factory.mktemp("run")
    data = write_phantom(root / "data", cases=5, size=24, sites=1, seed=2, workers=1)
    return tiny_run(root / "run", data, "--strategy", "scratch", "--dst", "flair,t1")


def test_activations_are_the_moments_of_the_layer_over_the_prepared_image(run: Path) -> None:
    shown = replace(view(channels=2), spacing_mm=(7.5, 7.5, 7.5))
    trained = read_stage(Run(run), "scratch", load_catalog(), build_fabric("cpu", "fp32"))
    network = trained.predictor.network
    layer = next(n for n, m in network.module.named_modules() if isinstance(m, torch.nn.Conv3d))
    image_CIJK = trained.predictor.preprocessor.prepare(
        shown.image_CIJK, np.diag([7.5, 7.5, 7.5, 1])
    )["image"]
    edges = [network.patch_multiple * -(-n // network.patch_multiple) for n in image_CIJK.shape[1:]]
    edges = [max(edge, 2 * network.patch_multiple) for edge in edges]
    kept: list[torch.Tensor] = []
    handle = network.module.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: kept.append(output)
    )
    padding = [(edge - n) for edge, n in zip(edges, image_CIJK.shape[1:], strict=True)]
    pairs = [half for extra in reversed(padding) for half in (extra // 2, extra - extra // 2)]
    with torch.no_grad():
        network.module(torch.nn.functional.pad(image_CIJK, pairs)[None])
    handle.remove()
    output_CN = kept[0][0].flatten(1).double()
    measured = features("activations", run=run, layer=layer).rows(shown)
    means, deviations = np.split(measured.values_NF[0], 2)
    assert np.allclose(means, output_CN.mean(1), atol=1e-5)
    assert np.allclose(deviations, output_CN.std(1, correction=0), atol=1e-4)


def test_activations_take_a_block_or_choose_one(run: Path) -> None:
    shown = replace(view(channels=2), spacing_mm=(7.5, 7.5, 7.5))
    chosen = features("activations", run=run)
    assert chosen.joint
    measured = chosen.rows(shown)
    assert measured.names[0].startswith("bottleneck/mean_0")
    again = features("activations", run=run, layer="bottleneck").rows(shown)
    assert np.array_equal(again.values_NF, measured.values_NF)
    assert not np.array_equal(
        chosen.rows(replace(shown, image_CIJK=shown.image_CIJK[::-1])).values_NF,
        measured.values_NF,
    )


def test_activations_refuse_what_does_not_fit(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'bottleneck'"):
        features("activations", run=run, layer="botleneck")
    with pytest.raises(ConfigError, match=r"on 2 modalities \(flair, t1\).* 3 \(flair, t1, t1ce\)"):
        features("activations", run=run).rows(view(channels=3))
    with pytest.raises(ConfigError, match="name its run with --run"):
        features("activations")
