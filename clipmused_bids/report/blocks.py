"""What a page is made of, before it is HTML: sections of paragraphs, figures, tables and galleries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

MediaType = Literal["image/svg+xml", "image/png", "image/jpeg"]
Tone = Literal["plain", "good", "note", "warning", "error"]


@dataclass(frozen=True)
class Paragraph:
    """Text, without markup.

    Parameters
    ----------
    text : str
    tone : {"plain", "good", "note", "warning", "error"}
        Other than ``plain``: set apart as a box, whose first word names the tone to those who do not see colours.
    """

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Figure:
    """A picture with what it shows.

    Parameters
    ----------
    image : bytes
        The file; embedded into the page.
    media_type : {"image/svg+xml", "image/png", "image/jpeg"}
    alt : str
        What it shows, in a sentence with its main numbers, for those who do not see it.
    caption : str
        What it is and how it is read.
    width : {"full", "half"}
        Two halves stand side by side where there is room.
    """

    image: bytes
    media_type: MediaType
    alt: str
    caption: str
    width: Literal["full", "half"] = "full"


@dataclass(frozen=True)
class Table:
    """Rows of cells, as text.

    Parameters
    ----------
    caption : str
    columns : sequence of str
        Heads.
    rows : sequence of sequence of str
        Cells; the first one of each row is its head.
    numeric : sequence of bool
        Columns that are set flush right; empty: none.
    marked : sequence of int
        Rows that are set apart: the group's, the winner's.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool] = ()
    marked: Sequence[int] = ()


@dataclass(frozen=True)
class Card:
    """One stimulus of a gallery.

    Parameters
    ----------
    title : str
    lines : sequence of str
    image : bytes or None
        Thumbnail; None where there is no picture.
    media_type : {"image/svg+xml", "image/png", "image/jpeg"}
    alt : str
        What the thumbnail shows.
    """

    title: str
    lines: Sequence[str] = ()
    image: bytes | None = None
    media_type: MediaType = "image/jpeg"
    alt: str = ""


@dataclass(frozen=True)
class Gallery:
    """Stimuli side by side.

    Parameters
    ----------
    caption : str
    cards : sequence of Card
    """

    caption: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class Listing:
    """Text to be copied as it is: BibTeX, a command, a log.

    Parameters
    ----------
    caption : str
    text : str
    """

    caption: str
    text: str


@dataclass(frozen=True)
class Link:
    """A file beside the page, or an address that is only followed when somebody asks for it."""

    text: str
    href: str


@dataclass(frozen=True)
class Links:
    """Links in a list."""

    caption: str
    links: Sequence[Link]


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away until somebody opens them.

    Parameters
    ----------
    summary : str
        What is shown meanwhile.
    blocks : sequence of Block
    """

    summary: str
    blocks: Sequence[Block]


Block = Paragraph | Figure | Table | Gallery | Listing | Links | Details


@dataclass(frozen=True)
class Section:
    """One question that the page answers.

    Parameters
    ----------
    anchor : str
        Identifier in links: letters, digits and hyphens.
    title : str
    blocks : sequence of Block
        The first paragraph says what is seen, in a sentence.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A report.

    Parameters
    ----------
    title : str
    subtitle : str
    summary : sequence of Block
        The first screen: what one has to know who reads nothing else.
    sections : sequence of Section
    footer : str
        By which program, from what.
    links : sequence of Link
        Pages beside this one.
    model_label : str
        Decoder that the page is about; readable by programs, not shown.
    """

    title: str
    subtitle: str
    summary: Sequence[Block]
    sections: Sequence[Section]
    footer: str = ""
    links: Sequence[Link] = field(default_factory=tuple)
    model_label: str = ""
