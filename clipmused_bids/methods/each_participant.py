"""One decoder for each participant, of any method that is fitted to a single one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.long_work import each_of
from clipmused_bids.methods.base import Method, Signature, Tensors, require_trials
from clipmused_bids.methods.context import ALONE, FitContext
from clipmused_bids.records import FloatArray, History, TrialData

logger = logging.getLogger(__name__)


class EachParticipant:
    """Fits each participant alone; nothing of one person's data reaches the decoder of another.

    Parameters
    ----------
    make : callable, optional
        ``make() -> Method``, one that is not fitted yet; None where decoders are restored.
    """

    def __init__(self, make: Callable[[], Method] | None) -> None:
        self._make = make
        self._signature: Signature | None = None
        self._own: dict[str, Method] = {}

    def fit(self, train: TrialData, validation: TrialData, *, context: FitContext = ALONE) -> History:
        """Fit each participant to his own trials.

        Returns
        -------
        History
            That of the single participant; of several one after the other, with a column ``participant`` (from 1)
            and the first one's ``best_epoch``.
        """
        assert self._make is not None, "restored, not made to be fitted"
        require_trials(train)
        self._signature = Signature.of(train)
        self._own, histories = {}, []
        with each_of(train.participants, "Decoders of each participant", "participant") as people:
            for p, name in enumerate(people):
                method = self._make()
                own = context.of(f"sub-{name}")
                if len(train.participants) > 1:
                    own = own.told(participant=float(p + 1))
                histories.append(
                    method.fit(train.of_participant(name), validation.of_participant(name), context=own)
                )
                self._own[name] = method
        return histories[0] if len(histories) == 1 else _one_after_another(train.participants, histories)

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Predict each participant's trials by his own decoder, (n_trials, C)."""
        assert self._signature is not None, "fit or restore first"
        self._signature.check(data)
        out = np.zeros((data.n_trials, len(self._signature.label_names)))
        for p, name in enumerate(data.participants):
            mine = data.participant == p
            if mine.any():
                out[mine] = self._own[name].predict_proba(data.of_participant(name))
        return out

    def state(self) -> Tensors:
        """Return the arrays of each participant's decoder, by ``sub-LABEL.`` and their own names."""
        return {
            f"sub-{participant}.{name}": values
            for participant, method in self._own.items()
            for name, values in method.state().items()
        }

    def config(self) -> dict[str, Any]:
        """Return the participants together and the configuration of each one's decoder."""
        assert self._signature is not None, "fit or restore first"
        return {
            "signature": self._signature.to_config(),
            "participants": {name: method.config() for name, method in self._own.items()},
        }

    def summary(self) -> dict[str, Any]:
        """Return counts of parameters: nothing is shared; what else the first participant's decoder says."""
        summaries = {name: method.summary() for name, method in self._own.items()}
        own = {
            name: summary["shared"] + sum(summary["per_participant"].values())
            for name, summary in summaries.items()
        }
        return {**next(iter(summaries.values())), "shared": 0, "per_participant": own}

    @classmethod
    def restore(
        cls,
        restore_one: Callable[[Mapping[str, NDArray[Any]], Mapping[str, Any]], Method],
        tensors: Mapping[str, NDArray[Any]],
        config: Mapping[str, Any],
    ) -> EachParticipant:
        """Build from what ``state`` and ``config`` gave, each participant by ``restore_one``."""
        method = cls(None)
        method._signature = Signature.from_config(config["signature"])
        for name, own in config["participants"].items():
            prefix = f"sub-{name}."
            part = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
            method._own[name] = restore_one(part, own)
        return method


def _one_after_another(participants: Sequence[str], histories: Sequence[History]) -> History:
    lengths = [len(next(iter(one.columns.values()))) for one in histories]
    columns: dict[str, tuple[float, ...]] = {
        "participant": tuple(float(p + 1) for p, n in enumerate(lengths) for _ in range(n))
    }
    for name in histories[0].columns:
        columns[name] = tuple(value for one in histories for value in one.columns[name])
    stopped = "; ".join(
        f"sub-{name}: {one.stopped}" for name, one in zip(participants, histories, strict=True)
    )
    return History(columns=columns, best_epoch=histories[0].best_epoch, stopped=stopped)
