"""Activations of a trained network as features. Axes: C channel, I J K voxels, N row, F feature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from views import features, view

from medtl.errors import ConfigError, UnknownNameError
from medtl.inference.load import read_stage
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.runtime.run_folder import Run


@pytest.fixture(scope="module")
def run(
    small_phantom: Callable[..., Path],
    tiny_run: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    data = small_phantom(cases=5, size=24, sites=1, seed=2)
    out = tmp_path_factory.mktemp("run") / "run"
    return tiny_run(out, data, "--strategy", "scratch", "--dst", "flair,t1")


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
