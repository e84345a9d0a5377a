"""Where the state of a training is kept, as the training sees it: it opens no files itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True)
class Snapshot:
    """Everything that a training needs to go on as if it had not been stopped.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        May be the training's own, which changes them when it goes on.
    values : mapping
        Values that JSON can hold.
    """

    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def joined(self, other: Snapshot) -> Snapshot:
        """Return both as one; their names differ."""
        return Snapshot({**self.tensors, **other.tensors}, {**self.values, **other.values})

    def noted(self, notes: Mapping[str, Any]) -> Snapshot:
        """Return it with what whoever made the model wants to find again."""
        return replace(self, values={**self.values, "notes": dict(notes)})


class Keeper(Protocol):
    """Keeps the state of one training, and hears when it should stop."""

    def of(self, name: str) -> Keeper:
        """Return the keeper of a part of the work that is trained by itself (a member, a participant, a refit)."""
        ...

    def load(self) -> Snapshot | None:
        """Return what was kept last; None if nothing was."""
        ...

    def save(self, snapshot: Snapshot) -> None:
        """Keep a state instead of the one before; a state that cannot be written does not end the training."""
        ...

    def due(self) -> bool:
        """Whether it is time to keep the state again."""
        ...

    def attentive(self) -> AbstractContextManager[None]:
        """Take requests to stop as wishes inside: ``stop_asked`` says so, and nothing is interrupted."""
        ...

    def stop_asked(self) -> bool:
        """Whether the training should stop soon."""
        ...


class KeepsNothing:
    """For trainings that nobody resumes."""

    def of(self, name: str) -> Keeper:  # noqa: ARG002 - all parts are alike
        """Return itself."""
        return self

    def load(self) -> Snapshot | None:
        """Return None: nothing was kept."""
        return None

    def save(self, snapshot: Snapshot) -> None:
        """Keep nothing."""

    def due(self) -> bool:
        """Return False: there is never anything to do."""
        return False

    def attentive(self) -> AbstractContextManager[None]:
        """Change nothing: a signal does what it did."""
        return nullcontext()

    def stop_asked(self) -> bool:
        """Return False: nobody asks."""
        return False
