"""Batches that mix participants, without a loop over trials.

Shape suffixes: B batch, V voxels, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from clipmused_bids.decoder.parts import Part
from clipmused_bids.records import FloatArray, IntArray, TrialData
from clipmused_bids.training.ahead import ahead
from clipmused_bids.training.guidance import TargetSimilarity
from clipmused_bids.training.mixing import Mixing
from clipmused_bids.training.rows import kept_rows, mixed_rows, room_for_responses

BYTES_AHEAD = 256 * 1024**2


@dataclass(frozen=True)
class Batch:
    """Trials grouped by participant, mixed if they are to be; all of them, or the responses of a part.

    Parameters
    ----------
    responses : tuple of Tensor, each of shape (B_g, V_g)
        One group for each participant in the part; its rows are their concatenation.
    participants : tuple of int
        Index of each group's participant among the decoder's tokens.
    labels : Tensor of shape (B, C)
        1, 0, a share in between (mixed trials), NaN where unknown; of the whole batch.
    stimulus : Tensor of int, shape (B,)
        Row of the targets of each trial, -1 where unknown; of the whole batch, not mixed.
    part : Part
        Which rows of the whole batch the responses are.
    scores : Tensor of shape (B, C), optional
        Held-out scores of a fixed readout; of the whole batch.
    mixing : Mixing, optional
        How the whole batch was mixed.
    """

    responses: tuple[Tensor, ...]
    participants: tuple[int, ...]
    labels: Tensor
    stimulus: Tensor
    part: Part
    scores: Tensor | None = None
    mixing: Mixing | None = None

    def divided(self, most_rows: int) -> list[Batch]:
        """Divide the responses into parts of at most so many rows; 0: not at all."""
        first, last = self.part.start, self.part.stop
        if most_rows == 0 or last - first <= most_rows:
            return [self]
        rows = np.repeat(np.arange(len(self.responses)), [len(values) for values in self.responses])
        pieces = []
        for start in range(first, last, most_rows):
            stop = min(start + most_rows, last)
            here = rows[start - first : stop - first]
            starts = np.cumsum([0, *(len(values) for values in self.responses)]) + first
            pieces.append(
                replace(
                    self,
                    responses=tuple(
                        self.responses[g][max(start - starts[g], 0) : stop - starts[g]]
                        for g in np.unique(here)
                    ),
                    participants=tuple(self.participants[g] for g in np.unique(here)),
                    part=self.part._replace(start=start, stop=stop),
                )
            )
        return pieces


Division = Callable[[int], tuple[int, int]]


def all_rows(n_rows: int) -> tuple[int, int]:
    """Take all rows of a batch."""
    return 0, n_rows


@dataclass(frozen=True)
class Gathered:
    """A batch whose responses were read, but are not yet where the network is.

    Parameters
    ----------
    index : ndarray of int, shape (B,)
        Trials in order of participant.
    part : Part
    groups : tuple of (int, ndarray of int)
        Participant (among the reader's data) and rows of the batch of each group that is in the part.
    responses : tuple of Tensor or None
        Of these groups, on the CPU; None where the reader keeps all responses on the device.
    mixing : Mixing or None
    """

    index: IntArray
    part: Part
    groups: tuple[tuple[int, IntArray], ...]
    responses: tuple[Tensor, ...] | None
    mixing: Mixing | None


class TrialReader:
    """Hands out trials as batches on a device; small data are kept there, large data stay memory-mapped.

    Parameters
    ----------
    data : TrialData
        Trials of one or several participants.
    device : torch.device
        Where the batches go.
    token : sequence of int, optional
        Index that the decoder knows each participant of ``data`` by; their order in ``data`` otherwise.
    scores : ndarray of shape (n_trials, C), optional
        Held-out scores of a fixed readout, handed out with the trials.
    in_memory_bytes : int, optional
        Responses up to this size (float32) are read once; ``room_for_responses`` otherwise.

    Attributes
    ----------
    keeps : bool
        Whether all responses are on the device.

    Raises
    ------
    DataError
        If a response is not finite; names the participant.
    """

    def __init__(
        self,
        data: TrialData,
        *,
        device: torch.device,
        token: Sequence[int] | None = None,
        scores: FloatArray | None = None,
        in_memory_bytes: int | None = None,
    ) -> None:
        self.data = data
        self.token = tuple(range(len(data.participants)) if token is None else token)
        self.device = device
        self.labels = torch.as_tensor(data.labels, dtype=torch.float32, device=device)
        self.stimulus = torch.as_tensor(data.stimulus, dtype=torch.int64, device=device)
        self.scores = None if scores is None else torch.as_tensor(scores, dtype=torch.float32, device=device)
        n_trials = np.bincount(data.participant, minlength=len(data.participants))
        size = sum(4 * table.n_voxels * int(n) for table, n in zip(data.responses, n_trials, strict=True))
        self.keeps = size <= (room_for_responses(device) if in_memory_bytes is None else in_memory_bytes)
        self._kept: list[Tensor] = []
        # Position of each trial among the trials of its participant.
        self._position = np.zeros(data.n_trials, dtype=np.int64)
        for p, name in enumerate(data.participants):
            mine = np.flatnonzero(data.participant == p)
            self._position[mine] = np.arange(len(mine))
            if self.keeps:
                kept = kept_rows(data.responses[p], data.row[mine], participant=name, device=device)
                self._kept.append(kept)

    @property
    def bytes_kept(self) -> int:
        """Bytes of all trials that lie on the device."""
        kept = [
            self.labels,
            self.stimulus,
            *(self._kept or ()),
            *([] if self.scores is None else [self.scores]),
        ]
        return sum(values.nbytes for values in kept)

    def groups(self, index: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Put trials in order of participant: their places, each group's participant, and its number of rows."""
        index = index[np.argsort(self.data.participant[index], kind="stable")]
        participants, sizes = np.unique(self.data.participant[index], return_counts=True)
        return index, participants, sizes

    def batch(self, index: IntArray, *, mixing: Mixing | None = None, division: Division = all_rows) -> Batch:
        """Read the trials at ``index``; they are put in order of participant.

        Parameters
        ----------
        index : ndarray of int, shape (B,)
        mixing : Mixing, optional
            Of the rows in that order.
        division : callable
            Which rows' responses are read, given their number.
        """
        return self.delivered(self.gathered(index, mixing=mixing, division=division))

    def gathered(
        self, index: IntArray, *, mixing: Mixing | None = None, division: Division = all_rows
    ) -> Gathered:
        """Read what ``batch`` hands out, on the CPU alone: a thread can do so while the network works."""
        index, participants, sizes = self.groups(index)
        tokens = tuple(self.token[p] for p in participants)
        voxels = tuple(self.data.responses[p].n_voxels for p in participants)
        part = Part(*division(len(index)), tokens, tuple(sizes.tolist()), voxels)
        starts = np.cumsum(sizes) - sizes
        groups = tuple(
            (int(participants[g]), np.arange(rows.start, rows.stop) + starts[g])
            for g, rows in part.overlaps()
            if rows.stop > rows.start
        )
        responses = None
        if not self.keeps:
            responses = tuple(
                mixed_rows(
                    self.data.responses[p], self.data.row[index], rows,
                    mixing=mixing, participant=self.data.participants[p], device=self.device,
                )
                for p, rows in groups
            )  # fmt: skip
        return Gathered(index, part, groups, responses, mixing)

    def delivered(self, gathered: Gathered) -> Batch:
        """Bring what was read to the device."""
        order = torch.as_tensor(gathered.index, device=self.device)
        mixing = gathered.mixing
        mix: Callable[[Tensor], Tensor] = (lambda values: values) if mixing is None else mixing.apply
        if gathered.responses is None:
            found = [self._from_kept(p, gathered.index, rows, mixing) for p, rows in gathered.groups]
        else:
            found = [values.to(self.device, non_blocking=True) for values in gathered.responses]
        return Batch(
            responses=tuple(found),
            participants=tuple(self.token[p] for p, _ in gathered.groups),
            labels=mix(self.labels[order]),
            stimulus=self.stimulus[order],
            part=gathered.part,
            scores=None if self.scores is None else mix(self.scores[order]),
            mixing=mixing,
        )

    def _from_kept(self, participant: int, index: IntArray, rows: IntArray, mixing: Mixing | None) -> Tensor:
        """Take some rows of a batch of one participant, mixed with their partners, from what is on the device."""
        position, values = self._position[index], self._kept[participant]
        own = values[torch.as_tensor(position[rows], device=self.device)]
        if mixing is None:
            return own
        share = torch.as_tensor(mixing.share[rows], device=self.device)[:, None]
        partner = values[torch.as_tensor(position[mixing.partner[rows]], device=self.device)]
        return share * own + (1 - share) * partner

    def depth(self, n_rows: int, *, most: int) -> int:
        """How many batches of so many rows to read ahead; none where reading only takes rows on the device."""
        widest = max((table.n_voxels for table in self.data.responses), default=0)
        return 0 if self.keeps else min(most, BYTES_AHEAD // max(1, 4 * n_rows * widest))

    def in_order(self, *, batch_size: int, division: Division = all_rows) -> Iterator[tuple[IntArray, Batch]]:
        """All trials, participant by participant, with the index of each batch's rows in the data."""
        order = np.argsort(self.data.participant, kind="stable")
        parts = (order[start : start + batch_size] for start in range(0, len(order), batch_size))
        read = (self.gathered(index, division=division) for index in parts)
        with closing(ahead(read, depth=self.depth(batch_size, most=1))) as batches:
            for gathered in batches:
                yield gathered.index, self.delivered(gathered)


def epoch_order(n_trials: int, *, batch_size: int, generator: np.random.Generator) -> list[IntArray]:
    """Draw all trials without replacement and cut them into batches.

    Trials of all participants are drawn from one urn, so that batches mix participants. A last batch of a single
    trial, which has no similarity to anything, joins the one before it.
    """
    order = generator.permutation(n_trials)
    batches: list[IntArray] = [order[start : start + batch_size] for start in range(0, n_trials, batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] = np.concatenate([batches[-1], last])
    return batches


def guidance_similarity(similarity: TargetSimilarity, batch: Batch) -> tuple[Tensor, Tensor]:
    """Similarities (B, B) of a batch's targets, and which trials have any (B,).

    Mixed trials have mixed targets. They are never formed: with G the inner products of the trials' targets, those
    of mixed targets are ``A G A^T``, where row i of A holds ``share_i`` at i and ``1 - share_i`` at the partner.
    """
    inner_BB, known_B = similarity.of(batch.stimulus)
    mixing = batch.mixing
    if mixing is None:
        return inner_BB, known_B
    mixed_BB = mixing.apply(mixing.apply(inner_BB).T).T
    norm_B = mixed_BB.diagonal().clamp(min=1e-12).sqrt()
    partner_B = torch.as_tensor(mixing.partner, device=known_B.device)
    return mixed_BB / (norm_B[:, None] * norm_B), known_B & known_B[partner_B]
