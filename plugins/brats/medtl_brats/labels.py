"""Which tissue a label value means: it changed over the years, so it is decided per layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medtl.errors import DataError, UnknownNameError


@dataclass(frozen=True, slots=True)
class Scheme:
    """Label values of one convention. ``outside`` values are legal but in no tumour region."""

    name: str
    core: tuple[int, ...]
    oedema: tuple[int, ...]
    enhancing: tuple[int, ...]
    outside: tuple[int, ...] = ()

    @property
    def allowed(self) -> tuple[int, ...]:
        return tuple(sorted({0, *self.core, *self.oedema, *self.enhancing, *self.outside}))

    @property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """Whole tumour, tumour core (without oedema) and enhancing tumour."""
        core = tuple(sorted({*self.core, *self.enhancing}))
        return {
            "WT": tuple(sorted({*core, *self.oedema})),
            "TC": core,
            "ET": self.enhancing,
        }

    def __str__(self) -> str:
        parts = {"core": self.core, "oedema": self.oedema, "ET": self.enhancing}
        parts["outside WT"] = self.outside
        meanings = [f"{'+'.join(map(str, v))} {name}" for name, v in parts.items() if v]
        return f"{self.name} scheme ({', '.join(meanings)})"


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("2013", core=(1, 3), oedema=(2,), enhancing=(4,)),
        Scheme("2014-2021", core=(1,), oedema=(2,), enhancing=(4,)),
        # 4 is the resection cavity of the post-treatment years.
        Scheme("2023", core=(1,), oedema=(2,), enhancing=(3,), outside=(4,)),
        Scheme("msd", core=(2,), oedema=(1,), enhancing=(3,)),
    )
}

#: The scheme of a layout without any segmentation (to predict unlabelled cases).
USUAL = {
    "2013-2021": "2014-2021",
    "2023+": "2023",
    "MSD": "msd",
    "DeepMedic": "2013",
    "raw": "2014-2021",
}


def named_scheme(name: str) -> Scheme:
    """The scheme a user asked for with ``--labels``."""
    if name.strip().lower() not in SCHEMES:
        raise UnknownNameError("label scheme (--labels)", name, SCHEMES)
    return SCHEMES[name.strip().lower()]


def decide(layout: str, values: Mapping[Path, Iterable[int]]) -> Scheme:
    """The scheme that all segmentations of one layout follow, from the values they hold.

    Raises:
        DataError: a value that no scheme has, or values that fit several schemes.
    """
    _refuse_strangers(values, range(5), "0 to 4")
    seen = {value for found in values.values() for value in found}
    if layout == "2013-2021":
        if 3 not in seen:
            return SCHEMES["2014-2021"]
        if 4 in seen:
            return SCHEMES["2013"]
        raise _undecidable(layout, 3, values)
    if layout == "2023+" and 4 in seen and 3 not in seen:
        raise _undecidable(layout, 4, values)
    scheme = SCHEMES[USUAL[layout]]
    check_values(scheme, values)
    return scheme


def check_values(scheme: Scheme, values: Mapping[Path, Iterable[int]]) -> None:
    """Refuse the first file that holds a value which ``scheme`` does not know."""
    _refuse_strangers(values, scheme.allowed, f"the {scheme}")


def _refuse_strangers(
    values: Mapping[Path, Iterable[int]], allowed: Iterable[int], where: str
) -> None:
    known = set(allowed)
    for path, found in values.items():
        if strangers := sorted(set(found) - known):
            raise DataError(
                f"{path}: unknown label {_listed(strangers)}, outside {where}; name the scheme of "
                f"these files with --labels ({', '.join(SCHEMES)}) or leave out the case"
            )


def _undecidable(layout: str, value: int, values: Mapping[Path, Iterable[int]]) -> DataError:
    path = next(path for path, found in values.items() if value in set(found))
    seen = sorted({v for found in values.values() for v in found})
    return DataError(
        f"{path}: what label {value} means cannot be decided (the {len(values)} segmentations in "
        f"{layout} names hold {_listed(seen)}); name their scheme with --labels "
        f"({', '.join(SCHEMES)})"
    )


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
