"""Domains: a task's cases with an ordered tuple of modalities, limited to sites or a part.

The text of a domain is a selector such as
``task=brats,data=/mri,mod:flair+t1ce,site:CS+DU,part:Training``; a list of modalities,
``flair,t1ce``, is enough without other limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medtl.data.case import Case
from medtl.data.modality import Modality, parse_modalities, parse_modality
from medtl.errors import ConfigError, DataError, nearest
from medtl.runtime.files import from_home

_FIELDS = ("task=", "data=", "mod:", "site:", "part:")


_EXAMPLE = "write for example flair,t1ce or mod:flair+t1ce,site:CS"


@dataclass(frozen=True, slots=True)
class Domain:
    """``None`` and empty fields set no limit; ``str(domain)`` is the selector."""

    task: str | None = None
    data: Path | None = None
    modalities: tuple[Modality, ...] = ()
    sites: tuple[str, ...] = ()
    part: str = ""

    def __post_init__(self) -> None:
        for text in (self.task or "", str(self.data or ""), self.part, *self.sites):
            if "," in text:
                raise ConfigError(f"{text!r} holds a comma, which separates a domain's fields")

    def __str__(self) -> str:
        sites = "+".join(self.sites)
        values = (self.task, self.data, "+".join(self.modalities), sites, self.part)
        fields = zip(_FIELDS, values, strict=True)
        return ",".join(f"{field}{value}" for field, value in fields if value)


def parse_domain(text: str) -> Domain:
    """Read a selector.

    >>> from medtl.data.domain import parse_domain
    >>> parse_domain("t2,T1Gd").modalities
    ('t2', 't1ce')
    >>> str(parse_domain("mod:flair+t1ce,site:CS"))
    'mod:flair+t1ce,site:CS'

    Raises:
        ConfigError: the text is empty, or a field is unknown, empty or given twice.
    """
    values: dict[str, str] = {}
    bare: list[str] = []
    for token in (part.strip() for part in text.split(",")):
        field = next((name for name in _FIELDS if token.startswith(name)), None)
        if field is None:
            bare.append(_bare_modality(token, text))
        elif field in values:
            raise ConfigError(f"domain {text!r} gives {field[:-1]!r} twice; keep one")
        elif len(token) == len(field):
            raise ConfigError(f"domain {text!r}: nothing follows {field!r}; {_EXAMPLE}")
        else:
            values[field] = token.removeprefix(field)
    if bare and "mod:" in values:
        raise ConfigError(f"domain {text!r} lists modalities twice; {_EXAMPLE}")
    modalities = values.get("mod:", "+".join(bare))
    return Domain(
        task=values.get("task="),
        data=from_home(values["data="]) if "data=" in values else None,
        modalities=parse_modalities(modalities, "+") if modalities else (),
        sites=tuple(site.strip() for site in values.get("site:", "").split("+") if site.strip()),
        part=values.get("part:", ""),
    )


def _bare_modality(token: str, text: str) -> str:
    if not token:
        raise ConfigError(f"domain {text!r} has an empty field; {_EXAMPLE}")
    if "=" in token or ":" in token:
        fields = ", ".join(_FIELDS)
        raise ConfigError(f"domain {text!r}: {token!r} starts with none of {fields}; {_EXAMPLE}")
    return "+".join(parse_modality(name) for name in token.split("+"))


def select(domain: Domain, cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases of ``domain``, in their order; letter case does not matter in sites and parts.

    Raises:
        ConfigError: no case comes from a site or part that the domain names.
        DataError: a case lacks one of the domain's modalities.
    """
    chosen = tuple(cases)
    sites = _existing("site", domain.sites, {case.site for case in chosen})
    parts = _existing("part", (domain.part,) if domain.part else (), {c.part for c in chosen})
    if sites:
        chosen = tuple(case for case in chosen if case.site in sites)
    if parts:
        chosen = tuple(case for case in chosen if case.part in parts)
    if not chosen:
        raise ConfigError(f"domain {str(domain)!r} holds no case; name another site or part")
    for case in chosen:
        for modality in domain.modalities:
            if modality not in case.images:
                hint = nearest(modality, case.images)
                has = ", ".join(case.images) or "none"
                raise DataError(f"case {case.id} has no {modality} image{hint} (it has {has})")
    return chosen


def _existing(kind: str, wanted: tuple[str, ...], present: set[str]) -> set[str]:
    names: set[str] = set()
    for name in wanted:
        matches = {other for other in present if other.casefold() == name.casefold()}
        if not matches:
            known = ", ".join(sorted(present - {""})) or "none is recorded in these data"
            raise ConfigError(f"no case is from {kind} {name!r}; known: {known}")
        names |= matches
    return names
