"""Probabilities of stored responses by a stored decoder; no stimulus, label or target is looked at."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from clipmused_bids.dataset.outputs.weights import StoredModel
from clipmused_bids.records import FloatArray, IntArray, ResponseTable, TrialData
from clipmused_bids.stages.assemble import ParticipantResponses
from clipmused_bids.stages.standardized import Standardization, fit_standardization, response_table
from clipmused_bids.stages.stored_model import stored_decoder, stored_space, stored_standardization

logger = logging.getLogger(__name__)


def aligned_labels(model: StoredModel, probabilities: FloatArray, names: Sequence[str]) -> FloatArray:
    """Probabilities in the order of other label names, (n, len(names)); NaN for labels the decoder does not know."""
    known = {name: k for k, name in enumerate(model.config["label_names"])}
    columns = np.column_stack([probabilities, np.full(len(probabilities), np.nan)])
    return columns[:, [known.get(name, -1) for name in names]]


def held_out(
    model: StoredModel, decoders: Mapping[int, StoredModel], person: ParticipantResponses, folds: IntArray
) -> FloatArray:
    """Each trial by the decoder of the fold that holds it out, the others by the decoder of all data."""
    names = model.config["label_names"]
    probabilities = np.full((len(folds), len(names)), np.nan)
    for fold in np.unique(folds).tolist():
        rows, one = np.flatnonzero(folds == fold), model if fold == 0 else decoders.get(fold)
        if one is not None:
            probabilities[rows] = aligned_labels(one, predict(one, person, rows), names)
    return probabilities


def predict(model: StoredModel, person: ParticipantResponses, rows: IntArray | None = None) -> FloatArray:
    """Probabilities of a participant's stored trials, (n_rows, C); no stimulus, label or target is looked at."""
    known = stored_standardization(model, person.participant)
    table, standardization = _standardized(model, person)
    for name in sorted(set(standardization.statistics) - set(known.statistics)):
        logger.info(
            "%s was not in the training data: standardised by its own responses (transductive).", name
        )
    data = _unlabelled(model, person.participant, table)
    return stored_decoder(model).predict_proba(data if rows is None else data.subset(rows))


def trials_to_decode(model: StoredModel, person: ParticipantResponses) -> TrialData:
    """All stored trials of a participant as ``predict`` gives them to the decoder: standardised, nothing else known."""
    table, _ = _standardized(model, person)
    return _unlabelled(model, person.participant, table)


def predict_averaged(
    model: StoredModel, person: ParticipantResponses, groups: Sequence[IntArray]
) -> FloatArray:
    """Probabilities of standardised responses that are averaged over rows before they are decoded.

    Parameters
    ----------
    model : StoredModel
    person : ParticipantResponses
    groups : sequence of ndarray of int
        Rows of each average.

    Returns
    -------
    ndarray of shape (n_groups, C)
    """
    table, _ = _standardized(model, person)
    averaged = np.stack([table.read(rows).mean(axis=0) for rows in groups])
    n_voxels = averaged.shape[1]
    zero, one = np.zeros(n_voxels, dtype=np.float32), np.ones(n_voxels, dtype=np.float32)
    table = ResponseTable((averaged,), (np.arange(n_voxels),), (zero,), (one,))
    return stored_decoder(model).predict_proba(_unlabelled(model, person.participant, table))


def _standardized(model: StoredModel, person: ParticipantResponses) -> tuple[ResponseTable, Standardization]:
    """Stored statistics for the units of the training data; a unit that is new is described by itself."""
    space = stored_space(model, person.participant)
    known = stored_standardization(model, person.participant)
    nothing = np.zeros(len(person.run_key), dtype=bool)
    standardization = fit_standardization(
        person, space.voxels, unit=known.unit, scaling=known.scaling, train=nothing, known=known
    )
    return response_table(person, space.voxels, standardization), standardization


def _unlabelled(model: StoredModel, participant: str, table: ResponseTable) -> TrialData:
    """Trials of one participant of which nothing but the responses is known."""
    names = tuple(model.config["label_names"])
    n_rows = table.n_rows
    return TrialData(
        participants=(participant,),
        responses=(table,),
        spaces=(stored_space(model, participant),),
        common_space=model.config["common_space"],
        participant=np.zeros(n_rows, dtype=np.int64),
        row=np.arange(n_rows),
        labels=np.full((n_rows, len(names)), np.nan, dtype=np.float32),
        label_names=names,
        single_label=model.config["single_label"],
        stimulus=np.full(n_rows, -1),
        stimulus_id=("",) * n_rows,
        targets=None,
        group=np.arange(n_rows),
    )
