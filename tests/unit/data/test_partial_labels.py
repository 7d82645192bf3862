"""Cases whose truth is known in part: how layouts say so, and what becomes of it.

Axes: L region, I J K voxels.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.cohort import region_masks, unknown_masks
from medtl.data.formats.label_names import parse_labels, recorded_regions
from medtl.data.tasks.segmentation import Segmentation
from medtl.errors import DataError
from medtl.training.samples.augmented import Patches
from medtl.transforms.augment import NONE, USUAL, apply, draw
from medtl.transforms.preprocess import prepare
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import Preset

SIZE = (10, 12, 14)
LABELS = {"background": 0, "core": 1, "rim": 2, "ignore": 5}
SCHEME = {"core": (1,), "rim": (2,)}


def case(**fields: Any) -> Case:
    return Case("a", "a", {}, ImageFile(Path("a")), SCHEME, (0, 1, 2, 5), **fields)


def label_map(ignored: int = 0) -> np.ndarray[Any, Any]:
    """A core within a rim; the first ``ignored`` slices were not labelled."""
    labels_IJK = np.zeros(SIZE, dtype=np.uint8)
    labels_IJK[2:8, 3:9, 4:10] = 2
    labels_IJK[4:6, 5:7, 6:8] = 1
    labels_IJK[:ignored] = 5
    return labels_IJK


def volumes(folder: Path, ignored: int = 0) -> None:
    """Images and label maps of cases a, b, c in the layout of nnU-Net."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    noise = np.random.default_rng(0)
    for n, name in enumerate("abc"):
        labels_IJK = label_map(ignored if name == "a" else 0)
        image_IJK = noise.normal(100 + n, 5, SIZE).astype(np.float32)
        image_IJK = image_IJK + 20 * (label_map() > 0)
        for array, path in ((image_IJK, f"imagesTr/{name}_0000"), (labels_IJK, f"labelsTr/{name}")):
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{path}.nii.gz")


def read(root: Path, labels: str | None = None) -> Cohort:
    task = Segmentation().bind(root, labels)
    return task.cases(root, labels, task.modalities)


def nnunet(folder: Path, ignored: int = 0, **more: Any) -> Path:
    volumes(folder, ignored)
    content = {"channel_names": {"0": "T1"}, "labels": LABELS, "numTraining": 3, **more}
    (folder / "dataset.json").write_text(json.dumps({**content, "file_ending": ".nii.gz"}))
    return folder


def datalist(folder: Path, annotated: dict[str, Any]) -> Path:
    volumes(folder)
    listed = [
        {
            "image": f"imagesTr/{name}_0000.nii.gz",
            "label": f"labelsTr/{name}.nii.gz",
            "id": name,
            **({"annotated": annotated[name]} if name in annotated else {}),
        }
        for name in "abc"
    ]
    content = {"labels": LABELS, "training": listed}
    (folder / "list.json").write_text(json.dumps(content))
    return folder / "list.json"


def table(folder: Path, annotated: dict[str, str]) -> Path:
    volumes(folder)
    with (folder / "cases.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "t1", "label", "annotated"])
        for name in "abc":
            files = f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"
            rows.writerow([name, *files, annotated.get(name, "")])
    return folder / "cases.csv"


# --- what layouts say -----------------------------------------------------------------------------


def test_ignore_label_of_dataset_json_marks_cases_that_hold_it(tmp_path: Path) -> None:
    cohort = read(nnunet(tmp_path / "data", ignored=3))
    assert [found.ignored for found in cohort.cases] == [(5,), (), ()]
    assert list(cohort.cases[0].regions) == ["core", "rim"]
    assert any("1 of 3 cases have voxels labelled ignore, 0.3 of all" in n for n in cohort.notes)


def test_ignore_label_on_the_command_line() -> None:
    found = parse_labels("WT=1+2,TC=2,ignore=9")
    assert (found.ignored, found.labels) == ((9,), (0, 1, 2, 9))
    assert found.values == {"WT": (1, 2), "TC": (2,)} and found.nested
    assert recorded_regions(found.to_json()) == found


def test_annotated_regions_by_any_layout(tmp_path: Path) -> None:
    layouts = {
        "nnunet": nnunet(tmp_path / "nnunet", annotated={"b": ["core"], "c": "rim+core"}),
        "datalist": datalist(tmp_path / "datalist", {"b": ["core"], "c": "rim + core"}),
        "table": table(tmp_path / "table", {"b": "core", "c": "rim+core"}),
    }
    for name, root in layouts.items():
        cohort = read(root, "core=1,rim=2" if name == "table" else None)
        assert [found.unannotated for found in cohort.cases] == [(), ("rim",), ()], name
        assert cohort.cases[1].stratum == "core"
        notes = [note for note in cohort.notes if "not annotated" in note]
        assert notes == [
            "region rim was not annotated in 1 of 3 cases: there it enters neither loss nor score"
        ]


@pytest.mark.parametrize(
    ("annotated", "words"),
    [
        ({"b": ["tumour"]}, "b has tumour annotated, which is no region; these are core, rim"),
        ({"b": [1]}, r"annotated \[1\] must name the regions"),
        ({"b": []}, r"annotated \[\] must name the regions .* leave it empty if all were"),
        ({"b": "none"}, "annotated 'none' must name the regions"),
        ({"d": ["core"]}, '"annotated" names cases that are not there: d'),
        (["core"], '"annotated" must map cases to regions'),
    ],
)
def test_odd_annotated_regions_are_refused(tmp_path: Path, annotated: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(nnunet(tmp_path / "data", annotated=annotated))


def test_key_can_be_left_out(tmp_path: Path) -> None:
    for name, read_it in (("list", datalist), ("table", table)):
        root = read_it(tmp_path / name, {"b": "yes"})
        labels = "core=1,rim=2" if name == "table" else None
        with pytest.raises(DataError, match=r"b has yes annotated, .* --ignore-column annotated"):
            read(root, labels)
        task = Segmentation(("annotated",)).bind(root, labels)
        assert not any(found.unannotated for found in task.cases(root, labels).cases)


def test_key_of_nnunet_can_be_left_out(tmp_path: Path) -> None:
    root = nnunet(tmp_path / "data", annotated={"b": ["tumour"]})
    assert Segmentation(("annotated",)).bind(root).cases(root).cases[1].unannotated == ()


# --- masks ----------------------------------------------------------------------------------------


def test_unknown_is_what_was_ignored_and_whole_regions() -> None:
    labels_IJK = label_map(ignored=3)
    assert unknown_masks(labels_IJK, case(), ("core", "rim")) is None
    ignored = unknown_masks(labels_IJK, case(ignored=(5,)), ("core", "rim"))
    assert ignored is not None and (ignored == (labels_IJK == 5)).all()
    both = unknown_masks(labels_IJK, case(ignored=(5,), unannotated=("rim",)), ("core", "rim"))
    assert both is not None and both[1].all() and (both[0] == (labels_IJK == 5)).all()


def test_region_that_was_not_looked_for_is_empty() -> None:
    masks_LIJK = region_masks(label_map(), case(unannotated=("rim",)), ("rim", "core"))
    assert not masks_LIJK[0].any() and (masks_LIJK[1] == (label_map() == 1)).all()


def test_prepared_voxel_is_unknown_if_any_part_of_it_is() -> None:
    labels_IJK = label_map(ignored=3)
    whole_IJK = np.ones((1, *SIZE), dtype=bool)
    image_CIJK = np.random.default_rng(0).normal(size=(1, *SIZE)).astype(np.float32)
    unknown_LIJK = unknown_masks(labels_IJK, case(ignored=(5,)), ("core",))
    found = prepare(
        image_CIJK,
        whole_IJK,
        (labels_IJK == 1)[None],
        np.diag([-1.0, 1, 1, 1]),  # the first axis runs to the left
        Preset("test", spacing_mm=2.0, augmentation=NONE),
        unknown_LIJK=unknown_LIJK,
    )
    # 10 slices of 1 mm make 5; the last ones hold the first three of the file.
    assert found["unknown"].shape == found["target"].shape
    assert found["unknown"].amax((0, 2, 3)).tolist() == [0, 0, 0, 1, 1]


def test_target_is_not_a_number_where_it_is_unknown() -> None:
    labels_IJK = label_map(ignored=3)
    image_CIJK = torch.randn((1, *SIZE), generator=torch.Generator().manual_seed(0))
    target_LIJK = torch.from_numpy(region_masks(labels_IJK, case(), ("core", "rim"))).byte()
    unknown = torch.from_numpy(labels_IJK == 5).expand_as(target_LIJK).byte()
    patch = (14, 14, 14)
    drawn = draw(NONE, {}, SIZE, patch, 1, seed=0)
    plain = apply(drawn, image_CIJK, target_LIJK, patch)
    found = apply(drawn, image_CIJK, target_LIJK, patch, unknown)
    torch.testing.assert_close(found[0], plain[0], rtol=0, atol=0)
    hidden = found[1].isnan()
    assert hidden.sum() == 2 * 3 * 12 * 14  # beyond the image is background
    torch.testing.assert_close(found[1][~hidden], plain[1][~hidden], rtol=0, atol=0)


def test_rotated_target_takes_nothing_from_unknown_voxels() -> None:
    """What it holds does not depend on the values there."""
    labels_IJK = label_map()
    unknown_IJK = np.zeros(SIZE, dtype=bool)
    unknown_IJK[5:] = True
    image_CIJK = torch.ones((1, *SIZE))
    first = torch.from_numpy(labels_IJK == 2)[None].byte()
    other = first.clone()
    other[0, 5:] = 1 - other[0, 5:]
    unknown = torch.from_numpy(unknown_IJK)[None].byte()
    turned = 0
    for seed in range(20):
        drawn = draw(USUAL, {}, SIZE, SIZE, 1, seed)
        found = [apply(drawn, image_CIJK, one, SIZE, unknown)[1] for one in (first, other)]
        torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)
        turned += bool((drawn.matrix.abs() - torch.eye(3)).abs().amax() > 0.01)
    assert turned > 3


def test_patches_carry_what_is_unknown() -> None:
    target = torch.zeros((1, 4, 4, 4), dtype=torch.uint8)
    cached = [
        {
            "image": torch.ones((1, 4, 4, 4)),
            "target": target,
            "unknown": torch.ones_like(target),
            "centres": {"core": torch.zeros(0)},
        }
    ]
    preset = Preset("test", spacing_mm=1.0, augmentation=NONE)
    patches = Patches(cached, 1, Preprocessor(("t1",), ("core",), preset), (4, 4, 4), "key")
    assert patches[0]["target"].isnan().all()
