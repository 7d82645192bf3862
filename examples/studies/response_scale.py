"""Does a network answer as strongly right after a transfer to other modalities as before it?

Real BraTS cases, sorted by name, the last two left out. A source is trained on FLAIR+T1ce for a
few steps, its weights are carried over as ``medtl train`` does, and nothing is trained after
that. On each left-out case two ratios, after : before, of the first layers' response (root mean
square over the brain) and of the logits' standard deviation in the brain; and how much swapping
the two target modalities changes the logits, as a share of that deviation.

    python examples/studies/response_scale.py        # $MEDTL_SHARED_DATA/brats, else
    ../shared/data/brats
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from common import ROOT, add_data_option, describe, sorted_cases, train
from torch import Tensor

from medtl.data.case import Case
from medtl.data.domain import parse_domain
from medtl.inference.load import read_stage
from medtl.inference.segmentation import Segmenter
from medtl.networks.blocks import Network
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.device import build_fabric
from medtl.runtime.files import replacing
from medtl.runtime.run_folder import Run
from medtl.training.samples.augmented import Patches
from medtl.training.samples.prepared import cached_cases
from medtl.training.trainer import RESPONSE_PATCHES
from medtl.transfer.prepare import prepare_network
from medtl.transfer.response import measure_response
from medtl.transfer.strategies.base import Stage
from medtl.transfer.weights import read_weights, resolve_weights

NETWORKS = ("unet", "segresnet")
SOURCE = "flair,t1ce"
TARGETS = ("t1,t2", "flair,t1,t1ce,t2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_option(parser)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "examples/studies/results/response_scale.json"
    )
    options = parser.parse_args()
    cases = sorted_cases(options.data)
    catalog = load_catalog()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for network in NETWORKS:
            run = train_source(network, cases[-2:], Path(work) / network, options)
            for target in TARGETS:
                rows += compare(run, target, cases[:-2], cases[-2:], catalog)
    means = {
        f"{network}, {SOURCE} to {target}": {
            key: fmean(r[key] for r in rows if (r["network"], r["target"]) == (network, target))
            for key in ("layer_ratio", "logit_ratio")
        }
        for network in NETWORKS
        for target in TARGETS
    }
    result = {"machine": describe(), "steps": options.steps, "means": means, "rows": rows}
    with replacing(options.out) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(means, indent=2))


def train_source(
    network: str, left_out: Sequence[Case], out: Path, options: argparse.Namespace
) -> Run:
    words = ["--strategy", "scratch", "--dst", SOURCE, "--network", network]
    words += ["--steps", str(options.steps)]
    train(options.data, [case.id for case in left_out], out, words)
    return Run(out)


def compare(
    run: Run, target: str, others: Sequence[Case], left_out: Sequence[Case], catalog: Catalog
) -> list[dict[str, Any]]:
    """One row per left-out case."""
    before = read_stage(run, "scratch", catalog, build_fabric("cpu", "fp32")).predictor
    after = carried_over(run, before, target, others, catalog)
    rows = []
    for case in left_out:
        old, new = answer(before, case), answer(after, case)
        row: dict[str, Any] = {
            "network": run.path.name,
            "target": target,
            "case": case.id,
            "layer_ratio": fmean(new.layers[name] / old.layers[name] for name in new.layers),
            "logit_ratio": float(new.logits.std() / old.logits.std()),
        }
        if len(after.preprocessor.modalities) == 2:
            moved = answer(after, case, swapped=True).logits - new.logits
            row["swap_change"] = float(moved.square().mean().sqrt() / new.logits.std())
        rows.append(row)
    return rows


def carried_over(
    run: Run, source: Segmenter, target: str, others: Sequence[Case], catalog: Catalog
) -> Segmenter:
    """The target's network as it starts its first stage, calibrated on training patches."""
    weights = read_weights(resolve_weights(str(run.path)))
    domain = parse_domain(target)
    preprocessor = replace(source.preprocessor, modalities=domain.modalities)
    cached = cached_cases(others, preprocessor, "memory", 0)
    patches = Patches(cached, len(others), preprocessor, source.patch_size, "0")
    network: Network = catalog.networks[run.path.name].load()(
        in_channels=len(domain.modalities),
        out_channels=len(preprocessor.regions),
        width=weights.metadata["network"]["width"],
        patch_size=source.patch_size,
    )
    prepare_network(
        network,
        Stage("adapt", domain, 1, init=str(run.path)),
        weights,
        preprocessor.regions,
        mapping={},
        batch=torch.stack([patches[n]["image"] for n in range(RESPONSE_PATCHES)]),
    )
    return replace(source, network=network, preprocessor=preprocessor)


@dataclass(frozen=True, slots=True)
class Answer:
    layers: dict[str, float]  #: root mean square of each first layer
    logits: Tensor  #: in the brain


def answer(predictor: Segmenter, case: Case, *, swapped: bool = False) -> Answer:
    image_CIJK = predictor.preprocessor(case, with_target=False)["image"]
    brain_IJK = (image_CIJK != 0).any(dim=0)
    image_CIJK = image_CIJK.flip(0) if swapped else image_CIJK
    logits_LIJK = predictor.prepared_logits(image_CIJK)
    return Answer(measure_response(predictor.network, image_CIJK[None]), logits_LIJK[:, brain_IJK])


if __name__ == "__main__":
    main()
