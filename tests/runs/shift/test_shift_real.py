"""Distances between the lines of a real volume. Axes: I J K voxels, N row, F feature."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from places import shared_data

from medtl.shift.metrics import legacy
from medtl.shift.metrics.mmd import mmd2


@pytest.fixture(scope="module")
def lines_NF() -> np.ndarray:
    """The image lines of a real FLAIR volume as the loop reads them: (slices x rows, columns)."""
    volume, *_ = shared_data("brats", "BraTS2021_00006").glob("*flair.nii.gz")
    volume_IJK = np.asarray(nibabel.load(volume).dataobj, dtype=np.float64)
    return volume_IJK.transpose(2, 1, 0).reshape(-1, 240)


def test_legacy_loop_finds_a_real_volume_far_from_itself(lines_NF: np.ndarray) -> None:
    """Every fourth line, in batches of a fourth: as many batches as of the whole volume, whose
    value ``benchmarks/shift.py`` measures."""
    assert lines_NF.shape == (37_200, 240)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(legacy, "BATCH", 250)
        assert 0.12 < legacy.legacy_mmd(lines_NF[::4], lines_NF[::4]) < 0.20


def test_halves_of_a_real_volume_are_no_distance_apart(lines_NF: np.ndarray) -> None:
    shown_NF = lines_NF[(lines_NF > 0).any(1)]
    random = np.random.default_rng(6)
    found = []
    for _ in range(30):
        few_NF = shown_NF[random.choice(len(shown_NF), 800, replace=False)]
        scaled_NF = few_NF / few_NF.std(0).clip(1)
        found.append(mmd2(scaled_NF[:400], scaled_NF[400:]))
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
