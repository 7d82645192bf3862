"""What a harmoniser must keep, fitted on small volumes. Axes: C modality, I J K voxels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.shift.contract import Fitted, Harmoniser, View
from medtl.testing.check import CheckFailed, Tried, require
from medtl.testing.toys import toy_view

FITTED_ON = 3


def harmoniser(tried: Tried) -> Harmoniser:
    found = tried.returned(Harmoniser)
    require(found.name == tried.name, f"its name is {found.name!r}; call it {tried.name!r}")
    return found


def fitted(chosen: Harmoniser) -> Fitted:
    """Fitted on views that come one at a time, as they do when images are read."""
    return chosen.fit(toy_view(seed) for seed in range(FITTED_ON))


def what_is_fitted_is_plain_data(tried: Tried) -> None:
    """Numbers by name, which JSON keeps, and which then do the same."""
    chosen = harmoniser(tried)
    numbers = fitted(chosen)
    try:
        kept = {key: tuple(row) for key, row in json.loads(json.dumps(dict(numbers))).items()}
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"fitted values are no JSON ({error}); give tuples of floats") from error
    one, other = (chosen.apply(toy_view(9), each) for each in (numbers, kept))
    require(_same(one, other), "fitted values have another effect once they were saved as JSON")


def images_stay_finite_and_whole(tried: Tried) -> None:
    """The image, what it shows and its regions keep one grid, the modalities and the case."""
    chosen = harmoniser(tried)
    given = toy_view(9)
    found = chosen.apply(given, fitted(chosen))
    require(isinstance(found, View), f"apply returns {type(found).__name__}, not a View")
    require(np.isfinite(found.image_CIJK).all(), "the image is not finite afterwards")
    image, mask = found.image_CIJK.shape, found.foreground_CIJK.shape
    require(image == mask, f"the image is {image}, its mask {mask}")
    kept = (found.case, found.modalities) == (given.case, given.modalities)
    require(kept, "the case or its modalities changed; use dataclasses.replace on the view")


def images_are_left_as_they_are(tried: Tried) -> None:
    """A new view is returned; the one given is not written into."""
    chosen, given = harmoniser(tried), toy_view(9)
    chosen.apply(given, fitted(chosen))
    require(_same(given, toy_view(9)), "it changes the image in place; work on a copy")


def fitting_is_repeatable(tried: Tried) -> None:
    """The same images give the same numbers."""
    one, other = (dict(fitted(harmoniser(tried))) for _ in range(2))
    require(one == other, "the same images give other fitted values; seed what is random")


def unknown_modalities_are_refused(tried: Tried) -> None:
    """A modality that it was not fitted on is a DataError, or does not matter to it."""
    chosen = harmoniser(tried)
    numbers, other = fitted(chosen), replace(toy_view(9), modalities=(Modality("flair"),))
    try:
        chosen.apply(other, numbers)
    except DataError:
        return
    except Exception as error:
        problem = f"raises {type(error).__name__}; raise DataError"
        raise CheckFailed(f"a modality that it was not fitted on {problem}") from error


def _same(one: View, other: View) -> bool:
    return np.array_equal(one.image_CIJK, other.image_CIJK) and np.array_equal(
        one.foreground_CIJK, other.foreground_CIJK
    )
