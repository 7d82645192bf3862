"""Whole images through a trained network, and their classes.

Axes: C modality, I J K voxels, L class, N case.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Dataset

from medtl.data.case import Case
from medtl.inference.temperature import Temperature, fit_temperature
from medtl.inference.window_size import Tell
from medtl.networks.blocks import Network
from medtl.networks.cpu.convolutions import suited_to_cpu
from medtl.runtime.device import autocast_dtype, in_double
from medtl.runtime.distributed import gather, share
from medtl.runtime.files import write_csv
from medtl.transfer.checkpoint_metadata import CheckpointMetadata
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.views import view

#: Voxels of the images that run through the network at once.
VOXELS = 32 * 128 * 128


@dataclass(frozen=True, slots=True)
class Classifier:
    """A network that classifies whole cases."""

    network: Network
    preprocessor: Preprocessor
    patch_size: tuple[int, ...]
    fabric: Fabric
    temperature: Temperature = field(default_factory=Temperature)
    flips: ClassVar[bool] = False  #: test-time flips are for segmentation

    @property
    def batch_size(self) -> int:
        return max(1, VOXELS // math.prod(self.patch_size))

    def probabilities(self, images: Iterable[Tensor]) -> Iterator[list[float]]:
        """The probability of each class (L) of every prepared image (C, I, J, K), in order."""
        module = self.network.module.eval()
        waiting = iter(images)
        while batch := [view(x, self.patch_size) for x in islice(waiting, self.batch_size)]:
            dtype = autocast_dtype(self.fabric)
            device = self.fabric.device
            with (
                torch.no_grad(),
                suited_to_cpu(module),
                torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
            ):
                logits_NL = module(torch.stack(batch).to(device))
            scaled_NL = in_double(logits_NL) / self.temperature.value
            yield from scaled_NL.softmax(1).cpu().tolist()

    @classmethod
    def from_metadata(
        cls,
        network: Network,
        preprocessor: Preprocessor,
        patch_size: tuple[int, ...],
        fabric: Fabric,
        metadata: CheckpointMetadata,
        _tell: Tell,
    ) -> Classifier:
        temperature = Temperature(metadata.temperature, metadata.temperature_fitted_on)
        return cls(network, preprocessor, patch_size, fabric, temperature)

    def calibrate(
        self, _train: Iterable[Mapping[str, Any]], validation: Iterable[Mapping[str, Any]]
    ) -> Classifier:
        """Fit the temperature on prepared cases (``image``) of known ``class``."""
        truth: list[int] = []

        def images() -> Iterator[Tensor]:
            for case in validation:
                truth.append(self.preprocessor.regions.index(case["class"]))
                yield case["image"]

        uncalibrated = replace(self, temperature=Temperature())
        probability_NL = np.array(list(uncalibrated.probabilities(images())))
        return replace(self, temperature=fit_temperature(np.array(truth, int), probability_NL))

    def record(self) -> dict[str, Any]:
        """The calibration, as the checkpoint's metadata store it."""
        temperature = self.temperature
        return {"temperature": temperature.value, "temperature_fitted_on": temperature.cases}

    def describe(self) -> str:
        """The calibration in a sentence."""
        return str(self.temperature)

    def validate(self, cached: Dataset[Any], cases: Sequence[Case]) -> dict[str, float]:
        """The mean probability of the true class over the validation cases of each class.

        Their mean is a soft balanced accuracy. It ranks checkpoints whose accuracy and area under
        the ROC curve are equal, as they often are on few cases.
        """
        (rows_NL,) = self.case_probabilities(cached, len(cases))
        classes = self.preprocessor.regions
        hits: dict[str, list[float]] = {}
        for case, row_L in zip(cases, rows_NL.tolist(), strict=True):
            hits.setdefault(case.class_name, []).append(row_L[classes.index(case.class_name)])
        return {name: fmean(hits[name]) for name in classes if name in hits}

    def case_probabilities(self, cached: Dataset[Any], count: int) -> list[Tensor]:
        """Probabilities of each class for the first ``count`` cached cases: one table (N, L)."""
        own = share(self.fabric, range(count))
        rows = list(self.probabilities(cached[n]["image"] for n in own))
        return [torch.tensor(gather(self.fabric, rows, count), dtype=torch.float64)]


def classify(
    classifiers: Sequence[Classifier],
    prepared: Iterable[Sequence[Mapping[str, Any]]],
) -> Iterator[dict[str, float]]:
    """Probability by class of each case: the mean over ``classifiers``.

    Args:
        prepared: of each case, one preprocessed image per classifier.
    """
    batch_size = min(classifier.batch_size for classifier in classifiers)
    waiting = iter(prepared)
    while chunk := list(islice(waiting, batch_size)):
        members = [
            list(classifier.probabilities(case[member]["image"] for case in chunk))
            for member, classifier in enumerate(classifiers)
        ]
        for row_L in np.mean(members, axis=0):
            yield dict(zip(classifiers[0].preprocessor.regions, row_L.tolist(), strict=True))


def most_likely(probability: Mapping[str, float]) -> str:
    """The class of the highest probability, of equals the first."""
    return max(probability, key=lambda name: probability[name])


def write_predictions_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per case: what is known of it, a column ``p_CLASS`` per class, ``predicted``."""
    known = [key for key in rows[0] if key not in ("probability", "predicted")]
    classes = list(rows[0]["probability"])
    cells = []
    for row in rows:
        shares = (f"{row['probability'][name]:.6g}" for name in classes)
        cells.append([*(row[key] for key in known), *shares, row["predicted"]])
    write_csv(path, [*known, *(f"p_{name}" for name in classes), "predicted"], cells)
