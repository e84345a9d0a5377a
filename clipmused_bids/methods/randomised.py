"""The same decoder without what it learned: what its maps show all the same does not come from learning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from clipmused_bids.decoder.network import Network
from clipmused_bids.decoder.readout import FixedReadout
from clipmused_bids.methods.architecture import build_decoder
from clipmused_bids.methods.base import Method
from clipmused_bids.methods.each_participant import EachParticipant
from clipmused_bids.methods.network import NetworkMethod
from clipmused_bids.records import FloatArray, IntArray, TrialData
from clipmused_bids.training.state import choose_device, seeded

# Beyond the seeds of the members, so that no decoder is compared with the weights it was trained from.
FIRST_SEED = 1_000_000

DRAWN_ANEW = "weights drawn anew, as before a training; a readout's fixed weights shuffled over voxels"
SHUFFLED = "weights shuffled over the participant's voxels"


class Predictor(Protocol):
    """What predicts, fitted or not."""

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Probability of each label, (n_trials, C)."""
        ...


def randomised(method: Method, *, draw: int, seed: int) -> Predictor:
    """Return the same decoder with random weights.

    A network is built anew by the path of its training, from another seed; the fixed weights of its readout, which
    were fitted in closed form, are shuffled over voxels. A method in closed form reads shuffled voxels, which is the
    same as shuffling its weights over them.

    Parameters
    ----------
    method : Method
        Fitted; it stays as it is.
    draw : int
        Number of the draw.
    seed : int
        Seed of the run.
    """
    if isinstance(method, EachParticipant):
        return method.with_own({name: redrawn(method.own(name), draw=draw) for name in method.participants})
    if isinstance(method, NetworkMethod):
        return redrawn(method, draw=draw)
    return ShuffledVoxels(method, seed=seed + FIRST_SEED + draw)


def how_randomised(method: Method) -> str:
    """Say in words what :func:`randomised` does to a method."""
    return DRAWN_ANEW if isinstance(method, NetworkMethod | EachParticipant) else SHUFFLED


def on_device(method: Method, device: str) -> Method:
    """Let networks predict on a device; other methods compute on the CPU."""
    if isinstance(method, EachParticipant):
        for name in method.participants:
            on_device(method.own(name), device)
    elif isinstance(method, NetworkMethod):
        method.device = choose_device(device)
    return method


def redrawn(method: Method, *, draw: int) -> NetworkMethod:
    """Return a network of the same kind with the weights of a ``draw``; see :func:`randomised`."""
    assert isinstance(method, NetworkMethod), "a method in closed form has no weights to draw"
    # Of members, which are trained from consecutive seeds, there are fewer than this.
    seed = method.seed + FIRST_SEED * (draw + 1)
    drawn = untrained(method, seed=seed)
    for m, (model, trained) in enumerate(zip(drawn.fitted().members, method.fitted().members, strict=True)):
        _shuffle_readout(model, trained, seed=seed + m)
    return drawn


def untrained(method: NetworkMethod, *, seed: int) -> NetworkMethod:
    """Return a method of the same shape whose networks were never trained; member m is built from ``seed + m``.

    What it makes of responses still reflects them, as any projection does.
    """
    fitted, options = method.fitted(), method.kind.model_options(method.hyperparameters.model)
    members: list[Network] = []
    for m in range(len(fitted.members)):
        with seeded(seed + m, device=method.device):
            n_people = len(fitted.signature.masks)
            members.append(build_decoder(fitted.architecture, options, n_participants=n_people))
    return method.with_fitted(replace(fitted, members=tuple(members)))


@torch.no_grad()
def _shuffle_readout(model: Network, trained: Network, *, seed: int) -> None:
    old, new = trained.readout, model.readout
    if not (isinstance(old, FixedReadout) and isinstance(new, FixedReadout)):
        return
    generator = np.random.default_rng(seed)
    new.offset.copy_(old.offset)
    new.weight.copy_(old.weight)
    for target, values in zip(new.own, old.own, strict=True):
        target.copy_(values[torch.as_tensor(generator.permutation(len(values)))])


@dataclass(frozen=True)
class ShuffledVoxels:
    """A fitted method whose weights are shuffled over each participant's voxels.

    Parameters
    ----------
    method : Method
        What is shuffled.
    seed : int
    """

    method: Method
    seed: int

    def order(self, n_voxels: int) -> IntArray:
        """Voxel that each weight is given to, shape (n_voxels,)."""
        return np.random.default_rng(self.seed).permutation(n_voxels)

    def predict_proba(self, data: TrialData) -> FloatArray:
        """Predict by the shuffled weights, (n_trials, C)."""
        tables = tuple(table.of_voxels(self.order(table.n_voxels)) for table in data.responses)
        return self.method.predict_proba(replace(data, responses=tables))
