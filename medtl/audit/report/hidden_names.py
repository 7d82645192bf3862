"""An audit in which cases and files bear made-up names, to show it to others."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from medtl.audit.findings import Finding
from medtl.audit.inventory import homes_of
from medtl.audit.report.result import Audit

#: Kinds that tell names of patients, or what a reader said of a file.
_NAMING = frozenset(("layout", "set-aside", "unreadable", "truncated", "two-names"))

#: Kinds that name the folders of two sides.
_OF_FOLDERS = frozenset(("leak", "patient-on-both-sides"))


def hide_names(audit: Audit, roots: Iterable[Path]) -> tuple[Audit, dict[str, str]]:
    """The audit with made-up names of cases and files, and each name -> the made-up one.

    Names of modalities, classes and sites stay, and so do parts such as "training". The folders
    ``roots`` are numbered.
    """
    hidden = _Hidden(list(homes_of(list(roots)).values()))
    files = _hidden_files(audit, hidden)
    shown = replace(
        audit,
        findings=tuple(_hidden_finding(one, hidden, files) for one in audit.findings),
        cases=tuple(map(hidden.case, audit.cases)),
        groups={hidden.case(a): hidden.case(b) for a, b in audit.groups.items()},
        notes=(),
        looks={files[path]: look for path, look in audit.looks.items() if path in files},
        owners={files[path]: hidden.case(c) for path, c in audit.owners.items() if path in files},
    )
    both = {case: hidden.case(case) for case in audit.cases}
    return shown, both | {str(path): str(made) for path, made in files.items()}


@dataclass(slots=True)
class _Hidden:
    """Names are hashed with a key that is drawn anew, as a mere hash of a name could be guessed."""

    roots: list[str]
    key: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def case(self, name: str) -> str:
        text = name.encode("utf-8", "surrogatepass")
        return f"case-{hashlib.blake2b(text, key=self.key, digest_size=4).hexdigest()}"

    def seen(self, one: Finding) -> str:
        if one.kind in _NAMING:
            return one.about.title
        seen = one.seen
        if one.kind in _OF_FOLDERS and len(self.roots) > 1:
            for number, name in enumerate(self.roots, start=1):
                seen = re.sub(rf"(?<![\w/]){re.escape(name)}(?!\w)", f"folder {number}", seen)
        return seen


def _hidden_files(audit: Audit, hidden: _Hidden) -> dict[Path, Path]:
    """Each file by the name of its case, numbered."""
    counts: Counter[str] = Counter()
    files: dict[Path, Path] = {}
    for one in audit.findings:
        for path in one.files:
            if path not in files:
                case = hidden.case(audit.owners.get(path, path.name))
                counts[case] += 1
                suffix = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
                files[path] = Path(f"{case}-{counts[case]}{suffix}")
    return files


def _hidden_finding(one: Finding, hidden: _Hidden, files: dict[Path, Path]) -> Finding:
    cases = tuple(map(hidden.case, one.cases))
    paths = tuple(files[path] for path in one.files)
    return replace(one, cases=cases, files=paths, seen=hidden.seen(one))
