"""nnU-Net's checkpoints: what their plans say, and predictions with them.

Axes: C modality, L output, I J K voxels of the stored image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunet_model import CONFIGURATION, write_model
from scipy.ndimage import zoom
from terminal import Terminal

from medtl.config import checked
from medtl.errors import RunError
from medtl.inference.load import restore_stage
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.training.stages import levels_of
from medtl.transfer.nnunet_plans import REASON
from medtl.transfer.weights import read_weights, resolve_weights
from medtl.transforms.nnunet import NnunetRecipe, prepare_nnunet

RECIPE = NnunetRecipe(("ZScoreNormalization",), (False,), ((),), (0, 1, 2), False, 3, (0, 1, 2))


def affine(*edges_mm: float) -> np.ndarray:
    return np.diag([*edges_mm, 1.0])


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(5, 2, (1, *shape)).astype(np.float32)


def test_plans_become_network_labels_and_preprocessing(tmp_path: Path) -> None:
    write_model(tmp_path / "c.pth")
    weights = read_weights(tmp_path / "c.pth")
    assert weights.network["name"] == "plain-unet"
    assert weights.network["options"]["kernels"][0] == [1, 3, 3]
    assert weights.network["out_channels"] == 2  # the background has none of its own
    assert weights.regions == ("front", "back") and weights.modalities == ("mri",)
    assert weights.metadata["softmax"] and weights.metadata["exclusive"]


def test_all_weights_load_and_segment_as_nnunet_does(tmp_path: Path) -> None:
    """Against the likeliest of the three outputs of the whole image, padded to the patch."""
    network = write_model(tmp_path / "c.pth")
    fabric = build_fabric("cpu", "fp32")
    stage = restore_stage(read_weights(tmp_path / "c.pth"), load_catalog(), fabric)
    native_CIJK = image(14, 20, 12)
    prepared = stage.predictor.preprocessor.prepare(native_CIJK, affine(1, 1, 1))
    found_LIJK = stage.predictor.native_logits(prepared)
    turned = torch.from_numpy(native_CIJK[0].T.copy())  # slices first
    scored = (turned - turned.mean()) / turned.std(correction=0)
    padded = torch.nn.functional.pad(scored, (1, 1, 2, 2, 2, 2))
    with torch.no_grad():
        logits_LKJI = network(padded[None, None])[0, :, 2:14, 2:22, 1:15]
    expected_IJK = logits_LKJI.argmax(0).permute(2, 1, 0)
    background_1IJK = torch.zeros_like(found_LIJK[:1])
    assert torch.equal(torch.cat((background_1IJK, found_LIJK)).argmax(0), expected_IJK)
    relative = logits_LKJI[1:] - logits_LKJI[:1]
    torch.testing.assert_close(found_LIJK, relative.permute(0, 3, 2, 1), rtol=1e-3, atol=1e-3)


def test_training_takes_the_levels_of_the_file(tmp_path: Path) -> None:
    write_model(tmp_path / "c.pth")
    weights, config = read_weights(tmp_path / "c.pth"), checked({"task": "segmentation"})
    taken = levels_of(weights, config, "unet3d:plain_unet")
    assert taken["options"]["strides"] == [[1, 1, 1], [1, 2, 2], [2, 2, 2]] and taken["width"] == 8
    assert levels_of(weights, config, "dynunet") == {}
    own = checked({"task": "segmentation", "options": {"strides": [1, 2]}})
    assert levels_of(weights, own, "plain-unet") == {}


def test_predict_takes_the_models_folder(tmp_path: Path, medtl: Terminal) -> None:
    (tmp_path / "model" / "fold_0").mkdir(parents=True)
    (tmp_path / "in").mkdir()
    write_model(tmp_path / "model" / "fold_0" / "checkpoint_final.pth")
    study = nib.Nifti1Image(image(14, 20, 12)[0], affine(1, 1, 1))
    nib.save(study, tmp_path / "in" / "a_0000.nii.gz")
    words = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--precision", "fp32"]
    medtl("predict", str(tmp_path / "model"), *words)
    values = np.unique(nib.load(tmp_path / "out" / "a.nii.gz").get_fdata())
    assert set(values) <= {0, 1, 2} and len(values) > 1


def test_several_folds_are_named(tmp_path: Path) -> None:
    for fold in (0, 1):
        (tmp_path / f"fold_{fold}").mkdir()
        write_model(tmp_path / f"fold_{fold}" / "checkpoint_final.pth")
    with pytest.raises(Exception, match="2 folds of an nnU-Net; name one"):
        resolve_weights(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"previous_stage": "3d_lowres"}, "cascade"),
        ({"normalization_schemes": ["OwnNormalization"]}, "normalises by OwnNormalization"),
        ({"resampling_fn_data": "other"}, "resamples by other"),
        ({"patch_size": [24, 16]}, "its configuration is 2-D"),
        ({"patch_size": None}, "its plans are incomplete"),
    ],
)
def test_what_cannot_predict_says_why(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    write_model(tmp_path / "c.pth", **changes)
    weights = read_weights(tmp_path / "c.pth")
    assert reason in weights.metadata[REASON]
    with pytest.raises(RunError, match=f"cannot predict here: .*{reason}"):
        restore_stage(weights, load_catalog(), build_fabric("cpu", "fp32"))


def test_regions_keep_an_output_each(tmp_path: Path) -> None:
    write_model(
        tmp_path / "c.pth", labels={"background": 0, "all": [1, 2, 3], "core": [2, 3], "e": 3}
    )
    weights = read_weights(tmp_path / "c.pth")
    assert weights.network["out_channels"] == 3 and not weights.metadata["softmax"]


def test_older_plans_name_numbers_in_place_of_a_class(tmp_path: Path) -> None:
    older = {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 8,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "conv_kernel_sizes": CONFIGURATION["architecture"]["arch_kwargs"]["kernel_sizes"],
        "architecture": None,
    }
    write_model(tmp_path / "old.pth", **older)
    write_model(tmp_path / "new.pth")
    old, new = read_weights(tmp_path / "old.pth"), read_weights(tmp_path / "new.pth")
    assert old.network == new.network


# --- preprocessing --------------------------------------------------------------------------------


def test_images_are_cropped_normalised_and_resampled_by_cubic_splines() -> None:
    native_CIJK = image(12, 14, 10)
    native_CIJK[:, :3] = 0
    prepared, box, slices = prepare_nnunet(native_CIJK, affine(2, 1, 1), RECIPE, (1.0, 1.0, 1.0))
    shown = native_CIJK[0, 3:].T  # slices first
    scored = (shown - shown.mean()) / shown.std()
    expected = zoom(scored.astype(float), (1, 1, 2), order=3, mode="nearest", grid_mode=True)
    assert slices is None and box[2] == slice(3, 12)
    np.testing.assert_allclose(
        prepared[0].numpy(), expected.clip(scored.min(), scored.max()), atol=1e-5
    )


def test_thick_slices_are_resampled_within_and_taken_whole() -> None:
    native_CIJK = image(8, 10, 4)
    prepared, _, slices = prepare_nnunet(native_CIJK, affine(1, 1, 5), RECIPE, (2.5, 0.5, 0.5))
    assert slices == 0 and prepared.shape == (1, 8, 20, 16)
    assert torch.equal(prepared[0, 0], prepared[0, 1])
    one = native_CIJK[0, :, :, 1].T
    scored = (one - native_CIJK.mean()) / native_CIJK.std()
    expected = zoom(scored.astype(float), 2, order=3, mode="nearest", grid_mode=True)
    expected = expected.clip(scored.min(), scored.max())
    np.testing.assert_allclose(prepared[0, 2].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("scheme", "masked", "expected"),
    [
        ("NoNormalization", False, [0, 2, 4, 6]),
        ("RescaleTo01Normalization", False, [0, 1 / 3, 2 / 3, 1]),
        ("RGBTo01Normalization", False, [0, 2 / 255, 4 / 255, 6 / 255]),
        ("CTNormalization", False, [(1 - 3) / 2, -0.5, 0.5, 1.0]),
    ],
)
def test_channels_are_normalised(scheme: str, masked: bool, expected: list[float]) -> None:
    native_CIJK = np.array([0, 2, 4, 6], dtype=np.float32).reshape(1, 4, 1, 1).repeat(2, axis=2)
    window = (1.0, 5.0, 3.0, 2.0)
    recipe = NnunetRecipe((scheme,), (masked,), (window,), (0, 1, 2), False, 3, ())
    native_CIJK[:, :, 1] = 6  # keeps the row of zeros in the box
    prepared, _, _ = prepare_nnunet(native_CIJK, affine(1, 1, 1), recipe, (1.0, 1.0, 1.0))
    np.testing.assert_allclose(prepared[0, 0, 0].numpy(), expected, atol=1e-6)


def test_scores_are_taken_where_the_image_is_not_zero_if_the_plans_say_so() -> None:
    native_CIJK = image(6, 6, 6)
    native_CIJK[:, 0, 0, 0] = native_CIJK[:, 5, 5, 5] = 0
    recipe = NnunetRecipe(("ZScoreNormalization",), (True,), ((),), (0, 1, 2), False, 3, ())
    prepared, _, _ = prepare_nnunet(native_CIJK, affine(1, 1, 1), recipe, (1.0, 1.0, 1.0))
    shown = native_CIJK[native_CIJK != 0]
    assert prepared[0, 0, 0, 0] == 0
    assert float(prepared[0, 3, 3, 3]) == pytest.approx(
        float((native_CIJK[0, 3, 3, 3] - shown.mean()) / shown.std()), abs=1e-5
    )
