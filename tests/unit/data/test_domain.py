"""Domain selectors: what they mean, and that they survive being written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtl.data.case import Case, ImageFile
from medtl.data.domain import Domain, parse_domain, select
from medtl.data.modality import Modality, parse_modalities
from medtl.errors import ConfigError, DataError


def case(name: str, site: str = "", part: str = "", modalities: str = "flair,t1") -> Case:
    images = {m: ImageFile(Path(f"{name}_{m}.nii")) for m in parse_modalities(modalities)}
    return Case(name, name, images, site=site, part=part)


CASES = (case("a", "CS", "Training"), case("b", "DU", "Training"), case("c", "CS", "Validation"))

SELECTORS = {
    "flair,t1ce": Domain(modalities=parse_modalities("flair,t1ce")),
    "T2F, t1c": Domain(modalities=parse_modalities("flair,t1ce")),
    "t1": Domain(modalities=(Modality("t1"),)),
    "t1+t2": Domain(modalities=parse_modalities("t1,t2")),
    "mod:t2+flair": Domain(modalities=parse_modalities("t2,flair")),
    "site:CS": Domain(sites=("CS",)),
    "site:CS+DU,part:Training": Domain(sites=("CS", "DU"), part="Training"),
    "task=brats,data=/mri/2021,mod:t1,site:CS,part:x": Domain(
        "brats", Path("/mri/2021"), (Modality("t1"),), ("CS",), "x"
    ),
    "task=lgg,flair": Domain("lgg", modalities=(Modality("flair"),)),
}


@pytest.mark.parametrize(("text", "domain"), SELECTORS.items(), ids=SELECTORS)
def test_selector_is_read_and_written_back(text: str, domain: Domain) -> None:
    assert parse_domain(text) == domain
    assert parse_domain(str(domain)) == domain


def test_home_folder_is_expanded() -> None:
    assert parse_domain("data=~/mri,t1").data == Path.home() / "mri"


@pytest.mark.parametrize(
    "text",
    ["", "flair,", "mod:", "site:", "flair,mod:t1", "mod:t1,mod:t2", "t1,t1n", "center:CS", "a/b"],
)
def test_bad_selector_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_domain(text)


def test_comma_that_could_not_be_written_back_is_refused() -> None:
    with pytest.raises(ConfigError, match="comma"):
        Domain(data=Path("/mri,2021"))


def test_select_narrows_to_sites_and_parts_in_order() -> None:
    assert [c.id for c in select(parse_domain("flair"), CASES)] == ["a", "b", "c"]
    assert [c.id for c in select(parse_domain("site:cs"), CASES)] == ["a", "c"]
    assert [c.id for c in select(parse_domain("site:CS,part:training"), CASES)] == ["a"]


def test_unknown_site_lists_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="site 'CX'; known: CS, DU"):
        select(parse_domain("site:CX"), CASES)
    with pytest.raises(ConfigError, match="part 'Test'; known: Training, Validation"):
        select(parse_domain("part:Test"), CASES)
    with pytest.raises(ConfigError, match="none is recorded"):
        select(parse_domain("site:CS"), [case("a")])


def test_domain_without_cases_is_refused() -> None:
    with pytest.raises(ConfigError, match="holds no case"):
        select(parse_domain("site:DU,part:Validation"), CASES)


def test_missing_modality_names_the_case() -> None:
    with pytest.raises(DataError, match=r"case d has no t2 image \(it has flair, t1\)"):
        select(parse_domain("t1,t2"), [case("e", modalities="t1,t2"), case("d")])


def test_a_misspelt_modality_is_answered_by_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no fliar image; did you mean 'flair'\? \(it has flair"):
        select(parse_domain("fliar"), CASES)
