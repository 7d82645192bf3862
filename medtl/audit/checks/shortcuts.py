"""What predicts the class or the site without anatomy: scores that a model has to beat.

Axes: N case, F feature, K class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medtl.audit.checks.measured import Measured, textures
from medtl.audit.facts.model import ImageFacts
from medtl.audit.findings import Finding
from medtl.audit.names import numbered
from medtl.audit.search.thumbnails import as_rows, unpacked

#: A case with the image that is learnt from: its first that is not constant.
Learnt = tuple[Measured, ImageFacts]

#: Fewest cases, and fewest of a class.
FEWEST, FEWEST_OF_CLASS = 40, 10

FOLDS = 5

#: The balanced accuracy by which a shortcut must exceed chance, with its whole interval.
ABOVE_CHANCE = 0.1

_NORMAL_95 = 1.96


def check_shortcuts(own: Sequence[Learnt], groups: Mapping[str, str]) -> Iterator[Finding]:
    """Shortcuts to the class, and to the site.

    Args:
        own: all pictures, or all volumes.
        groups: case -> its group of copies, which stays on one side of every fold.
    """
    yield from _shortcuts(own, groups, [one.case.class_name for one, _ in own], "class")
    yield from _shortcuts(own, groups, [one.case.site for one, _ in own], "site")


def _shortcuts(
    cases: Sequence[Learnt], groups: Mapping[str, str], names: Sequence[str], what: str
) -> Iterator[Finding]:
    counts = Counter(names)
    kept = {name for name, count in counts.items() if name and count >= FEWEST_OF_CLASS}
    chosen = [n for n, name in enumerate(names) if name in kept]
    if len(kept) < 2 or len(chosen) < FEWEST:
        return
    own = [cases[n] for n in chosen]
    classes, truth_N = np.unique([names[n] for n in chosen], return_inverse=True)
    group_N = np.unique([groups[one.case.id] for one, _ in own], return_inverse=True)[1]
    if len(np.unique(group_N)) < 2 * FOLDS:
        return
    majority = max(counts[str(name)] for name in classes) / len(chosen)
    tables = (
        _features(own) if what == "class" else {"site": textures([facts for _, facts in own]).rows}
    )
    for shortcut, table_NF in tables.items():
        if table_NF.shape[1] == 0:
            continue
        score, spread = _cross_validated(table_NF, truth_N, group_N, shortcut)
        chance = 1 / len(classes)
        if score - _NORMAL_95 * spread > chance + ABOVE_CHANCE:
            low, high = score - _NORMAL_95 * spread, min(1.0, score + _NORMAL_95 * spread)
            seen = (
                f"balanced accuracy {score:.2f} [{low:.2f}, {high:.2f}], chance "
                f"{chance:.2f}; the largest {what} holds {majority:.0%} of {len(own)}"
            )
            kind = "site-shortcut" if what == "site" else f"{shortcut}-shortcut"
            yield Finding(kind, (), seen, (), score)


def _features(own: Sequence[Learnt]) -> dict[str, NDArray[np.float64]]:
    """Tables of what has nothing to do with anatomy; the nearest thumbnail has a little."""
    facts = [facts for _, facts in own]
    flat, count = facts[0].flat, len(facts)
    small = np.stack([unpacked(one.thumbnail, flat) for one in facts])
    step = 6 if flat else 3
    return {
        "size": np.array([_header(one) for one in facts]),
        "name": _names([one for one, _ in own]),
        "border": np.array(
            [(*one.border, *map(float, one.marks)) for one in facts if one.border] or [()] * count
        ),
        "thumbnail": np.asarray(as_rows(small[:, ::step, ::step]), dtype=np.float64),
    }


def _header(facts: ImageFacts) -> list[float]:
    grid = facts.placement
    shape = [float(edge) for edge in grid.shape]
    return [*shape, *grid.spacing_mm, shape[0] / shape[1]]


def _names(cases: Sequence[Measured]) -> NDArray[np.float64]:
    """Words and the number in the file names, as columns; the folder does not count."""
    stems = [next(iter(one.case.images.values())).path.stem for one in cases]
    parts = [numbered(stem) or (stem, 0) for stem in stems]
    words = [text for text, _ in Counter(text for text, _ in parts).most_common(20)]
    lengths = [float(len(stem)) for stem in stems]
    columns = [[float(text == word) for text, _ in parts] for word in words]
    columns += [[float(number) for _, number in parts], lengths]
    table = np.array(columns).T
    return table if len(words) > 1 else np.zeros((len(cases), 0))


def _cross_validated(
    table_NF: NDArray[np.float64],
    truth_N: NDArray[np.int64],
    group_N: NDArray[np.int64],
    shortcut: str,
) -> tuple[float, float]:
    """Balanced accuracy out of folds, and its standard error over groups of copies."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.neighbors import KNeighborsClassifier

    nearest = shortcut == "thumbnail"
    right_N = np.zeros(len(truth_N))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(table_NF, truth_N, group_N):
        model = (
            KNeighborsClassifier(1)
            if nearest
            else RandomForestClassifier(100, min_samples_leaf=2, random_state=0)
        )
        model.fit(table_NF[train], truth_N[train])
        right_N[test] = model.predict(table_NF[test]) == truth_N[test]
    shares, variances = [], []
    for label in np.unique(truth_N):
        own = truth_N == label
        sums = np.bincount(group_N[own], right_N[own])
        counts = np.bincount(group_N[own])
        kept = counts > 0
        share = sums[kept].sum() / counts[kept].sum()
        residuals = sums[kept] - share * counts[kept]
        shares.append(share)
        variances.append(np.square(residuals).sum() / counts[kept].sum() ** 2)
    return float(np.mean(shares)), float(np.sqrt(np.sum(variances)) / len(shares))
