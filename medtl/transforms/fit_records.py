"""What the training images of each modality look like, measured before the first step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import median

from medtl.data.case import Case
from medtl.data.domain import Domain
from medtl.data.modality import Modality
from medtl.data.tasks.fingerprint import measure_facts
from medtl.runtime.console import Reporter
from medtl.transforms.image_record import ImageRecord


def record_images(
    training: Mapping[Domain, Sequence[Case]], reporter: Reporter, windowed: Collection[str] = ()
) -> Mapping[str, ImageRecord]:
    """A record per modality, from some of the ``training`` cases of all domains that have it.

    Warns where some of the images have a uniform background and others do not, but not of those
    that are ``windowed``: scanners pad CT or do not, and every voxel of it counts in either case.
    """
    files: dict[Modality, dict[str, Case]] = {}
    for domain, cases in training.items():
        for case in cases:
            for modality in domain.modalities:
                files.setdefault(modality, {})[case.id] = case
    unheard = Reporter(silent=True)
    return {
        modality: _record(
            tuple(own.values()), modality, unheard if modality in windowed else reporter
        )
        for modality, own in files.items()
    }


def _record(cases: Sequence[Case], modality: Modality, reporter: Reporter) -> ImageRecord:
    facts = measure_facts(cases, modality)
    values = [fact["background"] for fact in facts if fact["background"] is not None]
    uniform = 2 * len(values) >= len(facts)
    odd = len(facts) - len(values) if uniform else len(values)
    if odd:
        has, others = ("noise", "one value") if uniform else ("one value", "noise")
        reporter.warn(
            f"{odd} of {len(facts)} training images of {modality} that were looked at have "
            f"{has} around what they show, the others {others}: all are prepared like the others"
        )
    low, high = zip(*(fact["ends"] for fact in facts), strict=True)
    background = float(median(values)) if uniform else None
    return ImageRecord(background, (min(low), max(low)), (min(high), max(high)))
