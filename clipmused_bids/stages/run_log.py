"""What one run of the program did: its configuration and log, in the output folder."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import tomli_w

from clipmused_bids import __version__
from clipmused_bids.config import Config, as_tables
from clipmused_bids.dataset.atlases.template_flow import template_home
from clipmused_bids.dataset.files.atomic import make_folder, write_bytes, writing
from clipmused_bids.dataset.files.documents import utf8
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.errors import ClipMusedError
from clipmused_bids.stages.portable import names_only, shorten

PACKAGE = "clipmused_bids"


class PortableFormatter(logging.Formatter):
    """Lines for ``log.txt``, in which folders of this machine are named by their last part.

    Parameters
    ----------
    places : sequence of Path
        Absolute.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._places = tuple(places)

    def format(self, record: logging.LogRecord) -> str:
        """Format a line as usual, then shorten the places in it."""
        return shorten(super().format(record), self._places)


@contextmanager
def early_lines() -> Iterator[MemoryHandler]:
    """Keep what is logged before there is an output folder to write to."""
    kept = MemoryHandler(capacity=1_000_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    logger = logging.getLogger(PACKAGE)
    logger.addHandler(kept)
    try:
        yield kept
    finally:
        logger.removeHandler(kept)
        kept.close()


@contextmanager
def run_log(
    tree: OutputTree, config: Config, *, command_line: Sequence[str], early: MemoryHandler
) -> Iterator[None]:
    """Write ``logs/<uuid>/config.toml``, and everything that is logged to ``log.txt`` beside it.

    Parameters
    ----------
    early : MemoryHandler
        What was logged so far; goes to the file first.

    Raises
    ------
    CannotCreateError, OutputWriteError
        If the folder cannot be written to.
    """
    folder = tree.log_folder(uuid.uuid4().hex)
    make_folder(folder)
    write_bytes(folder / "config.toml", utf8(tomli_w.dumps(_described(config, command_line))))
    with writing(folder / "log.txt"):
        handler = logging.FileHandler(folder / "log.txt", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(PortableFormatter(_places(config)))
    logger = logging.getLogger(PACKAGE)
    logger.removeHandler(early)
    early.setTarget(handler)
    early.flush()
    logger.addHandler(handler)
    try:
        yield
    except ClipMusedError as error:
        # The terminal is told by the command; the file must know it too.
        handler.handle(logger.makeRecord(logger.name, logging.ERROR, __file__, 0, "%s", (error,), None))
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()


def _places(config: Config) -> list[Path]:
    """Folders and files of this machine that messages may name."""
    inputs = config.inputs
    targets = config.hyperparameters().targets
    named = [
        *(text.rpartition("=")[2] for text in inputs.derivatives),
        *inputs.stimuli_dirs, *inputs.labels, *inputs.captions,
        *(text for text in (inputs.betas, inputs.mask, inputs.atlas, inputs.stimulus_map, inputs.targets, inputs.movie,
                            targets.clip_weights, config.split, config.selection.filter_file) if text is not None),
        targets.clip_model.rpartition(":")[2],
    ]  # fmt: skip
    folders = [config.bids_dir, config.output_dir, *([config.work_dir] if config.work_dir else [])]
    return [
        *(folder.absolute() for folder in folders),
        *(Path(text) for text in named if Path(text).is_absolute()),
        template_home(),
        Path.home(),
    ]


def _described(config: Config, command_line: Sequence[str]) -> dict[str, Any]:
    described: dict[str, Any] = names_only(as_tables(config))
    for name in ("bids_dir", "output_dir", "work_dir"):
        if name in described:
            described[name] = Path(described[name]).name
    return {
        "version": __version__,
        "command_line": names_only(list(command_line)),
        **described,
        "hyperparameters": names_only(as_tables(config.hyperparameters())),
    }
