"""Adam, what decays, and the learning rate of an epoch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clipmused_bids.config import TrainingOptions

NO_DECAY = ("tokens.subject", "tokens.shared", "tokens.position")


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that training changes (not those of a fixed readout)."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def make_optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """Adam, or with weight decay AdamW; biases, norms, tokens and positions do not decay."""
    if options.weight_decay == 0:
        return torch.optim.Adam(trained_parameters(model), lr=options.learning_rate)
    decay: list[Tensor] = []
    keep: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        (keep if parameter.ndim < 2 or name in NO_DECAY else decay).append(parameter)
    groups = [
        {"params": decay, "weight_decay": options.weight_decay},
        {"params": keep, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate)


def learning_rate(options: TrainingOptions, *, epoch: int) -> float:
    """Learning rate of an epoch (from 0): multiplied by ``decay_factor`` every ``decay_every`` epochs."""
    steps = epoch // options.decay_every if options.decay_every else 0
    return options.learning_rate * options.decay_factor**steps
