"""Batches that mix participants, without a loop over trials.

Shape suffixes: B batch, V voxels, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipmused_bids.decoder.parts import Part
from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray, TrialData
from clipmused_bids.training.guidance import TargetSimilarity

IN_MEMORY_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Mixing:
    """How a batch is mixed: row i is ``share_i`` of trial i and ``1 - share_i`` of trial ``partner_i``.

    Parameters
    ----------
    share : ndarray of float32, shape (B,)
    partner : ndarray of int, shape (B,)
    """

    share: NDArray[np.float32]
    partner: IntArray

    def apply(self, values: Tensor) -> Tensor:
        """Mix the rows of a (B, ...) tensor."""
        share = torch.as_tensor(self.share, dtype=values.dtype, device=values.device)
        share = share.view(-1, *[1] * (values.ndim - 1))
        return share * values + (1 - share) * values[torch.as_tensor(self.partner, device=values.device)]


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
    in_memory_bytes : int
        Responses up to this size (float32) are read once.

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
        in_memory_bytes: int = IN_MEMORY_BYTES,
    ) -> None:
        self.data = data
        self.token = tuple(range(len(data.participants)) if token is None else token)
        self.device = device
        self.labels = torch.as_tensor(data.labels, dtype=torch.float32, device=device)
        self.stimulus = torch.as_tensor(data.stimulus, dtype=torch.int64, device=device)
        size = sum(
            4 * table.n_voxels * int((data.participant == p).sum()) for p, table in enumerate(data.responses)
        )
        self.scores = None if scores is None else torch.as_tensor(scores, dtype=torch.float32, device=device)
        self._kept: tuple[Tensor, ...] | None = None
        if size <= in_memory_bytes:
            self._kept = tuple(
                torch.as_tensor(self._finite(values, participant=p), device=device)
                for p, values in enumerate(data.read())
            )
        # Position of each trial among the trials of its participant.
        self._position = np.zeros(data.n_trials, dtype=np.int64)
        for p in range(len(data.participants)):
            mine = data.participant == p
            self._position[mine] = np.arange(int(mine.sum()))

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
        index, participants, sizes = self.groups(index)
        tokens = tuple(self.token[p] for p in participants)
        voxels = tuple(self.data.responses[p].n_voxels for p in participants)
        part = Part(*division(len(index)), tokens, tuple(sizes.tolist()), voxels)
        starts = np.cumsum(sizes) - sizes
        here = [(g, rows) for g, rows in part.overlaps() if rows.stop > rows.start]
        order = torch.as_tensor(index, device=self.device)
        mix: Callable[[Tensor], Tensor] = (lambda values: values) if mixing is None else mixing.apply
        return Batch(
            responses=tuple(
                self._mixed(int(participants[g]), index, np.arange(rows.start, rows.stop) + starts[g], mixing)
                for g, rows in here
            ),
            participants=tuple(tokens[g] for g, _ in here),
            labels=mix(self.labels[order]),
            stimulus=self.stimulus[order],
            part=part,
            scores=None if self.scores is None else mix(self.scores[order]),
            mixing=mixing,
        )

    def _mixed(self, participant: int, index: IntArray, rows: IntArray, mixing: Mixing | None) -> Tensor:
        """Read some rows of a batch of one participant, mixed with their partners, wherever those are in the batch."""
        if mixing is None:
            return self._read(participant, index[rows])
        wanted, place = np.unique(np.concatenate([rows, mixing.partner[rows]]), return_inverse=True)
        values = self._read(participant, index[wanted])
        own, partner = torch.as_tensor(place, device=self.device).chunk(2)
        share = torch.as_tensor(mixing.share[rows], device=self.device)[:, None]
        return share * values[own] + (1 - share) * values[partner]

    def in_order(self, *, batch_size: int, division: Division = all_rows) -> Iterator[tuple[IntArray, Batch]]:
        """All trials, participant by participant, with the index of each batch's rows in the data."""
        order = np.argsort(self.data.participant, kind="stable")
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            yield index, self.batch(index, division=division)

    def _read(self, participant: int, index: IntArray) -> Tensor:
        if self._kept is not None:
            rows = torch.as_tensor(self._position[index], device=self.device)
            return self._kept[participant][rows]
        values = self.data.responses[participant].read(self.data.row[index])
        return torch.as_tensor(self._finite(values, participant=participant), device=self.device)

    def _finite(self, values: FloatArray, *, participant: int) -> FloatArray:
        require_finite(values, participant=self.data.participants[participant])
        return values


def require_finite(values: FloatArray, *, participant: str) -> None:
    """Refuse responses that are not numbers.

    Raises
    ------
    DataError
        Names the participant and counts the values.
    """
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).sum())
        raise DataError(
            f"sub-{participant}: {wrong} of {values.size} responses are NaN or infinite.",
            hint="run --prepare again; voxels without signal are left out by the mask",
        )


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


def draw_mixing(
    sizes: Sequence[int] | IntArray, *, concentration: float, generator: np.random.Generator
) -> Mixing:
    """Draw a partner of the same participant and a share for each trial of groups of these sizes.

    The share is Beta(concentration, concentration) distributed, folded to at least 1/2, so that a mixed trial
    still mostly is the trial in its row. Partners are of the same participant because voxels of two people
    may not be the same places. A label is unknown where either trial's is.

    References
    ----------
    Zhang et al. 2018 (mixup), arXiv 1710.09412.
    """
    starts = np.cumsum(sizes) - sizes
    partner = np.concatenate(
        [start + generator.permutation(n) for start, n in zip(starts, sizes, strict=True)]
    )
    share = generator.beta(concentration, concentration, size=len(partner))
    return Mixing(share=np.maximum(share, 1 - share).astype(np.float32), partner=partner)


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
