"""What a report's HTML says about itself, read without a browser."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

from PIL import Image

VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass
class ReadPage(HTMLParser):
    """Elements of a page in order, with the faults that can be seen in it.

    Parameters
    ----------
    elements : list of (str, dict)
        Tags and attributes.
    text : list of str
        Texts, whitespace taken off.
    """

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open_tags or self.open_tags.pop() != tag:
            self.faults.append(f"</{tag}> closes another element")

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open_tags[-1:] != ["style"]:
            self.text.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every element of a tag."""
        return [attributes for name, attributes in self.elements if name == tag]


def read_page(html: bytes) -> ReadPage:
    """Read a page."""
    page = ReadPage()
    page.feed(html.decode("utf-8"))
    page.close()
    return page


def faults_of(html: bytes) -> list[str]:
    """What keeps a page from being self-contained and accessible; empty if nothing does."""
    page = read_page(html)
    faults = [*page.faults, *(f"<{tag}> is not closed" for tag in page.open_tags)]
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    faults += [f"id {name} twice" for name in set(identifiers) if identifiers.count(name) > 1]
    for tag, attributes in page.elements:
        faults += _faults_of_element(tag, attributes, identifiers)
    faults += _faults_of_headings(
        [int(tag[1]) for tag, _ in page.elements if tag in {"h1", "h2", "h3", "h4"}]
    )
    if b"url(" in html or b"@import" in html:
        faults.append("a style asks for another file")
    return faults


def _faults_of_element(tag: str, attributes: dict[str, str], identifiers: list[str]) -> list[str]:
    if tag in {"script", "iframe", "object", "embed", "form"} or any(
        name.startswith("on") for name in attributes
    ):
        return [f"<{tag}> may act by itself"]
    faults = []
    if tag == "img":
        faults += _faults_of_image(attributes)
    elif "src" in attributes or (tag == "link" and not attributes.get("href", "").startswith("data:")):
        faults.append(f"<{tag}> asks for another file")
    if tag == "a" and attributes["href"].startswith("#") and attributes["href"][1:] not in identifiers:
        faults.append(f"{attributes['href']} leads nowhere")
    return faults


def _faults_of_image(attributes: dict[str, str]) -> list[str]:
    if len(attributes.get("alt", "").split()) < 2:
        return [f"a picture says {attributes.get('alt')!r} to those who do not see it"]
    head, _, data = attributes.get("src", "").partition(",")
    if not head.startswith("data:image/"):
        return ["a picture is not inside of the page"]
    content = base64.b64decode(data, validate=True)
    if "svg" in head:
        return [] if ET.fromstring(content).tag.endswith("svg") else ["a drawing is no SVG"]
    with Image.open(io.BytesIO(content)) as image:
        return [] if image.size[0] > 1 else ["a picture is empty"]


def _faults_of_headings(levels: list[int]) -> list[str]:
    faults = [] if levels.count(1) == 1 else [f"{levels.count(1)} first headings"]
    return faults + [f"h{after} after h{before}" for before, after in pairwise(levels) if after > before + 1]
