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

from typing import TYPE_CHECKING, Any

from medtl.api.calls import (
    catalog,
    components,
    convert_data,
    data_info,
    doctor,
    evaluate,
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
from medtl.api.studies import compare
from medtl.evaluation.scores import Scores
from medtl.runtime.doctor import Machine
from medtl.runtime.shown import Picture, Pictures
from medtl.shift.report.result import Shift
from medtl.transfer.inspect import WeightsFile
from medtl.transfer.receipt import Receipt

if TYPE_CHECKING:
    from medtl.config import TrainSettings
    from medtl.study.compare import Study
else:

    def __getattr__(name: str) -> Any:
        """Give what takes long to import when it is asked for."""
        if name == "TrainSettings":
            from medtl.config import TrainSettings as found
        elif name == "Study":
            from medtl.study.compare import Study as found
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return found


__all__ = [
    "Conversion",
    "DataInfo",
    "Explanation",
    "Listing",
    "Machine",
    "Phantom",
    "Picture",
    "Pictures",
    "Plan",
    "Predictions",
    "Receipt",
    "Run",
    "Scores",
    "Shift",
    "ShiftSettings",
    "Split",
    "Study",
    "TrainSettings",
    "WeightsFile",
    "catalog",
    "compare",
    "components",
    "convert_data",
    "data_info",
    "doctor",
    "evaluate",
    "explain",
    "inspect_weights",
    "open_run",
    "phantom",
    "plan",
    "plugins",
    "predict",
    "resume",
    "shift",
    "train",
]
