"""Images that a model was trained on, under any file name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from medtl.audit.checks.measured import Measured
from medtl.audit.findings import Finding
from medtl.errors import ConfigError


def read_seen(against: Path) -> frozenset[str]:
    """Content hashes of the images that a run, or a file of weights, was trained on.

    Raises:
        ConfigError: it does not say.
        WeightsError: it cannot be read.
    """
    from medtl.transfer.weights import read_weights, resolve_weights  # imports torch

    seen = read_weights(resolve_weights(str(against))).seen
    if not seen:
        raise ConfigError(
            f"--against {against}: does not say what it was trained on; name a run of medtl, "
            "or compare with the folder of its training images"
        )
    return seen


def check_trained_on(cohort: Sequence[Measured], seen: frozenset[str]) -> Iterator[Finding]:
    """Cases with an image that is among those of the training."""
    for one in cohort:
        known = [name for name, facts in one.facts.images.items() if facts.content in seen]
        if known:
            listed = ", ".join(known)
            yield one.found("trained-on", f"{listed}: the model was trained on it", *known)
