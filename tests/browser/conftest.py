"""A real browser without network, and the reports of small studies that it opens."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipmused_bids.cli import main
from clipmused_bids.report.page import render
from clipmused_bids.simulation.writer import write_dataset
from tests.end_to_end.conftest import QUICK, SMALL
from tests.report.test_page import every_block, page_of

SWITCH = "CLIPMUSED_TEST_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome")
REAL = {
    "haxby1": ("--split", "runs:12"),
    "raider5": ("--split", "runs:8", "--response", "betas"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("browser") and not os.environ.get(SWITCH):
            item.add_marker(pytest.mark.skip(reason="opens a browser: `make test-browser` runs it"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, headless; of the system, since a browser of playwright's own would be fetched."""
    from playwright.sync_api import sync_playwright

    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found is not None, f"none of {', '.join(NAMES)} is installed"
    with sync_playwright() as playwright:
        # Chromium has no sandbox for root.
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every page of every study: simulated, real where there are real data, and those named by CLIPMUSED_REPORTS."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "quick.toml").write_text(QUICK)
    write_dataset(folder / "simulated", SMALL)
    studies: dict[str, tuple[Path, tuple[str, ...]]] = {"simulated": (folder / "simulated", ())}
    if data := os.environ.get("CLIPMUSED_TEST_DATA"):
        studies |= {name: (Path(data) / name, words) for name, words in REAL.items()}
    outs = [Path(one) for one in os.environ.get("CLIPMUSED_REPORTS", "").split(os.pathsep) if one]
    for name, (bids, words) in studies.items():
        out = folder / f"{name}-out"
        options = ["--clip-model", "demo", "--config-file", str(folder / "quick.toml"), *words]
        assert main([str(bids), str(out), "group", *options]) == 0
        outs.append(out)
    out = folder / "blocks"
    out.mkdir()
    (out / "every.html").write_bytes(render(page_of(every_block())))
    outs.append(out)
    found = {
        f"{out.parent.name}/{out.name}/{page.name}": page
        for out in outs
        for page in sorted(out.glob("*.html"))
    }
    assert len(found) >= 2
    return found
