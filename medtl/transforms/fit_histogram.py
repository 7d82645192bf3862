"""The standard that a harmoniser brings intensities onto in training, fitted on training cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from medtl.data.case import Case, ImageFile
from medtl.data.domain import Domain
from medtl.data.io.images import read_volume
from medtl.errors import ConfigError
from medtl.plugins.catalog import Catalog
from medtl.runtime.cache import remembered
from medtl.runtime.console import Reporter
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
    """Each modality's standard, from the ``training`` cases of the first domain that has it: the
    source comes first, so the target is brought onto the source's.

    With N4 the standard is that of the uncorrected images; it says only where percentiles go.

    Raises:
        ConfigError: the harmoniser is not for training, or the preset has fixed windows.
        DataError: no training image varies, or one cannot be read.
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
    recipe = Preprocessor((), (), preset)
    values: dict[str, tuple[float, ...]] = {}
    for domain, cases in training.items():
        for modality in domain.modalities:
            if modality not in values:
                files = [case.images[modality] for case in cases]
                measured = _measure(files, landmarks, recipe, f"{name} {modality}", reporter)
                values[modality] = landmarks.standard(measured, f"{name} on {modality}")
    return Standard(name, landmarks.percentiles, tuple(sorted(values.items())))


def _measure(
    files: Sequence[ImageFile],
    landmarks: Landmarks,
    recipe: Preprocessor,
    what: str,
    reporter: Reporter,
) -> list[list[float]]:
    """Each image's values at the percentiles, where ``recipe`` says that it shows the patient."""
    rule = recipe.preset.fits, recipe.preset.whole

    def measured(file: ImageFile) -> list[float]:
        def compute() -> list[float]:
            array_IJK, _ = read_volume(file)
            return landmarks.measure(array_IJK, recipe.shown(array_IJK))

        return list(
            remembered(f"{_FACT} {landmarks.percentiles} {rule}", file.path, file.channel, compute)
        )

    found = []
    with (
        reporter.progress(f"fitting {what}", len(files)) as advance,
        ThreadPoolExecutor(2) as threads,
    ):
        for row in threads.map(measured, files):
            found.append(row)
            advance(len(found))
    return found
