"""Bad input ends in one line on stderr that names the file, exit code 2, and nothing half-written.

Axes: I J K voxels.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from terminal import Terminal, exit_code

from medtl import api
from medtl.data.splits import read_splits
from medtl.errors import RunError
from medtl.runtime.run_folder import check_writable

TINY = ("--network", "unet", "--width", "4", "--steps", "1", "--device", "cpu")
TINY += tuple(f"--set={text}" for text in ("patch_size=32,32,32", "test_fraction=0.2"))


def train(medtl: Terminal, data: Path, *words: object, out: Path) -> str:
    """The line that refuses it; no file is made beside ``out``."""
    before = sorted(out.parent.iterdir())
    line = medtl.refused("train", "brats", "--data", data, *TINY, "-q", *words, "--out", out)
    assert sorted(out.parent.iterdir()) == before
    return line


@pytest.fixture(scope="module")
def phantom(small_phantom: Callable[..., Path]) -> Path:
    return small_phantom(cases=6, size=24, sites=1, seed=5)


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = ("train", "brats", "--data", phantom, *TINY, "-q", "--out", folder)
    assert exit_code(*words, "--strategy", "scratch") == 0
    return folder


@pytest.fixture
def copied(phantom: Path, tmp_path: Path) -> Path:
    """A copy of the phantom to damage, and beside it an empty folder for runs."""
    (tmp_path / "runs").mkdir()
    return Path(shutil.copytree(phantom, tmp_path / "data"))


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def edited(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        image = nib.load(path)
        voxels = change(image.get_fdata(dtype=np.float32).copy())
        nib.save(nib.Nifti1Image(voxels.astype(np.float32), image.affine), path)

    return damage


def nan_inside(voxels_IJK: np.ndarray) -> np.ndarray:
    voxels_IJK[12, 12, 12] = np.nan
    return voxels_IJK


def moved(path: Path) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 5
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), path)


DAMAGES = {
    "missing modality": (Path.unlink, "no t1ce"),
    "truncated gzip": (truncated, "truncated"),
    "empty file": (lambda path: path.write_bytes(b""), ""),
    "no NIfTI": (lambda path: path.write_bytes(b"hello" * 200), ""),
    "NaN": (edited(nan_inside), "NaN"),
    "shape": (edited(lambda voxels: voxels[:-1]), "24x24x24"),
    "affine": (moved, "origin"),
    "all zero": (edited(np.zeros_like), "all-zero"),
}


@pytest.mark.parametrize("side", ["train", "test"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_training_refuses_a_damaged_image_before_it_starts(
    medtl: Terminal, copied: Path, run: Path, damage: str, side: str
) -> None:
    name = getattr(read_splits(run / "splits.json"), side)[0]
    path = copied / name / f"{name}_t1ce.nii.gz"
    do, says = DAMAGES[damage]
    do(path)
    line = train(medtl, copied, out=copied.parent / "runs" / "x")
    assert name in line and says in line
    if damage != "missing modality":
        assert str(path) in line


@pytest.mark.parametrize("damage", DAMAGES)
def test_prediction_refuses_a_damaged_image(
    medtl: Terminal, copied: Path, run: Path, damage: str, tmp_path: Path
) -> None:
    path = copied / "Phantom_0001" / "Phantom_0001_t1.nii.gz"
    do, says = DAMAGES[damage]
    do(path)
    words = ("-i", copied / "Phantom_0001", "-o", tmp_path / "out", "-q")
    line = medtl.refused("predict", run, *words)
    assert "Phantom_0001" in line and says.replace("t1ce", "t1") in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "inner", "deep/inner"])
def test_out_that_is_or_lies_below_a_file_is_refused_before_any_work(
    medtl: Terminal, run: Path, phantom: Path, tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / below
    unreadable = tmp_path / "nowhere"  # work would refuse this
    for words in (
        ("predict", run, "-i", unreadable, "-o", out),
        ("explain", run, "-i", unreadable, "-o", out),
        ("train", "brats", "--data", unreadable, "--out", out),
        ("shift", "brats", "--data", unreadable, "--out", out),
    ):
        line = medtl.refused(*words)
        assert f"{tmp_path / 'file'} is a file, not a folder; choose another --out" in line
        assert str(out) in line
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(RunError, match="is a file, not a folder"):
        api.explain(run, out=out)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc")
def test_out_where_no_file_can_be_made_is_refused_before_any_work(medtl: Terminal) -> None:
    line = medtl.refused("train", "brats", "--data", "/nowhere", "--out", "/proc/nope/run")
    assert "cannot write to /proc/nope/run: /proc does not allow it" in line


def test_asking_whether_a_folder_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "deep" / "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [7, 1.5, -1])
def test_unknown_label_values_are_refused(medtl: Terminal, copied: Path, value: float) -> None:
    path = copied / "Phantom_0002" / "Phantom_0002_seg.nii.gz"

    def change(voxels: np.ndarray) -> np.ndarray:
        voxels[1, 1, 1] = value
        return voxels

    edited(change)(path)
    line = train(medtl, copied, out=copied.parent / "runs" / "x")
    assert str(path) in line and f"{value:g}" in line


def test_evaluation_refuses_a_damaged_segmentation(
    medtl: Terminal, copied: Path, run: Path
) -> None:
    path = copied / "Phantom_0002" / "Phantom_0002_seg.nii.gz"
    truncated(path)
    line = medtl.refused("evaluate", run, "--data", copied, "--json", "-q")
    assert str(path) in line


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_empty_and_missing_folders_are_refused(
    medtl: Terminal, run: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "empty").mkdir()
    for data in (tmp_path / "empty", tmp_path / "nowhere"):
        line = medtl.refused(
            *{
                "train": ("train", "brats", "--data", data, *TINY, "--out", tmp_path / "x"),
                "evaluate": ("evaluate", run, "--data", data),
                "predict": ("predict", run, "-i", data, "-o", tmp_path / "x"),
            }[command],
            "-q",
        )
        assert str(data) in line
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_unwritable_output_is_refused(medtl: Terminal, phantom: Path, run: Path, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        line = medtl.refused("train", "brats", "--data", phantom, *TINY, "-q", "--out", out)
        assert str(out) in line
        line = medtl.refused("predict", run, "-i", phantom, "-o", out, "-q")
        assert str(out) in line
    assert (tmp_path / "file").read_text() == "in the way"


def test_training_never_writes_into_a_folder_that_holds_something(
    medtl: Terminal, phantom: Path, run: Path
) -> None:
    before = sorted(run.rglob("*"))
    line = medtl.refused("train", "brats", "--data", phantom, *TINY, "-q", "--out", run)
    assert str(run) in line and sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "wrong", "near"),
    [
        (("brtas",), "brtas", "brats"),
        (("brats", "--network", "unte"), "unte", "unet"),
        (("brats", "--strategy", "modality-tranfer"), "modality-tranfer", "modality-transfer"),
        (("brats", "--transforms", "brain_mri"), "brain_mri", "brain-mr"),
        (("brats", "--set", "loss=dice"), "dice", "dice-ce"),
        (("brats", "--set", "stepz=3"), "stepz", "steps"),
        (("brats", "--stepps", "3"), "--stepps", "--steps"),
        (("brats", "--labels", "2014-2020"), "2014-2020", "2014-2021"),
        (("brats", "--freeze", "stemm"), "stemm", "stem"),
    ],
)
def test_unknown_names_come_with_the_nearest(
    medtl: Terminal, phantom: Path, tmp_path: Path, words: tuple[str, ...], wrong: str, near: str
) -> None:
    line = medtl.refused("train", *words, "--data", phantom, "-q", "--out", tmp_path / "x")
    assert wrong in line and near in line.replace(repr(wrong), "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--src", "flair,pd"), "pd"),
        (("--dst", "t1,t1"), "twice"),
        (("--dst", "site:Nowhere,mod:t1"), "Nowhere"),
        (("--test-cases", "Nobody"), "--test-cases: no patient or case is called 'Nobody'"),
        (("--labels", "2099"), "known: 2013, 2014-2021, 2023, msd"),
        (("--steps", "0"), "--steps"),
        (("--freeze", "99"), "--freeze 99: unet has "),
        (("--freeze", "nolayer"), "unknown block of unet 'nolayer'; known: "),
        (("--map", "t1"), "--map"),
        (("--map", "t1=t2"), "t1=t2"),
        (("--init", "nowhere.pt"), "nowhere.pt"),
        (("--splits", "nowhere.json"), "nowhere.json"),
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    medtl: Terminal, phantom: Path, tmp_path: Path, words: tuple[str, str], says: str
) -> None:
    assert says in train(medtl, phantom, *words, out=tmp_path / "x")


def test_weights_of_another_architecture_are_refused(
    medtl: Terminal, phantom: Path, run: Path, tmp_path: Path
) -> None:
    line = train(medtl, phantom, "--init", run, "--network", "segresnet", out=tmp_path / "x")
    assert str(run) in line and "unet" in line
    torch.save({"state_dict": {"fc.weight": torch.randn(9, 9)}}, tmp_path / "other.pt")
    line = train(medtl, phantom, "--init", tmp_path / "other.pt", out=tmp_path / "x")
    assert "other.pt" in line


def test_weights_that_are_no_weights_are_refused(
    medtl: Terminal, phantom: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.pt").write_text("these are notes")
    line = train(medtl, phantom, "--init", tmp_path / "notes.pt", out=tmp_path / "x")
    assert "notes.pt" in line


def test_run_that_is_none_is_refused(medtl: Terminal, phantom: Path, tmp_path: Path) -> None:
    for command in (("evaluate", tmp_path), ("evaluate", tmp_path / "nowhere")):
        assert str(command[1]) in medtl.refused(*command, "-q")
    line = medtl.refused("predict", tmp_path / "nowhere", "-i", phantom, "-o", tmp_path / "x")
    assert str(tmp_path / "nowhere") in line


@pytest.mark.parametrize("option", ["device", "precision", "stage", "cases"])
def test_unknown_choices_of_evaluate_are_named(medtl: Terminal, run: Path, option: str) -> None:
    line = medtl.refused("evaluate", run, f"--{option}", "nonsense", "-q")
    assert "nonsense" in line


def test_damaged_checkpoint_is_refused(
    medtl: Terminal, phantom: Path, run: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    checkpoint = copy / "scratch" / "checkpoint_best.safetensors"
    truncated(checkpoint)
    assert str(checkpoint) in medtl.refused("evaluate", copy, "-q")
    line = medtl.refused("predict", copy, "-i", phantom, "-o", tmp_path / "x", "-q")
    assert str(checkpoint) in line and not (tmp_path / "x").exists()
