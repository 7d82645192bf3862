"""The task ``segmentation``: cases of a data set in a common layout, named by that data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from medtl.data.case import Case, ImageFile
from medtl.data.dicom.files import looks_like_dicom
from medtl.data.formats.case_list import Entry, Listing, checked, trainable
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
from medtl.data.task import Advice, Defaults
from medtl.data.tasks.fingerprint import measure_fingerprint
from medtl.data.tasks.listed import Images, ListedTask, UnboundTask, bare_case, unnamed_channels
from medtl.data.tasks.segmentation_defaults import advice
from medtl.data.voxel_size import Spacing
from medtl.errors import ConfigError, DataError, shortened
from medtl.runtime.files import real_path
from medtl.runtime.parallel import in_threads

#: Of the built-in phantom.
MODALITIES = ("flair", "t1", "t1ce", "t2")


class Segmentation(UnboundTask):
    """Segmentation of any data: nnU-Net raw, MSD, BIDS, DICOM, a MONAI datalist or a table."""

    name = "segmentation"
    dicom_list = "cases.json"

    def image_path(self, case: str, modality: str, number: int) -> str:
        """See :meth:`medtl.data.task.Task.image_path`: as nnU-Net numbers them."""
        return f"{case}_{number:04}.nii"

    def target_path(self, case: str) -> str:
        """See :meth:`medtl.data.task.Task.target_path`."""
        return f"{case}_seg.nii"

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
        listing = checked(self._listing(Path(root), labels))
        known = recorded_regions(names) if names else None
        if names is None and self.needs_labels:
            listing = trainable(listing)
        notes = list(listing.notes)
        channels = listing.channels or (recorded_channels(names) if names is not None else ())
        if not channels:
            channels = unnamed_channels(listing.entries[0])
            notes.append(f"{listing.source.name} names no channels: called {', '.join(channels)}")
        regions = parse_labels(labels) if labels else listing.regions or known
        labelled = any(entry.target for entry in listing.entries)
        if regions is None and not (labelled or self.needs_labels):
            regions = Regions({}, (0,))
        if regions is None:
            regions = _regions_in_files(listing, notes)
        return OwnData(root, listing, tuple(notes), channels, regions)

    def _listing(self, root: Path, labels: str | None) -> Listing:
        """The cases; of DICOM the studies, with what they show as channels."""
        if not looks_like_dicom(root):
            return read_listing(root, self.ignored)
        from medtl.data.dicom.convert import convert_studies
        from medtl.data.dicom.label_maps import LabelMaps, refuse_labels

        refuse_labels(labels)
        done = convert_studies(
            root,
            None,
            (),
            self.image_path,
            self.series,
            whole=self.needs_labels,
            listing=self.dicom_list,
            labels=LabelMaps(self.target_path) if self.needs_labels else None,
        )
        listing = read_listing(done.folder)
        return replace(listing, source=root, notes=done.told, failed=done.failed)

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


#: How a folder to predict is laid out.
_NUMBERED = (
    "; rename the files of each channel to CASE_0000.nii.gz, CASE_0001.nii.gz and so on, or list "
    "them in a table (.csv)"
)


def _regions_in_files(listing: Listing, notes: list[str]) -> Regions:
    """Names for the label values that the segmentations hold."""
    targets = [entry.target for entry in listing.entries if entry.target is not None]
    if not targets:
        raise DataError(f"{listing.source}: {listing.unlabelled}")
    counts = in_threads(lambda path: label_counts(ImageFile(path)), targets)
    regions = found_regions({value for voxels in counts for value in voxels}, listing.source)
    notes.append(
        f"{listing.source.name} names no labels: called {', '.join(regions.values)} by the values "
        "found; --labels NAME=1+2,OTHER=2 names them"
    )
    return regions


@dataclass
class OwnData(ListedTask):
    """Segmentation of one data set; see :meth:`medtl.data.task.Task.bind`."""

    label_scheme: Regions

    name = Segmentation.name
    kind = "segmentation"
    without_target = "unlabelled cases"

    def __post_init__(self) -> None:
        scheme = self.label_scheme
        self.regions = tuple(scheme.values)
        self.nested, self.exclusive = scheme.nested, scheme.exclusive
        self.names = {"channels": list(self.modalities), **scheme.to_json()}
        every = "mod:" + "+".join(self.modalities)
        loss = "dice-ce-softmax" if scheme.exclusive else "dice-ce"
        self.defaults = Defaults(
            src=every, dst=every, strategy="scratch", loss=loss, network="plain-unet", width=16
        )
        self.phantom_defaults = self.defaults

    def advise(
        self,
        cases: Sequence[Case],
        modalities: Sequence[str],
        spacing_mm: Spacing | None = None,
        patch_size: Sequence[int] | None = None,
    ) -> Advice:
        """See :meth:`medtl.data.task.Task.advise`."""
        fingerprint = measure_fingerprint(cases, tuple(map(Modality, modalities)), self.regions)
        return advice(cases, fingerprint, self.defaults, spacing_mm)

    def _images(self, entry: Entry) -> Images:
        if entry.packed:
            count = count_volumes(entry.files[0])
            if count != len(self.modalities):
                held = self._named(f"it holds {count} channel{'' if count == 1 else 's'}")
                flat = self.listing.source.is_dir()
                raise DataError(f"{entry.files[0]}: {held}{_NUMBERED if flat else ''}")
        else:
            for n, path in entry.files.items():
                if n not in range(len(self.modalities)):
                    what = f"it is channel {n}, counted from 0"
                    raise DataError(f"{path}: {self._named(what)}; renumber or remove it")
        return self._numbered(entry)

    def _named(self, what: str) -> str:
        source = self.listing.source
        who = "the network takes" if source.is_dir() else f"{source} names"
        return f"{what}, but {who} {len(self.modalities)}: {', '.join(self.modalities)}"

    def _check_channels(self, entry: Entry, images: Images, required: Sequence[str]) -> None:
        for name in required:
            if name not in self.modalities:
                raise DataError(f"{self.listing.source}: {self._named(f'{name} is needed')}")
            if Modality(name) not in images:
                number = self.modalities.index(Modality(name))
                file = self.listing.expected.format(case=entry.id, channel=number)
                hint = f"; expected {file}" if file else "; add it, or leave the case out"
                raise DataError(f"{entry.where}: {entry.id} has no {name} image{hint}")

    def _cases(
        self, entries: Sequence[Entry], images: Sequence[Images], notes: list[str]
    ) -> tuple[Case, ...]:
        values = in_threads(self._values, entries)
        present = {value for counts in values for value in counts}
        absent = [n for n, own in self.label_scheme.values.items() if not present & set(own)]
        if absent and present:
            notes.append(f"warning: no label map holds {', '.join(absent)}: check --labels")
        cases = tuple(map(self._case, entries, images, values))
        notes += self._partly_known(cases, values)
        notes += _one_target(cases)
        return cases

    def _partly_known(
        self, cases: Sequence[Case], values: Sequence[Mapping[int, int]]
    ) -> Iterator[str]:
        """What of the truth is unknown and enters neither loss nor score."""
        for name in self.regions:
            count = sum(name in case.unannotated for case in cases)
            if count:
                yield (
                    f"region {name} was not annotated in {count} of {len(cases)} cases: there it "
                    "enters neither loss nor score"
                )
        marked = [
            sum(counts[value] for value in case.ignored) / sum(counts.values())
            for case, counts in zip(cases, values, strict=True)
            if case.ignored
        ]
        if marked:
            yield (
                f"{len(marked)} of {len(cases)} cases have voxels labelled ignore, "
                f"{median(marked):.2g} of all (median, from {min(marked):.2g} to "
                f"{max(marked):.2g}): they enter neither loss nor score"
            )

    def _values(self, entry: Entry) -> Mapping[int, int]:
        """Voxels per label value."""
        if entry.target is None:
            return {}
        counts = label_counts(ImageFile(entry.target))
        known = self.label_scheme.labels
        unknown = sorted(set(counts) - set(known))
        if unknown:
            listed = ", ".join(map(str, unknown))
            counted = f"value {listed} is" if len(unknown) == 1 else f"values {listed} are"
            named = self.listing.regions is not None
            place = f"in {self.listing.source} or by --labels" if named else "by --labels"
            raise DataError(
                f"{entry.target}: label {counted} not among "
                f"{', '.join(map(str, known))}; correct the label map, or name the value {place}"
            )
        return counts

    def _case(self, entry: Entry, images: Images, voxels: Mapping[int, int]) -> Case:
        regions = self.label_scheme.values
        unknown = [name for name in entry.annotated if name not in regions]
        if unknown and entry.target:
            raise DataError(
                f"{entry.where}: {entry.id} has {unknown[0]} annotated, which is no region; these "
                f"are {', '.join(regions)}; correct it, or give --ignore-column annotated"
            )
        if entry.target and real_path(entry.target) in {real_path(i.path) for i in images.values()}:
            raise DataError(f"{entry.where}: {entry.target} is given as an image and as its labels")
        looked_for = entry.annotated or tuple(regions)
        present = [name for name in looked_for if set(regions[name]) & set(voxels)]
        return replace(
            bare_case(entry, images, stratum=" ".join(present)),
            target=ImageFile(entry.target) if entry.target else None,
            regions=regions,
            labels=self.label_scheme.labels,
            ignored=tuple(value for value in self.label_scheme.ignored if value in voxels),
            unannotated=tuple(name for name in regions if name not in looked_for),
        )


def _one_target(cases: Sequence[Case]) -> Iterator[str]:
    """Warns of segmentations that several cases name."""
    owners: dict[ImageFile, list[str]] = {}
    for case in cases:
        if case.target is not None:
            owners.setdefault(case.target, []).append(case.id)
    for target, ids in owners.items():
        if len(ids) > 1:
            yield f"warning: {len(ids)} cases name one label file, {target.path}: {shortened(ids)}"
