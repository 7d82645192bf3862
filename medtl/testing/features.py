"""What a feature extractor must keep, on a small volume and a small picture.

Axes: N row, F feature.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medtl.errors import ConfigError, DataError
from medtl.shift.contract import FeatureExtractor, FeatureRows, FeatureSettings, View
from medtl.testing.check import Tried, require
from medtl.testing.toys import REGIONS, toy_view

IMAGES = 6


def extractor(tried: Tried) -> FeatureExtractor | None:
    """The extractor; None if it needs a setting, for example a trained run."""
    try:
        return tried.returned(FeatureExtractor, FeatureSettings(regions=REGIONS))
    except ConfigError:
        return None


def measured(features: FeatureExtractor, seeds: int = 1) -> list[list[tuple[View, FeatureRows]]]:
    """Images of each kind that it takes, and their rows."""
    kinds, problem = [], ""
    for picture in (False, True):
        views = [toy_view(seed, picture=picture, joint=features.joint) for seed in range(seeds)]
        try:
            kinds.append([(view, features.rows(view)) for view in views])
        except DataError as error:
            problem = str(error)
    require(kinds, f"it takes neither volumes nor pictures ({problem})")
    return kinds


def says_what_it_is(tried: Tried) -> None:
    """It has the component's name, or says in one line what setting it needs."""
    try:
        name = tried.returned(FeatureExtractor, FeatureSettings(regions=REGIONS)).name
        require(name == tried.name, f"its name is {name!r}; call it {tried.name!r}")
    except ConfigError as error:
        require("\n" not in str(error), "its error for a missing setting must be one line")


def rows_have_named_columns(tried: Tried) -> None:
    """A finite number per row and column; columns are called ``family/name``, each another."""
    features = extractor(tried)
    for kind in measured(features) if features else ():
        for _, found in kind:
            _check_columns(found)


def _check_columns(found: FeatureRows) -> None:
    values_NF, names = np.asarray(found.values_NF), found.names
    shape = values_NF.shape
    require(len(shape) == 2 and shape[0], f"rows have shape {shape}; give (N, F)")
    columns = shape[1]
    require(columns == len(names), f"there are {columns} columns and {len(names)} names")
    require(len(set(names)) == len(names), "two columns have the same name; make names unique")
    odd = next((name for name in names if "/" not in name), None)
    require(odd is None, f"a column is called {odd!r}; write family/name, e.g. scale/median")
    bad = [names[column] for column in np.flatnonzero(~np.isfinite(values_NF).all(0))]
    require(not bad, f"{', '.join(bad[:3])} is not finite on an ordinary image")


def columns_are_the_same_for_every_image(tried: Tried) -> None:
    """All images of a kind have the same columns, so that they can be compared."""
    features = extractor(tried)
    for kind in measured(features, 2) if features else ():
        (_, one), (_, other) = kind
        require(one.names == other.names, "columns differ between images; return the same ones")


def an_image_is_measured_the_same_again(tried: Tried) -> None:
    """The same image gives the same rows, and is left as it is."""
    features = extractor(tried)
    for kind in measured(features) if features else ():
        view, found = kind[0]
        fresh = toy_view(0, picture=view.is_2d, joint=view.image_CIJK.shape[0] > 1)
        kept = np.array_equal(view.image_CIJK, fresh.image_CIJK)
        require(kept, f"it changes the image of {view.case} in place; work on a copy")
        assert features is not None
        again = features.rows(view)
        same = np.array_equal(found.values_NF, again.values_NF)
        require(same, "the same image gives other rows; seed what is random")


def embedding_keeps_a_row_for_each(tried: Tried) -> None:
    """One that embeds all rows at once gives as many back, with named columns."""
    features = extractor(tried)
    if features is None or features.embed is None:
        return
    for kind in measured(features, IMAGES):
        rows_NF = np.concatenate([found.values_NF for _, found in kind])
        embedded = features.embed(rows_NF)
        _check_columns(embedded)
        count = len(embedded.values_NF)
        require(count == len(rows_NF), f"{len(rows_NF)} rows are embedded into {count}; keep each")


def problems_name_the_image(tried: Tried) -> None:
    """An image that shows nothing is measured, or refused with a DataError that names its case."""
    features = extractor(tried)
    if features is None:
        return
    view = toy_view(joint=features.joint)
    empty = replace(
        view,
        image_CIJK=np.zeros_like(view.image_CIJK),
        foreground_CIJK=np.zeros_like(view.foreground_CIJK),
    )
    try:
        features.rows(empty)
    except DataError as error:
        require(view.case in str(error), f"its error does not name the image: {error}")
