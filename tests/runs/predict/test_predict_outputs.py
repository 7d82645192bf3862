"""`medtl predict` with probabilities, of cases that lack modalities, and its profile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from terminal import Terminal

from medtl import api

EXACT = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def data(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=5, size=24, sites=1, seed=0)


@pytest.fixture(scope="module")
def robust(
    tiny_run: Callable[..., Path], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Trained for missing modalities."""
    out = tmp_path_factory.mktemp("robust") / "run"
    words = ("--strategy", "scratch", "--dst", "flair,t1ce", "--modality-dropout", "0.5")
    return tiny_run(out, data, *words)


@pytest.fixture(scope="module")
def plain(
    tiny_run: Callable[..., Path], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("plain") / "run"
    return tiny_run(out, data, "--strategy", "scratch", "--dst", "flair,t1ce")


@pytest.fixture
def some(data: Path, tmp_path: Path) -> tuple[Path, str, str]:
    """Two cases, the second without FLAIR; their names."""
    folders = sorted(path for path in data.iterdir() if path.is_dir())[:2]
    for number, folder in enumerate(folders):
        (tmp_path / "in" / folder.name).mkdir(parents=True)
        for path in folder.iterdir():
            if not (number and "flair" in path.name):
                (tmp_path / "in" / folder.name / path.name).symlink_to(path)
    return tmp_path / "in", folders[0].name, folders[1].name


def test_a_case_that_lacks_a_modality_is_predicted(
    robust: Path, some: tuple[Path, str, str], medtl: Terminal, tmp_path: Path
) -> None:
    folder, first, second = some
    _, err = medtl("predict", robust, "-i", folder, "-o", tmp_path / "out", *EXACT)
    assert f"warning: {second}: predicted without flair" in err
    assert f"{first}: predicted without" not in err
    for name in (first, second):
        (image,) = (folder / name).glob("*_t1ce.*")
        label = nibabel.load(tmp_path / "out" / f"{name}.nii.gz")
        assert label.shape == nibabel.load(image).shape


def test_without_such_training_it_is_left_out_by_name(
    plain: Path, some: tuple[Path, str, str], medtl: Terminal, tmp_path: Path
) -> None:
    folder, first, second = some
    _, err = medtl("predict", plain, "-i", folder, "-o", tmp_path / "out", *EXACT, code=3)
    assert f"left out: {second}: it has no flair image" in err
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == [f"{first}.nii.gz"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["failed"] == [second]


def test_all_without_it_are_refused(
    plain: Path, some: tuple[Path, str, str], medtl: Terminal, tmp_path: Path
) -> None:
    folder, _, second = some
    words = ("predict", plain, "-i", folder / second, "-o", tmp_path / "out", *EXACT)
    _, err = medtl(*words, code=2)
    assert "flair" in err and "Traceback" not in err
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_probabilities_uncertainty_and_profile(plain: Path, data: Path, tmp_path: Path) -> None:
    wanted = {"probabilities": True, "uncertainty": True, "profile": True}
    done = api.predict(plain, data, tmp_path, device="cpu", precision="fp32", **wanted)
    labels = sorted(tmp_path.glob("*.nii.gz"))
    assert len(labels) == 5
    for path in labels:
        label = np.asanyarray(nibabel.load(path).dataobj)
        share = {
            name: nibabel.load(tmp_path / "probabilities" / name / path.name).get_fdata()
            for name in ("WT", "TC", "ET")
        }
        assert share["WT"][label > 0].min() >= 0.5  # to three decimals
        doubt = nibabel.load(tmp_path / "uncertainty" / path.name).get_fdata()
        assert doubt.min() >= 0 and doubt.max() <= 1 and doubt.any()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert all(len(files) == 5 for files in manifest["cases"].values())
    text = "\n".join(done.notes)
    assert "Time of 5 cases" in text and "read and prepare" in text


def test_an_ensembles_probabilities_are_the_mean(plain: Path, data: Path, tmp_path: Path) -> None:
    """Of a run and itself: those of the run."""
    one, two = tmp_path / "one", tmp_path / "two"
    for runs, out in ((plain, one), ([plain, plain], two)):
        api.predict(runs, data, out, device="cpu", precision="fp32", probabilities=True)
    for path in (one / "probabilities" / "WT").iterdir():
        a, b = (
            nibabel.load(folder / "probabilities" / "WT" / path.name).get_fdata()
            for folder in (one, two)
        )
        np.testing.assert_allclose(a, b, atol=1.01e-3)
        assert (tmp_path / "one" / path.name).read_bytes() == (two / path.name).read_bytes()
