"""Every work that a text may cite is described well enough to be found, once; and every one is cited somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import clipmused_bids
from clipmused_bids.report.bibliography import (
    bibtex,
    references,
    with_citations,
    without_citations,
    works,
)

PACKAGE = Path(clipmused_bids.__file__).parent
BIB = (PACKAGE / "data" / "citations.bib").read_text("utf-8")
KEYS = re.findall(r"^@\w+\{(\w+),$", BIB, re.MULTILINE)


def cited_in_sources() -> set[str]:
    sources = "".join(path.read_text("utf-8") for path in (PACKAGE / "report").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", sources)
    return {
        key for found in re.findall(r"\[(@[a-z0-9@; ]+)\]", joined) for key in re.findall(r"@(\w+)", found)
    }


def test_all_entries_are_read_and_no_key_stands_twice() -> None:
    assert len(KEYS) > 25
    assert sorted(works()) == sorted(KEYS)
    assert BIB.count("{") == BIB.count("}")


def test_what_sentences_cite_is_there_and_what_is_there_is_cited() -> None:
    assert cited_in_sources() - {"key"} == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_an_entry_can_be_found(key: str) -> None:
    work = works()[key]
    assert {"author", "title", "year"} <= set(work.fields)
    assert re.fullmatch(r"(19|20)\d\d", work.fields["year"])
    if "doi" in work.fields:
        assert re.fullmatch(r"10\.\d{4,9}/[^\s{}]+", work.fields["doi"])
        assert work.reference.endswith(f"https://doi.org/{work.fields['doi']}")
    else:
        assert "url" in work.fields or {"journal", "pages"} <= set(work.fields) or "publisher" in work.fields
    if key != "nilearn":
        family = work.fields["author"].partition(",")[0].lower().replace(" ", "")
        assert key == f"{family}{work.fields['year']}"


def test_no_doi_stands_twice() -> None:
    dois = re.findall(r"doi = \{(.*)\}", BIB)
    assert len(dois) == len(set(dois))


def test_numbers_follow_the_first_mention() -> None:
    text, cited = with_citations("A [@hoerl1970], B [@zhou2024; @glover1999] and A again [@hoerl1970].")
    assert text == (
        "A (Hoerl and Kennard, 1970 [1]), B (Zhou et al., 2024 [2]; Glover, 1999 [3]) and A again (Hoerl and Kennard, "
        "1970 [1])."
    )
    lines = references(cited).splitlines()
    assert lines[0] == (
        "1. Hoerl AE, Kennard RW (1970). Ridge regression: biased estimation for nonorthogonal problems. "
        "Technometrics 12:55-67. https://doi.org/10.1080/00401706.1970.10488634"
    )
    assert [line[:8] for line in lines[1:]] == ["2. Zhou ", "3. Glove"]
    assert re.findall(r"^@\w+\{(\w+),", bibtex(cited), re.MULTILINE) == [
        "hoerl1970",
        "zhou2024",
        "glover1999",
    ]


def test_text_of_others_cites_nothing_and_an_unknown_key_is_an_error() -> None:
    assert with_citations(without_citations("a dataset named [@zhou2024]"))[1] == ()
    with pytest.raises(KeyError, match="nobody1900"):
        with_citations("[@nobody1900]")
