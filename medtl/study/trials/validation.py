"""The score of a trial: a run that trains and validates, and knows no test patient."""

from __future__ import annotations

from pathlib import Path

from medtl.errors import RunError
from medtl.runtime.records import read_stages, readable_lines
from medtl.runtime.run_folder import STAGES


def validation_score(run: Path) -> float:
    """The best mean score on the validation patients in the last stage of a trained run.

    Raises:
        RunError: nothing was validated.
    """
    stage = read_stages(run / STAGES)[-1]
    rows, _ = readable_lines(run / stage / "metrics.jsonl")
    scores = [row["validation"] for row in rows if row.get("validation")]
    if not scores:
        raise RunError(f"{run}: no validation patient has a label of the target")
    return float(max(sum(each.values()) / len(each) for each in scores))
