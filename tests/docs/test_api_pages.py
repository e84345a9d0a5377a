"""The generated pages of the Python interface name every module once."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

from clipmused_bids.cli import command
from clipmused_bids.config import Hyperparameters
from clipmused_bids.config.tables import as_tables
from clipmused_bids.stages.reporting.pages import GROUP_SECTIONS, PARTICIPANT_SECTIONS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "api_pages.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="needs the source tree")


def modules_on_disk() -> set[str]:
    files = (path.relative_to(ROOT) for path in (ROOT / "clipmused_bids").rglob("*.py"))
    names = {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files}
    return {name for name in names if not name.endswith("__main__")} - {"clipmused_bids"}


def test_every_module_is_documented_once(tmp_path: Path) -> None:
    write_pages = runpy.run_path(str(SCRIPT))["write_pages"]
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "gone.md").write_text("# A room that was removed\n")
    write_pages(tmp_path / "api")
    pages = {path.stem: path.read_text() for path in (tmp_path / "api").glob("*.md")}
    named = Counter(name for text in pages.values() for name in re.findall(r"automodule:: (\S+)", text))
    assert set(named) == modules_on_disk()
    assert set(named.values()) == {1}
    listed = pages["index"].split("```")[1].split()[3:]
    assert sorted(listed) == sorted(set(pages) - {"index"})
    assert listed.index("errors") < listed.index("stages") < listed.index("cli")


def test_the_page_of_options_has_every_option_and_hyperparameter_once() -> None:
    """The groups of the page are all options of the command; the tables name and explain every value."""
    made = runpy.run_path(str(ROOT / "docs" / "option_pages.py"))
    asked = re.findall(r"click:: option_pages:(\w+)", (ROOT / "docs" / "options.md").read_text())
    shown = Counter(parameter.name for group in asked for parameter in made[group].params)
    assert set(shown) == {parameter.name for parameter in command.params} - {"version"}
    assert set(shown.values()) == {1}
    text = made["hyperparameters"]()
    tables = as_tables(Hyperparameters())
    values = [name for value in tables.values() if isinstance(value, dict) for name in value]
    for name in [*values, *(name for name, value in tables.items() if not isinstance(value, dict))]:
        assert f"| `{name}` |" in text, name
    assert "| `max_epochs` | `100` |" in text
    assert "small `stack`" in text


def test_every_section_of_a_report_is_explained() -> None:
    headings = set(re.findall(r"^### (.*)", (ROOT / "docs" / "reports.md").read_text(), re.MULTILINE))
    sections = [*PARTICIPANT_SECTIONS, *GROUP_SECTIONS]
    assert {title for _, title, _ in sections} <= headings
