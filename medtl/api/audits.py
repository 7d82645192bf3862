"""The call that looks for what is wrong with data."""

from __future__ import annotations

from dataclasses import replace

from medtl.api.settings import Where, path_or_none
from medtl.audit.report.result import Audit
from medtl.audit.request import build_request
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.console import Recorder
from medtl.runtime.files import from_home
from medtl.runtime.run_folder import check_out


def audit(
    *roots: Where,
    task: str | None = None,
    against: Where | None = None,
    out: Where | None = None,
    hash_names: bool = False,
    verbose: bool = False,
    catalog: Catalog | None = None,
) -> Audit:
    """Find leaks, broken geometry, odd images, wrong labels and shortcuts; ``medtl audit``.

    Args:
        roots: folders of images. Of several, an image in two of them counts as a leak.
        task: who reads them; None: whichever task does.
        against: a run or a file of weights, whose training images must not be among them.
        out: a new folder to write findings, groups and figures to; None: nothing is written.
        hash_names: write and draw made-up names of cases; ``names.csv`` has both.

    Raises:
        ConfigError: no folder, or one twice.
        DataError: a folder is not there or holds no image.
    """
    request = build_request(
        tuple(from_home(root) for root in roots), {"task": task, "against": path_or_none(against)}
    )
    folder = path_or_none(out)
    if folder is not None:
        check_out(folder)
    from medtl.audit.report.hidden_names import hide_names
    from medtl.audit.report.write import write_audit
    from medtl.audit.run import audit_data

    recorder = Recorder(silent=not verbose)
    found = audit_data(request, catalog or load_catalog(), recorder)
    if folder is not None:
        hidden = hide_names(found, request.roots) if hash_names else None
        folder = write_audit(found, folder, request.to_json(), recorder, hidden)
    return replace(found, folder=folder)
