"""Do unlabelled images of the target help? Each method against training on the source alone.

On phantoms of two scanners whose pictures go in as they are (`picture-raw`: no harmonisation),
and on hospitals of the LGG set. How much two scanners differ is drawn at random: some shifts hurt
the source model, others do not, so there are several pairs, of seeds that nobody had looked at.
Per seed one run trains the source model and each method beside it: same start, same samples, same
steps; test patients of the target are the same for all seeds. Two more source models see
harmonised images: each picture z-scored, and matched histograms. No weight, no number of steps
and no method was chosen on these patients. The score is the balanced accuracy within a patient;
differences are paired by patient and averaged over seeds.

What a user could have known without a label of the target: each selector picks one of the models
(harmonised ones left out, as they see other images); its regret is how much better the best would
have been on the test patients.

    python examples/studies/domain_adaptation.py             # phantoms: 5 x 120 patients, 3 seeds
    python examples/studies/domain_adaptation.py --real      # hospitals of $MEDTL_SHARED_DATA/lgg

Runs that are finished are read, not trained again.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from arms import rows_of, tcga_patient
from common import ROOT, describe, shared_data

from medtl.config import TrainConfig
from medtl.data.phantom import write_phantom
from medtl.evaluation.intervals import Interval, interval, paired_difference
from medtl.evaluation.label_free import LABEL_FREE, select_score
from medtl.inference.load import read_stage
from medtl.inference.temperature import Temperature
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.console import Reporter
from medtl.runtime.device import build_fabric
from medtl.runtime.files import replacing
from medtl.runtime.run_folder import Run
from medtl.training.plan import Plan, make_plan
from medtl.training.run import run_plan
from medtl.training.samples.augmented import blind
from medtl.training.samples.prepared import cached_cases

METHODS = ("adabn", "dann", "coral", "mmd")
HARMONISED = {"z-score": {"transforms": "picture"}, "matched": {"harmonise": "histogram-matching"}}
MODALITIES = "mod:t1+flair+t1ce"
#: Seed of the first pair of scanners.
FIRST_PAIR = 100
#: patient -> balanced accuracy of each seed
Scores = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--real", action="store_true", help="hospitals of the LGG set")
    parser.add_argument("--data", type=Path, default=shared_data() / "lgg")
    parser.add_argument("--targets", help="hospitals, comma-separated; all without it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=5, help="of scanners")
    parser.add_argument("--cases", type=int, default=120, help="of each pair")
    parser.add_argument("--shift", type=float, default=3.0)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "domain-adaptation")
    parser.add_argument("--out", type=Path, default=ROOT / "examples/studies/results")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    name = "real" if options.real else "phantom"
    result = (on_hospitals if options.real else on_phantom)(options)
    facts = {"machine": describe(), "synthetic": not options.real, "steps": options.steps}
    with replacing(options.out / f"domain_adaptation_{name}.json") as temporary:
        temporary.write_text(json.dumps({**facts, **result}, indent=2) + "\n")
    print(json.dumps(result, indent=1))


def on_phantom(options: argparse.Namespace) -> dict[str, Any]:
    """Pairs of scanners drawn at random, of which the second is the target; the patients of all
    pairs together, and what each pair did by itself."""
    scores: dict[str, Scores] = defaultdict(lambda: defaultdict(list))
    regrets: dict[str, list[Any]] = defaultdict(list)
    pairs = []
    for pair in range(options.pairs):
        own: dict[str, Scores] = defaultdict(lambda: defaultdict(list))
        for seed in range(options.seeds):
            on_pair(pair, seed, options, own, regrets)
        pairs.append(summarised(own, {})["less_source"])
        for name, patients in own.items():
            scores[name] |= {f"{pair}/{patient}": found for patient, found in patients.items()}
    return {**summarised(scores, regrets), "pairs": pairs}


def on_pair(
    pair: int,
    seed: int,
    options: argparse.Namespace,
    scores: dict[str, Scores],
    regrets: dict[str, list[Any]],
) -> None:
    work = options.work / f"phantom-{options.cases}-{options.shift:g}-{pair}"
    data = work / "data"
    if not data.is_dir():
        write_phantom(
            data,
            layout="lgg-mri",
            cases=options.cases,
            size=48,
            sites=2,
            seed=FIRST_PAIR + pair,
            shift=options.shift,
        )
    config = settings(data, options, "site:CS", "site:DU").model_copy(
        update={"test_fraction": 0.4, "seed": seed}
    )
    if seed:  # the patients of the first seed
        splits = work / f"{options.steps}-0" / "methods" / "splits.json"
        config = config.model_copy(update={"splits": splits})
    one_seed(config, work / f"{options.steps}-{seed}", scores, regrets)


def on_hospitals(options: argparse.Namespace) -> dict[str, Any]:
    """Each hospital with three patients or more in turn is the target: a half of its patients gives
    unlabelled images, the other is tested on, and then the other way round."""
    patients: dict[str, list[str]] = defaultdict(list)
    for folder in sorted(path for path in options.data.glob("TCGA_*") if path.is_dir()):
        patients[folder.name.split("_")[1]].append(folder.name)
    scores: dict[str, Scores] = defaultdict(lambda: defaultdict(list))
    regrets: dict[str, list[Any]] = defaultdict(list)
    for target, own in patients.items():
        others = "+".join(site for site in patients if site != target)
        wanted = not options.targets or target in options.targets.split(",")
        for half in (0, 1) if wanted and len(own) > 2 else ():
            for seed in range(options.seeds):
                config = settings(options.data, options, f"site:{others}", f"site:{target}")
                test = tuple(tcga_patient(name) for name in own[half::2])
                # So few patients can spare none for validation: the last step is kept.
                update = {"seed": seed, "test_cases": test, "val_fraction": 0.0}
                config = config.model_copy(update=update)
                folder = options.work / f"{target}-{half}-{options.steps}-{seed}"
                one_seed(config, folder, scores, regrets)
    return summarised(scores, regrets)


def settings(data: Path, options: argparse.Namespace, src: str, dst: str) -> TrainConfig:
    return TrainConfig(
        task="lgg-mri",
        data=data,
        strategy="coral",  # the methods' stages are put in its place
        src=f"{MODALITIES},{src}",
        dst=f"{MODALITIES},{dst}",
        network="resnet18",
        width=8,
        transforms="picture-raw",
        patch_size=(48, 48),
        batch_size=32,
        steps=options.steps,
        val_fraction=0.2,
        device="cpu",
        precision="fp32",
    )


def one_seed(
    config: TrainConfig,
    folder: Path,
    scores: dict[str, Scores],
    regrets: dict[str, list[Any]],
) -> None:
    """Train what is not there yet, and take in the scores."""
    folder.mkdir(parents=True, exist_ok=True)
    catalog = load_catalog()
    plan = trained(config, folder / "methods", catalog, METHODS)
    found = {name: patient_scores(folder / "methods", name) for name in ("source", *METHODS)}
    for selector, picked in picks(plan, Run(folder / "methods"), catalog).items():
        means = {name: fmean(values.values()) for name, values in found.items()}
        best = max(means, key=lambda name: means[name])
        regrets[selector].append(
            {"picked": picked, "best": best, "regret": means[best] - means[picked]}
        )
    splits = folder / "methods" / "splits.json"
    for name, changes in HARMONISED.items():
        own = config.model_copy(
            update={**changes, "splits": splits, "test_fraction": None, "test_cases": None}
        )
        trained(own, folder / name, catalog, ())
        found[f"source, {name}"] = patient_scores(folder / name, "source")
    for name, values in found.items():
        for patient, value in values.items():
            scores[name][patient].append(value)


def trained(config: TrainConfig, out: Path, catalog: Catalog, methods: tuple[str, ...]) -> Plan:
    """A run of the source's stage and of each method's, trained unless it is there."""
    fabric = build_fabric("cpu", "fp32")
    plan = make_plan(config, catalog, Reporter(True))
    stages = list(plan.stages[:1])
    for name in methods:
        stages.append(catalog.strategies[name].load()(plan.request)[-1])
    plan = replace(plan, stages=tuple(stages))
    if not (out / "summary.json").is_file():
        resumed = Run(out) if (out / "config.yaml").is_file() else out
        run_plan(plan, catalog, fabric, Reporter(), resumed)
    return plan


def patient_scores(run: Path, stage: str) -> dict[str, float]:
    """Balanced accuracy within each test patient."""
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(run, stage):
        hits[row["patient"]][row["class"]].append(row["predicted"] == row["class"])
    return {p: fmean(map(fmean, classes.values())) for p, classes in hits.items()}


def picks(plan: Plan, run: Run, catalog: Catalog) -> dict[str, str]:
    """Selector -> the model it would have picked, without a label of the target."""
    fabric = build_fabric("cpu", "fp32")
    target, source = plan.request.target, plan.request.source
    unseen = blind(plan.cases(target, "train"))
    held_out = plan.cases(source, "val")
    shown = cached_cases(unseen, plan.preprocessor(target), "memory", 0)
    validating = cached_cases(held_out, plan.preprocessor(source), "memory", 0)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for stage in ("source", *METHODS):
        predictor = read_stage(run, stage, catalog, fabric).predictor
        predictor = replace(predictor, temperature=Temperature())  # as training selects
        tables = predictor.case_probabilities(shown, len(unseen))
        for name in LABEL_FREE:
            found[name][stage] = select_score(name, tables)[name]
        if held_out:
            own = plan.kind.validate(predictor, validating, held_out)
            found["source-validation"][stage] = fmean(own.values())
    return {name: max(by, key=lambda stage: by[stage]) for name, by in found.items()}


def summarised(scores: dict[str, Scores], regrets: dict[str, list[Any]]) -> dict[str, Any]:
    """Scores and paired differences to the source alone, with intervals over patients."""

    def shown(found: Interval) -> dict[str, Any]:
        return found.to_json()

    return {
        "balanced_accuracy": {name: shown(interval(own)) for name, own in scores.items()},
        "less_source": {
            name: shown(paired_difference(own, scores["source"]))
            for name, own in scores.items()
            if name != "source"
        },
        "regret": {
            name: {"mean": fmean(one["regret"] for one in rows), "runs": rows}
            for name, rows in regrets.items()
        },
    }


if __name__ == "__main__":
    main()
