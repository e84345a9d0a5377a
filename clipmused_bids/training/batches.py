"""Batches that mix participants, without a loop over trials.

Shape suffixes: B batch, V voxels, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from clipmused_bids.errors import DataError
from clipmused_bids.records import FloatArray, IntArray, TrialData
from clipmused_bids.training.guidance import TargetSimilarity

IN_MEMORY_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Batch:
    """Trials grouped by participant.

    Parameters
    ----------
    responses : tuple of Tensor, each of shape (B_g, V_g)
        One group for each participant in the batch; the rows of the batch are their concatenation.
    participants : tuple of int
        Index of each group's participant among the decoder's tokens.
    labels : Tensor of shape (B, C)
        1, 0, NaN where unknown.
    stimulus : Tensor of int, shape (B,)
        Row of the targets of each trial, -1 where unknown.
    scores : Tensor of shape (B, C), optional
        Held-out scores of a fixed readout.
    """

    responses: tuple[Tensor, ...]
    participants: tuple[int, ...]
    labels: Tensor
    stimulus: Tensor
    scores: Tensor | None = None


@dataclass(frozen=True)
class Mixing:
    """How a batch was mixed: row i is ``share_i`` of trial i and ``1 - share_i`` of trial ``partner_i``."""

    share: Tensor
    partner: Tensor

    def apply(self, values: Tensor) -> Tensor:
        """Mix the rows of a (B, ...) tensor."""
        share = self.share.view(-1, *[1] * (values.ndim - 1)).to(values.dtype)
        return share * values + (1 - share) * values[self.partner]


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

    def batch(self, index: IntArray) -> Batch:
        """Read the trials at ``index``; they are put in order of participant."""
        index = index[np.argsort(self.data.participant[index], kind="stable")]
        participants, starts = np.unique(self.data.participant[index], return_index=True)
        groups = np.split(index, starts[1:])
        order = torch.as_tensor(index, device=self.device)
        return Batch(
            responses=tuple(self._read(int(p), group) for p, group in zip(participants, groups, strict=True)),
            participants=tuple(self.token[p] for p in participants),
            labels=self.labels[order],
            stimulus=self.stimulus[order],
            scores=None if self.scores is None else self.scores[order],
        )

    def in_order(self, *, batch_size: int) -> Iterator[tuple[IntArray, Batch]]:
        """All trials, participant by participant, with the index of each batch's rows in the data."""
        order = np.argsort(self.data.participant, kind="stable")
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            yield index, self.batch(index)

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


def draw_mixing(batch: Batch, *, concentration: float, generator: np.random.Generator) -> Mixing:
    """Draw a partner of the same participant and a share for each trial.

    The share is Beta(concentration, concentration) distributed, folded to at least 1/2, so that a mixed trial
    still mostly is the trial in its row. Partners are of the same participant because voxels of two people
    may not be the same places.

    References
    ----------
    Zhang et al. 2018 (mixup), arXiv 1710.09412.
    """
    sizes = [len(values) for values in batch.responses]
    starts = np.cumsum(sizes) - sizes
    partner = np.concatenate(
        [start + generator.permutation(n) for start, n in zip(starts, sizes, strict=True)]
    )
    share = generator.beta(concentration, concentration, size=len(partner))
    device = batch.labels.device
    return Mixing(
        share=torch.as_tensor(np.maximum(share, 1 - share), dtype=torch.float32, device=device),
        partner=torch.as_tensor(partner, device=device),
    )


def mix(batch: Batch, mixing: Mixing) -> Batch:
    """Mix responses and labels of a batch; a label is unknown where either trial's is."""
    responses = []
    start = 0
    for values in batch.responses:
        rows = slice(start, start + len(values))
        within = Mixing(mixing.share[rows], mixing.partner[rows] - start)
        responses.append(within.apply(values))
        start += len(values)
    scores = None if batch.scores is None else mixing.apply(batch.scores)
    return replace(batch, responses=tuple(responses), labels=mixing.apply(batch.labels), scores=scores)


def guidance_similarity(
    similarity: TargetSimilarity, batch: Batch, mixing: Mixing | None
) -> tuple[Tensor, Tensor]:
    """Similarities (B, B) of a batch's targets, and which trials have any (B,).

    Mixed trials have mixed targets. They are never formed: with G the inner products of the trials' targets, those
    of mixed targets are ``A G A^T``, where row i of A holds ``share_i`` at i and ``1 - share_i`` at the partner.
    """
    inner_BB, known_B = similarity.of(batch.stimulus)
    if mixing is None:
        return inner_BB, known_B
    mixed_BB = mixing.apply(mixing.apply(inner_BB).T).T
    norm_B = mixed_BB.diagonal().clamp(min=1e-12).sqrt()
    return mixed_BB / (norm_B[:, None] * norm_B), known_B & known_B[mixing.partner]
