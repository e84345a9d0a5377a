"""Works that texts cite: one BibTeX file, from which in-text citations, the list of references and BibTeX come."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# As pandoc writes citations: [@zhou2024; @radford2021].
_CITATION = re.compile(r"\[@[a-z0-9]+(?:; @[a-z0-9]+)*\]")
_ENTRY = re.compile(r"@(?P<kind>\w+)\{(?P<key>\w+),\n(?P<fields>.*?)\n\}", re.DOTALL)
_FIELD = re.compile(r"^  (?P<name>\w+) = \{(?P<value>.*)\},$", re.MULTILINE)
_OTHERS = "others"


@dataclass(frozen=True)
class Work:
    """One entry of a BibTeX file.

    Parameters
    ----------
    key : str
    fields : mapping of str to str
        ``author``, ``title``, ``year``, ``doi``, ... as written.
    bibtex : str
        The entry itself.
    """

    key: str
    fields: Mapping[str, str]
    bibtex: str

    @property
    def authors(self) -> tuple[str, ...]:
        """Authors as ``Family, Given``, or a group's name; ``others`` stands for those that are not named."""
        return tuple(self.fields["author"].split(" and "))

    @property
    def in_text(self) -> str:
        """Authors and year as they stand in a sentence."""
        families = [_family(name) for name in self.authors]
        who = f"{families[0]} et al." if len(families) > 2 else " and ".join(families)
        return f"{who}, {self.fields['year']}"

    @property
    def address(self) -> str:
        """Where it is found; empty where there is no address."""
        doi = self.fields.get("doi")
        return f"https://doi.org/{doi}" if doi else self.fields.get("url", "")

    @property
    def reference(self) -> str:
        """Line of the list of references."""
        place = next(
            (self.fields[name] for name in ("journal", "booktitle", "publisher") if name in self.fields), ""
        )
        numbers = [
            self.fields[name].replace("--", "-") for name in ("volume", "pages") if name in self.fields
        ]
        where = " ".join(filter(None, (place.replace("--", "-"), ":".join(numbers))))
        parts = (f"{_listed(self.authors)} ({self.fields['year']})", self.fields["title"], where)
        return ". ".join(filter(None, parts)) + "." + (f" {self.address}" if self.address else "")


@cache
def works() -> Mapping[str, Work]:
    """All works that the program may cite, by key."""
    return parse_bibtex((files("clipmused_bids") / "data" / "citations.bib").read_text("utf-8"))


def parse_bibtex(text: str) -> dict[str, Work]:
    """Read entries whose fields stand one a line, in braces."""
    found = {}
    for match in _ENTRY.finditer(text):
        fields = {one["name"]: one["value"] for one in _FIELD.finditer(match["fields"] + "\n")}
        found[match["key"]] = Work(match["key"], fields, match[0])
    return found


def with_citations(text: str) -> tuple[str, tuple[Work, ...]]:
    """Turn ``[@key; @key]`` into ``(Author et al., year [number]; ...)``.

    Returns
    -------
    str
    tuple of Work
        Those cited, in the order of their numbers, which is that of their first mention.

    Raises
    ------
    KeyError
        If a key names no work.
    """
    numbers: dict[str, int] = {}

    def shown(match: re.Match[str]) -> str:
        keys = match[0].strip("[]").replace("@", "").split("; ")
        for key in keys:
            numbers.setdefault(key, len(numbers) + 1)
        return f"({'; '.join(f'{works()[key].in_text} [{numbers[key]}]' for key in keys)})"

    return _CITATION.sub(shown, text), tuple(works()[key] for key in numbers)


def without_citations(text: str) -> str:
    """Escape text of somebody else, so that nothing in it is read as a citation."""
    return text.replace("[@", "[ @")


def references(cited: Sequence[Work]) -> str:
    """List of references in Markdown, numbered as in the text."""
    return "".join(f"{number}. {work.reference}\n" for number, work in enumerate(cited, start=1))


def bibtex(cited: Sequence[Work]) -> str:
    """BibTeX of works, in their order."""
    return "\n".join(f"{work.bibtex}\n" for work in cited)


def _family(name: str) -> str:
    return name.strip("{}").partition(",")[0] if name != _OTHERS else _OTHERS


def _listed(authors: Sequence[str]) -> str:
    """Family names with initials; at most six."""
    named = [_initialled(name) for name in authors if name != _OTHERS]
    more = len(named) > 6 or _OTHERS in authors
    return ", ".join(named[:6]) + (", et al." if more else "")


def _initialled(name: str) -> str:
    family, _, given = name.strip("{}").partition(", ")
    initials = "".join(part[0] for part in re.split(r"[ -]", given) if part)
    return f"{family} {initials}".strip()
