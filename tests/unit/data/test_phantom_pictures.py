"""The phantom's pictures: laid out as the real sets, told by seed, shifted as the dial says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl.data.phantom import write_phantom
from medtl.data.phantom.kaggle_layout import CLASSES, shown
from medtl.data.phantom.lgg_layout import HOSPITALS, SLICES
from medtl.errors import ConfigError

SIZE = 20


def lgg(root: Path, cases: int = 5, shift: float = 1.0, workers: int = 2) -> Path:
    return write_phantom(
        root, cases=cases, size=SIZE, sites=5, seed=1, shift=shift, layout="lgg-mri",
        workers=workers,
    )  # fmt: skip


def kaggle(root: Path, cases: int = 20, shift: float = 1.0) -> Path:
    return write_phantom(
        root, cases=cases, size=SIZE, sites=2, seed=1, shift=shift, layout="kaggle-mri"
    )


def pictures(root: Path) -> dict[str, np.ndarray]:
    paths = sorted(p for p in root.rglob("*") if p.suffix in (".tif", ".jpg"))
    return {str(p.relative_to(root)): np.asarray(Image.open(p)) for p in paths}


def test_slices_are_named_and_stored_as_the_tcga_set(tmp_path: Path) -> None:
    root = lgg(tmp_path / "lgg")
    folders = sorted(p.name for p in root.iterdir() if p.is_dir())
    assert {name.split("_")[1] for name in folders} == set(HOSPITALS)
    masks = []
    for name in folders:
        for number in range(1, SLICES + 1):
            picture = np.asarray(Image.open(root / name / f"{name}_{number}.tif"))
            mask = np.asarray(Image.open(root / name / f"{name}_{number}_mask.tif"))
            assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8
            assert mask.shape == (SIZE, SIZE) and set(np.unique(mask)) <= {0, 255}
            assert picture[mask > 0].all(axis=-1).any() or not mask.any()
            masks.append(mask.any())
    assert 0.2 < np.mean(masks) < 0.8
    index = json.loads((root / "phantom.json").read_text())
    assert index["synthetic"] is True and sorted(index["sites"]) == folders


def test_small_cohort_of_pictures_is_a_prefix_whatever_the_workers(tmp_path: Path) -> None:
    few, many = lgg(tmp_path / "few", 2, workers=1), lgg(tmp_path / "many", 5)
    larger = pictures(many)
    for name, picture in pictures(few).items():
        np.testing.assert_array_equal(larger[name], picture)


def test_without_shift_the_dial_leaves_sites_alike(tmp_path: Path) -> None:
    """Brightness by hospital spreads with the dial; without it only anatomy differs."""

    def spread(shift: float) -> float:
        found = pictures(lgg(tmp_path / f"{shift}", 5, shift=shift))
        by_patient: dict[str, list[float]] = {}
        for name, picture in found.items():
            if "_mask" not in name:
                by_patient.setdefault(name.split("/")[0], []).append(picture[picture > 0].mean())
        return float(np.std([np.mean(v) for v in by_patient.values()]))

    assert spread(0.0) < spread(1.0) < spread(3.0)


def test_masks_do_not_depend_on_the_scanner(tmp_path: Path) -> None:
    one, other = (pictures(lgg(tmp_path / str(s), 3, shift=s)) for s in (0.0, 2.0))
    for name in one:
        if "_mask" in name:
            np.testing.assert_array_equal(one[name], other[name])


def test_class_folders_hold_each_class_alike_and_twins_of_training(tmp_path: Path) -> None:
    root = kaggle(tmp_path / "kaggle")
    found = pictures(root)
    for part, each in (("Training", 4), ("Testing", 1)):
        for name in CLASSES:
            assert sum(key.startswith(f"{part}/{name}/") for key in found) == each
    twins = json.loads((root / "phantom.json").read_text())["twins"]
    assert len(twins) == 2  # half of Testing
    for again, first in twins.items():
        assert again.startswith("Testing/") and first.startswith("Training/")
        assert again.split("/")[1] == first.split("/")[1]
        difference = found[again].astype(float) - found[first]
        assert 0 < np.abs(difference).mean() < 5
    assert all(shown(shown(n)) == shown(n) for n in range(200))


def test_picture_sizes_follow_the_site_and_not_the_class(tmp_path: Path) -> None:
    root = kaggle(tmp_path / "kaggle")
    sites = json.loads((root / "phantom.json").read_text())["sites"]
    shapes: dict[str, set[int]] = {}
    for name, picture in pictures(root).items():
        shapes.setdefault(sites[name], set()).add(max(picture.shape))
    assert all(len(edges) == 1 for edges in shapes.values())
    assert len(set.union(*shapes.values())) == len(shapes) == 2


def test_unknown_layout_and_sixth_hospital_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'dicom'; known: brats, kaggle-mri, lgg-mri"):
        write_phantom(tmp_path / "x", cases=1, size=16, sites=1, seed=0, layout="dicom")
    with pytest.raises(ConfigError, match="'Brts'; did you mean 'brats'"):
        write_phantom(tmp_path / "x", cases=1, size=16, sites=1, seed=0, layout="Brts")
    with pytest.raises(ConfigError, match="sites 6: must lie between 1 and 5"):
        write_phantom(tmp_path / "x", cases=1, size=16, sites=6, seed=0, layout="lgg-mri")
