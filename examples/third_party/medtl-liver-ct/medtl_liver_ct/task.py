"""The task liver-ct: a folder in the layout of LiTS -> cases, regions and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.phantom import read_index
from medtl.data.task import Defaults, Task
from medtl.errors import ConfigError, DataError
from medtl_liver_ct.lits import BACKGROUND, CT, LIVER, TUMOUR, Scan, find_scans
from medtl_liver_ct.phantom import write_phantom


class LiverCt(Task):
    """Segmentation of the liver and of the tumours in it, in CT of the abdomen.

    Data: LiTS (Bilic et al. 2023, The Liver Tumor Segmentation Benchmark), or your own files called
    as it calls them.
    """

    name = "liver-ct"
    kind = "segmentation"
    regions = ("liver", "tumour")  #: tumours are part of the liver, as surgeons count it
    modalities = (CT,)
    nested = True
    defaults = Defaults(
        src="mod:ct",
        dst="mod:ct",
        network="coarse-unet",
        transforms="abdomen-ct",
        patch_size=(96, 96, 96),
        strategy="scratch",
    )
    #: Settled in half a minute on two cores.
    phantom_defaults = replace(
        defaults, patch_size=(32, 32, 32), batch_size=4, rate=5e-3, steps=300
    )

    def cases(
        self,
        root: Path,
        labels: str | None = None,
        required: Sequence[str] | None = None,
        need_target: bool = True,
    ) -> Cohort:
        """Find the volumes below ``root``.

        Args:
            labels: refused: LiTS has one label scheme.
            required: modalities that every case must have; CT is the only one.
            need_target: leave out volumes without a segmentation, and say how many.

        Raises:
            ConfigError: ``labels``.
            DataError: no volumes, none segmented, or what is wrong with a file; always naming it.
        """
        root = Path(root)
        if labels:
            raise ConfigError(f"--labels: task {self.name} has one label scheme; drop it")
        scans = find_scans(root)
        kept = [scan for scan in scans if scan.segmentation or not need_target]
        if not kept:
            raise DataError(
                f"{root}: none of its {len(scans)} volumes has a segmentation; they can be "
                "predicted, not trained or evaluated on"
            )
        left_out = len(scans) - len(kept)
        notes = (f"{left_out} volumes without a segmentation were left out",) if left_out else ()
        synthetic = bool(read_index(root).get("synthetic"))
        return Cohort(root, tuple(map(_case, kept)), notes, synthetic)

    def write_phantom(self, folder: Path, cases: int, seed: int) -> None:
        """Synthetic abdomens of two scanners, see :mod:`medtl_liver_ct.phantom`; medtl marks the
        folder as synthetic."""
        write_phantom(folder, cases, seed)


def _case(scan: Scan) -> Case:
    return Case(
        id=scan.id,
        patient=scan.id,  # LiTS names no patients: each volume counts as one
        images={CT: ImageFile(scan.volume)},
        target=ImageFile(scan.segmentation) if scan.segmentation else None,
        regions={"liver": (LIVER, TUMOUR), "tumour": (TUMOUR,)},
        labels=(BACKGROUND, LIVER, TUMOUR),
        site=scan.site,
    )
