"""Does each input that failed once end as it should: the right value, a warning, or one line?

The scripts of a folder of faults, one per situation, write small inputs. medtl reads them here, and
what comes out is compared with a value computed from the inputs alone:

    cd benchmarks && python -m damage.situations --faults DIR --work situations
    python -m damage.situations --faults DIR --work situations --only tables,checkpoints

A situation prints a line per finding; one that is wrong is marked, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from machine import describe

from damage.server import Server

RESULTS = Path(__file__).resolve().parents[1] / "results" / "situations.json"
ON = ("--device", "cpu", "--precision", "fp32", "--workers", "0")
SMALL = (
    *(*ON, "--network", "unet", "--width", "8", "--batch-size", "2"),
    *("--set", "patch_size=32,32,32"),
)
PICTURES = (*ON, "--network", "cbr-tiny", "--dry-run")
#: Two networks in one file, no names, or not finite.
REFUSED = (
    *("ema_beside", "fold_list", "moco", "params_key", "student_teacher", "teacher_key"),
    *("list_of_tensors", "nan_in_head"),
)
#: (what, what was found, is it right)
Finding = tuple[str, str, bool]


@dataclass
class Place:
    """Where one situation works."""

    faults: Path
    folder: Path
    server: Server
    limit_s: float = 1200

    def make(self, script: str, *words: str, to: str = "in") -> Path:
        """Run the script of a situation; returns the folder that it wrote."""
        return self.changed(script, {}, to, *words)

    def changed(self, script: str, replaced: dict[str, str], to: str = "in", *words: str) -> Path:
        """Run the script with some of its text replaced."""
        text, out = (self.faults / f"{script}.py").read_text(), self.folder / to
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        source = self.folder / f"{script}.py"
        source.write_text(text)
        command = [sys.executable, source, out, *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return out

    def medtl(self, *words: Any, cache: str = "cache") -> tuple[int, str, str]:
        """The exit code, the output and the messages of one command."""
        reply = self.server.run(
            words=[str(word) for word in words],
            folder=str(self.folder),
            stdout=str(self.folder / "stdout"),
            stderr=str(self.folder / "stderr"),
            environment={"MEDTL_CACHE": str(self.folder / cache), "COLUMNS": "100000"},
            writable=[str(self.folder)],
            noted=str(self.folder / "noted"),
            limit_s=self.limit_s,
            limit_mb=6000,
        )
        read = [(self.folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        code = -1 if reply["stopped"] else reply["code"]
        return code, read[0], read[1]

    def trained(self, data: Path, name: str, *words: Any, cache: str = "cache") -> Path:
        code, _, messages = self.medtl(
            *("train", "segmentation", "--data", data, *SMALL, "-q", *words, "--out", name),
            cache=cache,
        )
        assert code == 0, messages
        return self.folder / name

    def predicted(self, run: Path, images: Path, name: str) -> tuple[Path, str]:
        """The folder of the masks, and the messages."""
        code, _, messages = self.medtl(
            "predict", run, "-i", images, "-o", name, "--device", "cpu", "--precision", "fp32"
        )
        assert code == 0, messages
        return self.folder / name, messages


def ending(code: int, messages: str) -> tuple[str, bool]:
    """How a command ended, and whether that is code 0, or code 2 with one line that says why."""
    errors = [line for line in messages.splitlines() if line.startswith("error:")]
    warnings = [line for line in messages.splitlines() if line.startswith("warning:")]
    clean = "Traceback" not in messages and "bug in medtl" not in messages
    right = clean and ((code == 0 and not errors) or (code == 2 and len(errors) == 1))
    return f"code {code}: " + " | ".join(errors or warnings or ["no message"]), right


def volume(path: Path) -> Any:
    return np.asanyarray(nib.load(path).dataobj)


def dice(mask: Any, truth: Any) -> float:
    return float(2 * (mask & truth).sum() / max(1, mask.sum() + truth.sum()))


def mean_dice(masks: Path, labels: Path) -> float:
    """The mean Dice over the label maps of one folder against those of another."""
    files = sorted(labels.glob("*.nii.gz"))
    assert files
    return float(
        np.mean([dice(volume(next(masks.rglob(f.name))) == 1, volume(f) == 1) for f in files])
    )


def background_by_image(at: Place) -> Iterator[Finding]:
    data = at.make("background_by_image")
    run = at.trained(data / "train", "run", "--steps", 200)
    for name in ("zero", "noise"):
        masks, messages = at.predicted(run, data / name, name)
        summary = masks / "summary.json"  # written where there is something to say
        noted = json.loads(summary.read_text())["warnings"] if summary.exists() else []
        warned = min(messages.count("warning:"), len(noted))
        found = mean_dice(masks, data / "train/labelsTr")
        if name == "zero":
            reference = found
        right = abs(found - reference) <= 0.03 and (name == "zero" or warned > 0)
        yield name, f"Dice {found:.4f}, {warned} warnings", right


def ct_prewindowed(at: Place) -> Iterator[Finding]:
    data = at.make("ct_prewindowed")
    whole = at.changed("ct_prewindowed", {"np.clip(hu, -160, 240)": "hu"}, "whole")
    scores = {}
    for name, folder in (("unclipped", whole), ("clipped", data)):
        run = at.trained(folder, f"run-{name}", "--steps", 200)
        masks, _ = at.predicted(run, folder / "imagesTr", name)
        scores[name] = mean_dice(masks, folder / "labelsTr")
        right = scores[name] >= scores["unclipped"] - 0.03
        yield name, f"Dice {scores[name]:.4f}", right


def overlap_regions(at: Place) -> Iterator[Finding]:
    data = at.make("overlap_regions")
    run = at.trained(data, "run", "--steps", 100)
    masks, _ = at.predicted(run, data / "imagesTr", "masks")
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        values = (1, 3) if row["region"] == "A" else (2, 3)
        case, scored = row["case"], float(row["dice"])
        written = dice(
            np.isin(volume(masks / f"{case}.nii.gz"), values),
            np.isin(volume(data / f"labelsTr/{case}.nii.gz"), values),
        )
        right = abs(written - scored) < 5e-4
        yield f"{row['region']} {case}", f"scored {scored:.4f}, in file {written:.4f}", right


def odd_geometry_to_predict(at: Place) -> Iterator[Finding]:
    import itk

    train = at.make("background_by_image", to="train") / "train"
    run = at.trained(train, "run", "--steps", 200)
    images = at.make("odd_geometry_to_predict")
    masks, _ = at.predicted(run, images, "masks")
    plain = volume(masks / "plain.nii.gz") > 0
    for path in sorted(images.glob("*_0000.nii.gz")):
        name = path.name.removesuffix("_0000.nii.gz")
        image, mask = nib.load(path), nib.load(masks / f"{name}.nii.gz")
        a, b = image.header, mask.header
        equal = all(
            np.array_equal(a[key], b[key])
            for key in (
                *("qform_code", "sform_code", "srow_x", "srow_y", "srow_z"),
                *(f"quatern_{axis}" for axis in "bcd"),
                *(f"qoffset_{axis}" for axis in "xyz"),
            )
        ) and np.array_equal(image.affine, mask.affine)
        gap = 0.0
        if name not in ("nifti2", "sheared"):  # ITK reads neither
            read = [itk.imread(str(p)) for p in (path, masks / f"{name}.nii.gz")]
            origins = [np.array(itk.origin(i))[:3] for i in read]
            spacings = [np.array(itk.spacing(i))[:3] for i in read]
            turns = [itk.array_from_matrix(i.GetDirection())[:3, :3] for i in read]
            gap = max(float(np.abs(p[0] - p[1]).max()) for p in (origins, spacings, turns))
        back = volume(masks / f"{name}.nii.gz").squeeze() > 0
        back = {"lefthanded": lambda m: m[::-1], "permuted": lambda m: m.transpose(1, 2, 0)}.get(
            name, lambda m: m
        )(back)
        differ = int((back != plain).sum())
        # Without a code nibabel reads the image mirrored; a sheared grid is resampled otherwise.
        expected = differ == 0 or name in ("bothcodes0", "sheared")
        yield (
            name,
            f"header equal {equal}, ITK gap {gap:g}, {differ} of {plain.sum()} voxels differ",
            equal and gap < 1e-6 and expected,
        )


def qform_rounding(at: Place) -> Iterator[Finding]:
    data = at.make("qform_rounding")
    yield planned(at, data, "grids of sform and qform")


def planned(at: Place, data: Path, what: str, *needed: str, words: tuple[Any, ...] = ()) -> Finding:
    """The plan of a training run, whose messages must hold each of ``needed``."""
    code, out, messages = at.medtl(
        "train", "segmentation", "--data", data, *SMALL, "--dry-run", "--steps", 20, *words
    )
    found, right = ending(code, messages)
    text = out + messages
    return what, found, right and code == 0 and all(word in text for word in needed)


def vanishing_lesions(at: Place) -> Iterator[Finding]:
    data = at.make("vanishing_lesions")
    needed = ("warning: region thin", "warning: region dots", "--spacing 0.7")
    yield planned(at, data, "spacing 2", *needed, words=("--spacing", 2))


def label_outside_shown(at: Place) -> Iterator[Finding]:
    data = at.make("label_outside_shown")
    yield planned(at, data, "lesion outside the brain", "warning:", "lesion")


def swapped_channels_cache(at: Place) -> Iterator[Finding]:
    data = at.make("swapped_channels_cache")
    words = ("--src", "flair", "--dst", "t1", "--strategy", "modality-transfer", "--steps", 20)
    before = at.trained(data, "before", *words, "--cache", "disk")
    shutil.copy(data / "dataset_right.txt", data / "dataset.json")
    yield from same_as_empty_cache(at, data, before, words)


def touched_back(at: Place) -> Iterator[Finding]:
    data = at.make("touched_back")
    words = ("--steps", 20)
    before = at.trained(data, "before", *words, "--cache", "disk")
    at.make("touched_back", "correct")
    yield from same_as_empty_cache(at, data, before, words)


def same_as_empty_cache(
    at: Place, data: Path, before: Path, words: tuple[Any, ...]
) -> Iterator[Finding]:
    """After a change: with the cache of before as with an empty one, and not as before."""
    again = at.trained(data, "again", *words, "--cache", "disk")
    fresh = at.trained(data, "fresh", *words, "--cache", "disk", cache="empty")
    first, second, third = (every_stage(run) for run in (before, again, fresh))
    yield "as with an empty cache", str(second == third), second == third
    yield "other weights than before", str(first != second), first != second


def every_stage(run: Path) -> list[bytes]:
    from safetensors.numpy import load_file

    files = sorted(run.glob("*/checkpoint_best.safetensors"))
    assert files
    return [
        b"".join(value.tobytes() for _, value in sorted(load_file(file).items())) for file in files
    ]


def pictures(at: Place, data: Path, what: str, *needed: str) -> Finding:
    code, out, messages = at.medtl("train", "classification", "--data", data, *PICTURES)
    found, right = ending(code, messages)
    facts = next((line.strip() for line in messages.splitlines() if " train, " in line), "")
    text = out + messages
    return what, f"{found} | {facts}", right and all(word in text for word in needed)


def parts_named_valid(at: Place) -> Iterator[Finding]:
    data = at.make("parts_named_valid")
    for name in ("folders", "table/cases.csv"):
        # 24 in train/, 16 in valid/, 12 in test/: the last 28 are left out, and it is said
        yield pictures(at, data / name, name, "28 cases of part", "24 cases:")


def table_with_nan(at: Place) -> Iterator[Finding]:
    data = at.make("table_with_nan")
    for name in ("nan", "NA", "None", "empty"):
        needed = ("6 cases without a class", "34 cases", "10 of 40 cases name no patient")
        yield pictures(at, data / f"{name}.csv", name, *needed)
    for name in ("case", "numbers"):
        yield pictures(at, data / f"{name}.csv", name)


def linked_subfolders(at: Place) -> Iterator[Finding]:
    yield pictures(at, at.make("linked_subfolders") / "data", "36 images", "36 cases")


def masks_among_pictures(at: Place) -> Iterator[Finding]:
    yield pictures(at, at.make("masks_among_pictures"), "24 pictures", "24 cases", "warning:")


def v1_other_labels_folder(at: Place) -> Iterator[Finding]:
    data = at.make("v1_other_labels_folder")
    ml = np.mean([(volume(p) > 0).sum() * 8e-3 for p in sorted((data / "labelsTr2").iterdir())])
    yield planned(at, data, f"labelsTr2 ({ml:.2f} ml)", "warning:", "c10, c11", f"{ml:.2f} ml")


def tables(at: Place) -> Iterator[Finding]:
    data = at.make("tables")
    for path in sorted(data.glob("*.csv")):
        yield listed(at, path, path.stem)


def nnunet_variants(at: Place) -> Iterator[Finding]:
    data = at.make("nnunet_variants")
    for path in sorted(p for p in data.iterdir() if p.is_dir()):
        yield listed(at, path, path.name)


def listed(at: Place, data: Path, what: str) -> Finding:
    code, _, messages = at.medtl(
        "train", "segmentation", "--data", data, *SMALL, "--dry-run", "--steps", 20
    )
    return what, *ending(code, messages)


def checkpoints(at: Place) -> Iterator[Finding]:
    import torch

    folder = at.changed("checkpoints", {"medtl.catalog": "medtl.plugins.catalog"})
    plain = torch.load(folder / "plain.pt", weights_only=True)
    sizes = {
        name: value.numel()
        for name, value in plain.items()
        if "running" not in name and "tracked" not in name
    }
    lacking = {"no_downsample": "downsample", "medicalnet_b": "fc."}
    words = ("--network", "resnet18", "--width", 8, "--modalities", "t1", "--regions", "a,b")
    for path in sorted(folder.glob("*.pt")):
        code, out, messages = at.medtl("weights", "inspect", path, *words, "--json")
        found, right = ending(code, messages)
        if code == 0:
            missing = lacking.get(path.stem)
            left = sum(size for name, size in sizes.items() if missing and missing in name)
            share = json.loads(out)["receipt"]["shares"]["loaded"]
            found += f" | {share:.4%} loaded"
            right = right and abs(share - (1 - left / sum(sizes.values()))) < 1e-9
        yield path.stem, found, right and (code == 2) == (path.stem in REFUSED)


def odd_pictures(at: Place) -> Iterator[Finding]:
    from medtl.data.case import ImageFile
    from medtl.data.io.pictures import read_picture
    from medtl.errors import MedtlError

    folder = at.make("odd_pictures")
    grey, _ = read_picture(ImageFile(folder / "grey.png"))
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        try:
            values, _ = read_picture(ImageFile(path))
        except MedtlError as error:
            yield path.name, f"refused: {error}", path.stem == "truncated"
            continue
        same = values.shape == grey.shape
        correlation = float(np.corrcoef(values.ravel(), grey.ravel())[0, 1]) if same else 0.0
        levels = len(np.unique(values))
        lossy = path.suffix == ".jpg"
        yield (
            path.name,
            f"correlation {correlation:.4f}, {levels} levels",
            correlation > (0.999 if lossy else 0.9999) and levels >= len(np.unique(grey)) * 0.9,
        )


SITUATIONS: dict[str, Callable[[Place], Iterator[Finding]]] = {
    made.__name__: made
    for made in (
        *(background_by_image, ct_prewindowed, overlap_regions, odd_geometry_to_predict),
        *(qform_rounding, vanishing_lesions, label_outside_shown, swapped_channels_cache),
        *(touched_back, parts_named_valid, table_with_nan, linked_subfolders),
        *(masks_among_pictures, v1_other_labels_folder, tables, nnunet_variants, checkpoints),
        odd_pictures,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--faults", type=Path, required=True, help="folder of the scripts")
    parser.add_argument("--work", type=Path, default=Path("situations-work"))
    parser.add_argument("--only", default=",".join(SITUATIONS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    server, found = Server(), {}
    for name in options.only.split(","):
        folder = (options.work / name).resolve()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        found[name] = []
        for what, text, right in SITUATIONS[name](Place(options.faults.resolve(), folder, server)):
            text = text.replace(f"{folder}/", "")  # no path of this machine is kept
            print(f"{'' if right else 'WRONG '}{name}: {what}: {text}", flush=True)
            found[name].append({"what": what, "found": text, "right": right})
        shutil.rmtree(folder)
    server.close()
    wrong = [row for rows in found.values() for row in rows if not row["right"]]
    print(f"{sum(map(len, found.values()))} findings, {len(wrong)} wrong")
    if set(found) == set(SITUATIONS):
        options.out.write_text(json.dumps({"machine": describe(), "found": found}, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
