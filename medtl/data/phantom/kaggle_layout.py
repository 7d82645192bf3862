"""The phantom as pictures in class folders, as on Kaggle: one T1ce slice of each patient.

Every fifth round of the classes belongs to ``Testing``. As in the real set, every second picture
there is one of ``Training``, stored again.

Axes: I left, J posterior, K superior; R rows, Q columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medtl.data.phantom.brats_layout import draw_anatomy, image_case, scanner_of, site_of
from medtl.data.phantom.cohort import Settings
from medtl.data.phantom.pictures import AXIAL, Display, display_of, framed, levels_IJK, slice_RQ
from medtl.data.phantom.tumour import Tumour, draw_meningioma, draw_pituitary, draw_tumours

VERSION = 1


DRAW: dict[str, Callable[[np.random.Generator], tuple[Tumour, ...]]] = {
    "glioma_tumor": partial(draw_tumours, count=1),
    "meningioma_tumor": draw_meningioma,
    "no_tumor": partial(draw_tumours, count=0),
    "pituitary_tumor": draw_pituitary,
}


CLASSES = tuple(DRAW)


CONTRAST = "t1ce"


ROUNDS = 5  #: the last of these belongs to Testing


QUALITY, QUALITY_AGAIN = 92, 75  #: of the JPEGs, and of pictures that were stored again


_VIEWS = 8  #: random stream, beside those of medtl.data.phantom.brats_layout


def jobs(folder: Path, settings: Settings) -> list[Callable[[], None]]:
    """See :class:`medtl.data.phantom.cohort.Writer`."""
    for n in range(settings.cases):
        path_of(folder, n).parent.mkdir(parents=True, exist_ok=True)
    return [partial(_write, folder, settings, n) for n in range(settings.cases)]


def index(settings: Settings) -> dict[str, Any]:
    """See :class:`medtl.data.phantom.cohort.Writer`; ``twins`` names pictures stored again."""
    numbers = range(settings.cases)
    names = [path_of(Path(), n).as_posix() for n in numbers]
    sites = [f"S{_site(settings, shown(n)) + 1}" for n in numbers]
    return {
        "sites": dict(zip(names, sites, strict=True)),
        "twins": {names[n]: names[shown(n)] for n in numbers if shown(n) != n},
    }


def path_of(root: Path, index: int) -> Path:
    testing = index // len(CLASSES) % ROUNDS == ROUNDS - 1
    part = "Testing" if testing else "Training"
    return root / part / CLASSES[index % len(CLASSES)] / f"image({index // len(CLASSES) + 1}).jpg"


def shown(index: int) -> int:
    """The number of the picture that is shown: its own, or that of a picture of Training.

    That one is of the same class, from the round before.
    """
    round_, place = divmod(index, len(CLASSES))
    twin = round_ % ROUNDS == ROUNDS - 1 and (round_ // ROUNDS + place) % 2 == 0
    return index - len(CLASSES) if twin else index


def _site(settings: Settings, index: int) -> int:
    # Sites change from one round of the classes to the next, so that no class has a site of its own
    return site_of(settings.seed, index // len(CLASSES), settings.sites)


def _write(root: Path, settings: Settings, index: int) -> None:
    own = shown(index)
    site = _site(settings, own)
    display = display_of(settings.seed, site, settings.shift)
    picture_RQ = framed(_render(settings, own, site, display), display)
    quality = QUALITY if own == index else QUALITY_AGAIN
    Image.fromarray(picture_RQ).convert("RGB").save(path_of(root, index), quality=quality)


def _render(settings: Settings, index: int, site: int, display: Display) -> NDArray[np.uint8]:
    seed = settings.seed
    anatomy = draw_anatomy(seed, index, settings.size, DRAW[CLASSES[index % len(CLASSES)]])
    scanner = scanner_of(seed, site, settings.shift)
    image_IJK = image_case(anatomy, seed, index, scanner, (CONTRAST,))[CONTRAST]
    rng = np.random.default_rng([seed, _VIEWS, index])
    plane = int(rng.choice(3, p=(0.25, 0.25, 0.5)))
    tumour = anatomy.labels_IJK > 0
    seen = tumour if tumour.any() else anatomy.brain_IJK
    # Within the middle half of what is to be seen, or half-way up the head.
    places = np.sort(np.nonzero(seen)[plane])
    place = int(np.quantile(places, rng.uniform(0.3, 0.7)))
    if plane == AXIAL and not tumour.any():
        place = int(np.quantile(places, rng.uniform(0.35, 0.8)))
    return np.asarray(slice_RQ(levels_IJK(image_IJK, display), plane, place))
