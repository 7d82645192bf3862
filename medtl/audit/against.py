"""What a run, or a file of weights, tells of images: those it was trained on, and its predictions.

Axes: N case, K class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl.errors import ConfigError
from medtl.runtime.run_folder import INPUTS, SUMMARY, Run


@dataclass(frozen=True, slots=True)
class Predictions:
    """Probabilities of the classes of a run's test cases, which it was not trained on.

    Args:
        images: of each case, the hash of the bytes of its first image.
        truths: of each case, the place of its class among the classes.
    """

    classes: tuple[str, ...]
    images: tuple[str, ...]
    truths: tuple[int, ...]
    probability_NK: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Against:
    """What audited images are compared with.

    Args:
        seen: content hashes of the images of the training.
        images: hashes of the bytes of every image of the run, where it is one.
    """

    seen: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    predictions: Predictions | None = None


def read_against(path: Path) -> Against:
    """The images and predictions of a run, or the images of a file of weights.

    Raises:
        ConfigError: it does not say what it was trained on.
        RunError: the run is damaged.
        WeightsError: it cannot be read.
    """
    from medtl.transfer.weights import read_weights, resolve_weights  # imports torch

    weights = resolve_weights(str(path))
    seen = read_weights(weights).seen
    if not seen:
        raise ConfigError(
            f"--against {path}: does not say what it was trained on; name a run of medtl, "
            "or compare with the folder of its training images"
        )
    run = Run(weights.parent.parent)
    if not run.has(INPUTS):
        return Against(seen)
    from medtl.runtime.records import Inputs, read_record  # pydantic is slow to import

    cases = read_record(run.path / INPUTS, Inputs).cases
    images = {name: tuple(case.images.values()) for name, case in cases.items()}
    every = frozenset(value for own in images.values() for value in own)
    return Against(seen, every, _predictions(run, weights.parent.name, images))


def _predictions(run: Run, stage: str, images: Mapping[str, tuple[str, ...]]) -> Predictions | None:
    """None of a run that predicts no classes, or has not been scored."""
    if not run.has(SUMMARY):
        return None
    from medtl.evaluation.scores import read_scores

    rows = [
        row for row in read_scores(run).cases if row["stage"] == stage and images.get(row["case"])
    ]
    classes = tuple(key[2:] for key in rows[0] if key.startswith("p_")) if rows else ()
    rows = [row for row in rows if row.get("class") in classes]
    if not rows:
        return None
    return Predictions(
        classes,
        tuple(images[row["case"]][0] for row in rows),
        tuple(classes.index(row["class"]) for row in rows),
        np.array([[row[f"p_{name}"] for name in classes] for row in rows]),
    )
