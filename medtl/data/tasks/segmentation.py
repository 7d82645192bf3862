"""The task ``segmentation``: cases of a data set in a common layout, named by that data set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl.data.case import Case, Cohort, ImageFile
from medtl.data.formats.case_list import Entry, Listing, checked, counted, trainable
from medtl.data.formats.detect import read_listing
from medtl.data.formats.label_names import (
    Regions,
    found_regions,
    parse_labels,
    recorded_channels,
    recorded_regions,
)
from medtl.data.io.nifti import count_volumes, label_counts
from medtl.data.modality import Modality
from medtl.data.phantom import write_phantom
from medtl.data.phantom.cohort import notes_of
from medtl.data.task import Advice, Defaults, Task
from medtl.data.tasks.fingerprint import measure_fingerprint
from medtl.data.tasks.segmentation_defaults import advice
from medtl.errors import ConfigError, DataError, shortened
from medtl.runtime.parallel import in_threads

#: Of the built-in phantom.
MODALITIES = ("flair", "t1", "t1ce", "t2")


class Segmentation(Task):
    """Segmentation of anybody's data: nnU-Net raw, MSD, a MONAI datalist or a table."""

    name = "segmentation"

    def bind(
        self,
        root: Path | None,
        labels: str | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> OwnData:
        """See :meth:`medtl.data.task.Task.bind`.

        Raises:
            ConfigError: no data, or ``labels`` that name no regions.
            DataError: no known layout, or what a file in it says is wrong.
        """
        if root is None:
            raise ConfigError(
                "task segmentation has no data of its own; give yours by --data, or try brats"
            )
        listing = checked(read_listing(Path(root)))
        known = recorded_regions(names) if names else None
        if names is None:
            listing = trainable(listing)
        notes = list(listing.notes)
        channels = listing.channels
        if not channels and names is not None:
            channels = recorded_channels(names)
        if not channels:
            channels = _counted_channels(listing, notes)
        regions = parse_labels(labels) if labels else listing.regions or known
        if regions is None:
            regions = _regions_in_files(listing, notes)
        return OwnData(root, listing, tuple(notes), channels, regions)

    def write_phantom(self, folder: Path, cases: int, seed: int) -> None:
        """See :class:`medtl.data.task.Task`: the built-in phantom's cases with a list of them."""
        write_phantom(folder / "cases", cases=cases, size=24, sites=1, seed=seed)
        listed = [
            {
                "image": [f"cases/{case.name}/{case.name}_{name}.nii.gz" for name in MODALITIES],
                "label": f"cases/{case.name}/{case.name}_seg.nii.gz",
            }
            for case in sorted((folder / "cases").glob("*/"))
        ]
        channels = {str(number): name for number, name in enumerate(MODALITIES)}
        labels = {"0": "background", "1": "core", "2": "edema", "4": "enhancing"}
        content = {"modality": channels, "labels": labels, "training": listed}
        (folder / "dataset.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def _counted_channels(listing: Listing, notes: list[str]) -> tuple[Modality, ...]:
    """Names for channels that nobody named."""
    entry = listing.entries[0]
    count = count_volumes(entry.files[0]) if entry.packed else len(entry.files)
    names = ["image"] if count == 1 else [f"channel{n}" for n in range(count)]
    notes.append(f"{listing.source.name} names no channels: called {', '.join(names)}")
    return tuple(map(Modality, names))


def _regions_in_files(listing: Listing, notes: list[str]) -> Regions:
    """Names for the label values that the segmentations hold."""
    targets = [entry.target for entry in listing.entries if entry.target is not None]
    if not targets:
        raise DataError(f"{listing.source}: {listing.unlabelled}")
    counts = in_threads(lambda path: label_counts(ImageFile(path)), targets)
    regions = found_regions({v for found in counts for v in found}, listing.source)
    notes.append(
        f"{listing.source.name} names no labels: called {', '.join(regions.values)} by the values "
        "found; --labels NAME=1+2,OTHER=2 names them"
    )
    return regions


@dataclass
class OwnData(Task):
    """The task on one data set; see :meth:`medtl.data.task.Task.bind`."""

    root: Path
    listing: Listing
    notes: tuple[str, ...]
    modalities: tuple[Modality, ...]
    found: Regions
    name: str = Segmentation.name
    kind: str = "segmentation"

    def __post_init__(self) -> None:
        self.regions = tuple(self.found.values)
        self.nested, self.exclusive = self.found.nested, self.found.exclusive
        self.names = {"channels": list(self.modalities), **self.found.to_json()}
        every = "mod:" + "+".join(self.modalities)
        self.defaults = self.phantom_defaults = Defaults(src=every, dst=every, strategy="scratch")

    def cases(
        self,
        root: Path,
        labels: str | None = None,
        required: Sequence[str] | None = None,
        need_target: bool = True,
    ) -> Cohort:
        """The cases of the data set that the task was bound to, with ``root`` and ``labels``.

        Raises:
            DataError: none labelled, a channel that is missing or too many, or a label value that
                the data set does not name; always naming the file.
        """
        entries = [e for e in self.listing.entries if e.target is not None or not need_target]
        notes = list(self.notes)
        if not entries:
            raise DataError(f"{self.listing.source}: {self.listing.unlabelled}")
        bare = [e.id for e in self.listing.entries if e not in entries]
        if bare:
            notes.append(f"{len(bare)} unlabelled cases were left out: {shortened(bare)}")
        notes[:0] = notes_of(self.listing.synthetic)
        images = in_threads(self._images, entries)
        for entry, found in zip(entries, images, strict=True):
            self._check_channels(entry, found, required or ())
        values = in_threads(self._values, entries)
        self._tell_absent(values, notes)
        cases = tuple(map(self._case, entries, images, values))
        synthetic = self.listing.synthetic
        return Cohort(self.root, cases, tuple(notes), synthetic, counted=counted(entries))

    def advise(
        self,
        cases: Sequence[Case],
        modalities: Sequence[str],
        spacing_mm: float | None = None,
        patch_size: Sequence[int] | None = None,
    ) -> Advice:
        """See :meth:`medtl.data.task.Task.advise`."""
        found = measure_fingerprint(cases, tuple(map(Modality, modalities)), self.regions)
        return advice(cases, found, self.defaults, spacing_mm, patch_size)

    def _images(self, entry: Entry) -> dict[Modality, ImageFile]:
        if not entry.packed:
            numbers = range(len(self.modalities))
            odd = [path for n, path in entry.files.items() if n not in numbers]
            if odd:
                raise DataError(f"{odd[0]}: {self._named('it is numbered beyond the channels')}")
            return {self.modalities[n]: ImageFile(path) for n, path in entry.files.items()}
        path = entry.files[0]
        count = count_volumes(path)
        if count != len(self.modalities):
            raise DataError(f"{path}: {self._named(f'it holds {count} channels')}")
        if count == 1:
            return {self.modalities[0]: ImageFile(path)}
        return {name: ImageFile(path, n) for n, name in enumerate(self.modalities)}

    def _named(self, what: str) -> str:
        return (
            f"{what}, but {self.listing.source} names {len(self.modalities)}: "
            f"{', '.join(self.modalities)}"
        )

    def _check_channels(
        self, entry: Entry, images: Mapping[Modality, ImageFile], required: Sequence[str]
    ) -> None:
        for name in required:
            if name not in self.modalities:
                raise DataError(f"{self.listing.source}: {self._named(f'{name} is needed')}")
            if Modality(name) not in images:
                number = self.modalities.index(Modality(name))
                file = self.listing.expected.format(case=entry.id, channel=number)
                hint = f"; expected {file}" if file else ""
                raise DataError(f"{entry.where}: {entry.id} has no {name} image{hint}")

    def _values(self, entry: Entry) -> Mapping[int, int]:
        """Voxels per label value."""
        if entry.target is None:
            return {}
        counts = label_counts(ImageFile(entry.target))
        strange = sorted(set(counts) - set(self.found.labels))
        if strange:
            raise DataError(
                f"{entry.target}: label value {', '.join(map(str, strange))} is not named by "
                f"{self.listing.source}, which knows {', '.join(map(str, self.found.labels))}"
            )
        return counts

    def _tell_absent(self, values: Sequence[Mapping[int, int]], notes: list[str]) -> None:
        present = {value for counts in values for value in counts}
        absent = [n for n, own in self.found.values.items() if not present & set(own)]
        if absent and present:
            notes.append(f"in no segmentation: {', '.join(absent)}")

    def _case(
        self, entry: Entry, images: Mapping[Modality, ImageFile], values: Mapping[int, int]
    ) -> Case:
        held = [name for name, own in self.found.values.items() if set(own) & set(values)]
        return Case(
            id=entry.id,
            patient=entry.patient or entry.id,
            images=images,
            target=ImageFile(entry.target) if entry.target else None,
            regions=self.found.values,
            labels=self.found.labels,
            site=entry.site,
            part=entry.part,
            fold=entry.fold,
            stratum=" ".join(held),
        )
