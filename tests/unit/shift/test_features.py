"""Rows of lines, slices, patches, components, labels and activations.

Axes: B batch, C modality or channel, I J K voxels, N row, F feature.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from views import features, view

from medtl.data.case import Case, ImageFile
from medtl.errors import DataError
from medtl.shift.features.pca import principal_components
from medtl.shift.images.domains import Image
from medtl.shift.images.extract import view_of


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


def test_labels_that_are_known_in_part_are_refused() -> None:
    """Else what nobody looked for would be a volume of 0, and a shift."""
    file = ImageFile(Path("labels.nii.gz"))
    case = Case("a", "a", {}, file, {"WT": (1,)}, (0, 1), unannotated=("WT",))
    image = Image(case, "a", "a", ("t1",), in_source=True, in_target=False)
    with pytest.raises(DataError, match="labels of case a are known only in part"):
        view_of(image, ("WT",), features("labels"))
