"""What a task component must offer: cases, regions, and the defaults that suit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medtl.case import Cohort


@dataclass(frozen=True, slots=True)
class Defaults:
    """Settings a task's author found to work; the command line overrides each."""

    src: str
    dst: str
    network: str = "unet"
    transforms: str = "brain-mr"
    spacing_mm: float = 2.0
    patch_size: tuple[int, ...] = (64, 64, 64)
    batch_size: int = 2
    slice_size: tuple[int, ...] = (128, 128)  #: patches of 2-D networks
    slice_batch_size: int = 8
    rate: float = 2e-3
    steps: int = 1600
    passes: int = 150  #: of 3-D patches over the patients, at most: few are soon learnt by heart

    def steps_for(self, patients: int, batch_size: int) -> int:
        """Optimiser steps per side with 3-D patches of so many training patients."""
        return min(self.steps, max(1, self.passes * patients // batch_size))


class Task(Protocol):
    """A task reads a folder into cases; it knows nothing of networks."""

    name: str
    regions: tuple[str, ...]
    modalities: tuple[str, ...]
    nested: bool  #: each region lies within the one before it
    defaults: Defaults
    phantom_defaults: Defaults  #: for a cohort marked synthetic: settled in minutes, not hours

    def cases(
        self,
        root: Path,
        labels: str | None = None,
        required: Sequence[str] | None = None,
        need_target: bool = True,
    ) -> Cohort: ...
