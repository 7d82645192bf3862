"""The median of right-censored times."""

from __future__ import annotations

from collections.abc import Sequence


def median_time(times: Sequence[float], reached: Sequence[bool]) -> float | None:
    """The first time at which at most half are left, by Kaplan and Meier (1958).

    >>> from medtl.study.outcomes.median_time import median_time
    >>> median_time([50, 75, 100], [True, True, False])
    75.0

    Args:
        times: of the event, or of the end of a run without it.
        reached: whether the event came (right-censored where not).

    Returns:
        None: more than half are left at the end.
    """
    if not any(reached):
        return None
    from scipy.stats import CensoredData, ecdf

    pairs = list(zip(times, reached, strict=True))
    seen, longer = ([time for time, came in pairs if came is side] for side in (True, False))
    left = ecdf(CensoredData(uncensored=seen, right=longer)).sf
    over = left.quantiles[left.probabilities <= 0.5 + 1e-12]  # 1 - 1/3 - 1/6 is not quite a half
    return float(over[0]) if len(over) else None
