"""Every command of the pages on public datasets runs on a skeleton of that dataset."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmused_bids.cli import main
from tests.docs import skeletons

PAGES = Path(__file__).parents[2] / "docs" / "datasets"
QUICK = "[model]\nwidth = 16\ndepth = 1\nheads = 2\n\n[training]\nmax_epochs = 2\nn_seeds = 1\n"

pytestmark = pytest.mark.skipif(not PAGES.exists(), reason="needs the source tree")


def commands_of(page: str) -> list[list[str]]:
    """Words of each command of a page, lines joined at their backslashes."""
    text = (PAGES / f"{page}.md").read_text()
    blocks = re.findall(r"^    clipmused-bids ((?:.*\\\n)*.*)", text, re.MULTILINE)
    return [shlex.split(block.replace("\\\n", " ")) for block in blocks]


def run_script(root: Path, page: str) -> None:
    """Run the script of a page as the page says, with its absolute paths moved below ``root``."""
    found = re.search(r"^    python (\S+\.py) (.*)", (PAGES / f"{page}.md").read_text(), re.MULTILINE)
    assert found is not None
    words = [f"{root}{word}" if word.startswith("/") else word for word in found[2].split()]
    subprocess.run([sys.executable, PAGES / found[1], *words], check=True)


def run_on(root: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command of a page with its absolute paths moved below ``root``; returns what it printed."""
    moved = [f"{root}{word}" if word.startswith("/") else word for word in words]
    if "--clip-weights" in moved:
        at = moved.index("--clip-weights")
        moved[at : at + 2] = ["--clip-model", "demo"]
    if "--decode" not in moved:
        (root / "quick.toml").write_text(QUICK)
        moved += ["--config-file", str(root / "quick.toml")]
        moved += [] if "--preset" in moved else ["--preset", "small"]
    code = main(moved)
    printed = capsys.readouterr().err
    assert code == 0, printed
    return printed


EXPECTED = {
    "bold5000": [["column stim_file", "no stimulus", "rule 4"]],
    "things": [["column file_path", "catch (3)", "rule 4"]],
    "nod": [["column stim_file", "rule 6"], ["column condition", "rule 3"]],
    "god": [["column stimulus_name", "rule 4"], ["Predictions (clipmused): 3 trials"]],
    "nsd": [["rule 1", "native space", "betas"]],
    "hcp7t": [["samples of 4 movie(s)", "rule 2: whole movies", "rare.n.01", "labels"]],
    "haxby": [["32, made of 384 rows", "rule 3", "window"]],
    "studyforrest": [
        ["column stim_file", "rule 3", "window"],
        [
            "samples of 4 movie(s), one each 2 s",
            "4 of 4 movie files not found",
            "rule 2: whole movies",
            "window",
        ],
    ],
}

# Datasets that are not BIDS.
SCRIPTED = {"nsd", "hcp7t"}


@pytest.mark.parametrize("page", EXPECTED)
def test_the_commands_of_a_page_run(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write: Callable[[Path], None] = getattr(skeletons, page)
    write(tmp_path)
    if page in SCRIPTED:
        run_script(tmp_path, page)
    commands = commands_of(page)
    assert len(commands) == len(EXPECTED[page])
    for words, said in zip(commands, EXPECTED[page], strict=True):
        printed = run_on(tmp_path, words, capsys)
        for piece in said:
            assert piece in printed
