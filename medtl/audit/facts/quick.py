"""The facts of a case that cost little beside reading its images, for a look before training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from medtl.audit.facts.headers import read_placement
from medtl.audit.facts.images import look_at_image
from medtl.audit.facts.model import CaseFacts, ImageFacts
from medtl.data.case import Case, ImageFile
from medtl.data.content_hash import fingerprint_of
from medtl.data.io.images import read_volume
from medtl.data.modality import Modality
from medtl.errors import DataError
from medtl.runtime.cache import remembered

#: Part of the cache key; raise it whenever these facts change.
VERSION = "audit quick 1"


def quick_facts(case: Case, modalities: Iterable[Modality]) -> CaseFacts:
    """The facts of the first of the modalities that the case has, kept between runs.

    An image that cannot be read is left out. Training refuses it later.
    """
    name = next((each for each in modalities if each in case.images), None)
    if name is None:
        return CaseFacts({})
    file = case.images[name]
    try:
        content = remembered(VERSION, file.path, file.channel, lambda: _measure(file))
    except DataError:
        return CaseFacts({})
    return CaseFacts({name: ImageFacts.from_json(content)})


def _measure(file: ImageFile) -> dict[str, Any]:
    array_IJK, affine = read_volume(file, allow_constant=True)
    content = fingerprint_of(file, array_IJK, affine)
    return asdict(look_at_image(array_IJK, affine, read_placement(file), content))
