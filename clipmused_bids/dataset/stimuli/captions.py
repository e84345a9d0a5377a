"""Captions of stimuli."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from clipmused_bids.dataset.files.tsv import is_missing, read_table
from clipmused_bids.dataset.stimuli.catalogue import StimulusTable, label_keys
from clipmused_bids.dataset.stimuli.coco import image_id, read_coco_captions
from clipmused_bids.dataset.stimuli.label_tables import STIMULUS_KEYS
from clipmused_bids.dataset.stimuli.names import KeyIndex
from clipmused_bids.errors import DataError, UsageError

logger = logging.getLogger(__name__)


def read_captions(
    paths: tuple[str, ...], *, stimulus_ids: Sequence[str], stimuli_table: StimulusTable | None
) -> tuple[tuple[str, ...], ...]:
    """Captions of all stimuli.

    Parameters
    ----------
    paths : tuple of str
        ``--captions``: TSV tables with the columns ``stimulus_id`` and ``caption`` (several rows for a stimulus are
        allowed) or COCO ``captions_*.json``. Empty: the column ``description`` of the stimuli's own table.
    stimulus_ids : sequence of str
    stimuli_table : StimulusTable or None

    Returns
    -------
    tuple of tuple of str
        One for each stimulus; empty where a stimulus has none.

    Raises
    ------
    DataError
        If a file holds no captions, or none of a stimulus that occurs.
    UsageError
        If a file is neither .tsv nor .json.
    """
    if not paths:
        own = [stimuli_table.value(name, "description") if stimuli_table else None for name in stimulus_ids]
        return tuple((sentence,) if sentence else () for sentence in own)
    found: list[tuple[str, ...]] = [()] * len(stimulus_ids)
    for path in map(Path, paths):
        more = _from_file(path, stimulus_ids, stimuli_table)
        found = [old + new for old, new in zip(found, more, strict=True)]
    without = [name for name, sentences in zip(stimulus_ids, found, strict=True) if not sentences]
    if stimulus_ids and len(without) == len(stimulus_ids):
        raise DataError(
            f"--captions {' '.join(paths)}: no caption of any stimulus; the first are {', '.join(without[:5])}.",
            hint="stimulus_id must name stimuli as the events do",
        )
    if without:
        logger.warning(
            "%d of %d stimuli have no caption: %s.", len(without), len(found), ", ".join(without[:5])
        )
    return tuple(found)


def _from_file(
    path: Path, stimulus_ids: Sequence[str], catalogue: StimulusTable | None
) -> list[tuple[str, ...]]:
    keys = [label_keys(stimulus, catalogue) for stimulus in stimulus_ids]
    if path.suffix.lower() == ".json":
        captions, ids = read_coco_captions([path])
        numbers = [image_id(names, ids=ids, known=captions) for names in keys]
        return [() if number is None else captions[number] for number in numbers]
    if path.suffix.lower() == ".tsv":
        named, sentences = _read_sentences(path)
        index = KeyIndex(named)
        rows = [next((found for name in names if (found := index.rows_of(name))), []) for names in keys]
        return [tuple(sentences[k] for k in found) for found in rows]
    raise UsageError(f"--captions {path}: expected a .tsv table or a COCO .json file.")


def _read_sentences(path: Path) -> tuple[list[str], list[str]]:
    table = read_table(path)
    key = next((name for name in STIMULUS_KEYS if name in table.columns), None)
    column = next((name for name in ("caption", "captions", "description") if name in table.columns), None)
    if key is None or column is None:
        raise DataError(f"{path}: columns stimulus_id and caption were expected; columns are {table.names}.")
    pairs = zip(table.columns[key], table.columns[column], strict=True)
    stated = [(name, sentence) for name, sentence in pairs if not is_missing(sentence)]
    return [name for name, _ in stated], [sentence for _, sentence in stated]
