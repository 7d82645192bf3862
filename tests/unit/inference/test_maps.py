"""Label maps by slabs, probabilities and uncertainty.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from bright import FREE, REGIONS, predictor
from scipy.special import expit, softmax
from scipy.stats import entropy

from medtl.data.case import Case
from medtl.data.io.nifti import read_header
from medtl.data.label_scheme import LabelScheme
from medtl.inference import segmentation
from medtl.inference.maps import Maps, uncertainty
from medtl.inference.probability import probabilities
from medtl.plugins.catalog import load_catalog
from medtl_brats.task import Brats

NESTED = LabelScheme.of({"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}, REGIONS)


@pytest.fixture(scope="module")
def cases(small_phantom: Callable[..., Path]) -> tuple[Case, ...]:
    return Brats().cases(small_phantom(cases=2, size=24, sites=1, seed=2)).cases


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "by planes"])
@pytest.mark.parametrize("scheme", [FREE, NESTED], ids=["every combination", "nested values"])
@pytest.mark.parametrize("nested", [True, False])
def test_a_label_map_holds_the_masks(
    monkeypatch: pytest.MonkeyPatch,
    cases: tuple[Case, ...],
    whole: bool,
    scheme: LabelScheme,
    nested: bool,
) -> None:
    if not whole:
        monkeypatch.setattr(segmentation, "MOST_LOGITS", 0)
    found = predictor(nested=nested)
    prepared = found.preprocessor(cases[0], with_target=False)
    settled = found.masks(prepared, scheme)
    label = found.label_map(prepared, scheme)
    np.testing.assert_array_equal(label.label_IJK, scheme.paint(settled.masks_LIJK))
    assert label.moved == settled.moved
    assert label.voxels == tuple(settled.masks_LIJK.sum(axis=(1, 2, 3)).tolist())
    for region, mask_IJK in zip(REGIONS, settled.masks_LIJK, strict=True):
        assert np.array_equal(np.isin(label.label_IJK, label.values_of(region)), mask_IJK)
    assert sum(label.voxels) > 0


@pytest.mark.parametrize("values", [{}, {"TC": (2, 5), "ET": (7,)}], ids=["plain", "others"])
def test_labels_that_exclude_each_other(
    cases: tuple[Case, ...], values: dict[str, tuple[int, ...]]
) -> None:
    """They are painted by the highest logit; so are the masks."""
    scheme = LabelScheme.of({"WT": (1,), "TC": (2,), "ET": (3,)} | values, REGIONS)
    found = replace(predictor(nested=False), exclusive=True)
    prepared = found.preprocessor(cases[0], with_target=False)
    logits_LIJK = found.native_logits(prepared)
    settled = found.settle(logits_LIJK, scheme)
    label = found.label_map(prepared, scheme)
    np.testing.assert_array_equal(label.label_IJK, scheme.paint(settled.masks_LIJK))
    assert label.label_IJK.dtype == scheme.dtype
    assert label.voxels == tuple(settled.masks_LIJK.sum(axis=(1, 2, 3)).tolist())
    assert label.moved == settled.moved == (0, 0, 0)
    assert len(np.unique(label.label_IJK)) > 1


def test_a_flat_network_goes_by_slices(
    monkeypatch: pytest.MonkeyPatch, cases: tuple[Case, ...]
) -> None:
    torch.manual_seed(0)
    network = load_catalog().networks["unet2d-37"].load()(in_channels=2, out_channels=3, width=2)
    found = replace(predictor(nested=False), network=network, patch_size=(32, 32))
    prepared = found.preprocessor(cases[0], with_target=False)
    expected = found.label_map(prepared, FREE)
    monkeypatch.setattr(segmentation, "MOST_LOGITS", 0)
    slices = found.label_map(prepared, FREE)
    same = slices.label_IJK == expected.label_IJK
    assert same.mean() > 0.995  # sums of half precision move a few voxels near the limit
    assert len(np.unique(expected.label_IJK)) > 2


def test_small_components_are_dropped_of_large_volumes_too(
    monkeypatch: pytest.MonkeyPatch, cases: tuple[Case, ...]
) -> None:
    found = replace(predictor(), min_component_ml=1e6)
    monkeypatch.setattr(segmentation, "MOST_LOGITS", 0)
    prepared = found.preprocessor(cases[0], with_target=False)
    assert not found.label_map(prepared, NESTED).label_IJK.any()


@pytest.mark.parametrize("exclusive", [True, False])
def test_uncertainty_is_the_entropy(exclusive: bool) -> None:
    logits_LN = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)) * 4
    found = uncertainty(probabilities(logits_LN, softmax=exclusive), softmax=exclusive)
    if exclusive:
        shares = softmax(np.vstack((np.zeros(50), logits_LN.numpy().astype(float))), axis=0)
        expected = entropy(shares, axis=0) / math.log(5)
    else:
        shares = expit(logits_LN.numpy().astype(float))
        expected = np.max([entropy((p, 1 - p), base=2, axis=0) for p in shares], axis=0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    certain = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.double)
    assert uncertainty(certain, softmax=exclusive).tolist() == [0.0, 0.0]
    even = torch.full((2, 1), 1 / 3 if exclusive else 0.5, dtype=torch.double)
    assert uncertainty(even, softmax=exclusive).item() == pytest.approx(1)


def test_maps_are_those_of_the_logits(cases: tuple[Case, ...], tmp_path: Path) -> None:
    found, header = predictor(), read_header(cases[0].images["flair"])
    prepared = found.preprocessor(cases[0], with_target=False)
    maps = Maps(
        tmp_path, prepared["placement"], REGIONS, False, probabilities=True, uncertainty=True
    )
    found.label_map(prepared, NESTED, maps.add)
    paths = list(maps.write(tmp_path, "case 1", header))
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        *(f"probabilities/{name}/case 1.nii.gz" for name in ("ET", "TC", "WT")),
        "uncertainty/case 1.nii.gz",
    ]
    assert len(list(tmp_path.iterdir())) == 2  # nothing temporary stays
    shares = expit(found.native_logits(prepared).double().numpy())
    for region, share_IJK in zip(REGIONS, shares, strict=True):
        image = nibabel.load(tmp_path / "probabilities" / region / "case 1.nii.gz")
        np.testing.assert_array_equal(image.affine, header.affine)
        np.testing.assert_allclose(image.get_fdata(), share_IJK, atol=5.1e-4)
    expected = np.max([entropy((p, 1 - p), base=2, axis=0) for p in shares], axis=0)
    image = nibabel.load(tmp_path / "uncertainty" / "case 1.nii.gz")
    inside = image.get_fdata() > 0
    assert inside.any() and not inside.all()
    np.testing.assert_allclose(image.get_fdata()[inside], expected[inside], atol=5.1e-4)


def test_a_missing_modality_is_a_channel_of_zeros(cases: tuple[Case, ...]) -> None:
    preprocessor = predictor().preprocessor
    whole = preprocessor(cases[0], with_target=False)
    for number, name in enumerate(preprocessor.modalities):
        kept = {other: file for other, file in cases[0].images.items() if other != name}
        lacking = preprocessor.without_target(replace(cases[0], images=kept))
        assert lacking["image"].shape[0] == 2 and not lacking["image"][number].any()
        if lacking["placement"] == whole["placement"]:  # the other alone gives the same box
            assert torch.equal(lacking["image"][1 - number], whole["image"][1 - number])
        else:
            assert lacking["image"][1 - number].any()
    same = preprocessor.without_target(cases[0])
    assert torch.equal(same["image"], whole["image"])
