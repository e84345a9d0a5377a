"""Text that is a command's product, for a terminal or a pipe."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence

WIDTH = 110
# Where paragraphs begin, beside their titles.
MARGIN = 12


def show(text: str) -> None:
    """Write to standard output; names that are no text of its encoding are escaped, and a closed pipe is no error."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # Else the interpreter meets the closed pipe again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def aligned(rows: Sequence[Sequence[str]], *, right: Sequence[bool]) -> list[str]:
    """Lines of a table whose columns are as wide as their widest cell.

    Parameters
    ----------
    rows : sequence of sequence of str
        All of one length.
    right : sequence of bool
        Columns that are set flush right.
    """
    widths = [max(len(row[k]) for row in rows) for k in range(len(right))]
    return [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def size_text(n_bytes: float) -> str:
    """``1.3 GB``, ``45 MB``, ``3 kB``: two or three digits, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 999.5 or unit == "TB":
            return f"{n_bytes:.0f} {unit}" if n_bytes >= 10 or unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    raise AssertionError


def time_text(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def section(title: str, *paragraphs: str) -> list[str]:
    """Paragraphs beside their title, wrapped."""
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += textwrap.wrap(paragraph, WIDTH - MARGIN, break_long_words=False, break_on_hyphens=False)
    heads = [title.ljust(MARGIN), *[" " * MARGIN] * len(lines)]
    return [head + line for head, line in zip(heads, lines, strict=False)]


def item(mark: str, text: str, *, hint: str | None = None, indent: int = 5) -> list[str]:
    """One entry of a list, wrapped to ``indent``, with its hint below."""
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=f"  {mark} ", subsequent_indent=" " * indent, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
    if hint:
        lines += textwrap.wrap(
            f"hint: {hint}", WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent, break_on_hyphens=False,
            break_long_words=False,
        )  # fmt: skip
    return lines
