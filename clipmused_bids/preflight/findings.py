"""What a dry run found, and what would stop the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from clipmused_bids.config import Config
from clipmused_bids.errors import ClipMusedError, ExitCode
from clipmused_bids.preflight.estimates import Work
from clipmused_bids.preflight.run_sizes import ParticipantSize
from clipmused_bids.records import Split
from clipmused_bids.stages.catalogue import Catalogue
from clipmused_bids.stages.plan import Plan
from clipmused_bids.targets.shapes import ClipShape


@dataclass
class Problems:
    """Everything that would end the run, or leave out a participant.

    Parameters
    ----------
    of_everyone : list of ClipMusedError
        In the order in which the run would meet them.
    of_participants : list of (str, ClipMusedError)
    """

    of_everyone: list[ClipMusedError] = field(default_factory=list)
    of_participants: list[tuple[str, ClipMusedError]] = field(default_factory=list)

    @contextmanager
    def collected(self, participant: str | None = None) -> Iterator[None]:
        """Keep an expected error and go on."""
        try:
            yield
        except ClipMusedError as error:
            if participant is not None and error.exit_code != ExitCode.CANNOT_CREATE:
                self.of_participants.append((participant, error))
            elif not any(error is known for _, known in self.of_participants):
                self.of_everyone.append(error)

    @property
    def exit_code(self) -> ExitCode:
        """Code that the run would end with."""
        errors = [*self.of_everyone, *(error for _, error in self.of_participants)]
        return errors[0].exit_code if errors else ExitCode.OK


@dataclass(frozen=True)
class ClipFound:
    """Whether a CLIP model is there.

    Parameters
    ----------
    where : str
        Place of the weights, or why there are none.
    shape : ClipShape or None
        None where its configuration is not known.
    """

    where: str
    shape: ClipShape | None


@dataclass(frozen=True)
class Findings:
    """What a dry run found; None where a stage could not be looked at.

    Parameters
    ----------
    config : Config
    problems : Problems
    warnings : tuple of str
    plan : Plan or None
    sizes : tuple of ParticipantSize
    catalogue : Catalogue or None
    split : Split or None
    label_names : tuple of str
        Labels that are decoded.
    clip : ClipFound or None
        None where no CLIP model is needed.
    stored_decoder : bool or None
        Whether the decoder is there; None without training.
    work : Work or None
    """

    config: Config
    problems: Problems
    warnings: tuple[str, ...] = ()
    plan: Plan | None = None
    sizes: tuple[ParticipantSize, ...] = ()
    catalogue: Catalogue | None = None
    split: Split | None = None
    label_names: tuple[str, ...] = ()
    clip: ClipFound | None = None
    stored_decoder: bool | None = None
    work: Work | None = None
