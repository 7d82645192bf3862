"""A run warns where several modalities of a case are one image; grey pictures are no such case."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medtl.data.case import Case, ImageFile
from medtl.data.content_hash import contents_of
from medtl.data.modality import COLOURS, Modality
from medtl.runtime.console import Reporter
from medtl.training.run import _warn_of_copies, _warn_of_same_channels


def image(path: Path, seed: int) -> ImageFile:
    values = np.random.default_rng(seed).normal(size=(4, 5, 6)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return ImageFile(path)


@pytest.mark.parametrize("names", [("t1", "t2"), COLOURS])
def test_cases_with_one_image_twice_are_named(tmp_path: Path, names: tuple[str, ...]) -> None:
    cases = []
    for case, seeds in {"a": (1, 2, 3), "b": (4, 4, 4)}.items():
        files = {
            Modality(name): image(tmp_path / f"{case}-{name}.nii.gz", seed)
            for name, seed in zip(names, seeds, strict=False)
        }
        cases.append(Case(case, case, files))
    reporter = Reporter(silent=True)
    _warn_of_same_channels(cases, tuple(map(Modality, names)), reporter)
    told = "1 of 2 cases have the same image as several modalities; check the files of b"
    assert reporter.warnings == ([] if names == COLOURS else [told])


def test_a_copy_of_the_label_map_among_the_images_is_warned_of(tmp_path: Path) -> None:
    cases = []
    for number, case in enumerate("ab"):
        files = {Modality("t1"): image(tmp_path / f"{case}-t1.nii.gz", number)}
        target = ImageFile(tmp_path / f"{case}-seg.nii.gz")
        source = (
            files[Modality("t1")].path if case == "b" else image(tmp_path / "other.nii.gz", 9).path
        )
        target.path.write_bytes(source.read_bytes())
        cases.append(Case(case, case, files, target))
    reporter = Reporter(silent=True)
    _warn_of_copies(cases, contents_of(cases), reporter)
    told = "1 of 2 cases have a copy of their label map as an image; check the files of b"
    assert reporter.warnings == [told]
