"""Each report in a real browser with the network off: nothing missing, nothing asked for, readable on a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

DESKTOP, PHONE = (1200, 900), (390, 844)
BROKEN = (
    "Array.from(document.images).filter(one => !one.complete || one.naturalWidth < 2).map(one => one.alt)"
)
TOO_WIDE = """
Array.from(document.querySelectorAll('body *')).filter(one => {
  const box = one.getBoundingClientRect();
  return box.right > document.documentElement.clientWidth + 1 && !one.closest('.scroll, pre, .skip');
}).map(one => one.tagName + ': ' + (one.textContent || one.alt || '').slice(0, 60))
"""
UNSEEN = "Array.from(document.querySelectorAll('details > *')).filter(one => !one.checkVisibility()).length"


class Opened:
    """A page and what it did while it was opened."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int]) -> None:
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, offline=True, bypass_csp=True
        )
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.resolve().as_uri(), wait_until="load")

    def requests(self) -> list[str]:
        """Addresses that were asked for, beside the page and what it holds."""
        return [url for url in self.asked[1:] if not url.startswith("data:")]


@pytest.fixture(scope="session", params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def opened(
    request: pytest.FixtureRequest, browser: Any, reports: dict[str, Path]
) -> Iterator[dict[str, Opened]]:
    pages = {name: Opened(browser, path, request.param) for name, path in reports.items()}
    if folder := os.environ.get("CLIPMUSED_SCREENSHOTS"):
        for name, one in pages.items():
            file = f"{name.replace('/', '_').removesuffix('.html')}_{request.param[0]}.png"
            one.page.screenshot(path=str(Path(folder) / file), full_page=True)
    yield pages
    for one in pages.values():
        one.context.close()


def test_nothing_is_asked_for_and_nothing_complained_of(opened: dict[str, Opened]) -> None:
    for name, one in opened.items():
        assert (one.requests(), one.said) == ([], []), name
        assert one.asked, "the page itself is a request"


def test_no_picture_is_missing(opened: dict[str, Opened]) -> None:
    seen = 0
    for name, one in opened.items():
        assert one.page.evaluate(BROKEN) == [], name
        seen += one.page.evaluate("document.images.length")
    assert seen > len(opened)


def test_nothing_is_wider_than_the_window(opened: dict[str, Opened]) -> None:
    for name, one in opened.items():
        assert one.page.evaluate(TOO_WIDE) == [], name


def test_the_keyboard_reaches_everything(opened: dict[str, Opened]) -> None:
    for name, one in opened.items():
        one.page.keyboard.press("Tab")
        assert one.page.evaluate("document.activeElement.className") == "skip", name
        one.page.keyboard.press("Enter")
        assert one.page.evaluate("location.hash") == "#content", name
        for place in range(one.page.locator("summary").count()):
            # Those within others are reached once these are open.
            summary = one.page.locator("summary").nth(place)
            assert summary.evaluate("one => one.parentElement.open") is False, name
            summary.focus()
            one.page.keyboard.press("Enter")
            assert summary.evaluate("one => one.parentElement.open") is True, name
        one.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")


def test_what_is_folded_away_is_printed(opened: dict[str, Opened]) -> None:
    for name, one in opened.items():
        one.page.emulate_media(media="print")
        assert one.page.evaluate(UNSEEN) == 0, name
        one.page.emulate_media(media="screen")


def test_the_rules_of_accessibility_hold(opened: dict[str, Opened]) -> None:
    """WCAG 2.1, levels A and AA, as far as axe can tell."""
    from axe_core_python.sync_playwright import Axe

    for name, one in opened.items():
        found = Axe().run(one.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
        assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found["violations"]] == [], name
        assert len(found["passes"]) > 5


def test_a_page_that_asks_for_the_network_is_seen(browser: Any, tmp_path: Path) -> None:
    """Else the silence of the others would mean nothing."""
    page = tmp_path / "page.html"
    page.write_text('<img src="https://example.org/a.png" alt="a"><script>console.error("broken")</script>')
    one = Opened(browser, page, DESKTOP)
    assert one.requests() == ["https://example.org/a.png"]
    assert "broken" in one.said
    assert one.page.evaluate(BROKEN) == ["a"]
    one.context.close()
