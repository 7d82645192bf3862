"""Features that a source computes of the target's images, before anything is trained on them.

They are those of the block before the head.

Axes: N row, F feature, Z source class, I J K voxels, L region, x the axes of a map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from medtl.data.case import Case
from medtl.errors import DataError
from medtl.study.features.block_rows import (
    at_cells,
    block_before_head,
    block_names,
    choose_window,
    draw,
    image_rows,
    rows_at,
    window_maps,
    within,
)
from medtl.study.features.trained_runs import Source
from medtl.study.transferability.dense import MOST_VOXELS

Floats = NDArray[np.floating[Any]]

#: What classification is scored on, as in the scores of a study.
CLASSES = "all"


@dataclass(frozen=True, slots=True)
class Examples:
    """What an output is scored on: features of images or voxels, with label and patient of each.

    ``source_NZ``: the source's probabilities of its own classes, if it tells classes.
    """

    features_NF: Floats
    labels_N: NDArray[Any]
    patients_N: NDArray[np.str_]
    voxels: bool
    source_NZ: Floats | None = None

    def of(self, patients: Iterable[str]) -> Examples:
        """Those of some patients."""
        own = np.isin(self.patients_N, list(patients))
        source_NZ = None if self.source_NZ is None else self.source_NZ[own]
        return Examples(
            self.features_NF[own],
            self.labels_N[own],
            self.patients_N[own],
            self.voxels,
            source_NZ,
        )


def class_examples(source: Source, cases: Sequence[Case]) -> dict[str, Examples]:
    """An example per image."""
    network, preprocessor = source.trained.predictor.network, source.trained.predictor.preprocessor
    block, head = block_before_head(network), block_names(network)[-1]
    features, logits = [], []
    for case in cases:
        prepared = preprocessor(case, with_target=False)
        rows = image_rows(source.trained, prepared, [block, head])
        features.append(rows[block])
        logits.append(rows[head])
    labels = np.array([case.class_name for case in cases])
    patients = np.array([case.patient for case in cases])
    shares_NZ = softmax(np.concatenate(logits).astype(np.float64), axis=1)
    own = shares_NZ if source.classes else None
    return {CLASSES: Examples(np.concatenate(features), labels, patients, False, own)}


def dense_examples(source: Source, cases: Sequence[Case]) -> dict[str, Examples]:
    """For each region, voxels within it and outside, of a window around all that is labelled.

    Voxels are cells of the block's map; the label is that at their centre.

    Raises:
        DataError: the block gives no map.
    """
    found: dict[str, list[Examples]] = {}
    for case in cases:
        for region, own in _voxels(source, case):
            found.setdefault(region, []).append(own)
    return {region: _joined(own) for region, own in found.items()}


def _voxels(source: Source, case: Case) -> Iterator[tuple[str, Examples]]:
    """Each region with as many voxels as one case gives at most, where its truth is known."""
    preprocessor = source.trained.predictor.preprocessor
    block = block_before_head(source.trained.predictor.network)
    prepared = preprocessor(case)
    window = choose_window(source.trained, prepared, _middle(prepared["target"]))
    map_Fx = window_maps(source.trained, prepared, window, [block])[block]
    if map_Fx.ndim != window.shown_IJK.ndim + 1:
        raise DataError(f"block {block} gives no map, so voxels have no features")
    target_LIJK, known_LIJK = (within(window, prepared, each) > 0 for each in _truth(prepared))
    known_LIJK &= window.shown_IJK | target_LIJK
    for number, region in enumerate(preprocessor.regions):
        inside_N, known_N = (
            at_cells(masks_LIJK[number], map_Fx.shape[1:]).flatten().numpy()
            for masks_LIJK in (target_LIJK, known_LIJK)
        )
        drawn = [
            draw(np.flatnonzero(known_N & side_N), f"{case.id}/{region}/{name}", MOST_VOXELS)
            for name, side_N in (("inside", inside_N), ("outside", ~inside_N))
        ]
        cells = np.concatenate(drawn)
        patients = np.full(len(cells), case.patient)
        yield region, Examples(rows_at(map_Fx, cells), inside_N[cells], patients, True)


def _joined(parts: Sequence[Examples]) -> Examples:
    return Examples(
        np.concatenate([part.features_NF for part in parts]),
        np.concatenate([part.labels_N for part in parts]),
        np.concatenate([part.patients_N for part in parts]),
        True,
    )


def _middle(target_LIJK: Tensor) -> list[int] | None:
    """The middle of everything that is labelled."""
    places_N3 = target_LIJK.any(0).nonzero()
    return places_N3.float().mean(0).round().int().tolist() if len(places_N3) else None


def _truth(prepared: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The regions of a prepared case, and where they are known; both are 1 there (LIJK)."""
    target_LIJK = prepared["target"]
    if "unknown" not in prepared:
        return target_LIJK, target_LIJK.new_ones(target_LIJK.shape)
    return target_LIJK, 1 - prepared["unknown"]
