"""All stimuli of a dataset with their files, labels, captions and contents."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from clipmused_bids.dataset.events.presentations import Presentations
from clipmused_bids.dataset.events.stimulus_columns import looks_like_movie
from clipmused_bids.dataset.files.contents import read_json
from clipmused_bids.dataset.files.documents import canonical_json
from clipmused_bids.dataset.movies.frames import movie_length
from clipmused_bids.dataset.movies.labels import read_movie_captions, read_movie_labels
from clipmused_bids.dataset.outputs.stimulus_catalogue import write_catalogue
from clipmused_bids.dataset.outputs.tree import OutputTree
from clipmused_bids.dataset.stimuli.captions import read_captions
from clipmused_bids.dataset.stimuli.catalogue import StimulusTable, read_stimuli_table
from clipmused_bids.dataset.stimuli.finding import Resolved, resolve_stimuli
from clipmused_bids.dataset.stimuli.labels import read_labels
from clipmused_bids.dataset.stimuli.picture_contents import content_keys
from clipmused_bids.errors import ClipMusedError, DataError
from clipmused_bids.records import FloatArray, Picture, Stimuli
from clipmused_bids.stages.coverage import coverage_table, require_pictures
from clipmused_bids.stages.movies import samples_of
from clipmused_bids.stages.plan import Plan
from clipmused_bids.targets.prompts import stimulus_prompts

logger = logging.getLogger(__name__)

# What the simulator writes into the descriptions of its datasets.
SIMULATOR = "clipmused-bids simulator"
_MOST_UNREADABLE = 0.5


@dataclass(frozen=True)
class Catalogue:
    """Stimuli of all participants.

    Parameters
    ----------
    stimuli : Stimuli
    content : tuple of str
        Key of each stimulus's picture by its content, see ``content_keys``; "" where there is none or it was not read.
    table : mapping of str to tuple of str
        Columns of ``--stimulus-map`` and the dataset's own ``stimuli.tsv``, in the order of ``stimuli``; empty without.
    simulated : bool
        Whether the dataset was written by this package's simulator.
    left_out : tuple of str
        Stimuli whose picture is there but cannot be read. They have no labels, so that every method leaves out their
        trials, in training and in scores.
    coverage : str
        The coverage table.
    """

    stimuli: Stimuli
    content: tuple[str, ...]
    table: Mapping[str, tuple[str, ...]]
    simulated: bool
    left_out: tuple[str, ...] = ()
    coverage: str = ""

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.stimuli.stimulus_id)}

    @cached_property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """A sentence made of each stimulus's labels, where it has any."""
        return stimulus_prompts(self.stimuli.labels, label_names=self.stimuli.label_names)

    def rows_of(self, stimulus_ids: Sequence[str]) -> list[int]:
        """Positions of stimuli among ``stimuli``; all must be known."""
        return [self._row_of[name] for name in stimulus_ids]

    def labels_of(self, stimulus_ids: Sequence[str], *, names: Sequence[str] | None = None) -> FloatArray:
        """Labels of each trial's stimulus, (n, C); NaN for unknown stimuli and for labels nobody knows."""
        columns = list(self.stimuli.label_names)
        values = np.vstack([self.stimuli.labels, np.full((1, len(columns)), np.nan)])
        rows = np.array([self._row_of.get(name, len(values) - 1) for name in stimulus_ids], dtype=int)
        if names is not None:
            values = np.column_stack([values, np.full(len(values), np.nan)])
            chosen = [columns.index(name) if name in columns else len(columns) for name in names]
            values = values[:, chosen]
        found: FloatArray = values[rows]
        return found

    def without(self, stimulus_ids: Sequence[str]) -> Catalogue:
        """Leave out stimuli whose picture cannot be read; names that are not in the catalogue do not matter."""
        names = sorted({*self.left_out, *(name for name in stimulus_ids if name in self._row_of)})
        labels = self.stimuli.labels.copy()
        labels[self.rows_of(names)] = np.nan
        return replace(self, stimuli=replace(self.stimuli, labels=labels), left_out=tuple(names))

    def hashes_of(self, stimulus_ids: Collection[str], *, guiding: bool) -> dict[str, str]:
        """SHA-256 of what a decoder learns about these stimuli: labels; if they guide it, captions and pictures."""
        names = sorted(name for name in stimulus_ids if name in self._row_of)
        rows = self.rows_of(names)
        labels = np.nan_to_num(self.stimuli.labels[rows], nan=-1.0).tolist()
        found: dict[str, Any] = {"labels": [names, self.stimuli.label_names, labels]}
        if guiding:
            found["captions"] = [
                [name, self.stimuli.captions[k]] for name, k in zip(names, rows, strict=True)
            ]
            found["pictures"] = [[name, self.content[k]] for name, k in zip(names, rows, strict=True)]
        return {
            f"{what}_sha256": hashlib.sha256(canonical_json(value).encode()).hexdigest()
            for what, value in found.items()
        }

    def contents_of(self, stimulus_ids: Sequence[str]) -> tuple[str, ...]:
        """Content key of each trial's stimulus; "" where there is no picture."""
        known = self._row_of
        return tuple(self.content[known[name]] if name in known else "" for name in stimulus_ids)


def make_catalogue(plan: Plan, *, read_contents: bool = True) -> Catalogue:
    """Find pictures, labels and captions of every stimulus that an events file names, and of every sample of a movie.

    Logs the coverage table.

    Parameters
    ----------
    plan : Plan
    read_contents : bool
        Whether pictures are read (not decoded) to tell equal ones; without, none is opened, and
        ``Catalogue.content`` is "" throughout.

    Raises
    ------
    DataError
        If the stimuli have no labels, or fewer than half of them do; if too few have pictures and need them.
    """
    names = sorted({name for trials in plan.trials.values() for name in trials.stimulus_id if name})
    inputs = plan.config.inputs
    table = read_stimuli_table(plan.config.bids_dir, stimulus_map=inputs.stimulus_map)
    samples = bool(samples_of(plan.trials))
    resolved = None if samples else _resolved(plan, names, table)
    coverage = coverage_table(plan, resolved)
    logger.info("%s", coverage)
    found = _samples(plan, names, table) if samples else _stimuli(plan, names, table, resolved)
    contents = content_keys(found.picture) if read_contents else ("",) * len(names)
    unreadable = {
        name: key for name, key in zip(names, contents, strict=True) if isinstance(key, ClipMusedError)
    }
    pictures = tuple(None if n in unreadable else p for n, p in zip(names, found.picture, strict=True))
    catalogue = Catalogue(
        stimuli=replace(found, picture=pictures),
        content=tuple(key if isinstance(key, str) else "" for key in contents),
        table=_columns_of(table, names),
        simulated=is_simulated(plan),
        coverage=coverage,
    )
    return leave_out(plan, catalogue, unreadable)


def _samples(plan: Plan, names: Sequence[str], table: StimulusTable | None) -> Stimuli:
    """Samples of movies; all trials are samples, or none is."""
    of_sample, inputs = samples_of(plan.trials), plan.config.inputs
    samples = {name: of_sample[name] for name in names}
    label_names, labels, single = read_movie_labels(
        inputs.labels,
        samples=samples,
        presentations=Presentations(tuple(plan.trials.values())),
        stimuli_table=table,
    )
    captions = read_movie_captions(inputs.captions, samples=samples)
    frames = tuple(
        Picture(plan.movies[movie], seconds=seconds) if movie in plan.movies else None
        for movie, seconds in samples.values()
    )
    return Stimuli(tuple(names), frames, captions, label_names, labels, single)


def _stimuli(
    plan: Plan, names: Sequence[str], table: StimulusTable | None, resolved: Resolved | None
) -> Stimuli:
    """Stimuli that are pictures, clips or names of conditions."""
    inputs = plan.config.inputs
    label_names, labels, single = read_labels(
        inputs.labels,
        stimulus_ids=names,
        presentations=Presentations(tuple(plan.trials.values())),
        stimuli_table=table,
    )
    captions = read_captions(inputs.captions, stimulus_ids=names, stimuli_table=table)
    pictures: tuple[Picture | None, ...] = (None,) * len(names)
    if resolved is not None:
        require_pictures(plan, resolved)
        pictures = tuple(_with_frame(picture) for picture in resolved.picture)
    return Stimuli(tuple(names), pictures, captions, label_names, labels, single)


def _with_frame(picture: Picture | None) -> Picture | None:
    """Of a clip the frame in its middle; none where the clip cannot be read."""
    if picture is None or picture.dataset is not None or not looks_like_movie(picture.path.name):
        return picture
    try:
        return replace(picture, seconds=round(movie_length(picture.path) / 2, 3))
    except ClipMusedError as error:
        logger.warning("no picture: %s", str(error).splitlines()[0])
        return None


def leave_out(plan: Plan, catalogue: Catalogue, unreadable: Mapping[str, ClipMusedError]) -> Catalogue:
    """Leave out stimuli whose pictures cannot be read, and say how many trials that costs.

    Parameters
    ----------
    plan : Plan
    catalogue : Catalogue
    unreadable : mapping of str to ClipMusedError
        Why, by stimulus.

    Raises
    ------
    ClipMusedError
        The first of them, with ``stop_on_first_crash``.
    DataError
        If more than half of the pictures cannot be read.
    """
    if not unreadable:
        return catalogue
    first = next(iter(unreadable.values()))
    if plan.config.stop_on_first_crash:
        raise first
    for reason in dict.fromkeys(str(error).splitlines()[0] for error in unreadable.values()):
        logger.warning("left out: %s", reason)
    left = catalogue.without(list(unreadable))
    names = set(left.left_out)
    pictures = zip(catalogue.stimuli.stimulus_id, catalogue.stimuli.picture, strict=True)
    n_pictures = sum(picture is not None or name in names for name, picture in pictures)
    if len(names) > _MOST_UNREADABLE * n_pictures:
        raise DataError(
            f"{len(names)} of {n_pictures} pictures cannot be read; the first: {first.args[0]}",
            hint=first.hint,
        )
    n_trials = sum(name in names for trials in plan.trials.values() for name in trials.stimulus_id)
    logger.warning(
        "%d trial(s) of %d stimuli whose pictures cannot be read are left out by every method: %s%s.",
        n_trials, len(names), ", ".join(left.left_out[:5]), ", ..." if len(names) > 5 else "",
    )  # fmt: skip
    return left


def store_catalogue(plan: Plan, catalogue: Catalogue, tree: OutputTree) -> None:
    """Write the list of stimuli for people to read."""
    contents = [content or None for content in catalogue.content]
    write_catalogue(tree, catalogue.stimuli, content_hash=contents, bids_dir=plan.config.bids_dir)


def _resolved(plan: Plan, names: Sequence[str], table: StimulusTable | None) -> Resolved | None:
    """Pictures of stimuli; None where no events file names stimuli."""
    if not any(trials.stimulus_column for trials in plan.trials.values()):
        return None
    inputs = plan.config.inputs
    return resolve_stimuli(
        names,
        bids_dir=plan.config.bids_dir,
        stimuli_dirs=inputs.stimuli_dirs,
        table=table,
        index_base=inputs.stimulus_index_base,
    )


def _columns_of(table: StimulusTable | None, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    if table is None:
        return {}
    rows = [table.row_of(name) for name in names]
    return {
        column: tuple("n/a" if row is None else cells[row] for row in rows)
        for column, cells in table.columns.items()
    }


def is_simulated(plan: Plan) -> bool:
    """Whether the dataset was written by this package's simulator, as its description says."""
    described = plan.config.bids_dir / "dataset_description.json"
    generators = read_json(described).get("GeneratedBy", []) if described.is_file() else []
    return any(str(entry.get("Name")) == SIMULATOR for entry in generators if isinstance(entry, Mapping))
