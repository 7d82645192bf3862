"""Does `medtl compare` find what was planted? Five fresh phantom studies for each of three truths.

- **related**: the source is the same task on seven other scanners, with thirty times the patients.
  At a budget of two target patients the transfer has to be "helped".
- **mismatched**: the label maps of the source belong to other patients, so that nothing can be
  learnt from them. With all target patients the same strategy has to be "hurt".
- **equal**: two arms from scratch, each with seeds of its own. Their weight decays differ in the
  fifth digit, so that `medtl compare RUN RUN` takes them for two arms. They have to get "no
  evidence" or "equivalent".

The strategy is fine-tuning with the early blocks frozen. Patients of the target are from seven
scanners, too, so that two of them do not show what the others look like.

Settings were committed before the seeds were drawn: the seeds are those of the argument `--draw`,
which names the commit, for each truth. Claim: right in at least 4 of 5 of each, and never the
opposite.

    python examples/studies/planted_truth.py --work planted      # 40 minutes, resumable by run
"""

from __future__ import annotations

import argparse
import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from common import ROOT, describe, train_once

from medtl import api
from medtl.data.phantom import INDEX, write_phantom
from medtl.runtime.run_folder import SPLITS

CASES, SIZE, SITES, SHIFT = 120, 24, 14, 3.0
SOURCES, TARGETS = ("+".join(f"S{n}" for n in half) for half in (range(1, 8), range(8, 15)))
NETWORK = "plain-unet"
REGION = "WT"
SETTINGS: dict[str, Any] = {
    "src": f"mod:t1+t2,site:{SOURCES}",
    "dst": f"mod:t1+t2,site:{TARGETS}",
    "steps": 300,
    "width": 8,
    "optimizer": "adamw",
    "lr": 0.005,
    "spacing_mm": 7.5,
    "patch_size": (24, 24, 24),
    "batch_size": 2,
    "test_fraction": 0.5,
    "device": "cpu",
}
#: What is not frozen trains at the rate of all arms, which is half of this.
FROZEN = {
    "strategy": "fine-tune",
    "settings": {"lr": 0.01, "freeze": "stem,encoder1,bottleneck"},
}
LEFT_OUT = ("zero-shot", "joint")
#: Truth -> strategy, budget, arms left out, words that are right, words that are the opposite.
TRUTHS: dict[str, dict[str, Any]] = {
    "related": {
        "strategy": FROZEN,
        "budget": 2,
        "seeds": 4,
        "skip": LEFT_OUT,
        "right": ("helped",),
        "opposite": ("hurt",),
    },
    "mismatched": {
        "strategy": FROZEN,
        "budget": "all",
        "seeds": 4,
        "skip": (*LEFT_OUT, "control-b"),
        "right": ("hurt",),
        "opposite": ("helped", "better than control A", "faster, perhaps"),
    },
    "equal": {
        "seeds": 4,
        "right": ("no evidence", "equivalent"),
        "opposite": ("better", "worse"),
    },
}
STUDIES = 5
MARGIN = 0.05
#: Of the two equal arms.
DECAYS = (0.01, 0.010001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--draw",
        default="related=faa644fffb,mismatched=faa644fffb,equal=1dad426103",
        help="truth=text that its seeds are drawn from",
    )
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "planted")
    parser.add_argument("--truths", default=",".join(TRUTHS))
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--jobs", type=int, default=1)
    results = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=results / "planted_truth.json")
    options = parser.parse_args()
    draws = dict(each.split("=") for each in options.draw.split(","))
    found: dict[str, Any] = {}
    if options.out.is_file():  # truths that are not asked for stay
        found = json.loads(options.out.read_text())["truths"]
    for truth in options.truths.split(","):
        draw = draws[truth]
        rows = [carried_out(options, truth, draw, number) for number in range(options.studies)]
        found[truth] = {
            "draw": draw,
            "machine": describe(),
            "right": sum(row["verdict"] in TRUTHS[truth]["right"] for row in rows),
            "opposite": sum(row["verdict"] in TRUTHS[truth]["opposite"] for row in rows),
            "studies": rows,
        }
    met = all(f["right"] >= STUDIES - 1 and not f["opposite"] for f in found.values())
    body = {"met": met, "truths": found}
    options.out.write_text(json.dumps(body, indent=1) + "\n")
    print({truth: (each["right"], each["opposite"]) for truth, each in found.items()})


def carried_out(options: argparse.Namespace, truth: str, draw: str, number: int) -> dict[str, Any]:
    """One study with a phantom of its own."""
    seed = int(sha256(f"{draw}/{truth}/{number}".encode()).hexdigest()[:6], 16)
    folder = options.work / f"{truth}-{seed}"
    data = folder / "data"
    if not data.is_dir():
        making = folder / "making"
        shutil.rmtree(making, ignore_errors=True)
        write_phantom(making, cases=CASES, size=SIZE, sites=SITES, seed=seed, shift=SHIFT)
        if truth == "mismatched":
            exchange_labels(making)
        making.rename(data)
    row = equal_arms(folder, seed) if truth == "equal" else compared(options, truth, folder, seed)
    print(truth, seed, row["verdict"], json.dumps(row["against"]), flush=True)
    return {"seed": seed, **row}


def compared(options: argparse.Namespace, truth: str, folder: Path, seed: int) -> dict[str, Any]:
    """The primary comparison of a strategy with its controls."""
    planted = TRUTHS[truth]
    strategy = planted["strategy"]
    study = api.compare(
        "brats",
        data=folder / "data",
        strategies=[strategy],
        networks=[NETWORK],
        budgets=[planted["budget"]],
        seeds=planted["seeds"],
        split_seed=seed,
        skip=planted["skip"],
        margin=MARGIN,
        primary={"strategy": strategy["strategy"], "budget": planted["budget"], "output": REGION},
        out=folder / "study",
        jobs=options.jobs,
        **SETTINGS,
    )
    (row,) = (row for row in study.rows() if row["primary"])
    return {"verdict": row["verdict"], "against": row["against"]}


def equal_arms(folder: Path, seed: int) -> dict[str, Any]:
    """The second of two arms, whose runs differ in their seeds, against the first."""
    runs = []
    own = {name: value for name, value in SETTINGS.items() if name != "src"}
    for arm, decay in enumerate(DECAYS):
        for number in range(TRUTHS["equal"]["seeds"]):
            out = folder / f"run-{arm}-{number}"
            runs.append(out)
            train_once(
                out,
                "brats",
                data=folder / "data",
                strategy="scratch",
                network=NETWORK,
                weight_decay=decay,
                seed=seed + number + arm * TRUTHS["equal"]["seeds"],
                **own,
            )
            own |= {"splits": runs[0] / SPLITS}  # of the first run, for all
            own.pop("test_fraction", None)
    found = api.compare_runs(runs, margin=MARGIN)
    (row,) = (row for row in found.rows() if row["output"] == REGION)
    return {"verdict": row["verdict"], "against": {"first": row["difference"]}}


def exchange_labels(data: Path) -> None:
    """Give each case of the source's site the label map of the next one."""
    sites = json.loads((data / INDEX).read_text())["sites"]
    names = [name for name, site in sites.items() if site in SOURCES.split("+")]
    labels = [next((data / name).glob("*_seg.nii*")) for name in names]
    contents = [path.read_bytes() for path in labels]
    for path, content in zip(labels, [*contents[1:], contents[0]], strict=True):
        path.write_bytes(content)


if __name__ == "__main__":
    main()
