"""Every hospital left out in turn: shift, loss of score, gain of adaptation, regret of selectors.

On a phantom of five hospitals whose scanners differ the more, the later they stand in the list: the
size of a hospital's shift is planted, its direction is drawn at random (of a seed that nobody had
looked at). And on the LGG set, which has one to four patients of each hospital: a table without
intervals. Pictures go in as they are (`picture-raw`), else harmonisation would remove the shift.

    python examples/studies/leave_site_out.py            # phantom: 50 patients, 1 seed
    python examples/studies/leave_site_out.py --quick    # 20 patients, a few steps
    python examples/studies/leave_site_out.py --real     # $MEDTL_SHARED_DATA/lgg

Runs that are finished are read, not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import ROOT, describe, shared_data

from medtl import api
from medtl.data.phantom import write_phantom
from medtl.data.phantom.cohort import INDEX, read_index
from medtl.runtime.files import replacing

#: Hospital -> how much its scanner differs from the plain one; ``shift`` of the phantom.
PLANTED = {"CS": 0.0, "DU": 0.75, "EZ": 1.5, "FG": 2.25, "HT": 3.0}
#: Of the phantom. Drawn before any of its results were seen.
SEED = 1914
SETTINGS: dict[str, Any] = {
    "strategies": ["adabn", "coral", "dann"],
    "networks": ["resnet18"],
    "width": 8,
    "transforms": "picture-raw",
    "patch_size": (48, 48),
    "device": "cpu",
    "precision": "fp32",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--real", action="store_true", help="hospitals of the LGG set")
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "leave-site-out")
    parser.add_argument("--out", type=Path, default=ROOT / "examples/studies/results")
    options = parser.parse_args()
    cases, steps, batch = (20, 4, 8) if options.quick else (50, 100, 32)
    name = "lgg" if options.real else "phantom"
    if options.real:
        data, steps = shared_data() / "lgg", min(steps, 60)
        batch = min(batch, 16)
    else:
        data = options.work / f"phantom-{cases}"
        plant(data, cases)
    size = f"{'quick' if options.quick else 'whole'}-{options.seeds}"
    study = api.compare(
        "lgg-mri",
        leave_site_out=True,
        data=data,
        seeds=options.seeds,
        steps=steps,
        batch_size=batch,
        out=options.work / f"{name}-{size}",
        jobs=options.jobs,
        verbose=True,
        **SETTINGS,
    )
    if study.failed:
        raise SystemExit(f"{len(study.failed)} runs failed; the same command tries them again")
    write(study, name, options.work if options.quick else options.out)


def plant(data: Path, cases: int) -> None:
    """A phantom in which each hospital has the shift of ``PLANTED``: the same patients are drawn
    with every shift, and each is kept with that of its hospital."""
    if data.is_dir():
        return
    data.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=data.parent) as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        for site, shift in PLANTED.items():
            drawn = Path(folder) / site
            write_phantom(
                drawn, layout="lgg-mri", cases=cases, size=48, sites=5, seed=SEED, shift=shift
            )
            for patient in drawn.glob(f"TCGA_{site}_*"):
                shutil.move(patient, whole / patient.name)
        facts = {**read_index(drawn), "shift": PLANTED}
        (whole / INDEX).write_text(json.dumps(facts, indent=1) + "\n")
        whole.rename(data)


def write(study: api.Study, name: str, out: Path) -> None:
    """The findings, without the paths of this machine, and the tables beside them."""
    body = study.to_json()
    del body["study"]["settings"]["data"]
    planted = {} if name == "lgg" else {"planted": PLANTED, "phantom_seed": SEED}
    with replacing(out / f"leave_site_out_{name}.json") as temporary:
        temporary.write_text(
            json.dumps({"machine": describe(), **planted, **body}, indent=2) + "\n"
        )
    with replacing(out / f"leave_site_out_{name}.md") as temporary:
        temporary.write_text("\n".join(table.markdown() for table in study.tables()))


if __name__ == "__main__":
    main()
