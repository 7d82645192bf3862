"""Cases whose class may be wrong, by confident learning.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
J. Artif. Intell. Res. 70. A case counts as mislabelled where the probability of another class
reaches the mean that its own cases have, and is the largest of those that do; of these the ones
with the least probability of their own class are reported, as many as the confident joint
estimates.

Axes: N case, F feature, K class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medtl.audit.checks.measured import textures
from medtl.audit.checks.shortcuts import FEWEST, FEWEST_OF_CLASS, FOLDS, Learnt
from medtl.audit.facts.model import ImageFacts
from medtl.audit.findings import Finding
from medtl.audit.search.thumbnails import unpacked

Probabilities = NDArray[np.float64]

#: A case is reported if the probability of its own class is at most the first, and that of another
#: class at least the second.
MOST_OWN, LEAST_OTHER = 0.05, 0.8

#: Share of the cases that the classifier has right, below which it says nothing of single ones.
LEAST_RIGHT = 0.7

#: Principal components of thumbnails.
COMPONENTS = 40


def check_classes(every: Sequence[Learnt], groups: Mapping[str, str]) -> Iterator[Finding]:
    """Likely mislabelled cases, by a logistic regression over thumbnails and intensities.

    Args:
        every: all pictures, or all volumes.
        groups: case -> its group of copies, which stays on one side of every fold.
    """
    own = [(one, facts) for one, facts in every if one.case.class_name]
    names = [one.case.class_name for one, _ in own]
    classes, truth_N, counts = np.unique(names, return_inverse=True, return_counts=True)
    group_N = np.unique([groups[one.case.id] for one, _ in own], return_inverse=True)[1]
    few = len(own) < FEWEST or len(classes) < 2 or counts.min() < FEWEST_OF_CLASS
    if few or len(np.unique(group_N)) < 2 * FOLDS:
        return
    probability_NK = _out_of_folds(_features([facts for _, facts in own]), truth_N, group_N)
    for number, seen, score in wrong_classes(probability_NK, truth_N, list(classes)):
        one, _ = own[number]
        yield one.found("mislabelled", seen, next(iter(one.case.images)), score=score)


def wrong_classes(
    probability_NK: Probabilities, truth_N: NDArray[np.int64], classes: Sequence[str]
) -> Iterator[tuple[int, str, float]]:
    """The likely mislabelled cases of which the classifier is sure: number, what is seen, score.

    None where it has fewer than :data:`LEAST_RIGHT` of the cases right.
    """
    if float(np.mean(probability_NK.argmax(axis=1) == truth_N)) < LEAST_RIGHT:
        return
    for number in mislabelled(probability_NK, truth_N):
        likely = int(probability_NK[number].argmax())
        mine = float(probability_NK[number, truth_N[number]])
        if mine <= MOST_OWN and probability_NK[number, likely] >= LEAST_OTHER:
            seen = (
                f"{classes[truth_N[number]]}, probability {mine:.2f}; "
                f"{classes[likely]} {probability_NK[number, likely]:.2f}"
            )
            yield number, seen, 1 - mine


def mislabelled(probability_NK: Probabilities, truth_N: NDArray[np.int64]) -> list[int]:
    """The cases that are likely mislabelled, the worst first.

    Args:
        probability_NK: of each class, out of folds.
        truth_N: the class that each case has.
    """
    joint_KK = confident_joint(probability_NK, truth_N)
    wrong = round(float(joint_KK.sum() - np.trace(joint_KK)))
    margin_N = probability_NK[np.arange(len(truth_N)), truth_N] - np.max(
        np.where(np.eye(joint_KK.shape[0], dtype=bool)[truth_N], -1.0, probability_NK), axis=1
    )
    candidates = [int(n) for n in np.argsort(margin_N, kind="stable")[:wrong]]
    return [number for number in candidates if margin_N[number] < 0]


def confident_joint(probability_NK: Probabilities, truth_N: NDArray[np.int64]) -> Probabilities:
    """Estimated counts of cases of each given class (rows) and true class (columns).

    Rows sum to the counts of the given classes.
    """
    count = probability_NK.shape[1]
    threshold_K = np.array([probability_NK[truth_N == k, k].mean() for k in range(count)])
    confident_NK = np.where(probability_NK >= threshold_K, probability_NK, -1.0)
    joint_KK = np.zeros((count, count))
    for given, row in zip(truth_N, confident_NK, strict=True):
        if row.max() >= 0:
            joint_KK[given, int(row.argmax())] += 1
    given_K = np.bincount(truth_N, minlength=count)
    sums_K = np.maximum(joint_KK.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(joint_KK / sums_K * given_K[:, None])


def _features(images: Sequence[ImageFacts]) -> NDArray[np.float64]:
    """Thumbnails by their principal components, and statistics of the intensities."""
    from sklearn.decomposition import PCA

    flat = images[0].flat
    step = slice(None, None, 4 if flat else 2)
    looks = np.stack([unpacked(facts.thumbnail, flat) for facts in images])
    small = looks[(slice(None), *(step,) * (looks.ndim - 1))].reshape(len(images), -1)
    components = min(COMPONENTS, len(images) // 4, small.shape[1])
    model = PCA(components, random_state=0, svd_solver="randomized")
    shown = model.fit_transform(small.astype(np.float32))
    return np.column_stack([shown, textures(images).rows])


def _out_of_folds(
    table_NF: NDArray[np.float64], truth_N: NDArray[np.int64], group_N: NDArray[np.int64]
) -> Probabilities:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    return np.asarray(
        cross_val_predict(
            model, table_NF, truth_N, groups=group_N, cv=folds, method="predict_proba"
        )
    )
