"""Making data: the synthetic phantom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl.api.session import recorder
from medtl.api.settings import Where, path_of
from medtl.api.shown import Shown


@dataclass(frozen=True, slots=True, repr=False)
class Phantom(Shown):
    """A synthetic cohort on disk; it stands for its path in every call that takes ``data``."""

    path: Path
    layout: str
    cases: int
    size: int
    sites: int
    seed: int
    shift: float

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def title(self) -> str:
        return (
            f"{self.cases} cases in the layout of {self.layout}, {self.sites} sites, "
            f"shift {self.shift:g}, {self.path.name}"
        )

    @property
    def synthetic(self) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "layout": self.layout,
            "cases": self.cases,
            "size": self.size,
            "sites": self.sites,
            "seed": self.seed,
            "shift": self.shift,
            "synthetic": True,
        }


def phantom(
    folder: Where,
    *,
    layout: str = "brats",
    cases: int = 20,
    size: int = 64,
    sites: int = 2,
    seed: int = 0,
    shift: float = 1.0,
    verbose: bool = False,
) -> Phantom:
    """Write synthetic MR of heads with tumours, in the layout of a public data set.

    Args:
        folder: new or empty.
        layout: "brats" (volumes), "kaggle-mri" (class folders) or "lgg-mri" (slices).
        size: voxels along each edge of 180 mm.
        shift: how far the scanners of the sites differ; 0: not at all.

    Raises:
        ConfigError: impossible numbers.
        DataError: the folder holds something, or cannot be written.
    """
    from medtl.phantom import write_phantom

    path = path_of(folder)
    with recorder(verbose).progress("synthetic phantom", cases) as advance:
        write_phantom(
            path,
            cases=cases,
            size=size,
            sites=sites,
            seed=seed,
            shift=shift,
            layout=layout,
            progress=lambda done, total: advance(done),
        )
    return Phantom(path, layout, cases, size, sites, seed, shift)
