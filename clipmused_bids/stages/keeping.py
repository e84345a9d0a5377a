"""Keeping the state of a training in the output folder, so that the same command goes on after any kind of end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from clipmused_bids.dataset.outputs.training_state import TrainingState, read_state, write_state
from clipmused_bids.errors import CannotCreateError, ClipMusedError, InterruptedRunError, OutputWriteError
from clipmused_bids.stages.decoder_states import DecoderStates
from clipmused_bids.stages.stop_requests import StopRequests
from clipmused_bids.stages.terminal import time_text
from clipmused_bids.training.checkpoint import Snapshot
from clipmused_bids.training.progress import part_of, reached

logger = logging.getLogger(__name__)

_SEEN = "seen."
# Of the time of a training, at most this share is spent on keeping it.
_LARGEST_SHARE = 0.05


class StateKeeper:
    """Keeps the state of one training of a decoder; a `Keeper`.

    Parameters
    ----------
    states : DecoderStates
    parts : sequence of str
        Name of the training among those of the decoder.
    """

    def __init__(self, states: DecoderStates, parts: Sequence[str] = ()) -> None:
        self.states = states
        self.parts = tuple(parts)
        self._path = states.place.path(self.parts)
        self._stop = StopRequests()
        self._last = time.monotonic()
        self._cost = 0.0
        self._where = "from the start"
        self._lost = ""
        self._said: set[str] = set()

    def of(self, name: str) -> StateKeeper:
        """Return the keeper of a part of the work that is trained by itself."""
        return StateKeeper(self.states, (*self.parts, name))

    def load(self) -> Snapshot | None:
        """Return what was kept last; None if nothing was or it cannot serve, which is said."""
        found = self._found()
        if found is None:
            return None
        self.states.training.record.mark(part_of(found.tensors, _SEEN))
        self.states.resumed = True
        own = {name: value for name, value in found.tensors.items() if not name.startswith(_SEEN)}
        snapshot = Snapshot(own, found.values["training"])
        self._where = _where(snapshot)
        age = time_text(max(0.0, time.time() - found.modified))
        self._say("age", logging.INFO, f"goes on {self._where}; its state was kept {age} ago.")
        return snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Keep a state instead of the one before; one that cannot be written is warned of.

        Raises
        ------
        StoredElsewhereError, CannotCreateError
            If another run has stored a decoder meanwhile.
        """
        self.states.require_free()
        started = time.monotonic()
        marks = {f"{_SEEN}{name}": seen for name, seen in self.states.training.record.marks().items()}
        values = self.states.with_values(snapshot.values)
        try:
            write_state(self._path, {**snapshot.tensors, **marks}, values)
            self._where, self._lost = _where(snapshot), ""
        except (CannotCreateError, OutputWriteError) as error:
            # Whoever stores the decoder takes the folder of states away.
            self.states.require_free()
            self._lost = error.hint or "check the disk"
            text = f"its state could not be kept; if it is stopped now it will go on {self._where}: {error}"
            logger.warning("%s", self._named(text))
        self._last = time.monotonic()
        self._cost = self._last - started

    def due(self) -> bool:
        """Whether it is time to keep the state again."""
        minutes = self.states.options.keep_minutes
        pause = max(60 * minutes, self._cost / _LARGEST_SHARE) if minutes else 0.0
        return time.monotonic() - self._last >= pause

    @contextmanager
    def attentive(self) -> Iterator[None]:
        """Take signals as wishes inside; one that comes after the last step ends the run where the training ends.

        Raises
        ------
        InterruptedRunError
            If the training was stopped, or was asked to when nobody looked any more.
        """
        failed: ClipMusedError | None = None
        with self._stop.listening():
            try:
                yield
            except ClipMusedError as error:
                failed = error
        if isinstance(failed, InterruptedRunError):
            raise self._interrupted(str(failed.args[0]).removeprefix("Training: ")) from failed
        if self.stop_asked():
            raise self._interrupted(f"stopped as asked at its end. {failed or ''}".rstrip()) from failed
        if failed is not None:
            raise failed

    def stop_asked(self) -> bool:
        """Whether a signal asked to stop."""
        return bool(self._stop.name)

    def _found(self) -> TrainingState | None:
        try:
            found = read_state(self._path)
        except ClipMusedError as error:
            self._say("refused", logging.WARNING, f"starts anew: {error.args[0]}")
            return None
        if found is None:
            return None
        if refused := self.states.refused(found.values):
            self._say("refused", logging.WARNING, f"starts anew: {refused}.")
            return None
        if elsewhere := self.states.elsewhere(found.values):
            text = f"may end with other bits than without a stop: {elsewhere}."
            self._say("elsewhere", logging.WARNING, text)
        return found

    def _named(self, text: str) -> str:
        return f"{' '.join([self.states.whose, *self.parts])}: training: {text}"

    def _say(self, key: str, level: int, text: str) -> None:
        """Say something once: a state is read when the network is made, and when its training starts."""
        if key not in self._said:
            self._said.add(key)
            logger.log(level, "%s", self._named(text))

    def _interrupted(self, message: str) -> InterruptedRunError:
        if self._stop.name:
            message = message.replace("as asked", f"as asked ({self._stop.name})")
        hint = f"the same command goes on {self._where}"
        if self._lost:
            hint = f"the last state could not be kept, so {hint}; {self._lost}"
        return InterruptedRunError(self._named(message), hint=hint)


def _where(snapshot: Snapshot) -> str:
    epochs, step, over = reached(snapshot)
    return f"where it ended, after {epochs} epochs" if over else f"after step {step} of epoch {epochs + 1}"
