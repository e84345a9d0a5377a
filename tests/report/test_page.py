"""A page shows every block, holds all it needs, and takes nothing in the data for markup."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from clipmused_bids.report.blocks import (
    Block,
    Card,
    Details,
    Figure,
    Gallery,
    Link,
    Links,
    Listing,
    Page,
    Paragraph,
    Section,
    Table,
)
from clipmused_bids.report.page import render
from tests.report.html import faults_of, read_page

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect width="20" height="10"/></svg>'


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 30)).save(buffer, format="JPEG")
    return buffer.getvalue()


def every_block() -> list[Block]:
    return [
        Paragraph("It decodes."),
        Paragraph("A leak was allowed.", tone="warning"),
        Figure(SVG, "image/svg+xml", alt="One bar of 0.6", caption="Bars of labels", width="half"),
        Table(
            "Scores", ["who", "mAP"], [["sub-01", "0.6"], ["group", "0.5"]], numeric=[False, True], marked=[1]
        ),
        Gallery("Best stimuli", [Card("a.png", ["cat 0.9"], jpeg(), alt="Picture of a.png"), Card("b.png")]),
        Listing("To copy", "@article{x,\n  year = {2024}\n}"),
        Links("Participants", [Link("sub-01", "sub-01.html")]),
        Details("More", [Paragraph("Folded."), Table("Inner", ["a"], [["1"]])]),
    ]


def page_of(blocks: list[Block], *, title: str = "sub-01") -> Page:
    return Page(
        title=title,
        subtitle="study",
        summary=[Paragraph("In short.")],
        sections=[Section("scores", "How it decodes", blocks)],
        footer="Written by a test.",
        links=[Link("Group", "group.html")],
    )


def test_every_kind_of_block_is_shown_and_nothing_is_amiss() -> None:
    html = render(page_of(every_block()))
    page = read_page(html)
    assert faults_of(html) == []
    assert page.text.count("It decodes.") == 1
    told = {
        "Warning.",
        "A leak was allowed.",
        "Bars of labels",
        "0.6",
        "cat 0.9",
        "no picture",
        "Folded.",
        "Inner",
    }
    assert told <= set(page.text)
    assert [one["alt"] for one in page.all("img")] == ["One bar of 0.6", "Picture of a.png"]
    assert {one["href"] for one in page.all("a")} >= {"#scores", "sub-01.html", "group.html", "#content"}
    assert [one.get("class") for one in page.all("tr")] == [None, None, "marked", None, None]
    assert "@article{x,\n  year = {2024}\n}" in html.decode()


def test_equal_pages_are_equal_bytes() -> None:
    assert render(page_of(every_block())) == render(page_of(every_block()))


def test_names_in_the_data_are_no_markup() -> None:
    nasty = '<img src="https://example.org/x" onerror="alert(1)">&"\''
    blocks = [
        Paragraph(nasty),
        Paragraph(nasty, tone="error"),
        Figure(SVG, "image/svg+xml", alt=f"alt {nasty}", caption=nasty),
        Table(nasty, [nasty], [[nasty]]),
        Gallery(nasty, [Card(nasty, [nasty])]),
        Listing(nasty, nasty),
        Links(nasty, [Link(nasty, "x.html")]),
        Details(nasty, [Paragraph(nasty)]),
    ]
    html = render(page_of(blocks, title=nasty))
    assert faults_of(html) == []
    page = read_page(html)
    assert len(page.all("img")) == 1
    assert page.text.count(nasty) >= 12


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (b'<img src="data:image/png;base64,AAAA" alt="">', "a picture says"),
        (b'<img src="https://example.org/a.png" alt="a picture">', "not inside"),
        (b"<script>1</script>", "may act"),
        (b'<p onclick="x">a</p>', "may act"),
        (b'<a href="#nowhere">a</a>', "leads nowhere"),
        (b"<p><b>a</p></b>", "closes another"),
        (b'<link rel="stylesheet" href="x.css">', "another file"),
        (b"<h3>a</h3>", "h3 after h1"),
        (b"<p>never closed", "not closed"),
    ],
)
def test_the_check_of_pages_sees_faults(broken: bytes, fault: str) -> None:
    """Else its silence about the reports would mean nothing."""
    found = faults_of(b"<h1>a</h1>" + broken)
    assert any(fault in one for one in found), found


def test_a_name_that_is_no_text_is_escaped() -> None:
    html = render(page_of([Paragraph("r\udce9sultats")]))
    assert "r\\udce9sultats" in read_page(html).text
