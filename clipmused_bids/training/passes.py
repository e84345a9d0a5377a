"""One batch through the network: whole, or in parts that see the loss of the whole.

Similarity losses compare every trial of a batch with every other, so a loss of parts is not the loss of the batch.
Where the batch is divided, outputs of all parts are computed and joined first; the loss and its gradient with respect
to the outputs are those of the whole batch; each part then carries its share of that gradient back through the network.
The result does not depend on the division, but for rounding.

Shape suffixes: B rows of the batch, C labels, D width.

References
----------
Gao et al. 2021, Scaling deep contrastive learning batch size under memory limited setup, arXiv 2101.06983.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from clipmused_bids.decoder.losses import Term
from clipmused_bids.decoder.network import DecoderOutput
from clipmused_bids.training.batches import Batch
from clipmused_bids.training.joined_outputs import FIELDS, joined_fields, output_of
from clipmused_bids.training.monitor import backpropagated, gradient_norms
from clipmused_bids.training.optimizer import trained_parameters
from clipmused_bids.training.processes import Processes
from clipmused_bids.training.state import random_state, set_random_state


class Passes:
    """Sends batches through a network and gradients back.

    Parameters
    ----------
    plain : Network
        The network itself.
    model : module
        The same network as the fabric set it up.
    fabric : Fabric
    processes : Processes
    micro_batch : int
        Most rows that pass at once; 0: all of this process.
    """

    def __init__(
        self, plain: nn.Module, model: nn.Module, *, fabric: Fabric, processes: Processes, micro_batch: int
    ) -> None:
        self.plain = plain
        self.model = model
        self.fabric = fabric
        self.processes = processes
        self.micro_batch = micro_batch

    def run(self, batch: Batch) -> Pass:
        """Compute the outputs of the whole batch."""
        pieces = batch.divided(self.micro_batch)
        if self.processes.count == 1 and len(pieces) == 1:
            return WholePass(self, batch)
        return DividedPass(self, pieces)

    def forward(self, piece: Batch, *, apart: bool = False) -> DecoderOutput:
        """Send one part through the network; ``apart``: no other process is told of its gradients."""
        scores = None if piece.scores is None else piece.scores[piece.part.start : piece.part.stop]
        joins = not apart and self.processes.count > 1
        model = self.model if joins else self._in_precision
        output: DecoderOutput = model(piece.responses, piece.participants, scores_BC=scores, part=piece.part)
        return output

    def _in_precision(self, *words: Any, **named: Any) -> DecoderOutput:
        """Send through the network itself, in the fabric's precision: gradients of single terms may be asked for."""
        precision = self.fabric.strategy.precision
        words, named = precision.convert_input((words, named))
        with precision.forward_context():
            output = self.plain(*words, **named)
        found: DecoderOutput = precision.convert_output(output)
        return found

    def apart(self, apart: bool) -> AbstractContextManager[None]:
        """Leave gradients unjoined inside."""
        return self.fabric.no_backward_sync(self.model, enabled=apart)  # type: ignore[arg-type]


class Pass:
    """Outputs of a whole batch, and the way back.

    Attributes
    ----------
    output : DecoderOutput
        Of all rows of the batch.
    """

    output: DecoderOutput

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss of the output to the network's."""
        raise NotImplementedError

    def gradient_norms(
        self, terms: Mapping[Term, Tensor], weights: Mapping[Term, float]
    ) -> dict[Term, float]:
        """Norm of the gradient of each weighted term over all trained parameters; nothing is added to them."""
        raise NotImplementedError


class WholePass(Pass):
    """The batch at once, in one process."""

    def __init__(self, passes: Passes, batch: Batch) -> None:
        self._passes = passes
        self.output = passes.forward(batch)

    def backward(self, loss: Tensor) -> None:
        """Backpropagate."""
        self._passes.fabric.backward(loss)

    def gradient_norms(
        self, terms: Mapping[Term, Tensor], weights: Mapping[Term, float]
    ) -> dict[Term, float]:
        """Backpropagate each term by itself; the graph is kept."""
        return gradient_norms(terms, weights, backpropagated(trained_parameters(self._passes.plain)))


class DividedPass(Pass):
    """The batch in parts, of several processes or one after the other."""

    def __init__(self, passes: Passes, pieces: Sequence[Batch]) -> None:
        self._passes = passes
        self._pieces = pieces
        self._device = pieces[0].labels.device
        self._random = random_state(self._device)
        # A single part keeps its graph; of several only the outputs are kept, and each is computed again.
        self._kept: DecoderOutput | None = None
        if len(pieces) == 1:
            self._kept = passes.forward(pieces[0])
            outputs = [self._kept]
        else:
            with torch.no_grad():
                outputs = [self._again(piece, apart=True) for piece in pieces]
        self._after = random_state(self._device)
        self.output = _leaves(outputs, processes=passes.processes, n_rows=pieces[0].part.n_rows)

    def backward(self, loss: Tensor) -> None:
        """Carry the whole loss's gradient back through this process's parts; the last one joins the processes'."""
        gradient = self._at_outputs(loss)
        last = len(self._pieces) - 1
        for k, piece in enumerate(self._pieces):
            with self._passes.apart(k < last):
                output = self._kept or self._again(piece)
                # Processes' gradients are averaged; they are shares of one sum.
                share = self._share(output, gradient, piece) * self._passes.processes.count
                self._passes.fabric.backward(share)
        set_random_state(self._after, device=self._device)

    def gradient_norms(
        self, terms: Mapping[Term, Tensor], weights: Mapping[Term, float]
    ) -> dict[Term, float]:
        """Backpropagate each term by itself, through passes of its own."""
        parameters = trained_parameters(self._passes.plain)
        norms = gradient_norms(terms, weights, lambda value: self._through(value, parameters))
        set_random_state(self._after, device=self._device)
        return norms

    def _through(self, value: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        gradient = self._at_outputs(value)
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for piece in self._pieces:
            share = self._share(self._again(piece, apart=True), gradient, piece)
            found = torch.autograd.grad(share, parameters, allow_unused=True)
            total = [
                so_far if one is None else so_far + one for so_far, one in zip(total, found, strict=True)
            ]
        return [self._passes.processes.summed(one) for one in total]

    def _at_outputs(self, loss: Tensor) -> dict[str, Tensor]:
        """Gradient of a loss with respect to each output of the whole batch; 0 where it does not depend on it."""
        leaves = {name: leaf for name in FIELDS if (leaf := getattr(self.output, name)) is not None}
        found = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, allow_unused=True)
        return {
            name: torch.zeros_like(leaf) if one is None else one
            for (name, leaf), one in zip(leaves.items(), found, strict=True)
        }

    def _again(self, piece: Batch, *, apart: bool = False) -> DecoderOutput:
        """Send a part through with the random numbers that the batch started with."""
        set_random_state(self._random, device=self._device)
        return self._passes.forward(piece, apart=apart)

    def _share(self, output: DecoderOutput, gradient: Mapping[str, Tensor], piece: Batch) -> Tensor:
        """Inner product of a part's outputs and its rows of the gradient: its derivative is the part's share.

        0, with a derivative of 0, where the rows are another process's: whoever has none takes part all the same.
        """
        part = piece.part
        rows = slice(part.start, part.stop)
        along = [(getattr(output, name) * one[rows]).sum() for name, one in gradient.items()]
        return torch.stack(along).sum() * float(self._passes.processes.has_share(part.n_rows))


def _leaves(outputs: Sequence[DecoderOutput], *, processes: Processes, n_rows: int) -> DecoderOutput:
    """Outputs of all rows of the batch, as what a loss is differentiated by."""
    fields = joined_fields(outputs, processes=processes, n_rows=n_rows)
    return output_of({name: one.clone().requires_grad_() for name, one in fields.items()})
