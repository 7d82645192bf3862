"""medtl from Python: everything the command line does, in a few calls::

    from medtl import api

    run = api.train("brats", strategy="modality-transfer", steps=200)
    run.scores                      # a table in a notebook
    api.shift(src="flair,t1ce", dst="t1,t2").verdict

Results are frozen objects: ``repr`` is one line, a notebook shows tables and figures, ``rows()``
are plain dicts, ``to_json()`` is plain data. Nothing is printed without ``verbose=True``; mistakes
raise children of :class:`medtl.errors.MedtlError`, whose messages name settings as the command line
does (``--batch-size`` is ``batch_size``). Nothing is kept between calls, and torch's random state,
signal handlers and matplotlib's settings are as they were. Nothing heavy is imported before it is
needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medtl.api.audits import audit
from medtl.api.calls import (
    catalog,
    components,
    convert_data,
    data_info,
    doctor,
    evaluate,
    evaluate_all,
    explain,
    inspect_weights,
    phantom,
    plan,
    plugins,
    predict,
    resume,
    shift,
    train,
)
from medtl.api.results import (
    Conversion,
    DataInfo,
    Explanation,
    Listing,
    Phantom,
    Plan,
    Predictions,
    Run,
    Split,
    open_run,
)
from medtl.api.settings import ShiftSettings
from medtl.api.studies import (
    compare,
    compare_runs,
    plan_power,
    run_recipe,
    similarity,
    transferability,
)
from medtl.audit.report.result import Audit
from medtl.evaluation.scores import Scores
from medtl.runtime.doctor import Machine
from medtl.runtime.shown import Picture, Pictures
from medtl.shift.report.result import Shift
from medtl.transfer.inspect import WeightsFile
from medtl.transfer.receipt import Receipt

if TYPE_CHECKING:
    from medtl.config import TrainSettings
    from medtl.evaluation.several.pooled import PooledScores
    from medtl.study.compare import Study
    from medtl.study.features.representation_results import Similarity
    from medtl.study.features.transfer_results import Transferability
    from medtl.study.finished.result import FinishedComparison
    from medtl.study.power import PowerPlan
    from medtl.study.recipes.run import RecipeResult
    from medtl.study.sites.results import SiteFindings
else:
    #: What takes long to import is imported when it is asked for.
    _LATER = {
        "FinishedComparison": "medtl.study.finished.result",
        "PooledScores": "medtl.evaluation.several.pooled",
        "PowerPlan": "medtl.study.power",
        "RecipeResult": "medtl.study.recipes.run",
        "Similarity": "medtl.study.features.representation_results",
        "SiteFindings": "medtl.study.sites.results",
        "Study": "medtl.study.compare",
        "TrainSettings": "medtl.config",
        "Transferability": "medtl.study.features.transfer_results",
    }

    def __getattr__(name: str) -> Any:
        """Import the module of ``name``."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_LATER[name]), name)


__all__ = [
    "Audit",
    "Conversion",
    "DataInfo",
    "Explanation",
    "FinishedComparison",
    "Listing",
    "Machine",
    "Phantom",
    "Picture",
    "Pictures",
    "Plan",
    "PooledScores",
    "PowerPlan",
    "Predictions",
    "Receipt",
    "RecipeResult",
    "Run",
    "Scores",
    "Shift",
    "ShiftSettings",
    "Similarity",
    "SiteFindings",
    "Split",
    "Study",
    "TrainSettings",
    "Transferability",
    "WeightsFile",
    "audit",
    "catalog",
    "compare",
    "compare_runs",
    "components",
    "convert_data",
    "data_info",
    "doctor",
    "evaluate",
    "evaluate_all",
    "explain",
    "inspect_weights",
    "open_run",
    "phantom",
    "plan",
    "plan_power",
    "plugins",
    "predict",
    "resume",
    "run_recipe",
    "shift",
    "similarity",
    "train",
    "transferability",
]
