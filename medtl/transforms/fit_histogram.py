"""Fit the histogram standard of a harmoniser on training cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medtl.data.case import Case, ImageFile
from medtl.data.domain import Domain
from medtl.data.io.images import read_volume
from medtl.errors import ConfigError
from medtl.plugins.catalog import Catalog
from medtl.runtime.cache import remembered
from medtl.runtime.console import Reporter
from medtl.runtime.parallel import in_threads
from medtl.transforms.histogram import Landmarks, Standard
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import Preset

#: Part of the key under which percentiles are remembered; raise it whenever they change.
_FACT = "landmarks 1"


def fit_standard(
    harmoniser: str,
    catalog: Catalog,
    preset: Preset,
    training: Mapping[Domain, Sequence[Case]],
    reporter: Reporter,
) -> Standard:
    """Each modality's histogram standard, fitted on the first domain of ``training`` that has it.

    The source comes first, so the target is mapped to the source's standard. With N4 the standard
    is fitted on uncorrected images: it only says where percentiles are mapped to.

    Raises:
        ConfigError: the harmoniser is not for training, or the preset has fixed windows.
        DataError: an image cannot be read, or all training images are constant.
    """
    name = catalog.harmonisers.full_name(harmoniser).partition(":")[2]
    landmarks: Landmarks | None = catalog.harmonisers[harmoniser].load()().landmarks
    if landmarks is None:
        raise ConfigError(
            f"harmonise={name} is for measuring shift; presets z-score and resample in any "
            "case: use nyul or histogram-matching"
        )
    if preset.windowed:
        raise ConfigError(
            f"harmonise={name}: transforms {preset.name} scales CT by the same window in all "
            "cases, which harmonising would undo; leave one of them out"
        )
    preprocessor = Preprocessor((), (), preset)
    values: dict[str, tuple[float, ...]] = {}
    for domain, cases in training.items():
        for modality in domain.modalities:
            if modality not in values:
                files = [case.images[modality] for case in cases]
                measured = _measure(files, landmarks, preprocessor, modality, name, reporter)
                values[modality] = landmarks.standard(measured, f"{name} on {modality}")
    return Standard(name, landmarks.percentiles, tuple(sorted(values.items())))


def _measure(
    files: Sequence[ImageFile],
    landmarks: Landmarks,
    preprocessor: Preprocessor,
    modality: str,
    harmoniser: str,
    reporter: Reporter,
) -> list[list[float]]:
    """Each image's values at the percentiles, over the voxels that show the patient."""
    preset = preprocessor.preset
    rule = preset.fits, preset.whole, dict(preset.images).get(modality)

    def measured(file: ImageFile) -> list[float]:
        def compute() -> list[float]:
            array_IJK, _ = read_volume(file)
            shown = preprocessor.shown(array_IJK, modality)
            return landmarks.measure(shown.image_IJK, shown.mask_IJK)

        return list(
            remembered(f"{_FACT} {landmarks.percentiles} {rule}", file.path, file.channel, compute)
        )

    with reporter.progress(f"fitting {harmoniser} {modality}", len(files)) as advance:
        return in_threads(measured, files, advance, threads=2)
