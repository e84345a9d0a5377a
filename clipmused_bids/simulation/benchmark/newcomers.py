"""The third regime: a decoder of the others meets a participant it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from clipmused_bids.config import Hyperparameters
from clipmused_bids.errors import ClipMusedError, DataError
from clipmused_bids.methods.base import Method
from clipmused_bids.methods.registry import METHODS, create
from clipmused_bids.methods.variants import Variant
from clipmused_bids.records import BoolArray, TrialData
from clipmused_bids.simulation.benchmark.fits import (
    Result,
    Stopwatch,
    guided,
    refused,
    scores,
    variant_hyperparameters,
)
from clipmused_bids.simulation.benchmark.prepared import PreparedStudy, TrialSets


class Newcomer:
    """One variant's decoder of all participants but the last, and what becomes of it with trials of the last.

    Methods that know one participant at a time learn from the newcomer alone. Networks that people share keep what
    they learnt from the others (`methods.adaptation`). Linear decoders that people share are fitted again to the
    others and the newcomer together; without a trial of the newcomer, they decode with what the others gave.

    Parameters
    ----------
    variant : Variant
    prepared : PreparedStudy
    seed : int
        Of the method, and of which trials of the newcomer come first.
    over_preset : mapping
    """

    def __init__(
        self, variant: Variant, prepared: PreparedStudy, *, seed: int, over_preset: Mapping[str, Any]
    ) -> None:
        self._variant, self._prepared, self._seed = variant, prepared, seed
        self._over_preset = over_preset

    def fit_and_score(self, trials: str) -> Result:
        """Learn from ``trials`` of the newcomer (a number, or ``all``) and score his test trials."""
        try:
            watch = Stopwatch()
            own = METHODS[self._variant.method].per_participant
            method, how = self._alone(trials) if own else self._with_others(trials)
            test = (self._prepared.alone[-1] if own else self._prepared.together).of("test")
            return scores(method, test.of_participant(self._name)) | {"how": how} | watch.read()
        except ClipMusedError as error:
            return refused(error)

    @property
    def _name(self) -> str:
        return self._prepared.together.trials.participants[-1]

    @cached_property
    def _hyperparameters(self) -> Hyperparameters:
        return variant_hyperparameters(self._variant, over_preset=self._over_preset)

    @cached_property
    def _together(self) -> TrialSets:
        return guided(self._prepared.together, self._variant, self._hyperparameters)

    def _alone(self, trials: str) -> tuple[Method, str]:
        if trials == "0":
            raise DataError(f"{self._variant.name} learns from the newcomer alone: no trials, no decoder.")
        sets = guided(self._prepared.alone[-1], self._variant, self._hyperparameters)
        known = first_trials(sets, trials, seed=self._seed)
        return self._fit(sets.of("train", among=known), sets.of("val", among=known)), "newcomer alone"

    def _with_others(self, trials: str) -> tuple[Method, str]:
        known = first_trials(self._together, trials, seed=self._seed)
        train, validation = (self._together.of(name, among=known) for name in ("train", "val"))
        if METHODS[self._variant.method].deep:
            from clipmused_bids.methods.adaptation import adapt

            mine = (one.of_participant(self._name) for one in (train, validation))
            return adapt(self._base, *mine, seed=self._seed), "adapted"
        if trials == "0":
            return self._base, "decoder of the others"
        either = known | self._others
        return (
            self._fit(*(self._together.of(name, among=either) for name in ("train", "val"))),
            "fitted again with the newcomer",
        )

    @property
    def _others(self) -> BoolArray:
        data = self._together.trials
        return np.asarray(data.participant < len(data.participants) - 1)

    @cached_property
    def _base(self) -> Method:
        """Decoder of the others, which is fitted when it is first needed."""
        names = self._together.trials.participants[:-1]
        parts = (self._together.of(name, among=self._others) for name in ("train", "val"))
        return self._fit(*(of_participants(one, names) for one in parts))

    def _fit(self, train: TrialData, validation: TrialData) -> Method:
        method = create(
            self._variant.method, hyperparameters=self._hyperparameters, seed=self._seed, device="cpu"
        )
        method.fit(train, validation)
        return method


def first_trials(sets: TrialSets, trials: str, *, seed: int) -> BoolArray:
    """Choose trials of the last participant, none of them test trials; more trials include fewer.

    Parameters
    ----------
    sets : TrialSets
        Validation trials keep their part: of ten trials, about one chooses and nine are fitted to.
    trials : str
        A number, or ``all``.
    seed : int

    Returns
    -------
    ndarray of bool, shape (n_trials,)
    """
    data = sets.trials
    mine = np.flatnonzero((data.participant == len(data.participants) - 1) & (sets.set_name != "test"))
    order = np.random.default_rng([seed, 70]).permutation(len(mine))
    chosen = np.zeros(data.n_trials, dtype=bool)
    chosen[mine[order if trials == "all" else order[: int(trials)]]] = True
    return chosen


def of_participants(data: TrialData, names: Sequence[str]) -> TrialData:
    """Trials of some participants, as data of them alone."""
    numbers = [data.participants.index(name) for name in names]
    chosen = data.subset(np.flatnonzero(np.isin(data.participant, numbers)))
    return replace(
        chosen,
        participants=tuple(names),
        responses=tuple(data.responses[p] for p in numbers),
        spaces=tuple(data.spaces[p] for p in numbers),
        participant=np.searchsorted(numbers, chosen.participant),
    )
