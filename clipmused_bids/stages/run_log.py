"""What one run of the program did: its configuration and log, in the output folder."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from clipmused_bids import __version__
from clipmused_bids.config import Config, as_tables
from clipmused_bids.dataset.atomic import make_folder, write_bytes, writing
from clipmused_bids.dataset.outputs import OutputTree
from clipmused_bids.errors import CannotCreateError

PACKAGE = "clipmused_bids"


@contextmanager
def run_log(tree: OutputTree, config: Config, *, command_line: Sequence[str]) -> Iterator[None]:
    """Write ``logs/<uuid>/config.toml``, and everything that is logged to ``log.txt`` beside it.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If the folder cannot be written to.
    """
    folder = tree.log_folder(uuid.uuid4().hex)
    make_folder(folder)
    write_bytes(folder / "config.toml", tomli_w.dumps(_described(config, command_line)).encode())
    with writing(folder / "log.txt"):
        handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logger = logging.getLogger(PACKAGE)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def require_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be made or written to, before anything is computed.

    Raises
    ------
    CannotCreateError
        Names the folder that stands in the way.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        why = "read-only or not yours" if existing.is_dir() else "a file, not a folder"
        raise CannotCreateError(
            f"{folder}: outputs cannot be written there ({existing} is {why}).",
            hint="give another OUTPUT_DIR; in a container bind it without :ro",
        )


def _described(config: Config, command_line: Sequence[str]) -> dict[str, Any]:
    described = as_tables(config)
    # Paths of this machine stay on it: only names are kept.
    for name in ("bids_dir", "output_dir", "work_dir"):
        if name in described:
            described[name] = str(described[name]).rstrip("/").rsplit("/", 1)[-1]
    described["inputs"] = {
        name: [str(item).rsplit("/", 1)[-1] for item in value] if isinstance(value, list) else value
        for name, value in described["inputs"].items()
    }
    return {
        "version": __version__,
        "command_line": [word.rsplit("/", 1)[-1] for word in command_line],
        **described,
        "hyperparameters": as_tables(config.hyperparameters()),
    }
