"""The commands of README.md and of the pages: found, joined at their backslashes, and taken apart."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROGRAMS = (
    "clipmused-bids", "make", "bash", "python", "apptainer", "singularity", "sbatch", "srun", "torchrun", "podman",
    "docker", "buildah", "hf", "pip", "uv", "git", "datalad", "cp", "export", "babs", "for", "cd", "pytest", "source",
)  # fmt: skip
_FENCE = re.compile(r"^ {0,9}(?P<fence>`{3,}|~{3,})(?P<language>.*)$")
_BEGINNING = re.compile(rf"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?({'|'.join(PROGRAMS)})(?= |$)")


class Command(NamedTuple):
    """One command of a page, with the words of the shell; ``page`` is relative to the repository."""

    page: str
    line: int
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return self.words[0].removeprefix(".venv/bin/")

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {' '.join(self.words)}"


def pages() -> list[Path]:
    """README.md and every page that is written by hand, in order."""
    made = {DOCS / "api", DOCS / "_build"}
    written = (path for path in DOCS.rglob("*.md") if not made & set(path.parents))
    return [ROOT / "README.md", *sorted(written)]


def code_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line in fenced and indented blocks; what Sphinx reads (``{...}``) is none."""
    fence = ""
    is_code = was_code = False
    before_blank = True
    for number, line in enumerate(text.splitlines(), start=1):
        found = _FENCE.match(line)
        if fence:
            if found and found["fence"].startswith(fence) and not found["language"].strip():
                fence = ""
            elif is_code:
                yield number, line.strip()
            continue
        if found:
            fence, is_code = found["fence"], not found["language"].startswith("{")
            continue
        # An indented block begins after an empty line; so may the text of a list, which begins with no program.
        is_block = line.startswith("    ") and (before_blank or was_code)
        if is_block:
            yield number, line.strip()
        was_code = is_block or (was_code and not line.strip())
        before_blank = not line.strip()


def commands_of(page: Path) -> list[Command]:
    """Every command in the blocks of a page, comments removed."""
    found: list[Command] = []
    begun, joined = 0, ""
    for number, line in code_lines(page.read_text()):
        begun = begun if joined else number
        joined += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        if _BEGINNING.match(joined):
            words = shlex.split(joined.removeprefix("$ "), comments=True)
            found.append(Command(str(page.relative_to(ROOT)), begun, tuple(words)))
        joined = ""
    return found


def every_command() -> list[Command]:
    """Those of all pages."""
    return [command for page in pages() for command in commands_of(page)]
